//! Taking a checkpoint while others read and write.
//!
//! ```text
//! 1. a still moment: the position W of the log, the spaces of the keyspaces; from here on every
//!    write is logged, whatever its durability
//! 2. the index is copied, word by word, while it is used
//! 3. the tail page is closed; the pages before the new one, E, are flushed: read-only from here on
//! 4. the position C of the log; writes in memory need not be logged any more
//! 5. log, segments and the checkpoint's file are brought to the device
//! 6. `CURRENT` names it; what only an older one needed is given up
//! ```
//! The still moment is one in which no operation is inside: the version shift of CPR (Prasaad et
//! al., SIGMOD 2019) without phases, since the log has what happens around it. All that took
//! effect before it is in pages before E, and the copy of the index leads there; all that took
//! effect after it, and may be in the copy in part, is in the log from W on, and with the log up to
//! C it is there as a whole. Replaying from W makes of the copy the state at C, and then at the
//! log's end, since records of the log say what a key is, not how it changed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use ferrokit_engine::{CommitTicket, Durability, ErrorKind, Op, Result, UnixMillis, block_on};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::{LogPosition, replace_file};

use super::Store;
use super::tiers::{Tiers, stalled};
use crate::disk::checkpoint_file::{CURRENT, Current, Facts, Writer, file_name};
use crate::interrupt::Interrupt;
use crate::primitive::{Backoff, Ordering};

/// Buckets that a step migrates of an index that grows while it is to be copied.
const BUCKETS_PER_STEP: u64 = 1024;

/// Checkpoints: the one in force, the one under way, and whether another is wanted.
pub(crate) struct CheckpointJob {
    /// The number of the one in force; 0 if there is none.
    pub(super) current: u64,
    /// Bytes of the log after which the next one is taken.
    pub(super) log_bytes: u64,
    /// The engine's own number.
    pub(super) engine: u64,
    pub(super) pages_per_segment: u64,
    pub(super) is_wanted: bool,
    /// How many were asked for and completed, for those who wait.
    pub(super) completed: u64,
    under_way: Option<UnderWay>,
}

/// A checkpoint of which everything is written, and waits for the log.
struct UnderWay {
    number: u64,
    facts: Facts,
    facts_offset: u64,
    /// The log, on its way to the device.
    synced: Op<'static, ()>,
}

impl CheckpointJob {
    pub(super) fn new(current: u64, log_bytes: u64, engine: u64, pages_per_segment: u64) -> Self {
        Self {
            current,
            log_bytes,
            engine,
            pages_per_segment,
            is_wanted: false,
            completed: 0,
            under_way: None,
        }
    }
}

/// What the still moment shows.
struct Moment {
    replay_from: LogPosition,
    time: UnixMillis,
    spaces: Vec<(u64, u64)>,
    begin_page: u64,
}

/// Ends what a checkpoint under way asked of others, however it ends.
struct Asked<'s>(&'s Store);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(journal) = self.0.journal() {
            journal.log_all(false);
        }
        self.0.index.resume_growth();
    }
}

