//! Scans, sweeps and snapshots: where the engine has them, and the clean refusal where not.

use ferrokit::{Ferrokit, KeyRange, Scan};

use crate::common::{Case, on_every_engine, text};

on_every_engine!(
    scans_are_in_order_or_refused,
    every_key_is_swept,
    a_snapshot_stays_as_it_was_or_is_refused,
);

async fn keys(scan: Scan) -> String {
    let entries = scan.to_vec().await.unwrap();
    entries.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
}

async fn fill(kv: &Ferrokit) {
    kv.mset("acbfed".chars().map(|key| (key.to_string(), "v"))).await.unwrap();
}

fn scans_are_in_order_or_refused(case: &Case) {
    let kv = &case.kv;
    if !kv.capabilities().ordered {
        assert!(kv.scan(..).unwrap_err().is_unsupported());
        assert!(kv.scan_prefix("a").unwrap_err().is_unsupported());
        return;
    }
    case.wait(async {
        fill(kv).await;
        assert_eq!(keys(kv.scan(..).unwrap()).await, "abcdef");
        assert_eq!(keys(kv.scan(..).unwrap().reversed().chunk_entries(1)).await, "fedcba");
        assert_eq!(keys(kv.scan("b".."e").unwrap().chunk_entries(2)).await, "bcd");
        assert_eq!(keys(kv.scan("b"..="e").unwrap().reversed()).await, "edcb");
        assert_eq!(keys(kv.scan("e"..).unwrap()).await, "ef");
        assert_eq!(keys(kv.scan(.."b").unwrap()).await, "a");
        assert_eq!(keys(kv.scan(..="b").unwrap()).await, "ab");
        assert_eq!(keys(kv.scan("e".."b").unwrap()).await, "");
        assert_eq!(keys(kv.scan(KeyRange::half_open(b"c", b"d")).unwrap()).await, "c");
        kv.mset([("d/1", "v"), ("d/2", "v"), ("d0", "v")]).await.unwrap();
        assert_eq!(keys(kv.scan_prefix("d/").unwrap()).await, "d/1d/2");
        assert_eq!(keys(kv.scan_prefix("d/").unwrap().reversed()).await, "d/2d/1");
        // More than a chunk, and what is removed behind the scan or ahead of it.
        kv.mset((0..1000).map(|n| (format!("n{n:04}"), n.to_string()))).await.unwrap();
        let mut scan = kv.scan_prefix("n").unwrap();
        let mut seen = 0;
        while let Some(entry) = scan.next().await {
            let (key, value) = entry.unwrap();
            assert_eq!(key, format!("n{seen:04}"));
            assert_eq!(value, seen.to_string());
            kv.del(key).await.unwrap();
            seen += 1;
        }
        assert_eq!(seen, 1000);
        assert!(scan.next().await.is_none());
    });
}

fn every_key_is_swept(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        let mut expected: Vec<String> = (0..2000).map(|n| format!("user:{n}")).collect();
        for names in expected.chunks(100) {
            kv.mset(names.iter().map(|name| (name, "v"))).await.unwrap();
        }
        kv.set("other", "v").await.unwrap();
        let mut swept: Vec<String> = Vec::new();
        let mut keys = kv.keys().matching("user:*");
        while let Some(key) = keys.next().await {
            swept.push(String::from_utf8(key.unwrap().to_vec()).unwrap());
        }
        swept.sort_unstable();
        swept.dedup();
        expected.sort_unstable();
        assert_eq!(swept, expected);
        assert_eq!(kv.db(1).unwrap().keys().to_vec().await.unwrap(), Vec::<&str>::new());
    });
}

fn a_snapshot_stays_as_it_was_or_is_refused(case: &Case) {
    let kv = &case.kv;
    if !kv.capabilities().snapshots {
        assert!(case.wait(kv.snapshot()).unwrap_err().is_unsupported());
        return;
    }
    case.wait(async {
        fill(kv).await;
        let second = std::time::Duration::from_secs(1);
        kv.set_ex("a", "soon gone", second).await.unwrap();
        kv.db(1).unwrap().set("k", "of another").await.unwrap();
        let snapshot = kv.snapshot().await.unwrap();
        case.machine.clock().advance(second);
        kv.del("b").await.unwrap();
        kv.set("c", "new").await.unwrap();
        kv.db(1).unwrap().flush().await.unwrap();
        assert!(!kv.exists("a").await.unwrap());

        assert_eq!(text(snapshot.get("a").await.unwrap()).unwrap(), "soon gone");
        assert!(snapshot.exists("b").await.unwrap());
        let values = snapshot.mget(["c", "z"]).await.unwrap();
        assert_eq!(values, [Some("v".into()), None]);
        let other = snapshot.db(1).unwrap();
        assert_eq!(text(other.get("k").await.unwrap()).unwrap(), "of another");
        assert_eq!(snapshot.keys().to_vec().await.unwrap().len(), 6);
        assert!(snapshot.db(kv.databases()).is_err());
        if kv.capabilities().ordered {
            assert_eq!(keys(snapshot.scan(..).unwrap()).await, "abcdef");
            assert_eq!(keys(snapshot.scan_prefix("c").unwrap()).await, "c");
        } else {
            assert!(snapshot.scan(..).unwrap_err().is_unsupported());
        }
    });
}
