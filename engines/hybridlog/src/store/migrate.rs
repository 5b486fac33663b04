//! Moving segments to the tiers below: work of the engine's one job, a little at a time.
//!
//! ```text
//! 1. a segment that is wholly before the end of the checkpoint in force is packed and uploaded, a
//!    page at a time, under a name that no object ever had
//! 2. the object is durable
//! 3. PLACES names it, durably
//! 4. readers are led to it, the local file is removed
//! ```
//! What the checkpoint in force has is never written again: whichever of the two is read, it is the
//! same. A crash before 3 leaves an object that nobody names, deleted once the engine is open; a
//! crash after it a file that nobody names, removed at opening. Objects of segments before the
//! beginning of the log are deleted once the checkpoint that says so is in force.
//!
//! The job never waits for the object tier: what is under way is polled. If the tier fails, it is
//! tried again after a while, each time twice as long; until then more than wanted stays on disk.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ferrokit_engine::{Error, ErrorKind, Op, Result};
use ferrokit_storage::object::{ObjectEntry, Upload};

use super::Store;
use super::tiers::Tiers;
use crate::disk::packed::{PackedFacts, Packer};
use crate::disk::place::Objects;
use crate::primitive::{AtomicU64, Ordering};

/// How long a failed request is not tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// How long after a checkpoint was asked for another is.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The most names of objects that are kept to be deleted.
const UNNEEDED_MAX: usize = 1 << 16;

/// How much may be in a tier. Adjustable while the engine is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierLimits {
    /// Bytes of the newest segments that are mapped.
    pub mapped_bytes: u64,
    /// Bytes of segments that stay on the local disk; `u64::MAX` for all of them.
    pub disk_bytes: u64,
}

/// The movement of segments between tiers.
pub(crate) struct Migration {
    mapped_bytes: AtomicU64,
    disk_bytes: AtomicU64,
    /// The bounds of the checkpoint in force.
    checkpoint_begin: AtomicU64,
    checkpoint_end: AtomicU64,
    work: Mutex<Work>,
}

