//! The record log in memory: one address space of pages, of which the newest are kept.
//!
//! [`RecordLog::allocate`] adds to the tail page; a full page is closed and the next one opened in
//! a free frame. Pages are given back from the other end only: [`RecordLog::release_oldest`] moves
//! `begin` on, and the frame is free when the epoch is safe. What is still alive in the oldest page
//! is moved to the tail before that (the store's compaction does it).
//!
//! A few frames are kept from ordinary writes ([`RESERVED_FRAMES`]), so that compaction always has
//! somewhere to move records to. While it has to dip into them, ordinary writes wait.

pub(crate) mod record;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrokit_engine::{Error, ErrorKind};

use self::record::Record;
use crate::address::LogicalAddress;
use crate::epoch::Epochs;
use crate::interrupt::{Attempt, Interrupt};
use crate::primitive::{AtomicU64, Ordering, OwnLine};
use crate::raw::{Words, prefetch};

/// Frames that only compaction may open. Moving the records of one page takes at most one; the
/// others are for what ordinary writes take from a page that compaction opened.
pub(crate) const RESERVED_FRAMES: usize = 3;
/// The first page; address 0 is no place, so page 0 does not exist.
const FIRST_PAGE: u64 = 1;
/// Bits of the tail word that count the offset. Adds that miss the page end go on counting; one
/// add per thread and page can miss.
const OFFSET_BITS: u32 = 32;

/// Who asks for space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A write.
    Write,
    /// Compaction, which gives more back than it takes.
    Compaction,
}

/// What the log knows of a page.
#[derive(Default)]
struct PageState {
    /// The frame it lies in.
    frame: AtomicU64,
    /// Words of records in it that are dead.
    dead_words: AtomicU64,
    /// The epoch that ended when it was closed: once safe, all its records are written.
    /// [`NOT_CLOSED`] before.
    closed_epoch: AtomicU64,
}

/// No epoch: the page is still open.
const NOT_CLOSED: u64 = u64::MAX;

/// The log.
pub(crate) struct RecordLog {
    words: Words,
    page_words_log2: u32,
    /// By page number modulo its length (a power of two, at least the number of frames): the
    /// pages that are kept never collide.
    pages: Box<[PageState]>,
    frames: usize,
    /// `page << 32 | offset in words` of the next record.
    tail: OwnLine<AtomicU64>,
    /// The oldest page that is kept.
    begin_page: OwnLine<AtomicU64>,
    /// The number of free frames, for a look without the lock.
    free_count: OwnLine<AtomicU64>,
    /// Free frames; the last one freed is the first one used again. Held while a page is opened.
    free: Mutex<Vec<u64>>,
    epochs: Arc<Epochs>,
}

impl RecordLog {
    /// A log of `frames` pages of `2^page_words_log2` words.
    ///
    /// # Errors
    /// `OutOfSpace` if the system has not the address space.
    pub(crate) fn new(
        frames: usize,
        page_words_log2: u32,
        epochs: Arc<Epochs>,
    ) -> Result<Self, Error> {
        let no_memory =
            || Error::new(ErrorKind::OutOfSpace, "open", "no memory for the record log");
        let words = frames.checked_shl(page_words_log2).ok_or_else(no_memory)?;
        let words = Words::zeroed(words).map_err(|error| no_memory().with_source(error))?;
        let pages: Box<[PageState]> =
            (0..frames.next_power_of_two()).map(|_| PageState::default()).collect();
        for page in &pages {
            page.closed_epoch.store(NOT_CLOSED, Ordering::Relaxed);
        }
        // The first page is open in frame 0.
        let free: Vec<u64> = (1..frames as u64).rev().collect();
        Ok(Self {
            words,
            page_words_log2,
            pages,
            frames,
            tail: OwnLine(AtomicU64::new(FIRST_PAGE << OFFSET_BITS)),
            begin_page: OwnLine(AtomicU64::new(FIRST_PAGE)),
            free_count: OwnLine(AtomicU64::new(free.len() as u64)),
            free: Mutex::new(free),
            epochs,
        })
    }

    /// Words of a page.
    #[inline]
    pub(crate) fn page_words(&self) -> usize {
        1 << self.page_words_log2
    }

    /// Bits of an address that are its offset in the page.
    #[inline]
    pub(crate) fn page_words_log2(&self) -> u32 {
        self.page_words_log2
    }

    /// Frames in all.
    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// Frames that hold no page.
    pub(crate) fn free_frames(&self) -> usize {
        self.free_count.0.load(Ordering::Acquire) as usize
    }

