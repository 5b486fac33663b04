//! The record log: one address space of pages, of which the newest are in memory.
//!
//! ```text
//!  begin          head                 read-only            tail
//!    | on disk only | in memory and on disk | in memory, mutable |
//! ```
//!
//! [`RecordLog::allocate`] adds to the tail page; a full page is closed and the next one opened in
//! a free frame. Records of pages before `read_only` are not changed any more, so that the pages can
//! be written to disk; pages before `head` have given their frames back; nothing lives before
//! `begin`. A boundary moves first, and what stood on it is taken away when the epoch is safe.
//!
//! Without a disk `begin` and `head` are one, and all pages are mutable: [`release_oldest`] gives a
//! page up once the store has moved what lives in it to the tail.
//!
//! A few frames are kept from ordinary writes ([`RESERVED_FRAMES`]), so that compaction always has
//! somewhere to move records to. While it has to dip into them, ordinary writes wait.
//!
//! [`release_oldest`]: RecordLog::release_oldest

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
    /// The oldest page that is in memory.
    head_page: OwnLine<AtomicU64>,
    /// Records of pages before this one are not changed any more.
    read_only_page: OwnLine<AtomicU64>,
    /// How many of the free frames are not to be used: their memory is somebody else's.
    withheld: AtomicU64,
    /// The number of free frames that may be used, for a look without the lock.
    free_count: OwnLine<AtomicU64>,
    /// Free frames; the last one freed is the first one used again. Held while a page is opened.
    free: Mutex<Vec<u64>>,
    epochs: Arc<Epochs>,
}

/// The pages a log begins with. Those from `head` on are in memory, closed but for `tail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The oldest page.
    pub(crate) begin: u64,
    /// The oldest page in memory.
    pub(crate) head: u64,
    /// The page that grows, empty so far.
    pub(crate) tail: u64,
}

impl Span {
    /// That of an empty log.
    pub(crate) const EMPTY: Self = Self { begin: FIRST_PAGE, head: FIRST_PAGE, tail: FIRST_PAGE };
}

