//! Space for records, segments and directories.
//!
//! The region is cut into chunks of 256 KiB. A chunk belongs to one size class, or to a run of
//! chunks that holds one large object; the chunk table, the only persistent state, says which.
//! Whether an object is in use is written nowhere: it is, if a slot, the directory or the root
//! leads to it. So allocation needs no persistent step, publication is what activates, and a crash
//! at any point leaks nothing: recovery gives back all that is not reachable.
//!
//! Freed space stays with its class. Threads have free lists of their own (as many as stripes);
//! the lists of a class exchange batches.
//!
//! Lock order: a stripe's list, then a class's, then the chunks.

mod classes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_epoch::Guard;
use ferrokit_engine::{Error, ErrorKind, Result};
use ferrokit_storage::PmemRegion;

use crate::table::layout::{CHUNK_BYTES, CHUNK_TABLE};
use classes::{CLASSES, class_bytes, class_of};

/// Free lists that threads share out among themselves.
const STRIPES: usize = 16;
/// Objects up to this size have striped lists.
const STRIPED_BYTES_MAX: u64 = 4096;
/// Objects that a stripe takes or gives at once.
const EXCHANGE: usize = 32;

/// Chunk table: the first chunk of a run; the number of chunks stands above.
const RUN: u64 = 0xfe;
/// Chunk table: a further chunk of a run, or the region's header.
const TAKEN: u64 = 0xff;

/// The allocator of a region.
pub(crate) struct Allocator {
    stripes: Vec<Arc<Stripe>>,
    shared: Arc<Shared>,
}

struct Stripe {
    /// Objects retired and not yet free.
    retired: AtomicUsize,
    free: Vec<Mutex<Vec<u64>>>,
    shared: Arc<Shared>,
}

struct Shared {
    region: PmemRegion,
    classes: Vec<Mutex<ClassList>>,
    chunks: Mutex<Chunks>,
}

#[derive(Default)]
struct ClassList {
    free: Vec<u64>,
    /// The part of the last chunk that was never given out.
    fresh: std::ops::Range<u64>,
}

struct Chunks {
    next: u64,
    end: u64,
    /// Free runs by their number of chunks.
    runs: BTreeMap<u64, Vec<u64>>,
}

impl Allocator {
    /// The allocator of a region whose chunk table is empty.
    pub(crate) fn format(region: &PmemRegion) -> Self {
        Self::with_chunks(region, first_chunk(region))
    }

    /// The allocator of a region with objects in use at `live` (sorted, without duplicates).
    pub(crate) fn recover(region: &PmemRegion, live: &[u64]) -> Self {
        let is_live = |at: &u64| live.binary_search(at).is_ok();
        let end = region.len_bytes() / CHUNK_BYTES;
        let mut next = first_chunk(region);
        let mut chunk = next;
        let mut free_objects: Vec<(usize, u64)> = Vec::new();
        let mut free_runs: Vec<(u64, u64)> = Vec::new();
        while chunk < end {
            let word = region.load(CHUNK_TABLE + chunk * 8);
            let at = chunk * CHUNK_BYTES;
            let mut chunks = 1;
            if word & 0xff == RUN {
                chunks = (word >> 8).clamp(1, end - chunk);
                if !is_live(&at) {
                    free_runs.push((chunks, at));
                }
            } else if let Some(bytes) =
                (word as usize & 0xff).checked_sub(1).and_then(class_bytes_of)
            {
                let objects = (0..CHUNK_BYTES / bytes).map(|index| at + index * bytes);
                let class = (word & 0xff) as usize - 1;
                free_objects.extend(objects.filter(|at| !is_live(at)).map(|at| (class, at)));
            }
            chunk += chunks;
            if word != 0 {
                // Chunks are taken in order, but their entries may persist in any: one that is
                // still 0 below a taken one holds nothing and is lost to the format's next life.
                next = chunk;
            }
        }
        let allocator = Self::with_chunks(region, next);
        for (class, at) in free_objects {
            allocator.shared.free_list(class).free.push(at);
        }
        for (chunks, at) in free_runs {
            allocator.shared.chunks().runs.entry(chunks).or_default().push(at);
        }
        allocator
    }

