//! [`VersionLock`]: the lock and version of a bucket in one word (a sequence lock).
//!
//! ```text
//! bit 0       locked
//! bit 63..1   version, one more after each unlock that changed something
//! ```
//! A writer locks, changes the words the lock guards, unlocks. A reader takes the version, reads
//! without locking, and believes what it read only if the version is still the same: nobody
//! locked meanwhile. The guarded words are atomics, so that a read that races is merely wrong,
//! and thrown away.
//!
//! Lock order: bucket locks by (segment address, bucket number); then, as leaves that nobody waits
//! behind, the locks of stash buckets; then the directory's mutex; then the allocator's. What would
//! break the order is only ever tried.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// What a version lock needs of its word; the tests put loom's atomics here.
pub(crate) trait LockWord {
    fn load(&self, order: Ordering) -> u64;
    fn compare_exchange(&self, current: u64, new: u64, success: Ordering) -> bool;
    fn store(&self, value: u64, order: Ordering);
    fn fence(order: Ordering);
    /// Waits a little; `attempt` counts from 0.
    fn pause(attempt: u32);
}

impl LockWord for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn compare_exchange(&self, current: u64, new: u64, success: Ordering) -> bool {
        self.compare_exchange(current, new, success, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    #[inline]
    fn fence(order: Ordering) {
        fence(order);
    }

    #[inline]
    fn pause(attempt: u32) {
        pause(attempt);
    }
}

/// Spins first; then lets the holder run, who may wait for this very core.
#[inline]
pub(crate) fn pause(attempt: u32) {
    if attempt < 64 {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// The version a reader or a holder found: an even word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version(u64);

/// A bucket's lock.
pub(crate) struct VersionLock<'a, W: LockWord = AtomicU64>(&'a W);

impl<W: LockWord> Clone for VersionLock<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<W: LockWord> Copy for VersionLock<'_, W> {}

impl<'a, W: LockWord> VersionLock<'a, W> {
    #[inline]
    pub(crate) fn new(word: &'a W) -> Self {
        Self(word)
    }

    /// The version to validate against, once no writer is inside.
    #[inline]
    pub(crate) fn read_begin(self) -> Version {
        let mut attempt = 0;
        loop {
            let word = self.0.load(Ordering::Acquire);
            if word & 1 == 0 {
                return Version(word);
            }
            W::pause(attempt);
            attempt = attempt.saturating_add(1);
        }
    }

    /// Whether nobody locked since `version` was taken: what was read in between is consistent.
    #[inline]
    pub(crate) fn validate(self, version: Version) -> bool {
        // The reads before stay before the load below; with the writer's fence in `try_lock`, a
        // reader that saw a changed word sees the lock, too.
        W::fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == version.0
    }

    /// The version that the holder, who is the caller, found and will leave if it changes nothing.
    pub(crate) fn version_held(self) -> Version {
        Version(self.0.load(Ordering::Relaxed) & !1)
    }

    /// Locks if nobody holds it.
    #[inline]
    pub(crate) fn try_lock(self) -> Option<Latch<'a, W>> {
        let word = self.0.load(Ordering::Relaxed);
        if word & 1 != 0 || !self.0.compare_exchange(word, word | 1, Ordering::Acquire) {
            return None;
        }
        // The holder's stores stay behind the lock.
        W::fence(Ordering::Release);
        Some(Latch { lock: self, version: Version(word), changed: true })
    }

    /// Locks, waiting for the holder.
    #[inline]
    pub(crate) fn lock(self) -> Latch<'a, W> {
        let mut attempt = 0;
        loop {
            if let Some(latch) = self.try_lock() {
                return latch;
            }
            W::pause(attempt);
            attempt = attempt.saturating_add(1);
        }
    }
}

/// A held bucket lock, released when dropped.
#[must_use]
pub(crate) struct Latch<'a, W: LockWord = AtomicU64> {
    lock: VersionLock<'a, W>,
    version: Version,
    changed: bool,
}

impl<W: LockWord> Latch<'_, W> {
    /// Releases a bucket of which nothing was changed: readers need not start again.
    #[inline]
    pub(crate) fn release_unchanged(mut self) {
        self.changed = false;
    }
}

impl<W: LockWord> Drop for Latch<'_, W> {
    #[inline]
    fn drop(&mut self) {
        let version = self.version.0.wrapping_add(if self.changed { 2 } else { 0 });
        self.lock.0.store(version, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::atomic::AtomicU64 as LoomU64;
    use std::sync::Arc;

    impl LockWord for LoomU64 {
        fn load(&self, order: Ordering) -> u64 {
            self.load(order)
        }
        fn compare_exchange(&self, current: u64, new: u64, success: Ordering) -> bool {
            self.compare_exchange(current, new, success, Ordering::Relaxed).is_ok()
        }
        fn store(&self, value: u64, order: Ordering) {
            self.store(value, order);
        }
        fn fence(order: Ordering) {
            loom::sync::atomic::fence(order);
        }
        fn pause(_: u32) {
            loom::thread::yield_now();
        }
    }

    #[derive(Default)]
    struct Guarded {
        lock: LoomU64,
        a: LoomU64,
        b: LoomU64,
    }

    impl Guarded {
        fn write(&self) {
            let _latch = VersionLock::new(&self.lock).lock();
            let value = self.a.load(Ordering::Relaxed) + 1;
            self.a.store(value, Ordering::Relaxed);
            self.b.store(value, Ordering::Relaxed);
        }

        /// One optimistic read: `None` where it did not validate.
        fn try_read(&self) -> Option<(u64, u64)> {
            let lock = VersionLock::new(&self.lock);
            let version = lock.read_begin();
            let pair = (self.a.load(Ordering::Relaxed), self.b.load(Ordering::Relaxed));
            lock.validate(version).then_some(pair)
        }
    }

    #[test]
    fn loom_a_validated_read_is_never_torn() {
        loom::model(|| {
            let guarded = Arc::new(Guarded::default());
            let writer = {
                let guarded = Arc::clone(&guarded);
                loom::thread::spawn(move || guarded.write())
            };
            if let Some((a, b)) = guarded.try_read() {
                assert_eq!(a, b);
            }
            writer.join().unwrap();
            assert_eq!(guarded.try_read(), Some((1, 1)));
        });
    }

    #[test]
    fn loom_writers_exclude_each_other() {
        loom::model(|| {
            let guarded = Arc::new(Guarded::default());
            let writer = {
                let guarded = Arc::clone(&guarded);
                loom::thread::spawn(move || guarded.write())
            };
            guarded.write();
            writer.join().unwrap();
            assert_eq!(guarded.try_read(), Some((2, 2)));
        });
    }

    #[test]
    fn an_unchanged_release_keeps_readers_valid() {
        let word = AtomicU64::new(0);
        let lock = VersionLock::new(&word);
        let version = lock.read_begin();
        let latch = lock.lock();
        assert!(lock.try_lock().is_none());
        assert!(!lock.validate(version));
        latch.release_unchanged();
        assert!(lock.validate(version));
        drop(lock.lock());
        assert!(!lock.validate(version));
    }
}
