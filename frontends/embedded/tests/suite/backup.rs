//! Checkpoints, and stores restored from them.

use ferrokit::{Builder, EngineErrorKind, ErrorKind, Ferrokit, Result};
use ferrokit_storage::sim::{CrashMode, SimMachine};
use ferrokit_storage::{Fs, Host, OpenMode};

use crate::common::{Case, on_every_engine, text};

on_every_engine!(a_checkpoint_is_restored_or_refused);

fn restore(host: &Host, url: &str) -> Result<Ferrokit> {
    host.wait(Builder::new(url).host(host.clone()).restore("backup").open())
}

fn kind(outcome: Result<Ferrokit>) -> ErrorKind {
    outcome.unwrap_err().kind()
}

fn a_checkpoint_is_restored_or_refused(case: &Case) {
    let kv = &case.kv;
    if !kv.capabilities().checkpoint {
        assert!(case.wait(kv.checkpoint("backup")).unwrap_err().is_unsupported());
        return;
    }
    let engine = kv.capabilities().engine;
    let into = |directory: &str| format!("{engine}:{directory}");
    case.wait(async {
        kv.mset((0..500).map(|n| (format!("k{n}"), "before"))).await.unwrap();
        kv.db(3).unwrap().set("k", "of another").await.unwrap();
        let info = kv.checkpoint("backup").await.unwrap();
        assert!(info.files > 0 && info.bytes > 0);
        kv.set("k0", "after").await.unwrap();
        let in_use = kv.checkpoint("backup").await.unwrap_err();
        assert_eq!(in_use.kind(), ErrorKind::Engine(EngineErrorKind::InvalidArgument));
    });
    // Twice: a restore leaves the checkpoint as it is.
    for directory in ["first", "second"] {
        let restored = restore(&case.host, &into(directory)).unwrap();
        case.wait(async {
            assert_eq!(text(restored.get("k0").await.unwrap()).unwrap(), "before");
            assert_eq!(restored.dbsize().await.unwrap().entries, 500);
            let other = restored.db(3).unwrap();
            assert_eq!(text(other.get("k").await.unwrap()).unwrap(), "of another");
            restored.set("k0", "changed").await.unwrap();
            restored.close().await.unwrap();
        });
    }
    let invalid = ErrorKind::Engine(EngineErrorKind::InvalidArgument);
    assert_eq!(kind(restore(&case.host, &into("first"))), invalid);
    assert_eq!(kind(restore(&case.host, &format!("{engine}:"))), invalid);
    let absent = Builder::new(into("third")).host(case.host.clone()).restore("nowhere");
    assert_eq!(kind(case.wait(absent.open())), ErrorKind::Engine(EngineErrorKind::NotFound));
}

/// Wherever a crash cuts a restore, its directory is refused, empty, or complete.
#[test]
fn a_restore_that_was_cut_short_is_never_opened_as_a_store() {
    let source = Case::on("lsm");
    source.wait(async {
        source.kv.mset((0..200).map(|n| (format!("k{n}"), "v"))).await.unwrap();
        source.kv.checkpoint("backup").await.unwrap();
    });
    let files = read_all(&*source.host.fs, &source.host, "backup");
    source.close();
    let machine_with_backup = |seed| {
        let machine = SimMachine::new(seed);
        let host = machine.host();
        host.fs.create_dir_all("backup").unwrap();
        for (name, bytes) in &files {
            let path = format!("backup/{name}");
            let file = host.fs.open(&path, OpenMode::CreateNew).unwrap();
            host.wait(file.write_at(0, bytes.clone())).unwrap();
            host.wait(file.sync_all()).unwrap();
        }
        host.fs.sync_dir("backup").unwrap();
        machine
    };
    let (mut refused, mut complete) = (0, 0);
    for cut in 0..200 {
        let machine = machine_with_backup(cut);
        let first = machine.io_count();
        machine.crash_at(first + cut);
        let is_whole = restore(&machine.host(), "lsm:data").is_ok();
        let after = machine.crash(CrashMode::Random(cut));
        let host = after.host();
        let left = host.fs.list("data").unwrap_or_default();
        match host.wait(Builder::new("lsm:data").host(host.clone()).open()) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Engine(EngineErrorKind::Corruption));
                assert!(!is_whole, "cut at {cut}: {error}");
                refused += 1;
            }
            Ok(kv) => {
                let entries = host.wait(kv.keys().to_vec()).unwrap().len();
                assert!(entries == 200 || left.is_empty() && !is_whole, "cut at {cut}: {left:?}");
                complete += usize::from(entries == 200);
            }
        }
        if is_whole {
            break;
        }
    }
    assert!(refused > 3 && complete > 0, "{refused} {complete}");
}

fn read_all(fs: &dyn Fs, host: &Host, directory: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs.list(directory).unwrap() {
        let file = fs.open(&format!("{directory}/{}", entry.name), OpenMode::Read).unwrap();
        let bytes = host.wait(file.read_at(0, entry.bytes as usize)).unwrap();
        files.push((entry.name, bytes));
    }
    files
}