    fn with_chunks(region: &PmemRegion, next: u64) -> Self {
        let end = region.len_bytes() / CHUNK_BYTES;
        let shared = Arc::new(Shared {
            region: region.clone(),
            classes: (0..CLASSES).map(|_| Mutex::default()).collect(),
            chunks: Mutex::new(Chunks { next, end, runs: BTreeMap::new() }),
        });
        let stripe = || Stripe {
            retired: AtomicUsize::new(0),
            free: (0..CLASSES).map(|_| Mutex::default()).collect(),
            shared: Arc::clone(&shared),
        };
        Self { stripes: (0..STRIPES).map(|_| Arc::new(stripe())).collect(), shared }
    }

    /// Space for `bytes`, with unknown content.
    ///
    /// # Errors
    /// `OutOfSpace`.
    pub(crate) fn allocate(&self, bytes: u64) -> Result<u64> {
        let Some(class) = class_of(bytes) else {
            return self.shared.allocate_run(bytes.div_ceil(CHUNK_BYTES));
        };
        if class_bytes(class) > STRIPED_BYTES_MAX {
            return self.shared.take(class, 1).map(|taken| taken[0]);
        }
        let stripe = self.stripe();
        if let Some(at) = locked(&stripe.free[class]).pop() {
            return Ok(at);
        }
        match self.shared.take(class, EXCHANGE) {
            Ok(mut taken) => {
                let at = taken.swap_remove(0);
                locked(&stripe.free[class]).append(&mut taken);
                Ok(at)
            }
            // What other threads keep free is better than nothing.
            Err(error) => self
                .stripes
                .iter()
                .find_map(|stripe| locked(&stripe.free[class]).pop())
                .ok_or(error),
        }
    }

    /// Gives back space that nobody can reach, and nobody could since before anyone's pin.
    pub(crate) fn free(&self, at: u64, bytes: u64) {
        self.stripe().free(at, bytes);
    }