impl RecordLog {
    /// A log of `frames` pages of `2^page_words_log2` words; pages of `span` before its tail are
    /// zeroed, read-only, and to be [filled](Self::page_words_of) before anybody else sees the log.
    ///
    /// # Errors
    /// `OutOfSpace` if the system has not the address space.
    pub(crate) fn new(
        frames: usize,
        page_words_log2: u32,
        epochs: Arc<Epochs>,
        span: Span,
    ) -> Result<Self, Error> {
        let no_memory =
            || Error::new(ErrorKind::OutOfSpace, "open", "no memory for the record log");
        let words = frames.checked_shl(page_words_log2).ok_or_else(no_memory)?;
        let words = Words::zeroed(words).map_err(|error| no_memory().with_source(error))?;
        let pages: Box<[PageState]> =
            (0..frames.next_power_of_two()).map(|_| PageState::default()).collect();
        let used = (span.tail - span.head + 1) as usize;
        assert!(span.begin <= span.head && used <= frames, "pages in memory have frames");
        let free: Vec<u64> = (used as u64..frames as u64).rev().collect();
        let log = Self {
            words,
            page_words_log2,
            pages,
            frames,
            tail: OwnLine(AtomicU64::new(span.tail << OFFSET_BITS)),
            begin_page: OwnLine(AtomicU64::new(span.begin)),
            head_page: OwnLine(AtomicU64::new(span.head)),
            read_only_page: OwnLine(AtomicU64::new(span.tail)),
            withheld: AtomicU64::new(0),
            free_count: OwnLine(AtomicU64::new(free.len() as u64)),
            free: Mutex::new(free),
            epochs,
        };
        for (frame, page) in (span.head..=span.tail).enumerate() {
            let state = log.page(page);
            state.frame.store(frame as u64, Ordering::Relaxed);
            // No thread was ever in epoch 0: it is safe.
            let closed = if page == span.tail { NOT_CLOSED } else { 0 };
            state.closed_epoch.store(closed, Ordering::Relaxed);
        }
        Ok(log)
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

    /// Frames that hold no page and may be used.
    pub(crate) fn free_frames(&self) -> usize {
        self.free_count.0.load(Ordering::Acquire) as usize
    }

    /// Frames that hold pages.
    pub(crate) fn used_frames(&self) -> usize {
        self.frames - self.lock_free().len()
    }

    /// Frames that may be used in all.
    pub(crate) fn frames_allowed(&self) -> usize {
        self.frames - self.withheld.load(Ordering::Acquire) as usize
    }

    /// Lets `frames` of all frames be used from now on. Of those that are not, the ones that are
    /// free give their memory back; the others do so as they become free.
    pub(crate) fn allow_frames(&self, frames: usize) {
        let withheld = self.frames - frames.min(self.frames);
        let free = self.lock_free();
        let before = self.withheld.swap(withheld as u64, Ordering::AcqRel) as usize;
        // Frames are taken from the end: those that are withheld lie before.
        for &frame in free.iter().take(withheld).skip(before) {
            self.give_back(frame);
        }
        self.count_free(&free);
    }

    /// How many more frames must become free for `wanted` of them to be usable.
    pub(crate) fn frames_missing(&self, wanted: usize) -> usize {
        let free = self.lock_free().len();
        (wanted + self.withheld.load(Ordering::Acquire) as usize).saturating_sub(free)
    }

    fn give_back(&self, frame: u64) {
        let start = (frame as usize) << self.page_words_log2;
        self.words.give_back(start..start + self.page_words());
    }

    fn count_free(&self, free: &[u64]) {
        let withheld = self.withheld.load(Ordering::Acquire) as usize;
        self.free_count.0.store(free.len().saturating_sub(withheld) as u64, Ordering::Release);
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

    /// Records before this address are not in memory.
    #[inline]
    pub(crate) fn head(&self) -> LogicalAddress {
        LogicalAddress::new(self.head_page(), 0, self.page_words_log2)
    }

    /// The oldest page that is in memory.
    #[inline]
    pub(crate) fn head_page(&self) -> u64 {
        self.head_page.0.load(Ordering::Acquire)
    }

    /// The first page whose records may be changed.
    pub(crate) fn read_only_page(&self) -> u64 {
        self.read_only_page.0.load(Ordering::Acquire)
    }

    /// Whether the record at an address may be changed where it is, until the caller leaves its
    /// epoch.
    #[inline]
    pub(crate) fn is_mutable(&self, address: LogicalAddress) -> bool {
        address.page(self.page_words_log2) >= self.read_only_page()
    }

    /// The words of a page that is in memory.
    pub(crate) fn page_words_of(&self, page: u64) -> &[AtomicU64] {
        let frame = self.page(page).frame.load(Ordering::Acquire) as usize;
        &self.words[frame << self.page_words_log2..(frame + 1) << self.page_words_log2]
    }

    /// The page that grows.
    pub(crate) fn tail_page(&self) -> u64 {
        self.tail.0.load(Ordering::Acquire) >> OFFSET_BITS
    }

    #[inline]
    fn page(&self, page: u64) -> &PageState {
        &self.pages[page as usize & (self.pages.len() - 1)]
    }

    /// The record at `address`, which is neither null nor before [`head`](Self::head) as the
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
        let withheld = self.withheld.load(Ordering::Acquire) as usize;
        if free.len() <= reserved + withheld || page >= last_page {
            return no_space();
        }
        let Some(frame) = free.pop() else { return no_space() };
        self.count_free(&free);
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

    /// Counts words as dead that lie in whatever pages.
    pub(crate) fn count_dead_anywhere(&self, words: usize) {
        self.page(self.tail_page()).dead_words.fetch_add(words as u64, Ordering::Relaxed);
    }

    /// Takes it back that a record is dead: a tombstone became a value again.
    pub(crate) fn uncount_dead(&self, address: LogicalAddress, words: usize) {
        let page = self.page(address.page(self.page_words_log2));
        let _ = page.dead_words.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |counted| {
            Some(counted.saturating_sub(words as u64))
        });
    }

    /// Words of records known to be dead in a page that is in memory.
    pub(crate) fn dead_words_of(&self, page: u64) -> u64 {
        self.page(page).dead_words.load(Ordering::Relaxed)
    }

    /// Words of records known to be dead, in all pages that are in memory.
    pub(crate) fn dead_words(&self) -> u64 {
        (self.head_page()..=self.tail_page())
            .map(|page| self.page(page).dead_words.load(Ordering::Relaxed))
            .sum()
    }

    /// Words of all pages that are in memory.
    pub(crate) fn used_words(&self) -> u64 {
        (self.tail_page() + 1).saturating_sub(self.head_page()) << self.page_words_log2
    }

    /// Closes the page that grows, however little is in it, and opens the next one. Answers the
    /// new page: every record allocated before lies in an older one.
    ///
    /// # Errors
    /// `NoSpace` if no frame is free.
    pub(crate) fn close_tail(&self) -> Attempt<u64> {
        loop {
            let tail = self.tail.0.load(Ordering::Acquire);
            if offset_of(tail) == 0 {
                return Ok(tail >> OFFSET_BITS);
            }
            if offset_of(tail) > self.page_words() {
                self.open_page(tail >> OFFSET_BITS, self.page_words(), Purpose::Compaction)?;
                continue;
            }
            // As an add that did not fit.
            let full = (tail >> OFFSET_BITS) << OFFSET_BITS | (self.page_words() as u64 + 1);
            let closed =
                self.tail.0.compare_exchange(tail, full, Ordering::AcqRel, Ordering::Acquire);
            if closed.is_ok() && offset_of(tail) < self.page_words() {
                let log2 = self.page_words_log2;
                let end = LogicalAddress::new(tail >> OFFSET_BITS, offset_of(tail) as u64, log2);
                Record::write_end_of_page(self.record(end).words());
            }
        }
    }

    /// Ends changes to the records of pages before `page`; the answer is the epoch that must be
    /// safe for that.
    pub(crate) fn set_read_only(&self, page: u64) -> u64 {
        self.read_only_page.0.fetch_max(page, Ordering::SeqCst);
        self.epochs.bump()
    }

    /// Lets the oldest page in memory go, which is on disk; its frame is free once the epoch is
    /// safe. Answers that epoch.
    pub(crate) fn evict_oldest(self: &Arc<Self>) -> u64 {
        let page = self.head_page();
        let frame = self.page(page).frame.load(Ordering::Acquire);
        self.head_page.0.store(page + 1, Ordering::SeqCst);
        self.defer_free(frame)
    }

    /// Gives up the pages before `page`, in which nothing lives any more.
    pub(crate) fn truncate(&self, page: u64) {
        self.begin_page.0.fetch_max(page, Ordering::SeqCst);
    }

    /// Gives up the oldest page of a log without a disk, in which nothing lives any more; its frame
    /// is free once the epoch is safe. Answers that epoch.
    pub(crate) fn release_oldest(self: &Arc<Self>) -> u64 {
        self.begin_page.0.store(self.head_page() + 1, Ordering::SeqCst);
        self.evict_oldest()
    }

    fn defer_free(self: &Arc<Self>, frame: u64) -> u64 {
        let log = Arc::clone(self);
        self.epochs.defer(Box::new(move || {
            let mut free = log.lock_free();
            if free.len() < log.withheld.load(Ordering::Acquire) as usize {
                log.give_back(frame);
            }
            free.push(frame);
            log.count_free(&free);
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

    fn head(&self) -> LogicalAddress {
        RecordLog::head(self)
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
    use super::record::{Blueprint, Born};
    use super::*;

    fn log(frames: usize) -> Arc<RecordLog> {
        Arc::new(RecordLog::new(frames, 6, Arc::new(Epochs::new(4)), Span::EMPTY).unwrap())
    }

    fn write(log: &RecordLog, address: LogicalAddress, value: &[u8]) {
        let plan = Blueprint {
            space: 1,
            hash_low: 2,
            key: b"k",
            value,
            expire_at: 0,
            capacity: 0,
            is_tombstone: false,
            is_long: false,
        };
        log.record(address).write_new(&plan, LogicalAddress::NULL, Born::Free);
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

    #[test]
    fn frames_that_are_withheld_are_not_used() {
        let log = log(8);
        log.allow_frames(6);
        assert_eq!((log.free_frames(), log.frames_allowed()), (5, 6));
        let mut pages = 1;
        while log.allocate(64, Purpose::Compaction).is_ok() {
            pages += 1;
        }
        assert_eq!(pages - 1, 6);
        log.allow_frames(4);
        assert_eq!(log.frames_missing(1), 3, "two that are used too many, and the one");
        for _ in 0..2 {
            log.release_oldest();
            log.epochs.run_actions();
            assert!(log.allocate(64, Purpose::Compaction).is_err());
        }
        log.release_oldest();
        log.epochs.run_actions();
        assert_eq!((log.free_frames(), log.frames_missing(1)), (1, 0));
        log.allow_frames(8);
        assert_eq!(log.free_frames(), 5);
        assert!(log.allocate(64, Purpose::Compaction).is_ok());
    }

    #[test]
    fn a_closed_tail_takes_no_more() {
        let log = log(8);
        assert_eq!(log.close_tail().unwrap(), FIRST_PAGE, "there is nothing to close");
        let address = log.allocate(20, Purpose::Write).unwrap();
        write(&log, address, b"v");
        assert_eq!(log.close_tail().unwrap(), FIRST_PAGE + 1);
        assert!(log.closed_epoch(FIRST_PAGE).is_some());
        let end = LogicalAddress::new(FIRST_PAGE, 20, 6);
        assert_eq!(log.record(end).size_words(), 0, "whoever scans the page stops here");
        assert_eq!(log.allocate(20, Purpose::Write).unwrap().page(6), FIRST_PAGE + 1);
    }
}