/// What is under way at the object tier.
struct Work {
    moving: Moving,
    /// Objects to be deleted.
    unneeded: VecDeque<String>,
    deleting: Option<Op<'static, ()>>,
    /// A page that compaction reads.
    page: Option<(u64, Op<'static, Vec<u8>>)>,
    pause: Pause,
    /// When a checkpoint was asked for, and where the one in force ended then.
    asked: Option<(Duration, u64)>,
}

/// How far the move of a segment is.
enum Moving {
    /// The tier was not yet searched for what a crash left there.
    Unswept,
    /// What unfinished uploads left is being removed.
    Clearing(Op<'static, ()>),
    Listing(Op<'static, Vec<ObjectEntry>>),
    /// None is moved.
    Idle,
    Packing(Box<Packed>),
    Finishing {
        name: String,
        segment: u64,
        facts: PackedFacts,
        finish: Op<'static, ()>,
    },
}

/// A segment of which a part is packed.
struct Packed {
    segment: u64,
    name: String,
    packer: Packer,
    upload: Box<dyn Upload>,
    pages: VecDeque<u64>,
    append: Op<'static, ()>,
}

/// The time in which nothing is tried.
#[derive(Default)]
struct Pause {
    until: Duration,
    failures: u32,
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// What a step came to.
enum Step {
    /// There is more to do at once.
    More,
    /// Something is waited for, or nothing is to be done.
    Rest,
}

impl Migration {
    pub(super) fn new(limits: TierLimits, checkpoint: (u64, u64)) -> Self {
        Self {
            mapped_bytes: AtomicU64::new(limits.mapped_bytes),
            disk_bytes: AtomicU64::new(limits.disk_bytes),
            checkpoint_begin: AtomicU64::new(checkpoint.0),
            checkpoint_end: AtomicU64::new(checkpoint.1),
            work: Mutex::new(Work {
                moving: Moving::Unswept,
                unneeded: VecDeque::new(),
                deleting: None,
                page: None,
                pause: Pause::default(),
                asked: None,
            }),
        }
    }

    pub(crate) fn limits(&self) -> TierLimits {
        TierLimits {
            mapped_bytes: self.mapped_bytes.load(Ordering::Relaxed),
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_limits(&self, limits: TierLimits) {
        self.mapped_bytes.store(limits.mapped_bytes, Ordering::Relaxed);
        self.disk_bytes.store(limits.disk_bytes, Ordering::Relaxed);
    }

    /// A checkpoint of those pages is in force.
    pub(super) fn note_checkpoint(&self, begin_page: u64, end_page: u64) {
        self.checkpoint_begin.store(begin_page, Ordering::Release);
        self.checkpoint_end.store(end_page, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Moves segments a step further; whether to go on at once.
    ///
    /// # Errors
    /// Of the local disk; those of the object tier are waited out.
    pub(super) fn move_segments(&self, tiers: &Tiers) -> Result<bool> {
        let limits = tiers.migration.limits();
        tiers.segments.remap(self.log.head_page(), limits.mapped_bytes);
        let Some(objects) = tiers.segments.objects() else { return Ok(false) };
        if tiers.journal.get().is_none() {
            return Ok(false);
        }
        let mut work = tiers.migration.lock();
        if work.pause.is_on(tiers) {
            return Ok(false);
        }
        work.unneeded.extend(tiers.segments.take_unneeded_objects());
        let deleted = work.delete(tiers, objects);
        let moved = self.advance_move(tiers, objects, &mut work)?;
        Ok(matches!(deleted, Step::More) || matches!(moved, Step::More))
    }

    fn advance_move(&self, tiers: &Tiers, objects: &Objects, work: &mut Work) -> Result<Step> {
        match std::mem::replace(&mut work.moving, Moving::Idle) {
            Moving::Unswept => {
                let clearing = objects.tier.remove_unfinished(&objects.prefix());
                work.moving = Moving::Clearing(clearing);
                Ok(Step::More)
            }
            Moving::Clearing(mut clearing) => {
                match poll(tiers, &mut clearing) {
                    None => {
                        work.moving = Moving::Clearing(clearing);
                        return Ok(Step::Rest);
                    }
                    Some(Ok(())) => {
                        work.moving = Moving::Listing(objects.tier.list(&objects.prefix()));
                    }
                    Some(Err(error)) => {
                        work.moving = Moving::Unswept;
                        return Ok(work.failed(tiers, &error));
                    }
                }
                Ok(Step::More)
            }
            Moving::Listing(mut listing) => {
                match poll(tiers, &mut listing) {
                    None => {
                        work.moving = Moving::Listing(listing);
                        return Ok(Step::Rest);
                    }
                    Some(Ok(entries)) => {
                        let needed = tiers.segments.needed_objects();
                        let names = entries.into_iter().map(|entry| entry.name);
                        work.unneeded.extend(names.filter(|name| !needed.contains(name)));
                    }
                    Some(Err(error)) => {
                        work.moving = Moving::Unswept;
                        return Ok(work.failed(tiers, &error));
                    }
                }
                Ok(Step::More)
            }
            Moving::Idle => self.begin_move(tiers, objects, work),
            Moving::Packing(packed) => self.pack(tiers, work, packed),
            Moving::Finishing { name, segment, facts, mut finish } => {
                match poll(tiers, &mut finish) {
                    None => {
                        work.moving = Moving::Finishing { name, segment, facts, finish };
                        Ok(Step::Rest)
                    }
                    Some(Ok(())) => finish_move(tiers, objects, work, segment, facts),
                    Some(Err(error)) => {
                        // It may be there.
                        work.unneeded.push_back(name);
                        Ok(work.failed(tiers, &error))
                    }
                }
            }
        }
    }

    fn begin_move(&self, tiers: &Tiers, objects: &Objects, work: &mut Work) -> Result<Step> {
        let limit = tiers.migration.limits().disk_bytes;
        // What lies before is being given up.
        let begin = self.log.begin_page();
        let Some(segment) = tiers.segments.next_to_move(begin, limit) else {
            return Ok(Step::Rest);
        };
        let (pages, end) = tiers.segments.pages_of(segment);
        if end > tiers.migration.checkpoint_end.load(Ordering::Acquire) {
            return Ok(self.ask_for_checkpoint(tiers, work));
        }
        let identity = tiers.host.env.random.next_u64();
        let name = objects.name(segment, identity);
        let packer = tiers.segments.packer(objects, segment, identity)?;
        match objects.tier.upload(&name) {
            Ok(upload) => {
                let (pages, append) = (pages.into(), Op::ok(()));
                let packed = Packed { segment, name, packer, upload, pages, append };
                work.moving = Moving::Packing(Box::new(packed));
                Ok(Step::More)
            }
            Err(error) => Ok(work.failed(tiers, &error)),
        }
    }

    fn ask_for_checkpoint(&self, tiers: &Tiers, work: &mut Work) -> Step {
        let now = tiers.host.env.clock.monotonic();
        let end = tiers.migration.checkpoint_end.load(Ordering::Acquire);
        if work.asked.is_some_and(|(asked, before)| before == end && now < asked + ASK_AGAIN) {
            return Step::Rest;
        }
        work.asked = Some((now, end));
        tiers.checkpoints.lock().unwrap_or_else(PoisonError::into_inner).is_wanted = true;
        Step::More
    }

    fn pack(&self, tiers: &Tiers, work: &mut Work, mut packed: Box<Packed>) -> Result<Step> {
        match poll(tiers, &mut packed.append) {
            None => {
                work.moving = Moving::Packing(packed);
                return Ok(Step::Rest);
            }
            Some(Ok(())) => {}
            Some(Err(error)) => return Ok(work.failed(tiers, &error)),
        }
        let segments = &tiers.segments;
        let first_kept = tiers.migration.checkpoint_begin.load(Ordering::Acquire);
        if segments.segment_of(first_kept) > packed.segment {
            // It was given up meanwhile, and so is its object.
            return Ok(Step::More);
        }
        let Some(page) = packed.pages.pop_front() else {
            let Packed { segment, name, packer, mut upload, .. } = *packed;
            let (tail, facts) = packer.finish()?;
            let append = upload.append(tail);
            let finish = Op::pending(async move {
                append.await?;
                upload.finish().await
            });
            work.moving = Moving::Finishing { name, segment, facts, finish };
            return Ok(Step::More);
        };
        if page >= first_kept {
            let damaged =
                |offset| segments.corruption(page, offset, "a record does not match its checksum");
            let stored = segments
                .read_page(page)
                .and_then(|bytes| packed.packer.page(page, &bytes, damaged));
            match stored {
                Ok(stored) => packed.append = packed.upload.append(stored),
                // It stays where it is.
                Err(error) => return Ok(work.failed(tiers, &error)),
            }
        } else {
            packed.append = Op::ok(());
        }
        work.moving = Moving::Packing(packed);
        Ok(Step::More)
    }

    /// The records of a page that compaction wants; `None` if they are on their way.
    ///
    /// # Errors
    /// `Corruption`, `Io` of the local disk.
    pub(super) fn page_to_compact(&self, tiers: &Tiers, page: u64) -> Result<Option<Vec<u8>>> {
        if !tiers.segments.is_in_objects(page) {
            return tiers.segments.read_page(page).map(Some);
        }
        let mut work = tiers.migration.lock();
        if work.pause.is_on(tiers) {
            return Ok(None);
        }
        let mut read = match work.page.take() {
            Some((begun, read)) if begun == page => read,
            _ => tiers.segments.begin_page_read(page)?,
        };
        match poll(tiers, &mut read) {
            None => {
                work.page = Some((page, read));
                Ok(None)
            }
            Some(Ok(bytes)) => tiers.segments.check_page(page, bytes).map(Some),
            Some(Err(error)) if error.kind() == ErrorKind::Io => {
                work.failed(tiers, &error);
                Ok(None)
            }
            Some(Err(error)) => Err(error),
        }
    }
}

/// Steps 3 and 4.
fn finish_move(
    tiers: &Tiers,
    objects: &Objects,
    work: &mut Work,
    segment: u64,
    facts: PackedFacts,
) -> Result<Step> {
    work.pause = Pause::default();
    let begin = tiers.migration.checkpoint_begin.load(Ordering::Acquire);
    if tiers.segments.segment_of(begin) > segment {
        work.unneeded.push_back(objects.name(segment, facts.identity));
        return Ok(Step::More);
    }
    let packed = match objects.segment(segment, facts) {
        Ok(packed) => packed,
        Err(error) => {
            work.unneeded.push_back(objects.name(segment, facts.identity));
            return Ok(work.failed(tiers, &error));
        }
    };
    match tiers.segments.write_place(objects, segment, facts) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::OutOfSpace => {
            // Nothing was replaced.
            work.unneeded.push_back(objects.name(segment, facts.identity));
            return Ok(work.failed(tiers, &error));
        }
        // What is named after a crash is unknown.
        Err(error) => return Err(tiers.set_poison(error)),
    }
    match tiers.segments.leave_disk(segment, packed) {
        Ok(()) => Ok(Step::More),
        // It is removed at the next opening.
        Err(error) => Ok(work.failed(tiers, &error)),
    }
}

impl Work {
    /// Deletes objects that nobody needs.
    fn delete(&mut self, tiers: &Tiers, objects: &Objects) -> Step {
        if self.deleting.is_none() {
            let Some(name) = self.unneeded.front() else { return Step::Rest };
            self.deleting = Some(objects.tier.delete(name));
        }
        let Some(deleting) = &mut self.deleting else { return Step::Rest };
        let Some(deleted) = poll(tiers, deleting) else { return Step::Rest };
        self.deleting = None;
        match deleted {
            Ok(()) => {
                self.unneeded.pop_front();
                tiers.segments.counts.objects_deleted.add(1);
                Step::More
            }
            Err(error) => self.failed(tiers, &error),
        }
    }

    /// Leaves the tier alone for a while.
    fn failed(&mut self, tiers: &Tiers, error: &Error) -> Step {
        tracing::warn!(%error, "segments are not moved; it is tried again");
        if self.unneeded.len() > UNNEEDED_MAX && matches!(self.moving, Moving::Idle) {
            // They are found again.
            self.unneeded.clear();
            self.moving = Moving::Unswept;
        }
        tiers.segments.counts.failures.add(1);
        self.pause.begin(tiers);
        Step::Rest
    }
}

impl Pause {
    fn begin(&mut self, tiers: &Tiers) {
        let doubled = RETRY_FIRST * 2_u32.pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.min(RETRY_LAST);
        self.until = tiers.host.env.clock.monotonic() + pause;
        let mut sleep = tiers.host.env.timer.sleep(pause);
        // It wakes the job once it was polled; the next step looks at the clock.
        let waker = tiers.job_waker();
        if sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.sleep = Some(sleep);
        }
    }

    fn is_on(&mut self, tiers: &Tiers) -> bool {
        if tiers.host.env.clock.monotonic() < self.until {
            return true;
        }
        self.sleep = None;
        false
    }
}

/// The answer, if it is there; else the job is woken when it is.
fn poll<T>(tiers: &Tiers, op: &mut Op<'static, T>) -> Option<Result<T>> {
    let waker = tiers.job_waker();
    match Pin::new(op).poll(&mut Context::from_waker(&waker)) {
        Poll::Pending => None,
        Poll::Ready(answer) => Some(answer),
    }
}
