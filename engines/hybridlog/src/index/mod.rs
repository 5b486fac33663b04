//! The latch-free hash index: FASTER's (SIGMOD 2018, section 3), with growth by freezing buckets.
//!
//! [`table`] searches and inserts, this module grows. See `docs/design.md`, "Index".
//!
//! # Growth
//! A table that is crowded gets a successor of twice the size. From then on every operation first
//! migrates *its* bucket ([`HashIndex::settle`]); writers help with a few more, so that growth
//! ends however the keys lie. To migrate a bucket, a thread takes its latch, *holds* every slot
//! (from then on nobody's exchange succeeds there), splits the chains into the two buckets of the
//! new table and marks the old one as migrated. Who meets a held or migrated slot starts again
//! from the present tables.
//!
//! # Lock order
//! `growth` is taken by nobody who holds a latch. Bucket latches are taken in ascending order
//! within one table, before record latches.

pub(crate) mod entry;
pub(crate) mod latches;
pub(crate) mod table;

use std::sync::{Arc, Mutex, PoisonError};

use ferrokit_engine::Error;

use self::entry::{Control, Entry, TagBits};
use self::table::Table;
use crate::address::LogicalAddress;
use crate::epoch::{Epochs, Guard, Protected};
use crate::interrupt::Attempt;
use crate::primitive::{AtomicU64, Ordering};

/// Buckets a writer migrates besides its own while the index grows.
const HELPED_BUCKETS: u64 = 4;

/// What migration needs to know of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// The bits of its hash that choose buckets.
    pub(crate) hash_low: u32,
    /// The next older record of its chain.
    pub(crate) previous: LogicalAddress,
    /// Whether nobody needs it any more.
    pub(crate) is_dead: bool,
}

/// The records the index points to.
pub(crate) trait Chains {
    /// Addresses before this one hold nothing; a chain ends at the first of them.
    fn begin(&self) -> LogicalAddress;
    /// Addresses before this one are not in memory.
    fn head(&self) -> LogicalAddress;
    /// The record at an address from [`head`](Self::head) on.
    fn node(&self, address: LogicalAddress) -> Node;
}

/// The tables in use.
pub(crate) struct Tables {
    /// Where every settled hash is found.
    pub(crate) current: Arc<Table>,
    /// While the index grows, where the others still are.
    old: Option<Arc<Table>>,
}

/// The index.
pub(crate) struct HashIndex {
    tables: Protected<Tables>,
    primaries_max: u64,
    tag_bits: TagBits,
    /// Held while a table is replaced.
    growth: Mutex<()>,
    /// Not 0 while the index is to stay the table it is.
    paused: Arc<AtomicU64>,
}

/// As long as it lives the index does not begin to grow.
pub(crate) struct GrowthPause(Arc<AtomicU64>);

impl Drop for GrowthPause {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What came of the wish for a larger index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    /// It grows.
    Begun,
    /// It will, when nobody [needs](HashIndex::pause_growth) it as it is any more.
    Paused,
    /// It is as large as it may become.
    AtLimit,
}

impl HashIndex {
    /// An index of `primaries` buckets that may grow to `primaries_max`.
    ///
    /// # Errors
    /// `OutOfSpace` if the system has not the memory.
    pub(crate) fn new(
        primaries: u64,
        primaries_max: u64,
        epochs: Arc<Epochs>,
    ) -> Result<Self, Error> {
        let tag_bits = TagBits::for_tables_up_to(primaries_max);
        Ok(Self::of(Table::new(primaries, 0)?, primaries_max, tag_bits, epochs))
    }

    /// An index that begins as `table`, which has these bits of the hashes as tags.
    pub(crate) fn of(
        table: Table,
        primaries_max: u64,
        tag_bits: TagBits,
        epochs: Arc<Epochs>,
    ) -> Self {
        let tables = Protected::new(Tables { current: Arc::new(table), old: None }, epochs);
        let paused = Arc::new(AtomicU64::new(0));
        Self { tables, primaries_max, tag_bits, growth: Mutex::new(()), paused }
    }

    /// The bits of a hash that are its tag.
    #[inline]
    pub(crate) fn tag_bits(&self) -> TagBits {
        self.tag_bits
    }

