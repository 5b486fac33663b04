//! [`Keyspaces`]: cleared and swapped in constant time.
//!
//! A keyspace is mapped to a space, and a space has a generation. Every record carries both in one
//! word, which also seeds its hash. Clearing gives the space a new generation: what carries the
//! old one is unreachable, and is collected by and by. Swapping exchanges two mappings.
//!
//! Writers are inside a gate while they work; a clear or swap closes it and waits until they are
//! out, so that no write lands in a space that meanwhile belongs to another keyspace. Readers do
//! not enter: they validate that the sequence number is still the same.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use ferrokit_engine::KeyspaceId;

use crate::alloc::thread_index;
use crate::table::lock::pause;

/// How many keyspaces there are.
pub(crate) const KEYSPACES: u32 = 1024;

/// Counters that threads share out among themselves.
const STRIPES: usize = 8;

/// A space (16 bits) and its generation (48 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpaceWord(pub(crate) u64);

impl SpaceWord {
    fn new(space: u32, generation: u64) -> Self {
        Self(u64::from(space) << 48 | generation)
    }

    fn space(self) -> usize {
        (self.0 >> 48) as usize
    }
}

/// One counter to a cache line.
#[repr(align(64))]
#[derive(Default)]
struct Padded<T>(T);

struct Space {
    word: AtomicU64,
    entries: [Padded<AtomicI64>; STRIPES],
}

/// The keyspaces of an engine.
pub(crate) struct Keyspaces {
    /// Odd while the gate is closed.
    sequence: AtomicU64,
    mapping: Vec<AtomicU32>,
    spaces: Vec<Space>,
    inside: [Padded<AtomicU64>; STRIPES],
    /// Writers that found the gate closed and are not in yet.
    waiting: AtomicU64,
    /// Held by who changes; the last generation given out.
    changing: Mutex<u64>,
}

impl Keyspaces {
    pub(crate) fn new() -> Self {
        let space = |index| Space {
            word: AtomicU64::new(SpaceWord::new(index, 1).0),
            entries: Default::default(),
        };
        Self {
            sequence: AtomicU64::new(0),
            mapping: (0..KEYSPACES).map(AtomicU32::new).collect(),
            spaces: (0..KEYSPACES).map(space).collect(),
            inside: Default::default(),
            waiting: AtomicU64::new(0),
            changing: Mutex::new(1),
        }
    }

    /// The space of a keyspace, to read in; and the number to validate it with afterwards.
    #[inline]
    pub(crate) fn read_begin(&self, keyspace: KeyspaceId) -> (u64, SpaceWord) {
        let mut attempt = 0;
        loop {
            let sequence = self.sequence.load(Ordering::Acquire);
            if sequence & 1 == 0 {
                return (sequence, self.word(keyspace));
            }
            pause(attempt);
            attempt = attempt.saturating_add(1);
        }
    }

    /// Whether no keyspace was cleared or swapped since `sequence` was taken.
    #[inline]
    pub(crate) fn validate(&self, sequence: u64) -> bool {
        fence(Ordering::Acquire);
        self.sequence.load(Ordering::Relaxed) == sequence
    }

