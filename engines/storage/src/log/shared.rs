//! [`Shared`]: what writers, the committer and readers have in common.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use ferrokit_engine::{CommitTicket, Durability, Error, ErrorKind, Op, Result, Stats};

use super::format::{RECORD_HEADER_BYTES, RecordHeader, RecordKind, record_bytes};
use super::recovery::Recovered;
use super::segment::{Segment, Segments};
use super::store::Store;
use super::waiters::{Event, WaitKey, Waiters};
use super::{Appended, LogConfig, LogPosition};

/// Beyond this many times its bound, and a longest record, the buffer refuses records.
const OVERFILL_TIMES: u64 = 8;

/// Records that no commit has taken yet.
struct Buffer {
    bytes: Vec<u8>,
    /// The position after the last record.
    end: u64,
    /// Where the first record in `bytes` that asked for the device starts.
    first_synced: Option<u64>,
    /// Where the closing record starts; nothing follows it.
    closing: Option<u64>,
    /// The buffer of an earlier commit, empty.
    unused: Vec<u8>,
}

/// What one commit takes.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) first_synced: Option<u64>,
    pub(super) closing: Option<u64>,
}

pub(super) struct Shared {
    config: LogConfig,
    epoch: u32,
    store: Arc<Store>,
    buffer: Mutex<Buffer>,
    segments: Mutex<Segments>,
    /// Held while files are given up: one after the other, oldest first.
    trimming: Mutex<()>,
    /// How many readers there are.
    readers: AtomicUsize,
    pub(super) waiters: Waiters,

    // Positions. Each is stored with Release after what it promises, and read with Acquire.
    end: AtomicU64,
    os: AtomicU64,
    synced: AtomicU64,
    /// Every record before this has the durability it asked for.
    readable: AtomicU64,
    /// How far somebody wants the log on the device.
    sync_asked: AtomicU64,

    /// Bytes appended and not yet written.
    pending_bytes: AtomicU64,
    poison: OnceLock<Error>,
    /// Set while no segment can be had.
    stall: Mutex<Option<Error>>,
    is_stalled: AtomicBool,
    /// The log was dropped: nothing is committed any more.
    is_abandoned: AtomicBool,
    pub(super) counters: Counters,
}

#[derive(Default)]
pub(super) struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) segments_created: AtomicU64,
    segments_recycled: AtomicU64,
    room_waits: AtomicU64,
}

impl Shared {
    pub(super) fn new(config: LogConfig, recovered: &Recovered) -> Self {
        let end = recovered.end;
        Self {
            config,
            epoch: recovered.epoch,
            store: Arc::clone(&recovered.store),
            buffer: Mutex::new(Buffer {
                bytes: Vec::new(),
                end,
                first_synced: None,
                closing: None,
                unused: Vec::new(),
            }),
            segments: Mutex::new(Segments {
                list: recovered.segments.clone(),
                spares: recovered.spares.clone(),
                trimmed: VecDeque::new(),
                holds: Default::default(),
                next_hold: 0,
            }),
            trimming: Mutex::new(()),
            readers: AtomicUsize::new(0),
            waiters: Waiters::default(),
            end: AtomicU64::new(end),
            os: AtomicU64::new(end),
            synced: AtomicU64::new(end),
            readable: AtomicU64::new(end),
            sync_asked: AtomicU64::new(end),
            pending_bytes: AtomicU64::new(0),
            poison: OnceLock::new(),
            stall: Mutex::new(None),
            is_stalled: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
            counters: Counters::default(),
        }
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn readable(&self) -> u64 {
        self.readable.load(Ordering::Acquire)
    }

    pub(super) fn durable(&self, level: Durability) -> u64 {
        match level {
            Durability::Memory => self.end(),
            Durability::Os => self.os.load(Ordering::Acquire),
            Durability::Synced => self.synced.load(Ordering::Acquire),
        }
    }

    pub(super) fn sync_asked(&self) -> u64 {
        self.sync_asked.load(Ordering::Acquire)
    }

    pub(super) fn ask_for_sync(&self, through: u64) {
        self.sync_asked.fetch_max(through, Ordering::AcqRel);
    }

    pub(super) fn append(&self, parts: &[&[u8]], durability: Durability) -> Result<Appended> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let limit = self.config.max_record_bytes;
        let length = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        if length > limit {
            return Err(Error::invalid(
                "log.append",
                format!("record bytes: {length}, the limit is {limit}"),
            ));
        }
        let overfull = (self.config.buffer_bytes as u64)
            .saturating_mul(OVERFILL_TIMES)
            .saturating_add(limit as u64);
        if self.pending_bytes.load(Ordering::Relaxed) > overfull {
            return Err(Error::new(
                ErrorKind::Busy,
                "log.append",
                "the commit buffer is full; await room first",
            ));
        }
        // The long part of the checksum is taken before the lock.
        let crc = parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        let mut buffer = self.buffer();
        if buffer.closing.is_some() {
            return Err(closed("log.append"));
        }
        Ok(self.push(&mut buffer, RecordKind::Data, parts, length, crc, durability))
    }