impl Store {
    /// Does what there is to do for checkpoints; whether there is more that need not wait.
    pub(super) fn advance_checkpoint(&self, tiers: &Tiers) -> Result<bool> {
        let Some(journal) = tiers.journal.get() else { return Ok(false) };
        let mut job = tiers.checkpoints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if job.under_way.is_none() {
            if !job.is_wanted && !journal.is_checkpoint_due() {
                return Ok(false);
            }
            job.is_wanted = false;
            let under_way = self.write_checkpoint(tiers, &job);
            // A failure is tried again after as much of the log once more.
            journal.set_checkpoint_due(LogPosition(journal.log().end().0 + job.log_bytes));
            job.under_way = Some(under_way?);
        }
        let Some(mut under_way) = job.under_way.take() else { return Ok(false) };
        let waker = tiers.job_waker();
        match Pin::new(&mut under_way.synced).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                job.under_way = Some(under_way);
                Ok(false)
            }
            Poll::Ready(synced) => {
                synced?;
                let number = under_way.number;
                let (before, facts) = (job.current, under_way.facts.clone());
                self.publish(tiers, under_way)?;
                tiers.cover_unlogged();
                tiers.migration.note_checkpoint(facts.begin_page, facts.end_page);
                job.current = number;
                job.completed += 1;
                tiers.checkpoints_taken.fetch_add(1, Ordering::Relaxed);
                self.clean_up(tiers, &facts, before)?;
                Ok(job.is_wanted)
            }
        }
    }

    /// Steps 1 to 4.
    fn write_checkpoint(&self, tiers: &Tiers, job: &CheckpointJob) -> Result<UnderWay> {
        let Some(journal) = tiers.journal.get() else { return Err(stalled()) };
        let table = self.pause_growth();
        let moment = self.keyspaces.in_a_still_moment("checkpoint", |spaces, _| {
            journal.log_all(true);
            tiers.begin_to_cover_unlogged();
            Moment {
                replay_from: journal.log().end(),
                time: self.clock.now(),
                spaces,
                begin_page: self.log.begin_page(),
            }
        });
        let moment = match moment {
            Ok(moment) => moment,
            Err(error) => {
                self.index.resume_growth();
                return Err(error);
            }
        };
        let asked = Asked(self);
        let number = job.current + 1;
        let (fs, directory) = (&*tiers.host.fs, tiers.directory.as_str());
        let mut writer = Writer::create(fs, directory, number)?;
        let overflow = table.overflow_in_use();
        let overflow_operations = table.overflow_operations();
        writer.words(table.image(overflow))?;
        // Whatever the copy leads to was allocated before this page.
        let end_page = self.close_tail(tiers)?;
        self.flush_before(tiers, end_page)?;
        let log_end = journal.log().end();
        let next_space = self.keyspaces.next_space();
        drop(asked);
        let facts = Facts {
            engine: job.engine,
            hash_seed: self.hash_seed,
            tag_bits: self.index.tag_bits(),
            page_bytes: 8 << tiers.page_words_log2,
            pages_per_segment: job.pages_per_segment,
            begin_page: moment.begin_page,
            end_page,
            replay_from: moment.replay_from,
            log_end,
            time: moment.time,
            next_space,
            spaces: moment.spaces,
            pages: BTreeMap::from_iter(tiers.segments.facts_between(moment.begin_page, end_page)),
            primaries: table.primaries(),
            overflow_used: overflow,
            overflow_operations,
            dead_words: tiers.cold_dead_words.0.load(Ordering::Relaxed) + self.log.dead_words(),
            collect_before_page: self.collect_before_page.load(Ordering::Acquire).min(end_page),
        };
        let (facts_offset, file) = writer.finish(&facts)?;
        // What a failed sync covered may be lost for good.
        file.sync_all().wait().map_err(|error| tiers.set_poison(error))?;
        let ticket = CommitTicket::at(log_end.0, Durability::Synced);
        Ok(UnderWay { number, facts, facts_offset, synced: journal.log().committed(ticket) })
    }

    /// The table that the index is, until growth is resumed.
    fn pause_growth(&self) -> std::sync::Arc<crate::index::table::Table> {
        let mut backoff = Backoff::default();
        loop {
            let guard = self.epochs.enter();
            if let Some(table) = self.index.pause_growth(&guard) {
                return table;
            }
            self.index.help_grow(BUCKETS_PER_STEP, &*self.log, &guard);
            drop(guard);
            // A bucket that is left may be latched by a batch.
            backoff.wait();
        }
    }

    fn close_tail(&self, tiers: &Tiers) -> Result<u64> {
        loop {
            match self.log.close_tail() {
                Ok(page) => return Ok(page),
                Err(Interrupt::Failed(error)) => return Err(error),
                Err(_) => self.move_pages(tiers)?,
            }
        }
    }

    /// Steps 5 and 6.
    fn publish(&self, tiers: &Tiers, under_way: UnderWay) -> Result<()> {
        let UnderWay { number, facts_offset, .. } = under_way;
        let (fs, directory) = (&*tiers.host.fs, tiers.directory.as_str());
        // What a failed sync covered may be lost for good.
        tiers.segments.sync().map_err(|error| tiers.set_poison(error))?;
        fs.sync_dir(directory).map_err(|error| tiers.set_poison(error))?;
        let current = Current { number, facts_offset }.encode();
        block_on(replace_file(fs, directory, CURRENT, current)).map_err(|error| {
            match error.kind() {
                // Nothing was replaced.
                ErrorKind::OutOfSpace => error,
                _ => tiers.set_poison(error),
            }
        })
    }

    fn clean_up(&self, tiers: &Tiers, facts: &Facts, before: u64) -> Result<()> {
        let (fs, directory) = (&*tiers.host.fs, tiers.directory.as_str());
        // From here on nobody needs what only an older one led to. What is left is removed at the
        // next opening.
        if let Some(journal) = tiers.journal.get() {
            journal.log().trim(facts.replay_from)?;
        }
        tiers.segments.remove_before(facts.begin_page)?;
        if before != 0 {
            fs.remove_file(&join(directory, &file_name(before)))?;
        }
        Ok(())
    }

    /// Takes a checkpoint that holds everything before this call; for closing.
    ///
    /// # Errors
    /// What keeps it from being taken.
    pub(crate) async fn checkpointed(&self) -> Result<()> {
        let Some(tiers) = &self.tiers else { return Ok(()) };
        let lock = || tiers.checkpoints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let target = {
            let mut job = lock();
            job.is_wanted = true;
            // One that is under way may be older than what is wanted.
            job.completed + 1 + u64::from(job.under_way.is_some())
        };
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