    /// Keeps the index from growing; `None`, with nothing changed, while it grows. The answer is
    /// the table it is as long as the pause lives.
    pub(crate) fn pause_growth(&self, guard: &Guard<'_>) -> Option<(Arc<Table>, GrowthPause)> {
        let _growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = self.tables.load(guard);
        if tables.old.is_some() {
            return None;
        }
        self.paused.fetch_add(1, Ordering::AcqRel);
        Some((Arc::clone(&tables.current), GrowthPause(Arc::clone(&self.paused))))
    }

    /// Whether somebody needs the index as it is.
    pub(crate) fn is_growth_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire) != 0
    }

    /// The tables of this moment.
    #[inline]
    pub(crate) fn tables<'g>(&'g self, guard: &'g Guard<'_>) -> &'g Tables {
        self.tables.load(guard)
    }

    /// The table in which `hash` is to be looked up, its bucket migrated there if need be.
    ///
    /// # Errors
    /// `Again` while somebody else has the bucket's latch.
    #[inline]
    pub(crate) fn settle<'g>(
        &'g self,
        hash_low: u32,
        chains: &impl Chains,
        guard: &'g Guard<'_>,
    ) -> Attempt<&'g Table> {
        let tables = self.tables.load(guard);
        if let Some(old) = &tables.old {
            self.migrate(tables, old, old.bucket_of(hash_low), chains)?;
        }
        Ok(&tables.current)
    }

    /// Does a bounded part of what growth has to do; whether any is left.
    pub(crate) fn help_grow(&self, buckets: u64, chains: &impl Chains, guard: &Guard<'_>) -> bool {
        let tables = self.tables.load(guard);
        let Some(old) = &tables.old else { return false };
        let first = old.migration_cursor.0.fetch_add(buckets, Ordering::Relaxed);
        for bucket in first..first.saturating_add(buckets) {
            // The cursor goes round until all are migrated: a bucket that was latched when it
            // passed is met again.
            let _ = self.migrate(tables, old, bucket & (old.primaries() - 1), chains);
        }
        true
    }

    /// Helps a growth under way with a few buckets.
    #[inline]
    pub(crate) fn help_grow_a_little(&self, chains: &impl Chains, guard: &Guard<'_>) {
        if self.tables.load(guard).old.is_some() {
            self.help_grow(HELPED_BUCKETS, chains, guard);
        }
    }

    /// Whether the index is growing.
    pub(crate) fn is_growing(&self, guard: &Guard<'_>) -> bool {
        self.tables.load(guard).old.is_some()
    }

    /// Bytes of its buckets, of both tables while it grows.
    pub(crate) fn bytes(&self, guard: &Guard<'_>) -> u64 {
        let tables = self.tables.load(guard);
        tables.current.bytes() + tables.old.as_ref().map_or(0, |old| old.bytes())
    }

    /// Whether the index should and may grow.
    #[inline]
    pub(crate) fn wants_growth(&self, guard: &Guard<'_>) -> bool {
        let tables = self.tables.load(guard);
        tables.current.is_crowded()
            && tables.old.is_none()
            && tables.current.primaries() < self.primaries_max
    }

    /// Whether the index is as large as it may become.
    pub(crate) fn is_at_limit(&self, guard: &Guard<'_>) -> bool {
        self.tables.load(guard).current.primaries() >= self.primaries_max
    }

    /// Begins to double the index.
    ///
    /// # Errors
    /// `OutOfSpace` if the system has not the memory.
    pub(crate) fn start_growth(&self, guard: &Guard<'_>) -> Result<Growth, Error> {
        self.start_growth_up_to(self.primaries_max, guard)
    }

    /// Begins to double the index, whatever its limit.
    ///
    /// # Errors
    /// As [`start_growth`](Self::start_growth).
    pub(crate) fn start_growth_beyond(&self, guard: &Guard<'_>) -> Result<Growth, Error> {
        self.start_growth_up_to(u64::MAX, guard)
    }

    fn start_growth_up_to(&self, limit: u64, guard: &Guard<'_>) -> Result<Growth, Error> {
        let _growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = self.tables.load(guard);
        if tables.old.is_some() {
            return Ok(Growth::Begun);
        }
        let current = &tables.current;
        if current.primaries() >= limit {
            return Ok(Growth::AtLimit);
        }
        if self.paused.load(Ordering::Acquire) != 0 {
            return Ok(Growth::Paused);
        }
        // A bucket splits into two, each with at most as many entries: at most twice as many
        // overflow buckets.
        let successor = Table::new(current.primaries() * 2, current.close_overflow() * 2)?;
        self.tables
            .replace(Tables { current: Arc::new(successor), old: Some(Arc::clone(current)) });
        Ok(Growth::Begun)
    }

    fn migrate(
        &self,
        tables: &Tables,
        old: &Table,
        bucket: u64,
        chains: &impl Chains,
    ) -> Attempt<()> {
        if !migrate_bucket(old, &tables.current, bucket, self.tag_bits, chains)? {
            return Ok(());
        }
        if old.migrated.0.fetch_add(1, Ordering::AcqRel) + 1 == old.primaries() {
            let _growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
            self.tables.replace(Tables { current: Arc::clone(&tables.current), old: None });
        }
        Ok(())
    }
}

