//! Online backup: a checkpoint in a directory of its own.
//!
//! ```text
//! 1. a checkpoint that begins after the backup was asked for; the log from its W is held, and its
//!    segments are not removed
//! 2. the file of the index and the full segments are linked, or copied where they cannot be; the
//!    segment of the last page is copied, since both engines go on writing to theirs
//! 3. the facts, and behind them the records of the log from W to C: then nothing else is replayed
//! 4. all of it is brought to the device
//! 5. `CURRENT`
//! ```
//! Without `CURRENT` and without a log, a directory with such files is refused. The engine's one job
//! makes backups, one after the other, a bounded part at a time.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use ferrokit_engine::{Checkpoint, CheckpointInfo, Error, ErrorKind, Op, Result, block_on};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::{Appended, File, LogPosition, LogReader, OpenMode, replace_file};

use super::Store;
use super::checkpoint::Syncs;
use super::tiers::Tiers;
use crate::disk::checkpoint_file::{CURRENT, Current, Facts, add_record, end_records, index_name};
use crate::disk::chunks::Writer;
use crate::engine::HybridLogEngine;

/// Backups that may be under way at a time.
const REQUESTS_MAX: usize = 64;
/// Bytes that a step copies, about.
const COPIED_PER_STEP: u64 = 1 << 20;

/// A backup that was asked for, and its answer. Nobody waits for it if there is but one of it.
pub(super) struct Request {
    directory: String,
    answer: Mutex<Option<Result<CheckpointInfo>>>,
}

