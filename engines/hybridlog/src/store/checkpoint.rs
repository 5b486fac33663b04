//! Taking a checkpoint while others read and write.
//!
//! ```text
//! 1. a still moment: the position W of the log, the spaces of the keyspaces; from here on every
//!    write is logged, whatever its durability
//! 2. the index is copied, word by word, while it is used; or an older copy is to do
//! 3. the tail page is closed; the pages before the new one, E, are flushed: read-only from here on
//! 4. the position C of the log; writes in memory need not be logged any more
//! 5. log, segments and the checkpoint's files are brought to the device
//! 6. `CURRENT` names it; what only an older one needed is given up
//! ```
//! The still moment is one in which no operation is inside: the version shift of CPR (Prasaad et
//! al., SIGMOD 2019) without phases, since the log has what happens around it. All that took
//! effect before it is in pages before E, and the copy of the index leads there; all that took
//! effect after it, and may be in the copy in part, is in the log from W on, and with the log up to
//! C it is there as a whole. Replaying from W makes of the copy the state at C, and then at the
//! log's end, since records of the log say what a key is, not how it changed.
//!
//! Most checkpoints are *incremental*: they write no index but name an older copy, to which an
//! opening adds the records of the pages written since ([`recovery`](super::recovery)).
//!
//! The job does a bounded part of it at a time, and moves pages in between: no writer waits for a
//! frame while an index is written or a device syncs.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use ferrokit_engine::{
    CommitTicket, Durability, Error, ErrorKind, Op, Result, UnixMillis, block_on,
};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::{LogPosition, replace_file};

use super::Store;
use super::tiers::Tiers;
use crate::disk::checkpoint_file::{CURRENT, Current, Facts, IndexShape, file_name, index_name};
use crate::disk::chunks::Writer;
use crate::index::GrowthPause;
use crate::index::table::Table;
use crate::interrupt::{Attempt, Interrupt};
use crate::journal::{AllHold, Journal};
use crate::primitive::Ordering;

/// Buckets that a step migrates of an index that grows while it is to be copied.
const MIGRATED_PER_STEP: u64 = 1024;
/// Buckets that a step copies: 1 MiB.
const COPIED_PER_STEP: u64 = 1 << 14;
/// Bytes of pages that a step flushes.
const FLUSHED_PER_STEP: u64 = 8 << 20;
/// Bytes of pages that an opening reads beyond those it keeps, for each byte of an index: from
/// there on a new one is written.
const SCANNED_PER_INDEX_BYTE: u64 = 4;

/// Checkpoints: the one in force, the one under way, and whether another is wanted.
pub(crate) struct CheckpointJob {
    /// The number of the one in force; 0 if there is none.
    pub(super) current: u64,
    /// What it says.
    pub(super) facts: Option<Arc<Facts>>,
    /// The index it begins from.
    pub(super) base: Option<Base>,
    /// Bytes of the log after which the next one is taken.
    pub(super) log_bytes: u64,
    /// The engine's own number.
    pub(super) engine: u64,
    pub(super) pages_per_segment: u64,
    pub(super) is_wanted: bool,
    /// How many were asked for and completed, for those who wait.
    pub(super) completed: u64,
    /// A backup needs the segments from this page on.
    pub(super) pinned_page: Option<u64>,
    under_way: Option<UnderWay>,
}

/// An index on disk from which checkpoints begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Base {
    /// That of its file.
    pub(super) number: u64,
    pub(super) primaries: u64,
    pub(super) bytes: u64,
    /// Every record linked since it was copied, or meanwhile, is in this page or a later one.
    pub(super) scan_from: u64,
}

/// A checkpoint under way.
struct UnderWay {
    number: u64,
    moment: Moment,
    base: Base,
    holds: Option<AllHold>,
    syncs: Syncs,
    phase: Phase,
}

/// How far it is.
enum Phase {
    Copying(Copying),
    Closing(GrowthPause),
    Flushing {
        end_page: u64,
        /// The spaces with their entries as the last page was closed: what came since is counted when
        /// it is replayed.
        spaces: Entries,
    },
    Syncing {
        facts: Arc<Facts>,
        log: Op<'static, ()>,
        segments: Vec<(u64, u64)>,
    },
}

/// The index, on its way into its file.
struct Copying {
    table: Arc<Table>,
    shape: IndexShape,
    writer: Writer,
    next: u64,
    pause: GrowthPause,
}

/// What came of a step.
enum Stepped {
    More(Phase),
    Waiting(Phase),
    Synced(Arc<Facts>),
}

