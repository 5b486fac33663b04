//! The commit gate under loom: every interleaving and every reordering the memory model allows.

/// What the gate is made of here.
mod atomics {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "../src/commit_gate.rs"]
#[expect(unreachable_pub, reason = "in the crate itself it is reachable")]
mod commit_gate;

use atomics::{AtomicU64, Ordering};
use commit_gate::CommitGate;
use ferrokit_engine::CommitTicket;
use loom::sync::Arc;
use loom::thread;

#[test]
fn who_sees_the_value_sees_the_ticket() {
    // Without a bound on preemptions the model has too many interleavings to visit.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let gate = Arc::new(CommitGate::with_stripes(1));
        let value = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = [8, 16]
            .into_iter()
            .map(|end| {
                let (gate, value) = (Arc::clone(&gate), Arc::clone(&value));
                thread::spawn(move || {
                    gate.note(7, CommitTicket { os: end, synced: end });
                    value.store(end, Ordering::Release);
                })
            })
            .collect();
        let seen = value.load(Ordering::Acquire);
        let (ticket, all) = (gate.ticket(7), gate.ticket_all());
        assert!(ticket.os >= seen && ticket.synced >= seen);
        assert!(all.os >= seen && all.synced >= seen);
        for writer in writers {
            writer.join().unwrap();
        }
    });
}
