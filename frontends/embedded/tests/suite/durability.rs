//! What an operation that has completed survives, on a machine that loses power.

use std::collections::HashMap;

use ferrokit::{Batch, Durability, Ferrokit};
use ferrokit_storage::sim::{CrashMode, SimMachine};

use crate::common::{Case, text, url};

fn reopened(case: Case, mode: CrashMode) -> Case {
    let machine = case.machine.crash(mode);
    Case::open(url("lsm"), machine)
}

#[test]
fn a_write_that_has_completed_survives_the_loss_of_power() {
    let case = Case::on("lsm");
    let kv = &case.kv;
    case.wait(async {
        kv.set("set", "1").await.unwrap();
        kv.incr("counter").await.unwrap();
        kv.append("log", "entry").await.unwrap();
        kv.mset([("a", "1"), ("b", "2")]).await.unwrap();
        kv.rename("a", "c").await.unwrap();
        kv.compare_and_swap("leader", None, Some(b"me")).await.unwrap();
        let mut transaction = kv.transaction(["x", "y"]).await;
        transaction.set("x", "1").await.unwrap();
        transaction.set("y", "2").await.unwrap();
        transaction.commit().await.unwrap();
    });
    let case = reopened(case, CrashMode::DropUnsynced);
    let kv = &case.kv;
    case.wait(async {
        let keys = ["set", "counter", "log", "a", "b", "c", "leader", "x", "y"];
        let values = kv.mget(keys).await.unwrap();
        let values: Vec<_> =
            values.into_iter().map(|value| text(value).unwrap_or_default()).collect();
        assert_eq!(values, ["1", "1", "entry", "", "2", "1", "me", "1", "2"]);
    });
}

/// At a weaker level less survives: the level acts, per handle, batch and transaction.
#[test]
fn a_weaker_level_is_what_is_asked_for() {
    for (level, mode, survives) in [
        (Durability::Memory, CrashMode::ProcessKill, false),
        (Durability::Os, CrashMode::DropUnsynced, false),
        (Durability::Os, CrashMode::ProcessKill, true),
        (Durability::Synced, CrashMode::DropUnsynced, true),
    ] {
        let case = Case::on("lsm");
        let hasty = case.kv.with_durability(level).unwrap();
        case.wait(async {
            hasty.set("a", "1").await.unwrap();
            hasty.write(Batch::new().set("b", "1")).await.unwrap();
            hasty.mset([("c", "1"), ("d", "1")]).await.unwrap();
            let mut transaction = hasty.transaction(["e"]).await;
            transaction.set("e", "1").await.unwrap();
            transaction.commit().await.unwrap();
        });
        let case = reopened(case, mode);
        let expected: &[&str] = if survives { &["a", "b", "c", "d", "e"] } else { &[] };
        let mut keys = case.wait(case.kv.keys().to_vec()).unwrap();
        keys.sort_unstable();
        assert_eq!(keys, expected, "{level:?} {mode:?}");
    }
}

/// A read of what is not durable yet completes when that is: here it never will be.
#[test]
fn nothing_is_read_that_a_crash_could_undo() {
    let case = Case::on("lsm");
    let kv = case.kv.clone();
    case.wait(kv.set("k", "old")).unwrap();
    let poll = |future: std::pin::Pin<&mut dyn Future<Output = _>>| {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        future.poll(&mut cx)
    };
    // A polled write takes effect; the log's job has not run.
    let mut write = Box::pin(async { kv.set("k", "new").await.map(|()| None) });
    assert!(poll(write.as_mut()).is_pending());
    let mut read = Box::pin(kv.get("k"));
    assert!(poll(read.as_mut()).is_pending());
    // The write's future is dropped; the log goes on, and the read with it.
    drop(write);
    assert_eq!(text(case.wait(read).unwrap()).unwrap(), "new");
    let case = reopened(case, CrashMode::DropUnsynced);
    assert_eq!(text(case.wait(case.kv.get("k")).unwrap()).unwrap(), "new");
}

/// Counters are moved by transactions while the machine is cut at each of its writes: what was
/// acknowledged is there, and no transaction is there by half.
#[test]
fn a_crash_at_any_write_loses_nothing_acknowledged_and_halves_no_transaction() {
    let mut is_over = false;
    let mut cut = 0;
    while !is_over {
        let machine = SimMachine::new(cut);
        let host = machine.host();
        machine.crash_at(cut * 3);
        let builder = ferrokit::Builder::new(url("lsm")).host(host.clone());
        let mut acknowledged = HashMap::new();
        if let Ok(kv) = host.wait(builder.open()) {
            is_over = host.wait(workload(&kv, &mut acknowledged)).is_ok();
        }
        let case = Case::open(url("lsm"), machine.crash(CrashMode::Random(cut)));
        case.wait(async {
            let values = case.kv.mget(["a", "b"]).await.unwrap();
            let number = |value: &Option<ferrokit::Bytes>| {
                text(value.clone()).map_or(0, |value| value.parse::<i64>().unwrap())
            };
            let (a, b) = (number(&values[0]), number(&values[1]));
            assert_eq!(a + b, 0, "cut at {cut}");
            let known = acknowledged.get("b").copied().unwrap_or(0);
            assert!((known..=known + 1).contains(&b), "cut at {cut}: {b}, acknowledged {known}");
        });
        cut += 1;
    }
    assert!(cut > 10, "{cut}");
}

async fn workload(
    kv: &Ferrokit,
    acknowledged: &mut HashMap<&'static str, i64>,
) -> ferrokit::Result<()> {
    for _ in 0..20 {
        let mut transfer = kv.transaction(["a", "b"]).await;
        transfer.incr_by("a", -1).await?;
        let moved = transfer.incr_by("b", 1).await?;
        transfer.commit().await?;
        acknowledged.insert("b", moved);
    }
    Ok(())
}