    /// Gives back space that nobody can reach any more, once those who still may be reading it
    /// are done.
    pub(crate) fn retire(&self, pinned: &Guard, at: u64, bytes: u64) {
        let stripe = Arc::clone(self.stripe());
        stripe.retired.fetch_add(1, Ordering::Relaxed);
        pinned.defer(move || {
            stripe.free(at, bytes);
            stripe.retired.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Lets retired space become free, until no more than `target` objects are retired. With
    /// `own`, those above are the caller's, which only the pins of threads under way keep from it.
    /// What others retired may lie in their threads for long, and is waited for only a moment.
    pub(crate) fn settle(&self, target: usize, own: bool) {
        const OWN_ATTEMPTS: usize = 200_000;
        const FOREIGN_ATTEMPTS: usize = 256;
        for _ in 0..if own { OWN_ATTEMPTS } else { FOREIGN_ATTEMPTS } {
            crossbeam_epoch::pin().flush();
            if self.retired() <= target {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Objects retired and not yet free.
    pub(crate) fn retired(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.retired.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of chunks given to classes and runs.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.shared.chunks().next * CHUNK_BYTES
    }

    fn stripe(&self) -> &Arc<Stripe> {
        &self.stripes[thread_index() % STRIPES]
    }
}

impl Stripe {
    fn free(&self, at: u64, bytes: u64) {
        let Some(class) = class_of(bytes) else {
            let chunks = bytes.div_ceil(CHUNK_BYTES);
            self.shared.chunks().runs.entry(chunks).or_default().push(at);
            return;
        };
        if class_bytes(class) > STRIPED_BYTES_MAX {
            self.shared.free_list(class).free.push(at);
            return;
        }
        let mut free = locked(&self.free[class]);
        free.push(at);
        if free.len() > 4 * EXCHANGE {
            let surplus = free.split_off(2 * EXCHANGE);
            drop(free);
            self.shared.free_list(class).free.extend(surplus);
        }
    }
}

impl Shared {
    /// One object at least, `count` at most.
    fn take(&self, class: usize, count: usize) -> Result<Vec<u64>> {
        let mut list = self.free_list(class);
        let bytes = class_bytes(class);
        if list.free.is_empty() && list.fresh.is_empty() {
            let at = self.take_chunks(1, class as u64 + 1)?;
            list.fresh = at..at + CHUNK_BYTES / bytes * bytes;
        }
        let kept = list.free.len().saturating_sub(count);
        let mut taken = list.free.split_off(kept);
        while taken.len() < count && !list.fresh.is_empty() {
            taken.push(list.fresh.start);
            list.fresh.start += bytes;
        }
        Ok(taken)
    }

    fn allocate_run(&self, chunks: u64) -> Result<u64> {
        {
            let mut free = self.chunks();
            let run = free.runs.get_mut(&chunks).and_then(Vec::pop);
            if let Some(at) = run {
                return Ok(at);
            }
        }
        self.take_chunks(chunks, chunks << 8 | RUN)
    }

    fn take_chunks(&self, count: u64, entry: u64) -> Result<u64> {
        let mut chunks = self.chunks();
        let first = chunks.next;
        let end = first.checked_add(count).filter(|end| *end <= chunks.end).ok_or_else(|| {
            Error::new(
                ErrorKind::OutOfSpace,
                "dash.allocate",
                "the region is full; raise `capacity` or remove entries",
            )
        })?;
        self.region.grow(end * CHUNK_BYTES)?;
        for chunk in first..end {
            let word = if chunk == first { entry } else { TAKEN };
            self.region.store(CHUNK_TABLE + chunk * 8, word);
        }
        self.region.persist(CHUNK_TABLE + first * 8, count * 8)?;
        chunks.next = end;
        Ok(first * CHUNK_BYTES)
    }

    fn free_list(&self, class: usize) -> MutexGuard<'_, ClassList> {
        locked(&self.classes[class])
    }

    fn chunks(&self) -> MutexGuard<'_, Chunks> {
        locked(&self.chunks)
    }
}

/// The first chunk behind the header and the chunk table.
fn first_chunk(region: &PmemRegion) -> u64 {
    (CHUNK_TABLE + region.len_bytes() / CHUNK_BYTES * 8).div_ceil(CHUNK_BYTES)
}

fn class_bytes_of(class: usize) -> Option<u64> {
    (class < CLASSES).then(|| class_bytes(class))
}

/// A small number for the calling thread.
pub(crate) fn thread_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static INDEX: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    INDEX.with(|index| *index)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrokit_storage::pmem::EmulatedPmem;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn region(bytes: u64) -> PmemRegion {
        PmemRegion::new(Arc::new(EmulatedPmem::new(bytes).unwrap()))
    }

    /// Panics if two objects overlap or one leaves the region's data.
    fn check_disjoint(region: &PmemRegion, objects: &BTreeMap<u64, u64>) {
        let mut end = first_chunk(region) * CHUNK_BYTES;
        for (at, bytes) in objects {
            assert!(*at >= end, "{at} overlaps what ends at {end}");
            end = at + bytes;
        }
        assert!(end <= region.len_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn objects_never_overlap_and_recovery_knows_the_free_ones(
            steps in prop::collection::vec((any::<bool>(), 1_u64..100_000), 1..200),
        ) {
            let region = region(64 << 20);
            let allocator = Allocator::format(&region);
            let mut objects = BTreeMap::new();
            for (free, bytes) in &steps {
                if *free {
                    if let Some((at, bytes)) = objects.pop_first() {
                        allocator.free(at, bytes);
                    }
                } else if let Ok(at) = allocator.allocate(*bytes) {
                    prop_assert_eq!(at % 16, 0);
                    prop_assert!(objects.insert(at, *bytes).is_none());
                }
            }
            check_disjoint(&region, &objects);
            let live: Vec<u64> = objects.keys().copied().collect();
            let recovered = Allocator::recover(&region, &live);
            for (_, bytes) in steps {
                if let Ok(at) = recovered.allocate(bytes) {
                    prop_assert!(objects.insert(at, bytes).is_none());
                }
            }
            check_disjoint(&region, &objects);
        }
    }

    #[test]
    fn freed_space_is_used_again_and_a_full_region_says_so() {
        let allocator = Allocator::format(&region(2 << 20));
        for bytes in [100, 5_000, 300_000] {
            let mut objects = Vec::new();
            let error = loop {
                match allocator.allocate(bytes) {
                    Ok(at) => objects.push(at),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::OutOfSpace);
            let count = objects.len();
            for at in objects.drain(..) {
                allocator.free(at, bytes);
            }
            for _ in 0..count {
                allocator.allocate(bytes).unwrap();
            }
            if bytes == 100 {
                assert!(count > 10_000, "{count} objects of 100 bytes in 2 MiB");
                return;
            }
        }
    }
}
