//! [`Table`]: buckets of one cache line, and the search for an entry in them.
//!
//! A table never grows; [`HashIndex`](super::HashIndex) replaces it.

use std::ops::Range;

use ferrokit_engine::{Error, ErrorKind};

use super::entry::{Control, Entry, KeyHash};
use crate::address::LogicalAddress;
use crate::interrupt::{Attempt, Interrupt};
use crate::primitive::{AtomicU64, Ordering, OwnLine, full_barrier_after_rmw};
use crate::raw::{Words, prefetch};

/// Entries of a bucket.
pub(crate) const ENTRIES: usize = 7;
/// Words of a bucket: one cache line.
pub(crate) const BUCKET_WORDS: usize = ENTRIES + 1;
const _: () = assert!(BUCKET_WORDS * 8 == 64);
/// One overflow bucket that operations may add per so many primary ones.
const PRIMARIES_PER_OVERFLOW: u64 = 4;

/// How a caller stands to the latch of the bucket it looks into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It has no latch and respects those of others.
    Shared,
    /// It holds the bucket's latch.
    Holder,
    /// It changes nothing that anybody sees and so passes latches (compaction); it respects held
    /// entries.
    Mover,
}

/// The place of an entry.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'t>(&'t AtomicU64);

impl Slot<'_> {
    #[inline]
    pub(crate) fn load(self) -> Entry {
        Entry(self.0.load(Ordering::Acquire))
    }

    /// Replaces `current` by `new`; `false` if the entry is another by now.
    #[inline]
    pub(crate) fn exchange(self, current: Entry, new: Entry) -> bool {
        self.0.compare_exchange(current.0, new.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Makes the entry the caller's own to change; the caller holds the bucket's latch.
    pub(crate) fn hold(self) -> Entry {
        Entry(self.0.fetch_or(Entry::HELD, Ordering::AcqRel)).held()
    }

    /// Writes an entry that the caller holds.
    pub(crate) fn store_held(self, entry: Entry) {
        self.0.store(entry.0, Ordering::Release);
    }
}

/// One generation of the index.
pub(crate) struct Table {
    words: Words,
    primaries: u64,
    overflow_capacity: u64,
    /// Overflow buckets handed out, to operations and to migration.
    overflow_used: OwnLine<AtomicU64>,
    /// Overflow buckets handed out to operations, who may take `operation_limit`.
    overflow_operations: OwnLine<AtomicU64>,
    operation_limit: u64,
    /// Buckets of this table that were migrated to the next one, and the next to migrate for those
    /// who help.
    pub(super) migrated: OwnLine<AtomicU64>,
    pub(super) migration_cursor: OwnLine<AtomicU64>,
}

impl Table {
    /// A table of `primaries` buckets (a power of two up to 2^32). Overflow buckets are set aside
    /// for `migration_overflow` from the table before.
    ///
    /// # Errors
    /// `OutOfSpace` if the system has not the memory, or there are more overflow buckets than can be
    /// numbered.
    pub(crate) fn new(primaries: u64, migration_overflow: u64) -> Result<Self, Error> {
        assert!(primaries.is_power_of_two() && primaries <= 1 << 32, "a power of two up to 2^32");
        // Operations get what migration leaves: it has nowhere else to put an entry.
        let left = Control::MAX_OVERFLOW.checked_sub(migration_overflow).filter(|left| *left >= 4);
        let left = left.ok_or_else(|| {
            Error::new(ErrorKind::OutOfSpace, "index", "more overflow buckets than can be numbered")
        })?;
        let operation_limit = (primaries / PRIMARIES_PER_OVERFLOW).max(4).min(left);
        let overflow_capacity = operation_limit + migration_overflow;
        let no_memory = || Error::new(ErrorKind::OutOfSpace, "index", "no memory for the index");
        let words = usize::try_from(primaries + overflow_capacity)
            .ok()
            .and_then(|buckets| buckets.checked_mul(BUCKET_WORDS))
            .ok_or_else(no_memory)?;
        let words = Words::zeroed(words).map_err(|error| no_memory().with_source(error))?;
        Ok(Self {
            words,
            primaries,
            overflow_capacity,
            overflow_used: OwnLine(AtomicU64::new(0)),
            overflow_operations: OwnLine(AtomicU64::new(0)),
            operation_limit,
            migrated: OwnLine(AtomicU64::new(0)),
            migration_cursor: OwnLine(AtomicU64::new(0)),
        })
    }

    /// The number of primary buckets.
    #[inline]
    pub(crate) fn primaries(&self) -> u64 {
        self.primaries
    }

    /// The primary bucket of a hash.
    #[inline]
    pub(crate) fn bucket_of(&self, hash_low: u32) -> u64 {
        u64::from(hash_low) & (self.primaries - 1)
    }

    /// Overflow buckets in use.
    pub(crate) fn overflow_used(&self) -> u64 {
        self.overflow_used.0.load(Ordering::Relaxed)
    }

    /// Whether operations took so many overflow buckets that the table should grow.
    pub(crate) fn is_crowded(&self) -> bool {
        self.overflow_operations.0.load(Ordering::Relaxed) * 2 > self.operation_limit
    }

    /// Lets no operation take an overflow bucket any more; the number in use is final then.
    pub(super) fn close_overflow(&self) -> u64 {
        self.overflow_operations.0.fetch_add(self.operation_limit, Ordering::AcqRel);
        self.overflow_capacity.min(self.operation_limit + self.overflow_used())
    }

    #[inline]
    fn word(&self, bucket: u64, word: usize) -> &AtomicU64 {
        &self.words[bucket as usize * BUCKET_WORDS + word]
    }

    #[inline]
    pub(super) fn control_word(&self, bucket: u64) -> &AtomicU64 {
        self.word(bucket, ENTRIES)
    }

    /// The control word of a bucket.
    #[inline]
    pub(crate) fn control(&self, bucket: u64) -> Control {
        Control(self.control_word(bucket).load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn slot(&self, bucket: u64, index: usize) -> Slot<'_> {
        Slot(self.word(bucket, index))
    }

    /// The overflow bucket after `bucket`.
    #[inline]
    pub(crate) fn next(&self, bucket: u64) -> Option<u64> {
        self.control(bucket).overflow().map(|number| self.primaries + number)
    }

    /// Asks for the bucket of a hash ahead of its use.
    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        prefetch(self.word(self.bucket_of(hash.low()), 0));
    }

    /// All slots of the chain of buckets that begins at `bucket`.
    pub(crate) fn slots(&self, bucket: u64) -> impl Iterator<Item = Slot<'_>> + '_ {
        std::iter::successors(Some(bucket), |&bucket| self.next(bucket))
            .flat_map(move |bucket| (0..ENTRIES).map(move |index| self.slot(bucket, index)))
    }

    /// The entry of a hash.
    ///
    /// # Errors
    /// `Again` while somebody else holds the bucket or the entry, or once it was migrated.
    #[inline]
    pub(crate) fn find(&self, hash: KeyHash, access: Access) -> Attempt<Option<(Slot<'_>, Entry)>> {
        let mut bucket = self.bucket_of(hash.low());
        let tag = hash.tag();
        self.check_access(self.control(bucket), access)?;
        loop {
            for index in 0..ENTRIES {
                let slot = self.slot(bucket, index);
                let entry = slot.load();
                if entry.tag() == tag && !entry.is_tentative() {
                    if entry.is_held() && access != Access::Holder {
                        return Err(Interrupt::Again);
                    }
                    return Ok(Some((slot, entry)));
                }
            }
            match self.next(bucket) {
                Some(next) => bucket = next,
                None => return Ok(None),
            }
        }
    }

    #[inline]
    fn check_access(&self, control: Control, access: Access) -> Attempt<()> {
        let blocked = control.is_migrated()
            || match access {
                Access::Shared => control.is_latched(),
                Access::Holder => false,
                Access::Mover => control.is_frozen(),
            };
        if blocked { Err(Interrupt::Again) } else { Ok(()) }
    }

    /// The entry of a hash, made if there is none: FASTER's two-phase insert.
    ///
    /// A free slot is first claimed *tentatively*, invisible to searches. Then the bucket is
    /// searched once more: two threads that claim slots for one tag both see each other (each has
    /// a full barrier between its claim and its search) and step back, so that a tag never has two
    /// entries.
    ///
    /// # Errors
    /// `Again`; `IndexFull` if no overflow bucket is left.
    pub(crate) fn find_or_create(
        &self,
        hash: KeyHash,
        access: Access,
        begin: LogicalAddress,
    ) -> Attempt<(Slot<'_>, Entry)> {
        loop {
            if let Some(found) = self.find(hash, access)? {
                return Ok(found);
            }
            let bucket = self.bucket_of(hash.low());
            let Some((slot, claimed)) = self
                .slots(bucket)
                .map(|slot| (slot, slot.load()))
                .find(|(_, entry)| entry.is_claimable(begin))
            else {
                self.add_overflow(bucket)?;
                continue;
            };
            let entry = Entry::new(hash.tag(), LogicalAddress::NULL);
            if slot
                .0
                .compare_exchange(
                    claimed.0,
                    entry.tentative().0,
                    Ordering::SeqCst,
                    Ordering::Acquire,
                )
                .is_err()
            {
                continue;
            }
            full_barrier_after_rmw();
            let is_taken = self
                .slots(bucket)
                .any(|other| !std::ptr::eq(other.0, slot.0) && other.load().tag() == hash.tag());
            let settled = if is_taken { Entry::FREE } else { entry };
            // Fails only if a migration seized the slot; it drops tentative entries.
            if slot.exchange(entry.tentative(), settled) && !is_taken {
                return Ok((slot, entry));
            }
            return Err(Interrupt::Again);
        }
    }

    /// Adds an overflow bucket to the end of a chain, unless somebody else does.
    fn add_overflow(&self, bucket: u64) -> Attempt<()> {
        let mut last = bucket;
        while let Some(next) = self.next(last) {
            last = next;
        }
        let control = self.control(last);
        if control.is_frozen() {
            return Err(Interrupt::Again);
        }
        if control.overflow().is_some() {
            return Ok(());
        }
        if self.overflow_operations.0.fetch_add(1, Ordering::AcqRel) >= self.operation_limit {
            self.overflow_operations.0.fetch_sub(1, Ordering::AcqRel);
            return Err(Interrupt::IndexFull);
        }
        let Some(number) = self.take_overflow() else { return Err(Interrupt::IndexFull) };
        // Losing the race leaves the bucket unused until the table grows.
        let _ = self.control_word(last).compare_exchange(
            control.0,
            control.with_overflow(number).0,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        Ok(())
    }

    fn take_overflow(&self) -> Option<u64> {
        let number = self.overflow_used.0.fetch_add(1, Ordering::AcqRel);
        (number < self.overflow_capacity).then_some(number)
    }

    /// Writes an entry into a bucket that nobody else reaches yet.
    pub(super) fn place(&self, bucket: u64, entry: Entry) {
        let mut bucket = bucket;
        loop {
            for index in 0..ENTRIES {
                let word = self.word(bucket, index);
                if word.load(Ordering::Relaxed) == 0 {
                    word.store(entry.0, Ordering::Relaxed);
                    return;
                }
            }
            bucket = self.next(bucket).unwrap_or_else(|| {
                let number = self.take_overflow().expect("migration's overflow is set aside");
                let word = self.control_word(bucket);
                let control = Control(word.load(Ordering::Relaxed)).with_overflow(number);
                word.store(control.0, Ordering::Relaxed);
                self.primaries + number
            });
        }
    }

    /// Takes the latch of a primary bucket.
    ///
    /// # Errors
    /// `Again` once it was migrated, or while somebody else has the latch.
    pub(crate) fn latch(&self, bucket: u64) -> Attempt<()> {
        let word = self.control_word(bucket);
        let mut control = Control(word.load(Ordering::Acquire));
        loop {
            if control.is_migrated() || control.is_latched() {
                return Err(Interrupt::Again);
            }
            match word.compare_exchange_weak(
                control.0,
                control.latched().0,
                Ordering::SeqCst,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(()),
                Err(seen) => control = Control(seen),
            }
        }
    }

    /// Gives a latch back that the caller holds; `changed` if a batch was applied under it.
    pub(crate) fn unlatch(&self, bucket: u64, changed: bool) {
        let word = self.control_word(bucket);
        let mut control = Control(word.load(Ordering::Acquire));
        loop {
            let free = control.unlatched();
            let free = if changed { free.next_version() } else { free };
            match word.compare_exchange_weak(control.0, free.0, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return,
                Err(seen) => control = Control(seen),
            }
        }
    }

    /// Overflow buckets that were ever handed out, as far as there are so many.
    pub(crate) fn overflow_in_use(&self) -> u64 {
        self.overflow_used().min(self.overflow_capacity)
    }

    /// Overflow buckets that operations took.
    pub(crate) fn overflow_operations(&self) -> u64 {
        self.overflow_operations.0.load(Ordering::Relaxed)
    }

    /// Copies of the words of some of the buckets, primary ones first, without latches, holds and
    /// versions, and without links to overflow buckets but the first `overflow`. Others may change
    /// the table meanwhile: each word is one that was there.
    pub(crate) fn image(
        &self,
        buckets: Range<u64>,
        overflow: u64,
    ) -> impl Iterator<Item = u64> + '_ {
        buckets.flat_map(move |bucket| {
            let entries =
                (0..ENTRIES).map(move |index| self.slot(bucket, index).load().at_rest().0);
            let control = self.control(bucket).at_rest(overflow).0;
            entries.chain(std::iter::once(control))
        })
    }

    /// The table of an [`image`](Self::image).
    ///
    /// # Errors
    /// `OutOfSpace`; those of `next`; `corruption` of what is no image.
    pub(crate) fn of_image(
        primaries: u64,
        overflow: u64,
        overflow_operations: u64,
        end: LogicalAddress,
        mut next: impl FnMut() -> Result<u64, Error>,
        corruption: impl Fn(&'static str) -> Error,
    ) -> Result<Self, Error> {
        let table = Self::new(primaries, overflow)?;
        for bucket in 0..primaries + overflow {
            for index in 0..ENTRIES {
                let entry = Entry(next()?);
                if entry.address() >= end || entry != entry.at_rest() {
                    return Err(corruption("an entry of the index is out of range"));
                }
                table.word(bucket, index).store(entry.0, Ordering::Relaxed);
            }
            let control = Control(next()?);
            // Links lead on to later buckets only: no chain is a circle.
            let follows = |number: u64| number < overflow && primaries + number > bucket;
            if control != control.at_rest(overflow) || !control.overflow().is_none_or(follows) {
                return Err(corruption("a link of the index is out of range"));
            }
            table.control_word(bucket).store(control.0, Ordering::Relaxed);
        }
        table.overflow_used.0.store(overflow, Ordering::Relaxed);
        table.overflow_operations.0.store(overflow_operations.min(overflow), Ordering::Relaxed);
        table.drop_duplicates();
        Ok(table)
    }

    /// Leaves one entry of each tag in a bucket. An image may have two, of a slot that was given up
    /// and one that was taken while it was made: all that either leads to alone was written
    /// meanwhile, or removed, and is replayed.
    fn drop_duplicates(&self) {
        let mut seen = Vec::new();
        for bucket in 0..self.primaries {
            seen.clear();
            for slot in self.slots(bucket) {
                let entry = slot.load();
                if entry == Entry::FREE {
                    continue;
                }
                if seen.contains(&entry.tag()) {
                    slot.0.store(Entry::FREE.0, Ordering::Relaxed);
                } else {
                    seen.push(entry.tag());
                }
            }
        }
    }

    /// Bytes of the buckets in use.
    pub(crate) fn bytes(&self) -> u64 {
        (self.primaries + self.overflow_used()) * 64
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn migration_is_never_left_without_a_place() {
        for migration in [Control::MAX_OVERFLOW - 3, Control::MAX_OVERFLOW, u64::MAX] {
            let error = Table::new(1, migration).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::OutOfSpace);
        }
        let table = Table::new(1 << 10, 1000).unwrap();
        assert_eq!(table.overflow_capacity - table.operation_limit, 1000);
    }
}
