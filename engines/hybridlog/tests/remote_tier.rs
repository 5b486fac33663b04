//! The object tier through the client of cloud stores, on a local directory.

#![cfg(feature = "object-store")]

mod support;

use ferrokit_engine::{ErrorKind, KvEngine, KvEngineExt, block_on};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::{Host, IoBackend};
use support::{KS, MEMORY, OS, PAGE, config, stat};

fn key(n: u64) -> Vec<u8> {
    format!("key:{n:08}").into_bytes()
}

fn value(n: u64, round: u64) -> Vec<u8> {
    format!("{n}/{round}/{}", "v".repeat(90)).into_bytes()
}

#[test]
fn segments_move_to_a_store_by_url_and_are_read_from_there() {
    let host = Host::system(IoBackend::Threads).unwrap();
    let root = std::env::temp_dir().join(format!("ferrokit-remote-tier-{}", std::process::id()));
    let root = root.display().to_string();
    let config = HybridLogConfig {
        directory: format!("{root}/data"),
        object: format!("file://{root}/objects"),
        disk_bytes: 32 * PAGE,
        mapped_bytes: 8 * PAGE,
        ..config()
    };
    let keys = 4000;
    for round in 0..3 {
        let engine = HybridLogEngine::open(&host, config.clone()).unwrap();
        let options = if round == 1 { &MEMORY } else { &OS };
        for n in 0..keys {
            block_on(engine.put(KS, &key(n), &value(n, round), None, options)).unwrap();
        }
        // The job's requests are on their way; each completion wakes it.
        for _ in 0..10_000 {
            if stat(&engine, "segments_disk") <= 5 {
                break;
            }
            block_on(host.env.timer.sleep(std::time::Duration::from_millis(1)));
        }
        assert!(stat(&engine, "segments_moved") > 3, "{:?}", engine.stats());
        for n in 0..keys {
            assert_eq!(
                block_on(engine.get(KS, &key(n))).unwrap(),
                Some(value(n, round)),
                "key {n}"
            );
        }
        assert!(stat(&engine, "reads_object") > 100);
        assert_eq!(stat(&engine, "tier_failures"), 0);
        block_on(engine.close()).unwrap();
    }
    // The store is gone: what was there is damaged, and said to be.
    host.fs.rename(&format!("{root}/objects"), &format!("{root}/away")).unwrap();
    let engine = HybridLogEngine::open(&host, config).unwrap();
    let failed = (0..keys).filter_map(|n| block_on(engine.get(KS, &key(n))).err());
    assert!(failed.filter(|error| error.kind() == ErrorKind::Corruption).count() > 100);
    drop(engine);
    host.fs.remove_dir_all(&root).unwrap();
}
