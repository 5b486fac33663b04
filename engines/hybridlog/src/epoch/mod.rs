//! Epoch protection after FASTER (Chandramouli et al., SIGMOD 2018, section 2.3).
//!
//! A thread enters an epoch for the length of one attempt at an operation ([`Epochs::enter`]).
//! Whoever takes something away (a page, an index table, a keyspace table) first makes it
//! unreachable, then [`bump`](Epochs::bump)s the epoch; once every thread that is inside entered
//! after the bump, nobody can hold what was taken away. That moment either triggers an action
//! ([`Epochs::defer`]) or is waited for ([`Epochs::wait_safe`]).
//!
//! An own table rather than `crossbeam-epoch`, since the log needs what that crate leaves open: to
//! know *when* an epoch is safe (a page may be scanned, a keyspace swapped), and actions that run
//! at that moment rather than some time later.
//!
//! # Memory order
//! Entering stores the epoch in the thread's slot with a full barrier after it; the taker makes
//! its change, then a full barrier, then reads the slots. So either the taker sees the slot, or
//! the thread sees the change. A slot may show an epoch older than the current one (the thread
//! was held up in between): that only delays.

mod protected;

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

pub(crate) use protected::Protected;

use crate::primitive::{AtomicU64, Backoff, Ordering, OwnLine, fence, full_barrier_after_rmw};

/// Threads that can be inside at the same moment; more wait for a slot.
pub(crate) const SLOTS: usize = 256;

/// How often [`Epochs::wait_safe`] yields before it gives up: many seconds.
const MAX_WAITS: u32 = 1 << 22;

/// What to do once an epoch is safe.
type Action = Box<dyn FnOnce() + Send>;

/// A thread stayed inside for so long that waiting for it makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stalled;

/// The epoch table.
pub(crate) struct Epochs {
    current: OwnLine<AtomicU64>,
    /// Per slot: 0 if free, else the epoch its thread entered in.
    slots: Box<[OwnLine<AtomicU64>]>,
    /// The number of actions waiting, to skip the mutex when there are none.
    waiting: OwnLine<AtomicU64>,
    /// Actions and the epoch that must be safe for each. Its lock is never held while one runs.
    actions: Mutex<Vec<(u64, Action)>>,
}

thread_local! {
    /// The slot this thread tries first.
    static PREFERRED_SLOT: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed))
    };
}

