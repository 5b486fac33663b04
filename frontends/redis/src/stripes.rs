//! [`Stripes`]: locks of keys, and the watches on them.
//!
//! A key belongs to the stripe its hash names. A command that writes one key holds its stripe
//! *shared*: the engine makes the write atomic, the stripe only keeps it out of others' exclusive
//! sections. A command of several keys, and EXEC, hold all their stripes *exclusively*, taken in
//! ascending order. Reads take nothing: what several keys change together becomes visible at once,
//! by one batch of the engine.
//!
//! The state of a stripe is one word, so that a write of one key costs two atomic additions:
//!
//! | bits | |
//! |---|---|
//! | 0-19 | how many hold it shared |
//! | 20 | it is held exclusively, or claimed: new sharers wait, old ones leave |
//! | 21 | somebody waits |
//! | 22 | some of its keys are watched |
//! | 24-63 | a version, for reads of several keys: counts the writes |
//!
//! # Lock order
//! Stripes ascending; then one stripe's `slow`, under which nothing else is taken. A stripe is held
//! across awaits, `slow` never.

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ferrokit_engine::KeyspaceId;

/// Stripes of a store.
const STRIPES: usize = 1024;

const SHARED_ONE: u64 = 1;
const SHARED_MASK: u64 = (1 << 20) - 1;
const EXCLUSIVE: u64 = 1 << 20;
const WAITED: u64 = 1 << 21;
const WATCHED: u64 = 1 << 22;
const VERSION_ONE: u64 = 1 << 24;
const VERSION_MASK: u64 = !(VERSION_ONE - 1);

/// Set once a watched key was changed.
#[derive(Debug, Default)]
pub(crate) struct WatchFlag(AtomicBool);

impl WatchFlag {
    pub(crate) fn is_touched(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn touch(&self) {
        self.0.store(true, Ordering::Release);
    }
}

type WatchedKeys = HashMap<(KeyspaceId, Box<[u8]>), Vec<Arc<WatchFlag>>>;

#[derive(Default)]
struct Slow {
    waiters: Vec<Waker>,
    watched: WatchedKeys,
}

#[derive(Default)]
#[repr(align(128))]
struct Stripe {
    word: AtomicU64,
    slow: Mutex<Slow>,
}

/// The locks of all keys of a store.
pub(crate) struct Stripes {
    stripes: Box<[Stripe]>,
}

/// The hash of a key: names its stripe, and its slot in the table of accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(pub(crate) u64);

impl KeyHash {
    #[inline]
    pub(crate) fn of(keyspace: KeyspaceId, key: &[u8]) -> Self {
        let mut hasher = xxhash_rust::xxh3::Xxh3Default::default();
        if key.len() <= 240 {
            return Self(xxhash_rust::xxh3::xxh3_64_with_seed(key, u64::from(keyspace.0)));
        }
        hasher.write_u32(keyspace.0);
        hasher.write(key);
        Self(hasher.finish())
    }