impl Request {
    fn answer(&self, answer: Result<CheckpointInfo>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    fn take(&self) -> Option<Result<CheckpointInfo>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Backups that wait for the job, and the one under way.
#[derive(Default)]
pub(crate) struct Backups {
    queue: VecDeque<Arc<Request>>,
    active: Option<Active>,
}

struct Active {
    request: Arc<Request>,
    stage: Stage,
}

enum Stage {
    /// For so many checkpoints.
    Waiting(u64),
    Copying(Box<Copying>),
}

/// What is yet to be done, each empty when it is.
struct Copying {
    facts: Arc<Facts>,
    number: u64,
    index: Option<FileCopy>,
    segments: VecDeque<u64>,
    pages: Option<PagesCopy>,
    records: Option<RecordsCopy>,
    syncs: Syncs,
    info: CheckpointInfo,
}

/// A segment that could not be linked.
struct PagesCopy {
    file: Arc<dyn File>,
    pages: Range<u64>,
    /// The first of them, if it is being read: the object tier may take its time.
    reading: Option<Op<'static, Vec<u8>>>,
}

/// A file that could not be linked.
struct FileCopy {
    from: Arc<dyn File>,
    to: Arc<dyn File>,
    at: u64,
    len: u64,
}

/// The records of the log from W to C, on their way behind the facts.
struct RecordsCopy {
    reader: LogReader,
    /// None before the first step.
    writer: Option<Writer>,
    end: LogPosition,
}

impl Checkpoint for HybridLogEngine {
    fn checkpoint<'a>(&'a self, directory: &'a str) -> Op<'a, CheckpointInfo> {
        Op::pending(async move {
            self.check_open("checkpoint")?;
            self.store().back_up(directory).await
        })
    }
}

impl Store {
    async fn back_up(&self, directory: &str) -> Result<CheckpointInfo> {
        let Some(tiers) = &self.tiers else {
            return Err(Error::unsupported("checkpoint", "an engine in memory has no files"));
        };
        let request =
            Arc::new(Request { directory: directory.to_owned(), answer: Mutex::default() });
        {
            let mut backups = tiers.backups.lock().unwrap_or_else(PoisonError::into_inner);
            backups.queue.retain(is_waited_for);
            if backups.queue.len() >= REQUESTS_MAX {
                let message = format!("{REQUESTS_MAX} backups are under way");
                return Err(Error::new(ErrorKind::Busy, "checkpoint", message));
            }
            backups.queue.push_back(Arc::clone(&request));
        }
        let (before, _) = tiers.failures();
        tiers.wake();
        loop {
            let ticket = tiers.progress.ticket();
            if let Some(answer) = request.take() {
                return answer;
            }
            tiers.check_alive()?;
            if let (count, Some(error)) = tiers.failures()
                && count != before
            {
                // The job drops what nobody waits for.
                return Err(error);
            }
            tiers.progress.changed(ticket).await;
        }
    }

    /// Does a part of what there is to do for backups; whether there is more that need not wait.
    pub(super) fn advance_backups(&self, tiers: &Tiers) -> bool {
        let mut backups = tiers.backups.lock().unwrap_or_else(PoisonError::into_inner);
        let Backups { queue, active } = &mut *backups;
        if active.as_ref().is_some_and(|active| !is_waited_for(&active.request)) {
            *active = None;
            unpin(tiers);
        }
        queue.retain(is_waited_for);
        let Some(request) = active.take().map(Ok).or_else(|| queue.pop_front().map(Err)) else {
            return false;
        };
        let (request, stepped) = match request {
            Err(request) => {
                let begun = self.begin_backup(tiers, &request);
                (request, begun.map(Step::More))
            }
            Ok(Active { request, stage }) => {
                let stepped = self.step_backup(tiers, &request, stage);
                (request, stepped)
            }
        };
        match stepped {
            Ok(Step::More(stage)) => {
                *active = Some(Active { request, stage });
                true
            }
            Ok(Step::Waiting(stage)) => {
                *active = Some(Active { request, stage });
                false
            }
            Ok(Step::Done(info)) => {
                unpin(tiers);
                request.answer(Ok(info));
                !queue.is_empty()
            }
            Err(error) => {
                unpin(tiers);
                request.answer(Err(error));
                !queue.is_empty()
            }
        }
    }

    /// Takes the directory, and asks for a checkpoint that holds all there is.
    fn begin_backup(&self, tiers: &Tiers, request: &Request) -> Result<Stage> {
        let (fs, directory) = (&tiers.host.fs, request.directory.as_str());
        if fs.exists(directory)? && !fs.list(directory)?.is_empty() {
            return Err(Error::invalid(
                "checkpoint",
                "the directory is in use; name an absent or empty one",
            )
            .with_file(directory));
        }
        fs.create_dir_all(directory)?;
        let mut job = tiers.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Stage::Waiting(job.want()))
    }

    fn step_backup(&self, tiers: &Tiers, request: &Request, stage: Stage) -> Result<Step> {
        match stage {
            Stage::Waiting(target) => {
                let mut job = tiers.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
                if job.completed < target {
                    return Ok(Step::Waiting(stage));
                }
                let Some(facts) = job.facts.clone() else { return Ok(Step::Waiting(stage)) };
                job.pinned_page = Some(facts.begin_page);
                let copying = begin_copying(tiers, &request.directory, job.current, facts)?;
                Ok(Step::More(Stage::Copying(Box::new(copying))))
            }
            Stage::Copying(mut copying) => match copying.step(tiers, &request.directory)? {
                Stepped::More => Ok(Step::More(Stage::Copying(copying))),
                Stepped::Waiting => Ok(Step::Waiting(Stage::Copying(copying))),
                Stepped::Synced => {
                    let (fs, directory) = (&*tiers.host.fs, request.directory.as_str());
                    fs.sync_dir(directory)?;
                    let current = Current { number: copying.number }.encode();
                    copying.info.bytes += current.len() as u64;
                    copying.info.files += 1;
                    block_on(replace_file(fs, directory, CURRENT, current))?;
                    Ok(Step::Done(copying.info))
                }
            },
        }
    }
}

/// What came of a step of a backup.
enum Step {
    More(Stage),
    Waiting(Stage),
    Done(CheckpointInfo),
}

/// What came of a step of its copying.
enum Stepped {
    More,
    Waiting,
    Synced,
}

fn is_waited_for(request: &Arc<Request>) -> bool {
    Arc::strong_count(request) > 1
}

/// Lets checkpoints remove what a backup needed.
fn unpin(tiers: &Tiers) {
    tiers.checkpoints.lock().unwrap_or_else(PoisonError::into_inner).pinned_page = None;
}

fn begin_copying(
    tiers: &Tiers,
    directory: &str,
    number: u64,
    facts: Arc<Facts>,
) -> Result<Copying> {
    let Some(journal) = tiers.journal.get() else { return Err(super::tiers::stalled()) };
    let reader = journal.log().retain(Some(facts.replay_from))?;
    let info = CheckpointInfo { sequence: None, bytes: 0, files: 2 };
    let segments = (facts.begin_page..facts.end_page).map(|page| tiers.segments.segment_of(page));
    let mut segments: VecDeque<u64> = segments.collect();
    segments.make_contiguous().sort_unstable();
    let mut last = None;
    segments.retain(|segment| last.replace(*segment) != Some(*segment));
    let records = RecordsCopy { reader, writer: None, end: facts.log_end };
    let mut copying = Copying {
        facts,
        number,
        index: None,
        segments,
        pages: None,
        records: Some(records),
        syncs: Syncs::default(),
        info,
    };
    // Now: the next checkpoint may remove it.
    copying.link_index(tiers, directory)?;
    Ok(copying)
}

impl Copying {
    fn link_index(&mut self, tiers: &Tiers, directory: &str) -> Result<()> {
        let fs = &tiers.host.fs;
        let name = index_name(self.facts.index);
        let (path, copy) = (join(&tiers.directory, &name), join(directory, &name));
        let from = fs.open(&path, OpenMode::Read)?;
        let len = from.len()?;
        self.info.bytes += len;
        match fs.hard_link(&path, &copy) {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Io) => {}
            Err(error) => return Err(error),
        }
        if fs.exists(&copy)? {
            fs.remove_file(&copy)?;
        }
        self.index = Some(FileCopy { from, to: fs.open(&copy, OpenMode::CreateNew)?, at: 0, len });
        Ok(())
    }

