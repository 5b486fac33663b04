//! The wake signal of background jobs under loom: every interleaving of wakes and sleeps.

/// What the signal is made of here.
mod primitive {
    pub(crate) use loom::sync::atomic::{AtomicU8, Ordering};
    pub(crate) use loom::thread::{Thread, park};

    /// Here a little is no time at all.
    pub(crate) fn park_a_little() {
        loom::thread::yield_now();
    }
}

#[path = "../src/background/wake_signal.rs"]
#[expect(dead_code, reason = "the model needs a part of it")]
mod wake_signal;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use wake_signal::{Call, WakeSignal};

struct Shared {
    signal: WakeSignal,
    /// What the wakers announce. Relaxed on purpose: the signal must order it.
    posted: AtomicUsize,
}

/// A sleeper that steps until it has seen `total` posts.
fn sleeper(shared: &Arc<Shared>, total: usize) -> thread::JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        while shared.signal.wait() == Call::Run {
            if shared.posted.load(Ordering::Relaxed) == total {
                return;
            }
        }
        panic!("nobody called stop");
    })
}

/// How a waker calls the sleeper.
type Wake = fn(&WakeSignal, &thread::Thread);

/// Two threads post and call: the sleeper steps after each, and sees what was posted before it.
fn both_are_answered(first: Wake, second: Wake) {
    loom::model(move || {
        let shared = Arc::new(Shared { signal: WakeSignal::new(), posted: AtomicUsize::new(0) });
        let sleeper = sleeper(&shared, 2);
        let thread = sleeper.thread().clone();
        let other = {
            let (shared, thread) = (Arc::clone(&shared), thread.clone());
            thread::spawn(move || {
                shared.posted.fetch_add(1, Ordering::Relaxed);
                first(&shared.signal, &thread);
            })
        };
        shared.posted.fetch_add(1, Ordering::Relaxed);
        second(&shared.signal, &thread);
        other.join().expect("the other thread ends");
        // Were a wake lost, the sleeper would park forever: loom reports the deadlock.
        sleeper.join().expect("the sleeper ends");
    });
}

#[test]
fn every_wake_is_answered_by_a_step_that_sees_what_came_before_it() {
    both_are_answered(WakeSignal::wake, WakeSignal::wake);
}

#[test]
fn a_call_that_can_wait_is_answered_like_any_other() {
    both_are_answered(WakeSignal::wake_soon, WakeSignal::wake_soon);
}

#[test]
fn calls_of_both_kinds_are_answered() {
    both_are_answered(WakeSignal::wake, WakeSignal::wake_soon);
}

#[test]
fn stop_ends_the_sleep() {
    loom::model(|| {
        let signal = Arc::new(WakeSignal::new());
        let sleeper = {
            let signal = Arc::clone(&signal);
            thread::spawn(move || while signal.wait() == Call::Run {})
        };
        signal.wake(sleeper.thread());
        signal.stop(sleeper.thread());
        sleeper.join().unwrap();
    });
}
