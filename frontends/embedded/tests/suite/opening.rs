//! What a builder is told is honoured or refused.

use std::time::Duration;

use ferrokit::{Builder, Durability, EngineErrorKind, ErrorKind, Ferrokit, IoBackend, block_on};
use ferrokit_storage::sim::SimMachine;

use crate::common::{Case, URLS, url};

fn refusal(builder: Builder) -> (EngineErrorKind, String) {
    let error = block_on(builder.open()).unwrap_err();
    let ErrorKind::Engine(kind) = error.kind() else { panic!("{error}") };
    assert!(std::error::Error::source(&error).is_some());
    (kind, error.to_string())
}

#[test]
fn a_url_that_is_none_is_refused() {
    for (url, expected) in [
        ("nothing", "names no engine"),
        ("rocks:./data", "no engine \"rocks\""),
        ("memory:?speed=9", "no option \"speed\""),
        ("lsm:", "names no directory"),
    ] {
        let (kind, text) = refusal(Builder::new(url));
        assert_eq!(kind, EngineErrorKind::InvalidArgument);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_store_is_as_durable_as_its_engine_unless_told_otherwise() {
    for (name, url) in URLS {
        let case = Case::on(name);
        let strongest = case.kv.capabilities().strongest_durability;
        assert_eq!(case.kv.durability(), strongest, "{name}");
        let synced = case.kv.with_durability(Durability::Synced);
        assert_eq!(synced.is_ok(), strongest == Durability::Synced, "{name}");
        let host = SimMachine::new(1).host();
        let open = |level| {
            let builder = Builder::new(*url).host(host.clone()).durability(level);
            host.wait(builder.open())
        };
        if strongest < Durability::Synced {
            assert!(open(Durability::Synced).unwrap_err().is_unsupported(), "{name}");
        }
        let kv = open(Durability::Memory).unwrap();
        assert_eq!(kv.durability(), Durability::Memory);
        host.wait(kv.set("k", "v")).unwrap();
        host.wait(kv.close()).unwrap();
        case.close();
    }
}

#[test]
fn an_engine_that_is_open_is_taken_and_what_does_not_go_with_it_refused() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = ferrokit_engines::open(&host, url("memory")).unwrap();
    let builder = || Builder::with_engine(engine.clone());
    let kv = block_on(builder().env(host.env.clone()).open()).unwrap();
    block_on(kv.set_ex("k", "v", Duration::from_secs(1))).unwrap();
    machine.clock().advance(Duration::from_secs(1));
    assert!(!block_on(kv.exists("k")).unwrap());
    for builder in [
        builder().io(IoBackend::Threads),
        builder().host(host.clone()),
        builder().restore("backup"),
        Builder::new("memory:").host(host.clone()).io(IoBackend::Threads),
    ] {
        assert_eq!(refusal(builder).0, EngineErrorKind::InvalidArgument);
    }
}

/// The clock of expiry is the one given, for the engine and for what is above it.
#[test]
fn time_is_that_of_the_environment_given() {
    let (machine, another) = (SimMachine::new(1), SimMachine::new(2));
    let builder = Builder::new("memory:").host(machine.host()).env(another.host().env);
    let kv = block_on(builder.open()).unwrap();
    block_on(kv.set_ex("k", "v", Duration::from_secs(1))).unwrap();
    machine.clock().advance(Duration::from_secs(9));
    assert!(block_on(kv.exists("k")).unwrap());
    another.clock().advance(Duration::from_secs(1));
    assert!(!block_on(kv.exists("k")).unwrap());
}

#[test]
fn the_longest_string_is_as_told() {
    let kv = block_on(Builder::new("memory:").string_bytes_max(4).open()).unwrap();
    assert_eq!(block_on(kv.append("k", "1234")).unwrap(), 4);
    let refused = block_on(kv.append("k", "5")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLong);
    assert_eq!(block_on(kv.set_range("k", 4, "5")).unwrap_err().kind(), ErrorKind::TooLong);
}

/// Files of this machine, by either backend; a directory is open once at a time.
#[test]
fn a_store_of_files_is_there_again() {
    let directory = std::env::temp_dir().join(format!("ferrokit-opening-{}", std::process::id()));
    let url = format!("lsm:{}", directory.display());
    for (round, io) in [IoBackend::Auto, IoBackend::Threads].into_iter().enumerate() {
        let open = || Builder::new(&url).io(io);
        let kv = block_on(open().open()).unwrap();
        assert_eq!(block_on(kv.incr("rounds")).unwrap(), round as i64 + 1);
        assert_eq!(refusal(open()).0, EngineErrorKind::Locked);
        block_on(kv.sync(Durability::Synced)).unwrap();
        assert!(kv.stats().iter().count() > 0);
        block_on(kv.close()).unwrap();
        block_on(kv.close()).unwrap();
        assert!(block_on(kv.incr("rounds")).unwrap_err().is_closed());
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn the_blocking_facade_is_the_same_store() {
    let kv = ferrokit::blocking::open("memory:").unwrap();
    kv.mset([("a", "1"), ("b", "2")]).unwrap();
    assert_eq!(kv.incr("a").unwrap(), 2);
    let entries: Vec<_> =
        kv.scan(..).unwrap().with(ferrokit::Scan::reversed).map(Result::unwrap).collect();
    assert_eq!(entries, [("b".into(), "2".into()), ("a".into(), "2".into())]);
    assert_eq!(kv.keys().count(), 2);
    let snapshot = kv.snapshot().unwrap();
    let mut watch = kv.watch("a").unwrap();
    let mut transaction = kv.transaction(["a"]);
    block_on(transaction.set("a", "3")).unwrap();
    block_on(transaction.commit()).unwrap();
    assert_eq!(watch.next().unwrap().unwrap().unwrap(), "3");
    assert_eq!(snapshot.get("a").unwrap().unwrap(), "2");
    assert_eq!(snapshot.scan(..).unwrap().count(), 2);
    let asynchronous: &Ferrokit = kv.as_async();
    assert_eq!(block_on(asynchronous.get("a")).unwrap().unwrap(), "3");
    kv.db(1).unwrap().set("a", "other").unwrap();
    kv.with_durability(Durability::Memory).unwrap().flush_all().unwrap();
    assert_eq!(kv.dbsize().unwrap().entries, 0);
    kv.close().unwrap();
}

#[test]
fn a_handle_says_what_it_is() {
    let kv = block_on(ferrokit::open("memory:")).unwrap().db(2).unwrap();
    let shown = format!("{kv:?}");
    assert!(shown.contains("memory") && shown.contains('2'), "{shown}");
}