impl CheckpointJob {
    pub(super) fn new(log_bytes: u64, engine: u64, pages_per_segment: u64) -> Self {
        Self {
            current: 0,
            facts: None,
            base: None,
            log_bytes,
            engine,
            pages_per_segment,
            is_wanted: false,
            completed: 0,
            pinned_page: None,
            under_way: None,
        }
    }

    /// What [`completed`](Self::completed) will be when one was taken that begins from now on.
    pub(super) fn want(&mut self) -> u64 {
        self.is_wanted = true;
        self.completed + 1 + u64::from(self.under_way.is_some())
    }
}

/// Spaces, each with the number of its entries.
type Entries = Vec<(u64, u64)>;

/// What the still moment shows.
struct Moment {
    replay_from: LogPosition,
    time: UnixMillis,
    spaces: Entries,
    begin_page: u64,
    tail_page: u64,
}

/// Files on their way to the device.
#[derive(Default)]
pub(super) struct Syncs(Vec<Op<'static, ()>>);

impl Syncs {
    pub(super) fn push(&mut self, sync: Op<'static, ()>) {
        self.0.push(sync);
    }

    /// Ready when all are; the first failure.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<Result<()>> {
        let mut context = Context::from_waker(waker);
        while let Some(last) = self.0.last_mut() {
            match Pin::new(last).poll(&mut context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => {
                    self.0.pop();
                    result?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Store {
    /// Does what there is to do for checkpoints; whether there is more that need not wait.
    pub(super) fn advance_checkpoint(&self, tiers: &Tiers) -> Result<bool> {
        let Some(journal) = tiers.journal.get() else { return Ok(false) };
        let mut job = tiers.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        // A failure is tried again after as much of the log once more.
        let set_due = |log_bytes| {
            journal.set_checkpoint_due(LogPosition(journal.log().end().0 + log_bytes));
        };
        let under_way = match job.under_way.take() {
            Some(under_way) => under_way,
            None if !job.is_wanted && !journal.is_checkpoint_due() => return Ok(false),
            None => {
                let Some(pause) = self.try_pause_growth() else { return Ok(true) };
                job.is_wanted = false;
                set_due(job.log_bytes);
                self.begin_checkpoint(tiers, journal, &job, pause)?
            }
        };
        let UnderWay { number, moment, base, mut holds, mut syncs, phase } = under_way;
        tiers.checkpoint_running.store(0, Ordering::Relaxed);
        let mut parts =
            Parts { number, moment: &moment, base, holds: &mut holds, syncs: &mut syncs };
        let stepped = self.step_checkpoint(tiers, journal, &job, &mut parts, phase);
        let (phase, is_more) = match stepped {
            Ok(Stepped::More(phase)) => (phase, true),
            Ok(Stepped::Waiting(phase)) => (phase, false),
            Ok(Stepped::Synced(facts)) => {
                self.publish(tiers, number)?;
                tiers.cover_unlogged();
                tiers.migration.note_checkpoint(facts.begin_page, facts.end_page);
                let before = (job.current, job.base.map(|base| base.number));
                job.current = number;
                job.base = Some(base);
                job.facts = Some(Arc::clone(&facts));
                job.completed += 1;
                tiers.checkpoints_taken.fetch_add(1, Ordering::Relaxed);
                if base.number != number {
                    tiers.checkpoints_incremental.fetch_add(1, Ordering::Relaxed);
                }
                self.clean_up(tiers, &facts, before, job.pinned_page)?;
                return Ok(job.is_wanted);
            }
            Err(error) => {
                set_due(job.log_bytes);
                return Err(error);
            }
        };
        tiers.checkpoint_running.store(1, Ordering::Relaxed);
        job.under_way = Some(UnderWay { number, moment, base, holds, syncs, phase });
        Ok(is_more)
    }

    /// The table that the index is, until that is dropped; `None` while it grows, which is helped.
    fn try_pause_growth(&self) -> Option<(Arc<Table>, GrowthPause)> {
        let guard = self.epochs.enter();
        let paused = self.index.pause_growth(&guard);
        if paused.is_none() {
            self.index.help_grow(MIGRATED_PER_STEP, &*self.log, &guard);
        }
        paused
    }

    /// Step 1, and what step 2 begins with.
    fn begin_checkpoint(
        &self,
        tiers: &Tiers,
        journal: &Journal,
        job: &CheckpointJob,
        (table, pause): (Arc<Table>, GrowthPause),
    ) -> Result<UnderWay> {
        let (moment, holds) = self.keyspaces.in_a_still_moment("checkpoint", |spaces, _| {
            let holds = journal.hold_all();
            tiers.begin_to_cover_unlogged();
            let moment = Moment {
                replay_from: journal.log().end(),
                time: self.clock.now(),
                spaces,
                begin_page: self.log.begin_page(),
                tail_page: self.log.tail_page(),
            };
            (moment, holds)
        })?;
        let number = job.current + 1;
        let (base, phase) = match job.base.filter(|base| self.is_near(base, &table, &moment)) {
            Some(base) => (base, Phase::Closing(pause)),
            None => {
                let shape = IndexShape {
                    engine: job.engine,
                    primaries: table.primaries(),
                    overflow_used: table.overflow_in_use(),
                    overflow_operations: table.overflow_operations(),
                };
                let base = Base {
                    number,
                    primaries: shape.primaries,
                    bytes: shape.bytes(),
                    scan_from: moment.tail_page,
                };
                let writer = shape.write(&*tiers.host.fs, &tiers.directory, number)?;
                (base, Phase::Copying(Copying { table, shape, writer, next: 0, pause }))
            }
        };
        let syncs = Syncs::default();
        Ok(UnderWay { number, moment, base, holds: Some(holds), syncs, phase })
    }

    /// Whether an older index does: it has the size of the present one, and an opening has not much
    /// more to read than it keeps in memory or than the index is long.
    fn is_near(&self, base: &Base, table: &Table, moment: &Moment) -> bool {
        let page_bytes = self.log.page_words() as u64 * 8;
        let scanned = moment.tail_page.saturating_sub(base.scan_from) * page_bytes;
        let memory = self.log.frames() as u64 * page_bytes;
        base.primaries == table.primaries()
            && scanned <= (memory / 2).max(base.bytes * SCANNED_PER_INDEX_BYTE)
    }

    /// Closes the tail page in a still moment: nothing before the next one is changed any more, and the
    /// entries of the spaces are those of just these pages.
    fn close_counted(&self, spaces: &[(u64, u64)]) -> Result<Attempt<(u64, Entries)>> {
        self.keyspaces.in_a_still_moment("checkpoint", |now, _| {
            let end_page = self.log.close_tail()?;
            self.log.set_read_only(end_page);
            // A space that is gone is cleared again by the replay.
            let entries = |id| now.iter().find(|(other, _)| *other == id).map(|(_, count)| *count);
            let count = |&(id, then): &(u64, u64)| (id, entries(id).unwrap_or(then));
            Ok((end_page, spaces.iter().map(count).collect()))
        })
    }

    /// Steps 2 to 5, a part at a time.
    fn step_checkpoint(
        &self,
        tiers: &Tiers,
        journal: &Journal,
        job: &CheckpointJob,
        parts: &mut Parts<'_>,
        phase: Phase,
    ) -> Result<Stepped> {
        match phase {
            Phase::Copying(mut copying) => {
                let Copying { table, shape, writer, next, .. } = &mut copying;
                let buckets = shape.primaries + shape.overflow_used;
                let end = (*next + COPIED_PER_STEP).min(buckets);
                writer.words(table.image(*next..end, shape.overflow_used))?;
                *next = end;
                if end < buckets {
                    return Ok(Stepped::More(Phase::Copying(copying)));
                }
                let (file, _) = copying.writer.finish()?;
                parts.syncs.push(file.sync_all());
                Ok(Stepped::More(Phase::Closing(copying.pause)))
            }
            // Whatever the copy leads to was allocated before the page that is opened here; records
            // that an index which has grown leads to lie behind it.
            Phase::Closing(pause) => match self.close_counted(&parts.moment.spaces)? {
                Ok((end_page, spaces)) => Ok(Stepped::More(Phase::Flushing { end_page, spaces })),
                Err(Interrupt::Failed(error)) => Err(error),
                Err(_) => {
                    tiers.want_frame();
                    Ok(Stepped::More(Phase::Closing(pause)))
                }
            },
            Phase::Flushing { end_page, spaces } => {
                let pages = (FLUSHED_PER_STEP >> tiers.page_words_log2 >> 3).max(1);
                let flushed = tiers.flushed_page();
                if flushed < end_page {
                    self.flush_before(tiers, end_page.min(flushed + pages))?;
                    return Ok(Stepped::More(Phase::Flushing { end_page, spaces }));
                }
                let log_end = journal.log().end();
                let next_space = self.keyspaces.next_space();
                *parts.holds = None;
                let facts =
                    self.facts(tiers, job, parts, (end_page, spaces), (log_end, next_space));
                let (fs, directory) = (&*tiers.host.fs, tiers.directory.as_str());
                let (file, _) = facts.write(fs, directory, parts.number)?.finish()?;
                parts.syncs.push(file.sync_all());
                let mut segments = Vec::new();
                for (segment, sync) in tiers.segments.begin_sync() {
                    segments.push(segment);
                    parts.syncs.push(sync);
                }
                let log = journal.log().committed(CommitTicket::at(log_end.0, Durability::Synced));
                Ok(Stepped::More(Phase::Syncing { facts: Arc::new(facts), log, segments }))
            }
            Phase::Syncing { facts, mut log, segments } => {
                let waker = tiers.job_waker();
                // What a failed sync covered may be lost for good.
                let synced =
                    parts.syncs.poll(&waker).map_err(|error: Error| tiers.set_poison(error))?;
                if synced.is_ready() {
                    tiers.segments.note_synced(&segments);
                    if Pin::new(&mut log).poll(&mut Context::from_waker(&waker))?.is_ready() {
                        return Ok(Stepped::Synced(facts));
                    }
                }
                Ok(Stepped::Waiting(Phase::Syncing { facts, log, segments }))
            }
        }
    }

    fn facts(
        &self,
        tiers: &Tiers,
        job: &CheckpointJob,
        parts: &Parts<'_>,
        (end_page, spaces): (u64, Entries),
        (log_end, next_space): (LogPosition, u64),
    ) -> Facts {
        let Parts { moment, base, .. } = parts;
        let begin_page = moment.begin_page;
        Facts {
            engine: job.engine,
            hash_seed: self.hash_seed,
            tag_bits: self.index.tag_bits(),
            page_bytes: 8 << tiers.page_words_log2,
            pages_per_segment: job.pages_per_segment,
            begin_page,
            end_page,
            replay_from: moment.replay_from,
            log_end,
            time: moment.time,
            next_space,
            long_keys: self.long_values.keys(&spaces),
            spaces,
            expiring: tiers.expiring.counts(),
            pages: BTreeMap::from_iter(tiers.segments.facts_between(begin_page, end_page)),
            dead_words: tiers.cold_dead_words.0.load(Ordering::Relaxed) + self.log.dead_words(),
            collect_before_page: self.collect_before_page.load(Ordering::Acquire).min(end_page),
            index: base.number,
            scan_from: base.scan_from,
            has_expiries: tiers.expired.has_expiries(),
            has_records: false,
        }
    }

    /// The end of step 5, and step 6.
    fn publish(&self, tiers: &Tiers, number: u64) -> Result<()> {
        let (fs, directory) = (&*tiers.host.fs, tiers.directory.as_str());
        // What a failed sync covered may be lost for good.
        fs.sync_dir(directory).map_err(|error| tiers.set_poison(error))?;
        let current = Current { number }.encode();
        block_on(replace_file(fs, directory, CURRENT, current)).map_err(|error| {
            match error.kind() {
                // Nothing was replaced.
                ErrorKind::OutOfSpace => error,
                _ => tiers.set_poison(error),
            }
        })
    }

    fn clean_up(
        &self,
        tiers: &Tiers,
        facts: &Facts,
        (checkpoint, index): (u64, Option<u64>),
        pinned_page: Option<u64>,
    ) -> Result<()> {
        let (fs, directory) = (&*tiers.host.fs, tiers.directory.as_str());
        // From here on nobody needs what only an older one led to. What is left is removed at the
        // next opening.
        if let Some(journal) = tiers.journal.get() {
            journal.log().trim(facts.replay_from)?;
        }
        let first_kept = facts.begin_page;
        tiers.segments.remove_before(pinned_page.map_or(first_kept, |it| it.min(first_kept)))?;
        if let Some(index) = index.filter(|index| *index != facts.index) {
            fs.remove_file(&join(directory, &index_name(index)))?;
        }
        if checkpoint != 0 {
            fs.remove_file(&join(directory, &file_name(checkpoint)))?;
        }
        Ok(())
    }

    /// Takes a checkpoint that holds everything before this call; for closing.
    ///
    /// # Errors
    /// What keeps it from being taken.
    pub(crate) async fn checkpointed(&self) -> Result<()> {
        let Some(tiers) = &self.tiers else { return Ok(()) };
        let lock = || tiers.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let target = lock().want();
        let (before, _) = tiers.failures();
        tiers.wake();
        loop {
            let ticket = tiers.progress.ticket();
            if lock().completed >= target {
                return Ok(());
            }
            tiers.check_alive()?;
            if let (count, Some(error)) = tiers.failures()
                && count != before
            {
                return Err(error);
            }
            tiers.progress.changed(ticket).await;
        }
    }
}

/// What a step has of a checkpoint beside its phase.
struct Parts<'u> {
    number: u64,
    moment: &'u Moment,
    base: Base,
    holds: &'u mut Option<AllHold>,
    syncs: &'u mut Syncs,
}