    fn step(&mut self, tiers: &Tiers, directory: &str) -> Result<Stepped> {
        if let Some(copy) = &mut self.index {
            if !copy.step()? {
                self.syncs.push(copy.to.sync_all());
                self.index = None;
            }
        } else if let Some(copy) = &mut self.pages {
            let Some(copied) = copy.step(tiers)? else { return Ok(Stepped::Waiting) };
            self.info.bytes += copied;
            if copy.pages.is_empty() {
                self.syncs.push(copy.file.sync_all());
                self.pages = None;
            }
        } else if let Some(segment) = self.segments.pop_front() {
            self.begin_segment(tiers, directory, segment)?;
        } else if let Some(records) = &mut self.records {
            if let Some((file, len)) = records.step(tiers, directory, &self.facts, self.number)? {
                self.info.bytes += len;
                self.syncs.push(file.sync_all());
                self.records = None;
            }
        } else {
            let synced = self.syncs.poll(&tiers.job_waker())?;
            return Ok(if synced.is_ready() { Stepped::Synced } else { Stepped::Waiting });
        }
        Ok(Stepped::More)
    }

    fn begin_segment(&mut self, tiers: &Tiers, directory: &str, segment: u64) -> Result<()> {
        self.info.files += 1;
        let (begin, end) = (self.facts.begin_page, self.facts.end_page);
        // Pages from the end on are yet to be written, or were written since.
        let is_full = tiers.segments.segment_of(end) != segment;
        if is_full && let Some(bytes) = tiers.segments.link(segment, directory)? {
            self.info.bytes += bytes;
            return Ok(());
        }
        let pages = self.facts.pages_per_segment;
        let first = begin.max(segment * pages);
        let pages = first..end.min((segment + 1) * pages);
        let file = tiers.segments.begin_copy(segment, directory)?;
        self.pages = Some(PagesCopy { file, pages, reading: None });
        Ok(())
    }
}

impl PagesCopy {
    /// Copies some pages; how many bytes, or `None` while one is being read.
    fn step(&mut self, tiers: &Tiers) -> Result<Option<u64>> {
        let waker = tiers.job_waker();
        let mut copied = 0;
        while copied < COPIED_PER_STEP && !self.pages.is_empty() {
            let page = self.pages.start;
            let mut reading = match self.reading.take() {
                Some(reading) => reading,
                None => tiers.segments.begin_page_read(page)?,
            };
            match Pin::new(&mut reading).poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => {
                    self.reading = Some(reading);
                    return Ok((copied > 0).then_some(copied));
                }
                Poll::Ready(bytes) => {
                    copied += tiers.segments.copy_page(page, bytes?, &self.file)?;
                    self.pages.start += 1;
                }
            }
        }
        Ok(Some(copied))
    }
}

impl FileCopy {
    /// Copies a part; whether there is more.
    fn step(&mut self) -> Result<bool> {
        let len = COPIED_PER_STEP.min(self.len - self.at);
        let bytes = self.from.read_at(self.at, len as usize).wait()?;
        self.to.write_at(self.at, bytes).wait()?;
        self.at += len;
        Ok(self.at < self.len)
    }
}

impl RecordsCopy {
    /// Copies a part; the file and its length when all is written.
    fn step(
        &mut self,
        tiers: &Tiers,
        directory: &str,
        facts: &Facts,
        number: u64,
    ) -> Result<Option<(Arc<dyn File>, u64)>> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                // The log of who opens it begins where that of this engine stood.
                let facts =
                    Facts { replay_from: facts.log_end, has_records: true, ..facts.clone() };
                facts.write(&*tiers.host.fs, directory, number)?
            }
        };
        if self.reader.position() >= self.end {
            end_records(&mut writer)?;
            return writer.finish().map(Some);
        }
        let (end, mut failed) = (self.end, Ok(()));
        let mut visit = |at: Appended, bytes: &[u8]| {
            if at.end <= end && failed.is_ok() {
                failed = add_record(&mut writer, bytes);
            }
            Ok(())
        };
        // All of it is committed: it waits for the device alone.
        block_on(self.reader.next(COPIED_PER_STEP as usize, &mut visit))?;
        failed?;
        self.writer = Some(writer);
        Ok(None)
    }
}