    /// Appends the record that ends a closed log; the log's end.
    pub(super) fn append_closing_record(&self) -> Result<u64> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let mut buffer = self.buffer();
        if buffer.closing.is_none() {
            let record = self.push(&mut buffer, RecordKind::Closing, &[], 0, 0, Durability::Synced);
            buffer.closing = Some(record.start.0);
        }
        Ok(buffer.end)
    }

    fn push(
        &self,
        buffer: &mut Buffer,
        kind: RecordKind,
        parts: &[&[u8]],
        length: usize,
        payload_crc: u32,
        durability: Durability,
    ) -> Appended {
        let start = buffer.end;
        let total = record_bytes(length);
        let end = start + total as u64;
        let header = RecordHeader {
            // Below the limit of a record, which is below 4 GiB.
            length: length as u32,
            position: start,
            synced_through: match kind {
                RecordKind::Data => self.synced.load(Ordering::Acquire),
                // The committer syncs what lies before it first.
                RecordKind::Closing => start,
            },
            epoch: self.epoch,
            kind: kind as u8,
        };
        let bytes = &mut buffer.bytes;
        bytes.reserve(total);
        bytes.extend_from_slice(&header.encode(payload_crc));
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        bytes.resize(bytes.len() + (total - RECORD_HEADER_BYTES - length), 0);
        buffer.end = end;
        if durability == Durability::Synced {
            buffer.first_synced.get_or_insert(start);
            self.ask_for_sync(end);
        }
        self.end.store(end, Ordering::Release);
        self.pending_bytes.fetch_add(total as u64, Ordering::AcqRel);
        self.counters.records.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes.fetch_add(total as u64, Ordering::Relaxed);
        Appended { start: LogPosition(start), end: LogPosition(end) }
    }

    /// What is to be committed, if anything.
    pub(super) fn take_batch(&self) -> Option<Batch> {
        let mut buffer = self.buffer();
        if buffer.bytes.is_empty() {
            return None;
        }
        let unused = std::mem::take(&mut buffer.unused);
        Some(Batch {
            bytes: std::mem::replace(&mut buffer.bytes, unused),
            first_synced: buffer.first_synced.take(),
            closing: buffer.closing,
        })
    }

    /// What is to be committed, if it asks for no more than to be written, in `room` bytes.
    pub(super) fn take_batch_to_write(&self, room: usize) -> Option<Vec<u8>> {
        let mut buffer = self.buffer();
        let is_plain = buffer.first_synced.is_none() && buffer.closing.is_none();
        if buffer.bytes.is_empty() || buffer.bytes.len() > room || !is_plain {
            return None;
        }
        let unused = std::mem::take(&mut buffer.unused);
        Some(std::mem::replace(&mut buffer.bytes, unused))
    }

    pub(super) fn has_batch(&self) -> bool {
        !self.buffer().bytes.is_empty()
    }

    /// Gives a written buffer back for reuse; one grown far beyond its bound is freed instead.
    pub(super) fn give_back(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        if bytes.capacity() <= self.config.buffer_bytes.saturating_mul(2) {
            self.buffer().unused = bytes;
        }
    }

    /// Whether enough waits to be committed though nobody asked.
    pub(super) fn is_filling(&self) -> bool {
        self.pending_bytes.load(Ordering::Relaxed) > self.config.buffer_bytes as u64 / 2
    }

    /// Counts a reader. A record appended before it is in the buffer by now; who appends later
    /// sees the count.
    pub(super) fn add_reader(&self) {
        self.readers.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn remove_reader(&self) {
        self.readers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether somebody reads the log, and so waits even for records that need not be durable.
    pub(super) fn is_read(&self) -> bool {
        self.readers.load(Ordering::SeqCst) > 0
    }

    pub(super) fn is_committed(&self, ticket: CommitTicket) -> Result<bool> {
        if self.os.load(Ordering::Acquire) >= ticket.os
            && self.synced.load(Ordering::Acquire) >= ticket.synced
        {
            return Ok(true);
        }
        self.failure().map_or(Ok(false), Err)
    }

    pub(super) fn room_now(&self) -> Option<Result<()>> {
        if let Some(failure) = self.failure() {
            return Some(Err(failure));
        }
        let pending = self.pending_bytes.load(Ordering::Acquire);
        (pending < self.config.buffer_bytes as u64).then_some(Ok(()))
    }

    pub(super) fn wait_for_room(self: &Arc<Self>) -> Op<'static, ()> {
        self.counters.room_waits.fetch_add(1, Ordering::Relaxed);
        let check = |shared: &Shared, _| shared.room_now();
        Op::pending(Wait::new(self, Event::Room, 0, check))
    }

    pub(super) fn wait_for_commit(self: &Arc<Self>, ticket: CommitTicket) -> Op<'static, ()> {
        // The device comes after the operating system, so the higher of the two waits decides.
        let os = CommitTicket { os: ticket.os, synced: 0 };
        let synced = Wait::new(self, Event::Synced, ticket.synced, |shared, position| {
            settled(shared.is_committed(CommitTicket { os: 0, synced: position }))
        });
        if ticket.os <= ticket.synced {
            return Op::pending(synced);
        }
        let os = Wait::new(self, Event::Os, os.os, |shared, position| {
            settled(shared.is_committed(CommitTicket { os: position, synced: 0 }))
        });
        if ticket.synced == 0 {
            return Op::pending(os);
        }
        Op::pending(async move {
            synced.await?;
            os.await
        })
    }

    /// Completes when something after `position` is readable.
    pub(super) fn wait_for_readable(
        self: &Arc<Self>,
        position: u64,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        Wait::new(self, Event::Readable, position + 1, |shared, position| {
            if shared.readable() >= position {
                return Some(Ok(()));
            }
            if let Some(poison) = shared.poison() {
                return Some(Err(poison));
            }
            let is_over = shared.is_abandoned.load(Ordering::Acquire)
                || (shared.buffer().closing.is_some() && shared.readable() == shared.end());
            is_over.then(|| Err(closed("log.read")))
        })
    }

    pub(super) fn poison(&self) -> Option<Error> {
        self.poison.get().cloned()
    }

    /// Why nothing can be committed at the moment.
    pub(super) fn failure(&self) -> Option<Error> {
        if let Some(poison) = self.poison.get() {
            return Some(poison.clone());
        }
        if self.is_stalled.load(Ordering::Acquire) {
            return self.stall.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        self.is_abandoned.load(Ordering::Acquire).then(|| closed("log"))
    }

    /// Ends commits for good.
    pub(super) fn fail(&self, error: Error) {
        let _first_one_stays = self.poison.set(error.into_poison());
        self.waiters.wake_all();
    }

    pub(super) fn set_stall(&self, stall: Option<Error>) {
        let is_stalled = stall.is_some();
        *self.stall.lock().unwrap_or_else(PoisonError::into_inner) = stall;
        self.is_stalled.store(is_stalled, Ordering::Release);
        if is_stalled {
            self.waiters.wake_all();
        }
    }

    pub(super) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Release);
        self.waiters.wake_all();
    }

    /// The log has reached the operating system up to `os`, readers may read up to `readable`.
    pub(super) fn publish_written(&self, os: u64, readable: u64, written_bytes: u64) {
        self.os.store(os, Ordering::Release);
        self.pending_bytes.fetch_sub(written_bytes, Ordering::AcqRel);
        self.waiters.wake(Event::Os, os);
        self.waiters.wake(Event::Room, 0);
        self.publish_readable(readable);
    }

    pub(super) fn publish_synced(&self, synced: u64) {
        self.synced.store(synced, Ordering::Release);
        self.waiters.wake(Event::Synced, synced);
        self.publish_readable(synced);
    }

    pub(super) fn publish_readable(&self, readable: u64) {
        let before = self.readable.fetch_max(readable, Ordering::AcqRel);
        if before < readable {
            // At the end of a closed log nothing more becomes readable: that is news too.
            self.waiters.wake(Event::Readable, readable + 1);
        }
    }

    /// A new segment is being written.
    pub(super) fn add_segment(&self, segment: Segment) {
        let mut segments = self.segments();
        // A record too long for an empty segment goes to one that takes its place.
        if segments.list.back().is_some_and(|last| last.start == segment.start) {
            segments.list.pop_back();
        }
        segments.list.push_back(segment);
        drop(segments);
        self.counters.segments_created.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn trim(&self, before: LogPosition) -> Result<()> {
        let _trimming = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut segments = self.segments();
            let count = segments.trimmable(before.0.min(self.durable(Durability::Synced)));
            let Segments { list, trimmed, .. } = &mut *segments;
            trimmed.extend(list.drain(..count));
        }
        // One after the other, oldest first, so that a crash never leaves a hole. What fails stays
        // in front: the next trim begins with it.
        while let Some(segment) = self.oldest_trimmed() {
            self.give_up(&segment)?;
            self.segments().trimmed.pop_front();
        }
        Ok(())
    }

    fn oldest_trimmed(&self) -> Option<Segment> {
        self.segments().trimmed.front().cloned()
    }

    /// Recycles or removes the file of a segment; one that is gone was given up by a trim that
    /// failed after that.
    fn give_up(&self, segment: &Segment) -> Result<()> {
        let is_done = |result: Result<()>| match result {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            result => result.map(|()| true),
        };
        let store = &self.store;
        let path = store.segment_path(segment.start);
        let recycles = self.segments().spares.len() < self.config.recycle_segments
            && segment.file_bytes == store.segment_bytes;
        if !recycles {
            is_done(store.fs.remove_file(&path))?;
            return store.fs.sync_dir(&store.directory);
        }
        let spare_path = store.new_spare_path();
        let is_renamed = is_done(store.fs.rename(&path, &spare_path))?;
        // The file must not be written again while a crash could bring its old name back.
        store.fs.sync_dir(&store.directory)?;
        if !is_renamed {
            return Ok(());
        }
        let spare = store.open_spare_at(spare_path)?;
        self.segments().spares.push(spare);
        self.counters.segments_recycled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn stats_into(&self, stats: &mut Stats) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        stats
            .push("log_records", load(&counters.records))
            .push("log_bytes", load(&counters.bytes))
            .push("log_commits", load(&counters.commits))
            .push("log_syncs", load(&counters.syncs))
            .push("log_pending_bytes", load(&self.pending_bytes))
            .push("log_room_waits", load(&counters.room_waits))
            .push("log_waiters", self.waiters.len() as u64)
            .push("log_segments", self.segments().list.len() as u64)
            .push("log_segments_created", load(&counters.segments_created))
            .push("log_segments_recycled", load(&counters.segments_recycled));
    }
}

pub(super) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the log is closed")
}

fn settled(answer: Result<bool>) -> Option<Result<()>> {
    match answer {
        Ok(false) => None,
        Ok(true) => Some(Ok(())),
        Err(error) => Some(Err(error)),
    }
}

type Check = fn(&Shared, u64) -> Option<Result<()>>;

/// Waits until a check has an answer.
struct Wait {
    shared: Arc<Shared>,
    event: Event,
    position: u64,
    check: Check,
    key: Option<WaitKey>,
}

impl Wait {
    fn new(shared: &Arc<Shared>, event: Event, position: u64, check: Check) -> Self {
        Self { shared: Arc::clone(shared), event, position, check, key: None }
    }

    fn unregister(&mut self) {
        if let Some(key) = self.key.take() {
            self.shared.waiters.remove(key);
        }
    }
}

impl Future for Wait {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = (self.check)(&self.shared, self.position) {
            return Poll::Ready(result);
        }
        self.unregister();
        self.key = Some(self.shared.waiters.register(self.event, self.position, cx.waker()));
        // What happened between the check and the registration woke nobody.
        match (self.check)(&self.shared, self.position) {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.unregister();
    }
}
