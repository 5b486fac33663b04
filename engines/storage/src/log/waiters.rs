//! [`Waiters`]: who waits for the committer, ordered by what for, so that a commit wakes those it
//! covers and nobody else.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The log has reached the operating system.
    Os,
    /// The log has reached the device.
    Synced,
    /// Readers may read up to there.
    Readable,
    /// The buffer has room; the position means nothing.
    Room,
}

/// A registration; whoever made it removes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaitKey {
    event: Event,
    position: u64,
    number: u64,
}

#[derive(Default)]
pub(super) struct Waiters(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    wakers: BTreeMap<WaitKey, Waker>,
    next_number: u64,
}

impl Waiters {
    pub(super) fn register(&self, event: Event, position: u64, waker: &Waker) -> WaitKey {
        let mut waiting = self.lock();
        let number = waiting.next_number;
        waiting.next_number += 1;
        let key = WaitKey { event, position, number };
        waiting.wakers.insert(key, waker.clone());
        key
    }

    pub(super) fn remove(&self, key: WaitKey) {
        let _waker = self.lock().wakers.remove(&key);
    }

    /// Wakes those who wait for `event` at or before `position`.
    pub(super) fn wake(&self, event: Event, position: u64) {
        let first = WaitKey { event, position: 0, number: 0 };
        let last = WaitKey { event, position, number: u64::MAX };
        let woken: Vec<Waker> = {
            let mut waiting = self.lock();
            let keys: Vec<WaitKey> = waiting.wakers.range(first..=last).map(|(k, _)| *k).collect();
            keys.iter().filter_map(|key| waiting.wakers.remove(key)).collect()
        };
        woken.into_iter().for_each(wake);
    }

    pub(super) fn wake_all(&self) {
        let woken = std::mem::take(&mut self.lock().wakers);
        woken.into_values().for_each(wake);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().wakers.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes; a waker that panics ends neither the committer nor the waiting of others.
fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        tracing::error!("a waker panicked while the log committed");
    }
}
