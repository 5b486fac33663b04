//! What a write survives, on every adapter with files: it writes in a process that ends in the
//! midst, by `abort`, and the writes are there when the directory is opened again. A test without
//! the harness, since it runs itself as that process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};

use ferrokit_bench::subject::{Adapter, SubjectSettings};
use ferrokit_bench_peers::PEERS;
use ferrokit_engine::{
    BatchOp, Durability, EngineUrl, Entry, KeyspaceId, KvEngine, ReadOptions, Update, WriteBatch,
    WriteOptions,
};

const KS: KeyspaceId = KeyspaceId::DEFAULT;
const WRITES: u32 = 100;
const LEVELS: [(&str, Durability); 3] =
    [("memory", Durability::Memory), ("os", Durability::Os), ("synced", Durability::Synced)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--write", name, level, directory] => write_and_die(find(name), of(level), directory),
        _ => {
            for adapter in PEERS {
                check(adapter);
            }
        }
    }
}

fn find(name: &str) -> &'static Adapter {
    PEERS.iter().find(|adapter| adapter.name == name).expect("an adapter of this name")
}

fn of(level: &str) -> Durability {
    LEVELS.iter().find(|(name, _)| *name == level).expect("a level of this name").1
}

fn open(
    adapter: &Adapter,
    durability: Durability,
    directory: &str,
) -> std::sync::Arc<dyn KvEngine> {
    let url = EngineUrl::parse(&format!("{}:", adapter.name)).unwrap();
    let settings =
        SubjectSettings { directory: directory.to_owned(), memory_bytes: 64 << 20, durability };
    (adapter.open)(&url, &settings).unwrap().engine
}

/// Writes each way there is, after a load at `memory`, and ends the process.
fn write_and_die(adapter: &Adapter, durability: Durability, directory: &str) {
    let engine = open(adapter, durability, directory);
    let memory = WriteOptions::with_durability(Durability::Memory);
    for n in 0..WRITES {
        wait(engine.put(KS, &key("loaded", n), b"old", None, &memory));
    }
    let options = WriteOptions::with_durability(durability);
    wait(engine.delete(KS, &key("loaded", 0), &options));
    let mut change = |_: Option<Entry<'_>>, new: &mut Vec<u8>| {
        new.extend_from_slice(b"updated");
        Update::Put { expire_at: None }
    };
    wait(engine.update(KS, &key("loaded", 1), &options, &mut change));
    let mut batch = WriteBatch::new();
    batch.put(KS, b"batched", b"value", None).delete(KS, &key("loaded", 2));
    assert!(batch.iter().any(|op| matches!(op, BatchOp::Delete { .. })));
    wait(engine.write(&batch, &options));
    for n in 0..WRITES {
        wait(engine.put(KS, &key("put", n), b"value", None, &options));
    }
    std::process::abort();
}

fn key(kind: &str, n: u32) -> Vec<u8> {
    format!("{kind}-{n:04}").into_bytes()
}

fn wait<T>(op: ferrokit_engine::Op<'_, T>) -> T {
    op.wait().unwrap()
}

fn read(engine: &dyn KvEngine, key: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    let mut visit = |entry: Entry<'_>| found = Some(entry.value.to_vec());
    wait(engine.get_with(KS, key, &ReadOptions::default(), &mut visit));
    found
}

fn check(adapter: &Adapter) {
    let root = std::env::temp_dir().join(format!(
        "ferrokit-process-death-{}-{}",
        adapter.name,
        std::process::id()
    ));
    for (name, durability) in &LEVELS[1..] {
        let directory = root.join(name);
        let strongest = strongest(adapter, *durability, &root.join("facts"));
        if strongest < *durability {
            println!("{}: {name}: the engine gives {strongest:?} at most", adapter.name);
            continue;
        }
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--write", adapter.name, name, directory.to_str().unwrap()])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        use std::os::unix::process::ExitStatusExt;
        const SIGABRT: i32 = 6;
        assert_eq!(ended.signal(), Some(SIGABRT), "{}: {name}: {ended}", adapter.name);
        let engine = open(adapter, *durability, directory.to_str().unwrap());
        let get = |key: &[u8]| read(&*engine, key);
        assert_eq!(get(&key("loaded", 0)), None, "{}: {name}: the delete", adapter.name);
        assert_eq!(
            get(&key("loaded", 1)).as_deref(),
            Some(&b"updated"[..]),
            "{}: {name}: the update",
            adapter.name
        );
        assert_eq!(get(&key("loaded", 2)), None, "{}: {name}: the batch's delete", adapter.name);
        assert_eq!(
            get(b"batched").as_deref(),
            Some(&b"value"[..]),
            "{}: {name}: the batch's put",
            adapter.name
        );
        for n in 0..WRITES {
            let found = get(&key("put", n));
            assert_eq!(found.as_deref(), Some(&b"value"[..]), "{}: {name}: {n}", adapter.name);
        }
        wait(engine.close());
        println!("{}: {name}: every write survived", adapter.name);
    }
    let _ = std::fs::remove_dir_all(&root);
}

/// What the engine gives when it is opened for `durability`.
fn strongest(adapter: &Adapter, durability: Durability, directory: &Path) -> Durability {
    let engine = open(adapter, durability, directory.to_str().unwrap());
    let strongest = engine.capabilities().strongest_durability;
    wait(engine.close());
    drop(engine);
    let _ = std::fs::remove_dir_all(directory);
    strongest
}