    /// Addresses before this one hold nothing.
    #[inline]
    pub(crate) fn begin(&self) -> LogicalAddress {
        LogicalAddress::new(self.begin_page(), 0, self.page_words_log2)
    }

    /// The oldest page that is kept.
    #[inline]
    pub(crate) fn begin_page(&self) -> u64 {
        self.begin_page.0.load(Ordering::Acquire)
    }

    /// The page that grows.
    pub(crate) fn tail_page(&self) -> u64 {
        self.tail.0.load(Ordering::Acquire) >> OFFSET_BITS
    }

    #[inline]
    fn page(&self, page: u64) -> &PageState {
        &self.pages[page as usize & (self.pages.len() - 1)]
    }

    /// The record at `address`, which is neither null nor before [`begin`](Self::begin) as the
    /// caller's epoch saw it.
    #[inline]
    pub(crate) fn record(&self, address: LogicalAddress) -> Record<'_> {
        let frame = self.page(address.page(self.page_words_log2)).frame.load(Ordering::Acquire);
        let start =
            ((frame as usize) << self.page_words_log2) + address.offset(self.page_words_log2);
        let end = (frame as usize + 1) << self.page_words_log2;
        Record::at(&self.words[start..end])
    }

    /// Asks for the record at `address` ahead of its use.
    #[inline]
    pub(crate) fn prefetch(&self, address: LogicalAddress) {
        let frame = self.page(address.page(self.page_words_log2)).frame.load(Ordering::Acquire);
        let start =
            ((frame as usize) << self.page_words_log2) + address.offset(self.page_words_log2);
        prefetch(&self.words[start]);
        // The value of a small record begins in the next line.
        if let Some(word) = self.words.get(start + 8) {
            prefetch(word);
        }
    }

    /// Takes `words` words at the tail. The caller writes a record there, or abandons it, before
    /// it leaves its epoch.
    ///
    /// # Errors
    /// `NoSpace` if a page would have to be opened and no frame is free for `purpose`.
    #[inline]
    pub(crate) fn allocate(&self, words: usize, purpose: Purpose) -> Attempt<LogicalAddress> {
        loop {
            let tail = self.tail.0.load(Ordering::Acquire);
            if purpose == Purpose::Write && self.is_short() {
                return Err(Interrupt::NoSpace { words: words as u64 });
            }
            if offset_of(tail) <= self.page_words() {
                let tail = self.tail.0.fetch_add(words as u64, Ordering::AcqRel);
                let (page, offset) = (tail >> OFFSET_BITS, offset_of(tail));
                if offset + words <= self.page_words() {
                    return Ok(LogicalAddress::new(page, offset as u64, self.page_words_log2));
                }
                if offset < self.page_words() {
                    // This add alone crossed the end: whoever scans the page stops here.
                    let address = LogicalAddress::new(page, offset as u64, self.page_words_log2);
                    Record::write_end_of_page(self.record(address).words());
                }
            } else {
                self.open_page(tail >> OFFSET_BITS, words, purpose)?;
            }
        }
    }

    /// Whether compaction is using frames it should give back first.
    #[inline]
    fn is_short(&self) -> bool {
        self.free_count.0.load(Ordering::Relaxed) + 1 < RESERVED_FRAMES as u64
    }

    /// Opens the page after `full`, unless somebody did.
    #[cold]
    fn open_page(&self, full: u64, words: usize, purpose: Purpose) -> Attempt<()> {
        let no_space = || Err(Interrupt::NoSpace { words: words as u64 });
        let mut free = self.lock_free();
        if self.tail_page() != full {
            return Ok(());
        }
        let reserved = if purpose == Purpose::Write { RESERVED_FRAMES } else { 0 };
        let page = full + 1;
        let last_page = (1_u64 << (LogicalAddress::BITS - self.page_words_log2).min(32)) - 1;
        if free.len() <= reserved || page >= last_page {
            return no_space();
        }
        let Some(frame) = free.pop() else { return no_space() };
        self.free_count.0.store(free.len() as u64, Ordering::Release);
        let state = self.page(page);
        state.frame.store(frame, Ordering::Release);
        state.dead_words.store(0, Ordering::Relaxed);
        state.closed_epoch.store(NOT_CLOSED, Ordering::Relaxed);
        self.tail.0.store(page << OFFSET_BITS, Ordering::Release);
        // Whoever allocated in the full page did so in an epoch up to this one.
        self.page(full).closed_epoch.store(self.epochs.bump(), Ordering::Release);
        Ok(())
    }

    /// The epoch that must be safe before the records of a page may be scanned; `None` while the
    /// page is open.
    pub(crate) fn closed_epoch(&self, page: u64) -> Option<u64> {
        Some(self.page(page).closed_epoch.load(Ordering::Acquire)).filter(|&it| it != NOT_CLOSED)
    }

    /// Counts a record as dead.
    pub(crate) fn count_dead(&self, address: LogicalAddress, words: usize) {
        let page = self.page(address.page(self.page_words_log2));
        page.dead_words.fetch_add(words as u64, Ordering::Relaxed);
    }

    /// Words of records known to be dead, in all pages.
    pub(crate) fn dead_words(&self) -> u64 {
        (self.begin_page()..=self.tail_page())
            .map(|page| self.page(page).dead_words.load(Ordering::Relaxed))
            .sum()
    }

    /// Words of all pages that are kept.
    pub(crate) fn used_words(&self) -> u64 {
        (self.tail_page() - self.begin_page() + 1) << self.page_words_log2
    }

    /// Gives up the oldest page, in which nothing lives any more; its frame is free once the
    /// epoch is safe. Answers that epoch.
    pub(crate) fn release_oldest(self: &Arc<Self>) -> u64 {
        let page = self.begin_page();
        let frame = self.page(page).frame.load(Ordering::Acquire);
        self.begin_page.0.store(page + 1, Ordering::SeqCst);
        let log = Arc::clone(self);
        self.epochs.defer(Box::new(move || {
            let mut free = log.lock_free();
            free.push(frame);
            log.free_count.0.store(free.len() as u64, Ordering::Release);
        }))
    }

    /// Whether an ordinary write of `words` words finds room without anything being freed.
    pub(crate) fn has_room(&self, words: u64) -> bool {
        let tail = self.tail.0.load(Ordering::Acquire);
        if self.is_short() {
            return false;
        }
        let in_page = (self.page_words() as u64).saturating_sub(offset_of(tail) as u64);
        // A large request is many records, each of which may leave the end of a page unused.
        let pages = words.div_ceil(self.page_words() as u64 / 2) as usize;
        words <= in_page || self.free_frames() >= RESERVED_FRAMES + pages
    }

    fn lock_free(&self) -> MutexGuard<'_, Vec<u64>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[inline]