/// Migrates one bucket; `false` if somebody did.
///
/// # Errors
/// `Again` while somebody else has its latch.
pub(crate) fn migrate_bucket(
    old: &Table,
    new: &Table,
    bucket: u64,
    tag_bits: TagBits,
    chains: &impl Chains,
) -> Attempt<bool> {
    if old.control(bucket).is_migrated() {
        return Ok(false);
    }
    match old.latch(bucket) {
        Err(_) if old.control(bucket).is_migrated() => return Ok(false),
        latched => latched?,
    }
    split_bucket(old, new, bucket, tag_bits, chains);
    let control = old.control(bucket).migrated().unlatched();
    old.control_word(bucket).store(control.0, Ordering::Release);
    Ok(true)
}

/// Copies the entries of a latched bucket of `old` into its two buckets of `new`, and leaves every
/// slot of it held for good.
fn split_bucket(old: &Table, new: &Table, bucket: u64, tag_bits: TagBits, chains: &impl Chains) {
    let begin = chains.begin();
    let mut next = Some(bucket);
    while let Some(part) = next {
        // First no more buckets, then no more entries: what is seen below is all there ever is.
        let control = old.control_word(part).fetch_or(Control::FROZEN, Ordering::AcqRel);
        next = Control(control).overflow().map(|number| old.primaries() + number);
        for index in 0..table::ENTRIES {
            let entry = old.slot(part, index).hold();
            if entry.tag() != 0 && !entry.is_tentative() {
                // Where its tag tells the half, there is nothing in it for the other one.
                let placed = match tag_bits.is_upper(entry.tag(), old.primaries()) {
                    None => [false, false],
                    Some(is_upper) => [is_upper, !is_upper],
                };
                split_chain(old, new, bucket, (entry, placed), begin, chains);
            }
        }
    }
}

/// Gives each of the two new buckets the newest record of `entry`'s chain that belongs to it. The
/// older part of the chain is shared; records that belong elsewhere are passed over by their key. A
/// bucket that counts as placed gets none.
fn split_chain(
    old: &Table,
    new: &Table,
    bucket: u64,
    (entry, mut placed): (Entry, [bool; 2]),
    begin: LogicalAddress,
    chains: &impl Chains,
) {
    let mut address = entry.address();
    // The head is read after the begin, and neither ever falls.
    let head = chains.head().max(begin);
    while address != LogicalAddress::NULL && placed != [true, true] {
        if address < head {
            // What is not in memory may belong to either.
            for (target, placed) in [bucket, bucket + old.primaries()].into_iter().zip(placed) {
                if address >= begin && !placed {
                    new.place(target, Entry::new(entry.tag(), address));
                }
            }
            return;
        }
        let node = chains.node(address);
        let is_upper = u64::from(node.hash_low) & old.primaries() != 0;
        let placed = &mut placed[usize::from(is_upper)];
        if !node.is_dead && !*placed {
            let target = if is_upper { bucket + old.primaries() } else { bucket };
            new.place(target, Entry::new(entry.tag(), address));
            *placed = true;
        }
        address = node.previous;
    }
}
