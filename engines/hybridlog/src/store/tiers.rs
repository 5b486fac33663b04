//! Pages on their way to disk and out of memory: the work of the engine's one job.
//!
//! A page is *open* while it is the tail, *closed* when the next one was opened, *read-only* when
//! no thread changes its records any more, *flushed* when it is in its segment, *evicted* when its
//! frame is free. Each step waits for the epoch of the one before it. Most pages in memory stay
//! mutable; the oldest are flushed ahead of need, and evicted when frames run short.
//!
//! What is flushed need not be on the device: after a crash only what a checkpoint covers counts,
//! and the log has the rest.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use ferrokit_engine::{Error, ErrorKind, Result, Stats};
use ferrokit_storage::{DirLock, Host, JobHandle, Notify, Progress};

use super::Store;
use super::backup::Backups;
use super::checkpoint::CheckpointJob;
use super::compaction::Round;
use super::expiring::Expiring;
use super::expiry::ExpiredKeys;
use super::migrate::Migration;
use crate::address::LogicalAddress;
use crate::config::HybridLogConfig;
use crate::disk::image::seal_page;
use crate::disk::segment::Segments;
use crate::index::Growth;
use crate::journal::Journal;
use crate::log::{RESERVED_FRAMES, RecordLog};
use crate::primitive::{AtomicU64, Backoff, Ordering, OwnLine};
use crate::read_cache::ReadCache;

/// The disk under a store.
pub(crate) struct Tiers {
    pub(super) host: Host,
    pub(super) directory: String,
    pub(super) segments: Segments,
    pub(super) page_words_log2: u32,
    /// None while it is replayed.
    pub(super) journal: OnceLock<Journal>,
    /// Something that somebody waits for has changed.
    pub(super) progress: Notify,
    pub(super) checkpoints: Mutex<CheckpointJob>,
    pub(crate) migration: Migration,
    /// Wakes the job; the engine owns the handle.
    job: OnceLock<Weak<JobHandle>>,
    /// Pages before this one are in their segments.
    flushed_page: AtomicU64,
    /// Frames that somebody waits for.
    wanted_frames: AtomicU64,
    /// Whether the index is to be doubled.
    growth_wanted: AtomicBool,
    /// What is known of the sizes.
    config: HybridLogConfig,
    pub(super) read_cache: Option<ReadCache>,
    pub(super) read_cache_hits: OwnLine<AtomicU64>,
    failure: Mutex<Failure>,
    /// The failure after which nothing may become durable any more.
    poison: OnceLock<Error>,
    /// Estimated words of dead records on disk.
    pub(super) cold_dead_words: OwnLine<AtomicU64>,
    /// How far compaction has gone since that was last corrected.
    pub(super) round: Mutex<Round>,
    pub(super) cold_reads: AtomicU64,
    pages_evicted: AtomicU64,
    pub(super) checkpoints_taken: AtomicU64,
    pub(super) checkpoints_incremental: AtomicU64,
    /// 1 while one is under way.
    pub(super) checkpoint_running: AtomicU64,
    pub(super) backups: Mutex<Backups>,
    pub(super) expired: ExpiredKeys,
    pub(super) expiring: Expiring,
    /// Whether a write was made that the log does not have: since the last still moment of a
    /// checkpoint, and before it as long as that checkpoint is not in force.
    unlogged: [AtomicBool; 2],
    /// The job has ended: nobody makes progress any more.
    is_closed: AtomicBool,
    /// Dropped after the journal: the log is at rest when others may open it.
    directory_lock: Mutex<Option<Box<dyn DirLock>>>,
}

/// The last failure of the job, and how many there were.
#[derive(Default)]
struct Failure {
    count: u64,
    last: Option<Error>,
}

/// What tiers are made of.
pub(super) struct TiersParts {
    pub(super) host: Host,
    pub(super) directory: String,
    pub(super) segments: Segments,
    pub(super) config: HybridLogConfig,
    pub(super) read_cache: Option<ReadCache>,
    pub(super) flushed_page: u64,
    pub(super) checkpoints: CheckpointJob,
    pub(super) migration: Migration,
    pub(super) directory_lock: Box<dyn DirLock>,
}