    #[inline]
    pub(crate) fn stripe(self) -> usize {
        (self.0 >> 54) as usize % STRIPES
    }
}

impl Stripes {
    pub(crate) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Stripe::default()).collect() }
    }

    /// Holds the stripe of a key shared, to write that key.
    #[inline]
    pub(crate) async fn shared<'s>(
        &'s self,
        keyspace: KeyspaceId,
        key: &'s [u8],
        hash: KeyHash,
    ) -> Shared<'s> {
        let stripe = &self.stripes[hash.stripe()];
        if !stripe.try_share() {
            poll_fn(|cx| stripe.poll_share(cx)).await;
        }
        Shared { stripe, keyspace, key, is_modified: true, is_told: false }
    }

    /// Holds stripes exclusively. `stripes` must be ascending, without repetitions.
    pub(crate) async fn exclusive(&self, stripes: Vec<u16>) -> Exclusive<'_> {
        debug_assert!(stripes.is_sorted_by(|a, b| a < b));
        let mut held = Exclusive { all: self, stripes, taken: 0, is_modified: false };
        while let Some(&index) = held.stripes.get(held.taken) {
            let stripe = &self.stripes[usize::from(index)];
            // From the claim on the stripe must be released, whatever becomes of this future.
            poll_fn(|cx| stripe.poll_claim(cx)).await;
            held.taken += 1;
            poll_fn(|cx| stripe.poll_unshared(cx)).await;
        }
        held
    }

    /// All stripes, for [`exclusive`](Self::exclusive).
    pub(crate) fn all() -> Vec<u16> {
        (0..STRIPES as u16).collect()
    }

    /// The version of a key's stripe; `None` while somebody writes there.
    #[inline]
    pub(crate) fn version(&self, hash: KeyHash) -> Option<u64> {
        let word = self.stripes[hash.stripe()].word.load(Ordering::Acquire);
        (word & (SHARED_MASK | EXCLUSIVE) == 0).then_some(word & VERSION_MASK)
    }

    /// Sets `flag` when the key changes from now on. The stripe must be held exclusively, so that
    /// no write is under way that would not see the watch; or shared, by one who knows that.
    pub(crate) fn watch(&self, keyspace: KeyspaceId, key: &[u8], flag: &Arc<WatchFlag>) {
        let stripe = &self.stripes[KeyHash::of(keyspace, key).stripe()];
        let mut slow = stripe.slow();
        slow.watched.entry((keyspace, key.into())).or_default().push(Arc::clone(flag));
        stripe.word.fetch_or(WATCHED, Ordering::AcqRel);
    }

    /// Ends a watch.
    pub(crate) fn unwatch(&self, keyspace: KeyspaceId, key: &[u8], flag: &Arc<WatchFlag>) {
        let stripe = &self.stripes[KeyHash::of(keyspace, key).stripe()];
        let mut slow = stripe.slow();
        let of_key = (keyspace, key.into());
        if let Some(flags) = slow.watched.get_mut(&of_key) {
            flags.retain(|it| !Arc::ptr_eq(it, flag));
            if flags.is_empty() {
                slow.watched.remove(&of_key);
            }
        }
        if slow.watched.is_empty() {
            slow.watched = WatchedKeys::new();
            stripe.word.fetch_and(!WATCHED, Ordering::AcqRel);
        }
    }

    /// The watched keys of a keyspace.
    pub(crate) fn watched_keys(&self, keyspace: KeyspaceId) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        for stripe in &self.stripes {
            if stripe.word.load(Ordering::Acquire) & WATCHED != 0 {
                let slow = stripe.slow();
                let of_keyspace = slow.watched.keys().filter(|(of, _)| *of == keyspace);
                keys.extend(of_keyspace.map(|(_, key)| key.clone()));
            }
        }
        keys
    }

    /// Tells whoever watches the key that it changed; before its stripe is released.
    pub(crate) fn touch(&self, keyspace: KeyspaceId, key: &[u8]) {
        self.stripes[KeyHash::of(keyspace, key).stripe()].touch(keyspace, key);
    }
}