    /// Enters the gate, to write.
    #[inline]
    pub(crate) fn enter(&self) -> Inside<'_> {
        let counter = &self.inside[thread_index() % STRIPES].0;
        let mut attempt = 0;
        loop {
            // Counted before looking: whoever closes the gate sees the count, or we the gate.
            counter.fetch_add(1, Ordering::SeqCst);
            if self.sequence.load(Ordering::SeqCst) & 1 == 0 {
                if attempt > 0 {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                }
                return Inside { keyspaces: self, counter };
            }
            counter.fetch_sub(1, Ordering::SeqCst);
            if attempt == 0 {
                self.waiting.fetch_add(1, Ordering::Relaxed);
            }
            while self.sequence.load(Ordering::Relaxed) & 1 != 0 {
                pause(attempt);
                attempt = attempt.saturating_add(1);
            }
            attempt = attempt.saturating_add(1);
        }
    }

    /// Empties a keyspace; answers how many entries it had.
    pub(crate) fn clear(&self, keyspace: KeyspaceId) -> u64 {
        self.exclusive(|generation| {
            *generation += 1;
            let index = self.mapping[keyspace.0 as usize].load(Ordering::Relaxed);
            let space = &self.spaces[index as usize];
            space.word.store(SpaceWord::new(index, *generation).0, Ordering::Relaxed);
            let entries = self.len(keyspace);
            for stripe in &space.entries {
                stripe.0.store(0, Ordering::Relaxed);
            }
            entries
        })
    }

    /// Exchanges two keyspaces.
    pub(crate) fn swap(&self, a: KeyspaceId, b: KeyspaceId) {
        self.exclusive(|_| {
            let (a, b) = (&self.mapping[a.0 as usize], &self.mapping[b.0 as usize]);
            let space = a.load(Ordering::Relaxed);
            a.store(b.load(Ordering::Relaxed), Ordering::Relaxed);
            b.store(space, Ordering::Relaxed);
        });
    }

    /// How many entries a keyspace has: exact while nobody writes.
    pub(crate) fn len(&self, keyspace: KeyspaceId) -> u64 {
        let space = self.mapping[keyspace.0 as usize].load(Ordering::Relaxed);
        let stripes = &self.spaces[space as usize].entries;
        let entries: i64 = stripes.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).sum();
        u64::try_from(entries).unwrap_or(0)
    }

    fn word(&self, keyspace: KeyspaceId) -> SpaceWord {
        let space = self.mapping[keyspace.0 as usize].load(Ordering::Relaxed);
        SpaceWord(self.spaces[space as usize].word.load(Ordering::Relaxed))
    }

    /// Runs `change` while nobody writes. Writers are inside for microseconds, so this spins.
    fn exclusive<R>(&self, change: impl FnOnce(&mut u64) -> R) -> R {
        const COURTESY: u32 = 1024;
        let mut generation = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // Those whom the last change kept out go first, or a loop of changes would starve them.
        let mut attempt = 0;
        while self.waiting.load(Ordering::Relaxed) != 0 && attempt < COURTESY {
            pause(attempt);
            attempt += 1;
        }
        self.sequence.fetch_add(1, Ordering::SeqCst);
        for counter in &self.inside {
            let mut attempt = 0;
            while counter.0.load(Ordering::SeqCst) != 0 {
                pause(attempt);
                attempt = attempt.saturating_add(1);
            }
        }
        // The stores of `change` stay behind the odd number for those who validate.
        fence(Ordering::Release);
        let result = change(&mut generation);
        self.sequence.fetch_add(1, Ordering::Release);
        result
    }
}

/// Being inside the gate: no keyspace changes its space meanwhile.
pub(crate) struct Inside<'a> {
    keyspaces: &'a Keyspaces,
    counter: &'a AtomicU64,
}

impl Inside<'_> {
    /// The space of a keyspace.
    #[inline]
    pub(crate) fn space(&self, keyspace: KeyspaceId) -> SpaceWord {
        self.keyspaces.word(keyspace)
    }

    /// Whether a record's generation is over.
    pub(crate) fn is_stale(&self, word: SpaceWord) -> bool {
        let space = self.keyspaces.spaces.get(word.space());
        space.is_none_or(|space| space.word.load(Ordering::Relaxed) != word.0)
    }

    /// Counts entries that came or went.
    #[inline]
    pub(crate) fn count(&self, word: SpaceWord, entries: i64) {
        if entries == 0 {
            return;
        }
        if let Some(space) = self.keyspaces.spaces.get(word.space()) {
            let stripe = thread_index() % STRIPES;
            space.entries[stripe].0.fetch_add(entries, Ordering::Relaxed);
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_makes_stale_and_swap_moves() {
        let keyspaces = Keyspaces::new();
        let (a, b) = (KeyspaceId(0), KeyspaceId(1));
        let inside = keyspaces.enter();
        let before = inside.space(a);
        inside.count(before, 3);
        drop(inside);
        let (sequence, word) = keyspaces.read_begin(a);
        assert_eq!((word, keyspaces.len(a)), (before, 3));
        keyspaces.swap(a, b);
        assert!(!keyspaces.validate(sequence));
        assert_eq!((keyspaces.len(a), keyspaces.len(b)), (0, 3));
        assert_eq!(keyspaces.enter().space(b), before);
        assert!(!keyspaces.enter().is_stale(before));
        assert_eq!(keyspaces.clear(b), 3);
        assert!(keyspaces.enter().is_stale(before));
        assert_eq!(keyspaces.len(b), 0);
    }

    #[test]
    fn a_change_waits_for_those_inside() {
        let keyspaces = Keyspaces::new();
        let changed = std::sync::atomic::AtomicBool::new(false);
        let inside = keyspaces.enter();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                keyspaces.swap(KeyspaceId(0), KeyspaceId(1));
                changed.store(true, Ordering::SeqCst);
            });
            while keyspaces.sequence.load(Ordering::SeqCst) & 1 == 0 {
                std::thread::yield_now();
            }
            assert!(!changed.load(Ordering::SeqCst));
            drop(inside);
        });
        assert!(changed.load(Ordering::SeqCst));
    }
}