impl Tiers {
    pub(super) fn new(parts: TiersParts) -> Self {
        let expiring = Expiring::new(parts.host.env.clock.now().0);
        Self {
            host: parts.host,
            directory: parts.directory,
            segments: parts.segments,
            page_words_log2: parts.config.page_words_log2(),
            journal: OnceLock::new(),
            progress: Notify::default(),
            checkpoints: Mutex::new(parts.checkpoints),
            migration: parts.migration,
            job: OnceLock::new(),
            flushed_page: AtomicU64::new(parts.flushed_page),
            wanted_frames: AtomicU64::new(0),
            growth_wanted: AtomicBool::new(false),
            config: parts.config,
            read_cache: parts.read_cache,
            read_cache_hits: OwnLine::default(),
            failure: Mutex::default(),
            poison: OnceLock::new(),
            cold_dead_words: OwnLine::default(),
            round: Mutex::default(),
            cold_reads: AtomicU64::new(0),
            pages_evicted: AtomicU64::new(0),
            checkpoints_taken: AtomicU64::new(0),
            checkpoints_incremental: AtomicU64::new(0),
            checkpoint_running: AtomicU64::new(0),
            backups: Mutex::default(),
            expired: ExpiredKeys::default(),
            expiring,
            unlogged: [AtomicBool::new(false), AtomicBool::new(false)],
            is_closed: AtomicBool::new(false),
            directory_lock: Mutex::new(Some(parts.directory_lock)),
        }
    }

    /// From now on the job of that handle is woken.
    pub(crate) fn set_job(&self, job: Weak<JobHandle>) {
        // There is one.
        let _ = self.job.set(job);
    }

    /// Whether segments may leave the local disk.
    pub(crate) fn has_objects(&self) -> bool {
        self.segments.objects().is_some()
    }

    /// Wakes the job.
    pub(crate) fn wake(&self) {
        if let Some(job) = self.job.get().and_then(Weak::upgrade) {
            job.wake();
        }
    }