impl Stripe {
    fn slow(&self) -> MutexGuard<'_, Slow> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn try_share(&self) -> bool {
        let before = self.word.fetch_add(SHARED_ONE, Ordering::AcqRel);
        if before & EXCLUSIVE == 0 {
            return true;
        }
        self.unshare(0);
        false
    }

    fn poll_share(&self, cx: &Context<'_>) -> Poll<()> {
        loop {
            if self.try_share() {
                return Poll::Ready(());
            }
            if self.wait_unless(cx, |word| word & EXCLUSIVE == 0).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Adds `more` to the word and ends a share.
    #[inline]
    fn unshare(&self, more: u64) {
        let before = self.word.fetch_add(more.wrapping_sub(SHARED_ONE), Ordering::AcqRel);
        if before & WAITED != 0 && before & SHARED_MASK == SHARED_ONE {
            self.wake();
        }
    }

    fn poll_claim(&self, cx: &Context<'_>) -> Poll<()> {
        loop {
            if self.word.fetch_or(EXCLUSIVE, Ordering::AcqRel) & EXCLUSIVE == 0 {
                return Poll::Ready(());
            }
            if self.wait_unless(cx, |word| word & EXCLUSIVE == 0).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Waits until the sharers of a claimed stripe have left.
    fn poll_unshared(&self, cx: &Context<'_>) -> Poll<()> {
        if self.word.load(Ordering::Acquire) & SHARED_MASK == 0 {
            return Poll::Ready(());
        }
        self.wait_unless(cx, |word| word & SHARED_MASK == 0)
    }

    /// Ready if `is_met`; else pending, and woken at the next release.
    #[cold]
    fn wait_unless(&self, cx: &Context<'_>, is_met: impl Fn(u64) -> bool) -> Poll<()> {
        let mut slow = self.slow();
        // Under the lock: a release that sees the bit wakes whoever is in the list by then.
        let word = self.word.fetch_or(WAITED, Ordering::AcqRel);
        if is_met(word) {
            return Poll::Ready(());
        }
        if !slow.waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
            slow.waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }

    #[cold]
    fn wake(&self) {
        let waiters = {
            let mut slow = self.slow();
            self.word.fetch_and(!WAITED, Ordering::AcqRel);
            std::mem::take(&mut slow.waiters)
        };
        waiters.into_iter().for_each(Waker::wake);
    }

    fn release_exclusive(&self, is_modified: bool) {
        let more = if is_modified { VERSION_ONE } else { 0 };
        let before = self.word.fetch_add(more.wrapping_sub(EXCLUSIVE), Ordering::AcqRel);
        if before & WAITED != 0 {
            self.wake();
        }
    }

    #[inline]
    fn touch(&self, keyspace: KeyspaceId, key: &[u8]) {
        if self.word.load(Ordering::Acquire) & WATCHED != 0 {
            self.touch_watchers(keyspace, key);
        }
    }

    #[cold]
    fn touch_watchers(&self, keyspace: KeyspaceId, key: &[u8]) {
        if let Some(flags) = self.slow().watched.get(&(keyspace, key.into())) {
            flags.iter().for_each(|flag| flag.touch());
        }
    }
}

/// A stripe held shared, to write one key.
pub(crate) struct Shared<'s> {
    stripe: &'s Stripe,
    keyspace: KeyspaceId,
    key: &'s [u8],
    is_modified: bool,
    /// Watchers were told.
    is_told: bool,
}

impl Shared<'_> {
    /// The key was changed: whoever watches it by now is told, and nobody who begins to watch it
    /// before the stripe is released.
    pub(crate) fn modified(&mut self) {
        self.stripe.touch(self.keyspace, self.key);
        self.is_told = true;
    }

    /// The key was left as it was. (A write that was given up counts as done: it may have been.)
    #[inline]
    pub(crate) fn unmodified(&mut self) {
        self.is_modified = false;
    }
}

impl Drop for Shared<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_modified && !self.is_told {
            self.stripe.touch(self.keyspace, self.key);
        }
        self.stripe.unshare(if self.is_modified { VERSION_ONE } else { 0 });
    }
}

/// Stripes held exclusively.
pub(crate) struct Exclusive<'s> {
    all: &'s Stripes,
    stripes: Vec<u16>,
    /// How many of them are claimed.
    taken: usize,
    is_modified: bool,
}

impl Exclusive<'_> {
    /// Something was written, or may have been.
    pub(crate) fn modified(&mut self) {
        self.is_modified = true;
    }

    /// Whether the stripe of a key is held.
    pub(crate) fn covers(&self, hash: KeyHash) -> bool {
        self.stripes.binary_search(&(hash.stripe() as u16)).is_ok()
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        for &index in self.stripes.iter().take(self.taken) {
            self.all.stripes[usize::from(index)].release_exclusive(self.is_modified);
        }
    }
}