const fn offset_of(tail: u64) -> usize {
    (tail & ((1 << OFFSET_BITS) - 1)) as usize
}

impl crate::index::Chains for RecordLog {
    fn begin(&self) -> LogicalAddress {
        RecordLog::begin(self)
    }

    fn node(&self, address: LogicalAddress) -> crate::index::Node {
        let record = self.record(address);
        let header = record.header();
        crate::index::Node {
            hash_low: record.hash_low(),
            previous: header.previous(),
            is_dead: header.is_dead(),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::record::Blueprint;
    use super::*;

    fn log(frames: usize) -> Arc<RecordLog> {
        Arc::new(RecordLog::new(frames, 6, Arc::new(Epochs::new(4))).unwrap())
    }

    fn write(log: &RecordLog, address: LogicalAddress, value: &[u8]) {
        let plan = Blueprint { space: 1, hash_low: 2, key: b"k", value, expire_at: 0, capacity: 0 };
        log.record(address).write_new(&plan, LogicalAddress::NULL);
    }

    #[test]
    fn addresses_ascend_and_records_do_not_span_pages() {
        let log = log(8);
        let mut last = LogicalAddress::NULL;
        for _ in 0..12 {
            let address = log.allocate(20, Purpose::Write).unwrap();
            assert!(address > last);
            assert!(address.offset(6) + 20 <= 64);
            write(&log, address, b"v");
            last = address;
        }
        assert_eq!(log.tail_page(), FIRST_PAGE + 3);
    }

    #[test]
    fn writes_leave_the_reserve_to_compaction() {
        let log = log(6);
        let mut writes = 0;
        while log.allocate(64, Purpose::Write).is_ok() {
            writes += 1;
        }
        assert_eq!(writes, 3);
        assert!(log.allocate(64, Purpose::Compaction).is_ok());
        assert!(!log.has_room(1));
    }

    #[test]
    fn a_released_frame_is_used_again_only_when_nobody_is_inside() {
        let log = log(5);
        assert!(log.allocate(64, Purpose::Write).is_ok());
        assert!(log.allocate(64, Purpose::Write).is_ok());
        assert!(log.allocate(64, Purpose::Write).is_err());
        let inside = log.epochs.enter();
        let epoch = log.release_oldest();
        log.epochs.run_actions();
        assert!(log.allocate(64, Purpose::Write).is_err(), "somebody may still read the page");
        assert!(!log.epochs.is_safe(epoch));
        drop(inside);
        assert!(log.allocate(64, Purpose::Write).is_ok());
    }
}