impl Epochs {
    /// A table for `slots` threads at a time.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            current: OwnLine(AtomicU64::new(1)),
            slots: (0..slots.max(1)).map(|_| OwnLine(AtomicU64::new(0))).collect(),
            waiting: OwnLine(AtomicU64::new(0)),
            actions: Mutex::new(Vec::new()),
        }
    }

    /// Enters the current epoch until the guard is dropped.
    #[inline]
    pub(crate) fn enter(&self) -> Guard<'_> {
        let preferred = PREFERRED_SLOT.get();
        let mut backoff = Backoff::default();
        loop {
            for turn in 0..self.slots.len() {
                let index = (preferred.wrapping_add(turn)) % self.slots.len();
                let slot = &self.slots[index].0;
                if slot.load(Ordering::Relaxed) != 0 {
                    continue;
                }
                let epoch = self.current.0.load(Ordering::Relaxed);
                if slot.compare_exchange(0, epoch, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                    full_barrier_after_rmw();
                    if turn > 0 {
                        PREFERRED_SLOT.set(index);
                    }
                    return Guard { epochs: self, slot };
                }
            }
            backoff.wait();
        }
    }

    /// Ends the current epoch and answers its number: safe once [`is_safe`](Self::is_safe).
    pub(crate) fn bump(&self) -> u64 {
        self.current.0.fetch_add(1, Ordering::SeqCst)
    }

    /// Whether every thread inside entered after `epoch` ended.
    pub(crate) fn is_safe(&self, epoch: u64) -> bool {
        self.oldest_inside() > epoch
    }

    /// The oldest epoch a thread is in; the current one if none is inside.
    fn oldest_inside(&self) -> u64 {
        let current = self.current.0.load(Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let entered = self.slots.iter().map(|slot| slot.0.load(Ordering::Acquire));
        entered.filter(|&epoch| epoch != 0).min().unwrap_or(current).min(current)
    }

    /// Waits until `epoch` is safe. The caller must not be inside.
    ///
    /// # Errors
    /// [`Stalled`] if some thread never leaves.
    pub(crate) fn wait_safe(&self, epoch: u64) -> Result<(), Stalled> {
        let mut backoff = Backoff::default();
        while !self.is_safe(epoch) {
            if backoff.waits() > MAX_WAITS {
                return Err(Stalled);
            }
            backoff.wait();
        }
        self.run_actions();
        Ok(())
    }

    /// Runs `action` once no thread is inside that was inside before this call. It runs on a
    /// thread that leaves, outside any epoch of its own. Answers the epoch that must be safe.
    pub(crate) fn defer(&self, action: Action) -> u64 {
        let mut actions = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
        // The count rises before the epoch ends: a thread that entered earlier then either leaves
        // after it and sees the count, or left before it and need not.
        self.waiting.0.fetch_add(1, Ordering::SeqCst);
        let epoch = self.bump();
        actions.push((epoch, action));
        epoch
    }

    /// Runs the actions whose epoch is safe.
    #[cold]
    pub(crate) fn run_actions(&self) {
        if self.waiting.0.load(Ordering::SeqCst) == 0 {
            return;
        }
        let ready: Vec<Action> = {
            let Ok(mut actions) = self.actions.try_lock() else { return };
            let oldest = self.oldest_inside();
            let (ready, later) = std::mem::take(&mut *actions)
                .into_iter()
                .partition::<Vec<_>, _>(|(epoch, _)| *epoch < oldest);
            *actions = later;
            self.waiting.0.fetch_sub(ready.len() as u64, Ordering::SeqCst);
            ready.into_iter().map(|(_, action)| action).collect()
        };
        for action in ready {
            action();
        }
    }

    /// The number of the current epoch.
    pub(crate) fn current(&self) -> u64 {
        self.current.0.load(Ordering::Relaxed)
    }

    /// The number of actions waiting for their epoch.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.0.load(Ordering::Relaxed)
    }
}

/// The caller's stay inside an epoch.
pub(crate) struct Guard<'e> {
    epochs: &'e Epochs,
    slot: &'e AtomicU64,
}

impl Guard<'_> {
    /// Whether this is a stay in an epoch of `epochs`.
    #[inline]
    fn is_of(&self, epochs: &Epochs) -> bool {
        std::ptr::eq(self.epochs, epochs)
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.slot.store(0, Ordering::Release);
        if self.epochs.waiting.0.load(Ordering::Relaxed) != 0 {
            self.epochs.run_actions();
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn an_action_waits_for_those_inside_and_for_no_others() {
        let epochs = Epochs::new(4);
        let done = Arc::new(AtomicBool::new(false));
        let before = epochs.enter();
        let flag = Arc::clone(&done);
        epochs.defer(Box::new(move || flag.store(true, Ordering::SeqCst)));
        let after = epochs.enter();
        epochs.run_actions();
        assert!(!done.load(Ordering::SeqCst), "a thread inside since before could still look");
        drop(before);
        assert!(done.load(Ordering::SeqCst), "the last to leave runs the action");
        drop(after);
        assert_eq!(epochs.waiting(), 0);
    }

    #[test]
    fn an_epoch_is_safe_once_all_inside_entered_later() {
        let epochs = Epochs::new(2);
        let inside = epochs.enter();
        let ended = epochs.bump();
        assert!(!epochs.is_safe(ended));
        drop(inside);
        let later = epochs.enter();
        assert!(epochs.is_safe(ended));
        drop(later);
        assert_eq!(epochs.wait_safe(ended), Ok(()));
    }

    #[test]
    fn more_threads_than_slots_take_turns() {
        let epochs = Epochs::new(1);
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let guard = epochs.enter();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(guard);
                    }
                });
            }
        });
    }
}