    /// The failure after which nothing may become durable any more.
    pub(crate) fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(poison) => Err(poison.clone()),
        }
    }

    /// Pages before this one are in their segments.
    pub(super) fn flushed_page(&self) -> u64 {
        self.flushed_page.load(Ordering::Acquire)
    }

    /// Asks for a frame beyond those that are kept for compaction.
    pub(super) fn want_frame(&self) {
        self.wanted_frames.fetch_max(RESERVED_FRAMES as u64 + 1, Ordering::AcqRel);
    }

    /// Takes note of a write that is not logged.
    #[inline]
    pub(super) fn note_unlogged(&self) {
        // While the log is replayed, it has what is written.
        if !self.unlogged[0].load(Ordering::Relaxed) && self.journal.get().is_some() {
            self.unlogged[0].store(true, Ordering::SeqCst);
        }
    }

    /// Whether there may have been a write that neither the log nor the checkpoint in force has.
    pub(super) fn has_unlogged(&self) -> bool {
        self.unlogged.iter().any(|noted| noted.load(Ordering::SeqCst))
    }

    /// The still moment of a checkpoint: what was noted so far will be in it.
    pub(super) fn begin_to_cover_unlogged(&self) {
        let noted = self.unlogged[0].load(Ordering::SeqCst);
        self.unlogged[1].fetch_or(noted, Ordering::SeqCst);
        self.unlogged[0].store(false, Ordering::SeqCst);
    }

    /// That checkpoint is in force.
    pub(super) fn cover_unlogged(&self) {
        self.unlogged[1].store(false, Ordering::SeqCst);
    }

    /// Tells those who wait that the job has ended.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.progress.notify();
    }

    /// Whether what somebody waits for may still come.
    ///
    /// # Errors
    /// `Poisoned`, `Closed`.
    pub(super) fn check_alive(&self) -> Result<()> {
        self.check_poison()?;
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "hybridlog.wait", "the engine was closed"));
        }
        Ok(())
    }

    /// Ends all writing: what is on the device is unknown.
    pub(super) fn set_poison(&self, error: Error) -> Error {
        self.poison.get_or_init(|| error.into_poison()).clone()
    }

    /// How often the job failed, and the last failure.
    pub(super) fn failures(&self) -> (u64, Option<Error>) {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        (failure.count, failure.last.clone())
    }

    /// The last failure of the job, if there were more than `count`.
    fn check_failure_since(&self, count: u64) -> Result<()> {
        match self.failures() {
            (now, Some(error)) if now != count => Err(error),
            _ => Ok(()),
        }
    }

    fn set_failure(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.count += 1;
        failure.last = Some(error);
    }

    /// Whether the job has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Lets others open the directory.
    pub(crate) fn release_directory(&self) {
        *self.directory_lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether others may open the directory.
    pub(crate) fn is_released(&self) -> bool {
        self.directory_lock.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    pub(super) fn stats_into(&self, log: &RecordLog, stats: &mut Stats) {
        let page_bytes = 8_u64 << self.page_words_log2;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Each is read at another moment.
        let mutable_pages = (log.tail_page() + 1).saturating_sub(log.read_only_page());
        if let Some(journal) = self.journal.get() {
            journal.log().stats_into(stats);
        }
        stats
            .push("disk_bytes", self.segments.used_bytes())
            .push("disk_dead_bytes", count(&self.cold_dead_words.0) * 8)
            .push("pages_in_memory", (log.tail_page() + 1).saturating_sub(log.head_page()))
            .push("pages_on_disk_only", log.head_page().saturating_sub(log.begin_page()))
            .push("mutable_bytes", mutable_pages * page_bytes)
            .push("pages_evicted", count(&self.pages_evicted))
            .push("cold_reads", count(&self.cold_reads))
            .push("read_cache_hits", count(&self.read_cache_hits.0))
            .push("read_cache_bytes", self.read_cache.as_ref().map_or(0, ReadCache::used_bytes))
            .push("checkpoints", count(&self.checkpoints_taken))
            .push("checkpoints_incremental", count(&self.checkpoints_incremental))
            .push("checkpoint_running", count(&self.checkpoint_running));
        self.segments.counts.stats_into(&self.segments.sizes(), stats);
    }
}

impl Store {
    /// Counts words on disk as dead.
    pub(super) fn count_cold_dead_words(&self, words: usize) {
        if let Some(tiers) = &self.tiers {
            tiers.cold_dead_words.0.fetch_add(words as u64, Ordering::Relaxed);
        }
    }

    /// Waits until there is room for an ordinary write of `words` words.
    ///
    /// # Errors
    /// What keeps pages from being flushed.
    pub(super) async fn wait_for_space(&self, operation: &'static str, words: u64) -> Result<()> {
        let Some(tiers) = &self.tiers else { return Ok(()) };
        let pages = words.div_ceil(self.log.page_words() as u64 / 2);
        let wanted = RESERVED_FRAMES as u64 + pages;
        if wanted + 2 > tiers.config.frames_min() as u64 {
            return Err(Error::new(
                ErrorKind::OutOfSpace,
                operation,
                "the batch takes more memory than the engine has; open it with more",
            ));
        }
        let (before, _) = tiers.failures();
        loop {
            let ticket = tiers.progress.ticket();
            if self.log.has_room(words) {
                return Ok(());
            }
            tiers.check_alive()?;
            tiers.check_failure_since(before)?;
            tiers.wanted_frames.fetch_max(wanted, Ordering::AcqRel);
            tiers.wake();
            tiers.progress.changed(ticket).await;
        }
    }

    /// Makes room while the store is opened: there is no job yet.
    pub(super) fn make_space_at_opening(&self, operation: &'static str, words: u64) -> Result<()> {
        let Some(tiers) = &self.tiers else { return Ok(()) };
        let pages = words.div_ceil(self.log.page_words() as u64 / 2);
        tiers.wanted_frames.fetch_max(RESERVED_FRAMES as u64 + pages, Ordering::AcqRel);
        self.move_pages(tiers)?;
        if self.log.has_room(words) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::OutOfSpace, operation, "a batch takes more memory than there is"))
    }

    /// Asks the job to double the index, once it has made room for it; `false` where there is none
    /// that divides the memory.
    pub(super) fn ask_for_growth(&self) -> bool {
        match &self.tiers {
            Some(tiers) if tiers.journal.get().is_some() => {
                if !tiers.growth_wanted.load(Ordering::Relaxed)
                    && !tiers.growth_wanted.swap(true, Ordering::AcqRel)
                {
                    tiers.wake();
                }
                true
            }
            _ => false,
        }
    }

    /// Waits until the index has begun to grow.
    ///
    /// # Errors
    /// What keeps it from growing.
    pub(super) async fn wait_for_growth(&self) -> Result<()> {
        let Some(tiers) = &self.tiers else { return Ok(()) };
        let (before, _) = tiers.failures();
        loop {
            let ticket = tiers.progress.ticket();
            if !tiers.growth_wanted.load(Ordering::Acquire) {
                return Ok(());
            }
            tiers.check_alive()?;
            tiers.check_failure_since(before)?;
            tiers.progress.changed(ticket).await;
        }
    }

    /// Doubles the index, if that is wanted and no checkpoint needs it as it is.
    pub(super) fn grow_if_wanted(&self, tiers: &Tiers) -> Result<()> {
        if tiers.growth_wanted.load(Ordering::Acquire)
            && self.index.start_growth(&self.epochs.enter())? != Growth::Paused
        {
            tiers.growth_wanted.store(false, Ordering::Release);
            self.want_maintenance();
        }
        Ok(())
    }

    /// One step of the job.
    pub(crate) fn tend(&self) -> Progress {
        let Some(tiers) = &self.tiers else { return Progress::Idle };
        let step = tiers
            .check_poison()
            .and_then(|()| self.move_pages(tiers))
            .and_then(|()| self.grow_if_wanted(tiers))
            .and_then(|()| self.advance_checkpoint(tiers))
            .map(|is_busy| self.advance_backups(tiers) | is_busy)
            .and_then(|is_busy| Ok(self.collect_expired(tiers)? | is_busy))
            .and_then(|is_busy| Ok(self.move_segments(tiers)? | is_busy))
            .and_then(|is_busy| Ok(self.compact_disk(tiers)? | is_busy));
        let progress = match step {
            Ok(false) => Progress::Idle,
            Ok(_) => Progress::More,
            Err(error) => {
                tracing::warn!(%error, "pages are not moved to disk; it is tried again");
                tiers.set_failure(error);
                Progress::Idle
            }
        };
        tiers.progress.notify();
        progress
    }

    /// Leaves to the pages what index and read cache do not take.
    fn divide_memory(&self, tiers: &Tiers) {
        let index_bytes = {
            let guard = self.epochs.enter();
            let bytes = self.index.bytes(&guard);
            let grows = tiers.growth_wanted.load(Ordering::Acquire);
            if grows { bytes + 2 * self.index.tables(&guard).current.bytes() } else { bytes }
        };
        let cache_bytes = tiers.read_cache.as_ref().map_or(0, ReadCache::used_bytes);
        let frames = tiers.config.frames_beside(index_bytes + cache_bytes);
        if frames != self.log.frames_allowed() {
            self.log.allow_frames(frames);
        }
    }

    /// Flushes pages ahead of need and evicts what frames are needed for.
    pub(super) fn move_pages(&self, tiers: &Tiers) -> Result<()> {
        self.divide_memory(tiers);
        let frames = self.log.frames_allowed() as u64;
        // Kept free; pages that stay mutable as long as frames suffice.
        let low_frames = RESERVED_FRAMES as u64 + 1 + frames / 16;
        let mutable_pages = (frames - low_frames) * 7 / 8;
        let wanted = tiers.wanted_frames.swap(0, Ordering::AcqRel).max(low_frames);
        let missing = self.log.frames_missing(wanted.min(frames - 2) as usize) as u64;
        let tail = self.log.tail_page();
        let evict_before = (self.log.head_page() + missing).min(tail);
        let flush_before = tail.saturating_sub(mutable_pages).max(evict_before);
        self.flush_before(tiers, flush_before)?;
        let mut freed = None;
        while self.log.head_page() < evict_before {
            let page = self.log.head_page();
            tiers.cold_dead_words.0.fetch_add(self.log.dead_words_of(page), Ordering::Relaxed);
            freed = Some(self.log.evict_oldest());
            tiers.pages_evicted.fetch_add(1, Ordering::Relaxed);
        }
        match freed {
            Some(epoch) => self.epochs.wait_safe(epoch).map_err(|_| stalled()),
            None => Ok(()),
        }
    }

    /// Brings all pages before `end` into their segments.
    pub(super) fn flush_before(&self, tiers: &Tiers, end: u64) -> Result<()> {
        let first = tiers.flushed_page.load(Ordering::Acquire);
        if first >= end {
            return Ok(());
        }
        let mut safe = self.log.set_read_only(end);
        for page in first..end {
            let mut backoff = Backoff::default();
            // Whoever opened the next page is about to say so.
            let closed = loop {
                match self.log.closed_epoch(page) {
                    Some(epoch) => break epoch,
                    None => backoff.wait(),
                }
            };
            safe = safe.max(closed);
        }
        // All who allocated in the pages have written their records, and nobody changes them.
        self.epochs.wait_safe(safe).map_err(|_| stalled())?;
        for page in first..end {
            let start = LogicalAddress::new(page, 0, tiers.page_words_log2);
            let bytes = seal_page(self.log.page_words_of(page), start);
            tiers.segments.write_page(page, bytes)?;
            tiers.flushed_page.store(page + 1, Ordering::Release);
        }
        Ok(())
    }
}

pub(super) fn stalled() -> Error {
    Error::new(ErrorKind::Busy, "hybridlog.flush", "an operation does not end")
}

/// The waker of what the job waits for.
struct WakeJob(Arc<JobHandle>);

impl std::task::Wake for WakeJob {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

impl Tiers {
    /// What wakes the job from a future that it polls.
    pub(super) fn job_waker(&self) -> std::task::Waker {
        match self.job.get().and_then(Weak::upgrade) {
            Some(job) => Arc::new(WakeJob(job)).into(),
            None => std::task::Waker::noop().clone(),
        }
    }
}
