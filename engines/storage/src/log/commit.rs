//! [`Committer`]: writes and syncs the log.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use ferrokit_engine::{Error, ErrorKind, Result};

use super::format::{SEGMENT_HEADER_BYTES, first_record_bytes, whole_records};
use super::recovery::Recovered;
use super::segment::Segment;
use super::shared::{Batch, Shared};
use super::store::Store;
use crate::background::{Job, JobHandle, Progress};

/// The longest batch that one who waits for it writes himself.
const WRITE_HERE_BYTES_MAX: usize = 64 << 10;
/// How many batches he writes before the job is called to write those of others.
const WRITES_HERE_MAX: usize = 4;

/// The only writer of segments. One step takes what is in the buffer, writes it, and syncs if
/// anybody asked for the device.
pub(super) struct Committer {
    shared: Arc<Shared>,
    store: Arc<Store>,
    epoch: u32,
    current: Segment,
    /// Everything before this is written.
    written: u64,
    /// Everything before this is on the device.
    synced: u64,
    /// Where the first record starts that asked for the device and is not there: readers stop.
    unsynced_record: Option<u64>,
    /// What found no segment to go to.
    stalled: Option<Batch>,
    preparer: JobHandle,
}

enum Outcome {
    Done,
    Stalled,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, recovered: Recovered, preparer: JobHandle) -> Self {
        Self {
            shared,
            store: recovered.store,
            epoch: recovered.epoch,
            current: recovered.current,
            written: recovered.end,
            synced: recovered.end,
            unsynced_record: None,
            stalled: None,
            preparer,
        }
    }

    /// Writes what is in the buffer if that is all it takes: no sync, no new segment, no long copy.
    /// Whether it did.
    fn write_here(&mut self) -> Result<bool> {
        if self.stalled.is_some() || self.shared.failure().is_some() {
            return Ok(false);
        }
        let room = self.current.capacity_end().saturating_sub(self.written);
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(WRITE_HERE_BYTES_MAX);
        let Some(bytes) = self.shared.take_batch_to_write(room) else { return Ok(false) };
        let offset = self.current.offset_of(self.written);
        let count = bytes.len() as u64;
        let buffer = self.current.file.write_now(offset, bytes)?;
        self.note_written(offset, count);
        self.shared.give_back(buffer);
        Ok(true)
    }

    fn step(&mut self) -> Result<Progress> {
        let batch = self.stalled.take().or_else(|| self.shared.take_batch());
        if let Some(batch) = batch
            && let Outcome::Stalled = self.write(batch)?
        {
            return Ok(Progress::Idle);
        }
        if self.shared.sync_asked() > self.synced {
            self.sync()?;
        }
        // All that was written is as durable as it asked to be.
        self.unsynced_record = None;
        self.shared.publish_readable(self.written);
        Ok(if self.shared.has_batch() { Progress::More } else { Progress::Idle })
    }

    fn write(&mut self, mut batch: Batch) -> Result<Outcome> {
        if self.unsynced_record.is_none() {
            self.unsynced_record = batch.first_synced;
        }
        while !batch.bytes.is_empty() {
            let mut count = batch.bytes.len();
            if let Some(closing) = batch.closing {
                if closing == self.written {
                    // The closing record says that what lies before it is on the device.
                    self.sync()?;
                } else {
                    count = usize::try_from(closing - self.written).unwrap_or(count);
                }
            }
            let room = self.current.capacity_end().saturating_sub(self.written);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            if count > room {
                count = whole_records(&batch.bytes, room);
            }
            if count == 0 {
                let needed = first_record_bytes(&batch.bytes).unwrap_or(0);
                if let Err(error) = self.next_segment(needed as u64)? {
                    self.stalled = Some(batch);
                    self.shared.set_stall(Some(error));
                    return Ok(Outcome::Stalled);
                }
                continue;
            }
            let rest = batch.bytes.split_off(count);
            let written = std::mem::replace(&mut batch.bytes, rest);
            let buffer = self.write_part(written)?;
            if batch.bytes.is_empty() {
                self.shared.give_back(buffer);
            }
        }
        self.shared.set_stall(None);
        Ok(Outcome::Done)
    }

    fn write_part(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let count = bytes.len() as u64;
        let offset = self.current.offset_of(self.written);
        let buffer = self.current.file.write_at(offset, bytes).wait()?;
        self.note_written(offset, count);
        Ok(buffer)
    }

    /// Takes note that `count` bytes were written at `offset` of the segment.
    fn note_written(&mut self, offset: u64, count: u64) {
        self.written += count;
        self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
        let readable = self.unsynced_record.unwrap_or(self.written).min(self.written);
        self.shared.publish_written(self.written, readable, count);
        let is_half_full = offset + count > self.current.file_bytes / 2
            && self.shared.segments().spares.is_empty();
        if is_half_full {
            self.preparer.wake();
        }
    }

    fn sync(&mut self) -> Result<()> {
        if self.synced < self.written {
            self.current.file.sync_data().wait()?;
            self.synced = self.written;
            self.shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
            self.unsynced_record = self.unsynced_record.map(|start| start.max(self.synced));
            self.shared.publish_synced(self.synced);
        }
        Ok(())
    }

    /// Goes on in a new segment that has room for a record of `needed` bytes. The inner error is
    /// one that harmed nothing: there is no space.
    fn next_segment(&mut self, needed: u64) -> Result<Result<(), Error>> {
        // A segment's name is the proof that everything before it is on the device.
        self.sync()?;
        let file_bytes = self.store.segment_bytes.max(SEGMENT_HEADER_BYTES as u64 + needed);
        let spare = match file_bytes == self.store.segment_bytes {
            true => self.shared.segments().spares.pop(),
            false => None,
        };
        let spare = match spare {
            Some(spare) => spare,
            None => match self.store.create_spare(file_bytes) {
                Ok(spare) => spare,
                Err(error) if error.kind() == ErrorKind::OutOfSpace => return Ok(Err(error)),
                Err(error) => return Err(error),
            },
        };
        self.current = self.store.become_segment(&spare, self.written, self.epoch)?;
        self.shared.add_segment(self.current.clone());
        Ok(Ok(()))
    }
}

/// The committer, as those share it who run it: its job, and whoever waits for a short write.
///
/// It comes first in the lock order of the log. Whoever lets go of it looks at the buffer once
/// more: who found it taken meanwhile has appended before, and counts on that.
#[derive(Clone)]
pub(super) struct SharedCommitter {
    committer: Arc<Mutex<Committer>>,
    shared: Arc<Shared>,
}

impl SharedCommitter {
    pub(super) fn new(committer: Committer) -> Self {
        let shared = Arc::clone(&committer.shared);
        Self { committer: Arc::new(Mutex::new(committer)), shared }
    }

    /// Writes what is in the buffer on this thread, where that is a matter of a short copy and the
    /// committer is at rest: to have its job do it costs two changes of threads. Whether the job
    /// must be woken for what is left.
    pub(super) fn write_here(&self) -> bool {
        for _ in 0..WRITES_HERE_MAX {
            let mut committer = match self.committer.try_lock() {
                Ok(committer) => committer,
                Err(TryLockError::Poisoned(committer)) => committer.into_inner(),
                Err(TryLockError::WouldBlock) => return false,
            };
            let unwinding = FailOnUnwind(&self.shared);
            let has_written = committer.write_here().unwrap_or_else(|error| {
                self.shared.fail(error);
                false
            });
            drop((committer, unwinding));
            if !self.shared.has_batch() {
                return false;
            }
            if !has_written {
                break;
            }
        }
        true
    }
}

impl Job for SharedCommitter {
    fn run(&mut self) -> Progress {
        let mut committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        let unwinding = FailOnUnwind(&self.shared);
        if self.shared.poison().is_some() {
            return Progress::Finished;
        }
        let progress = committer.step().unwrap_or_else(|error| {
            self.shared.fail(error);
            Progress::Finished
        });
        drop((committer, unwinding));
        let is_idle = progress == Progress::Idle && self.shared.failure().is_none();
        if is_idle && self.shared.has_batch() { Progress::More } else { progress }
    }
}

/// A committer that unwinds writes no more: those who wait for it must learn of it.
struct FailOnUnwind<'s>(&'s Shared);

impl Drop for FailOnUnwind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::new(ErrorKind::Poisoned, "log.commit", "the committer panicked"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};

    use ferrokit_engine::{CommitTicket, Durability, Stats};

    use super::*;
    use crate::log::{Log, LogConfig, LogPosition};
    use crate::sim::{FaultKind, FaultPlan, OpKind, SimMachine};

    fn open(machine: &SimMachine) -> Arc<Log> {
        let config = LogConfig { segment_bytes: 4096, ..LogConfig::default() };
        Log::open(&machine.host(), "log", config, LogPosition(0), &mut |_, _| Ok(())).unwrap()
    }

    fn append(log: &Log, bytes: usize, durability: Durability) -> CommitTicket {
        log.append(&[&vec![7; bytes]], durability).unwrap().ticket(durability)
    }

    fn commits(log: &Log) -> u64 {
        let mut stats = Stats::new();
        log.stats_into(&mut stats);
        stats.get("log_commits").unwrap()
    }

    #[test]
    fn who_waits_for_the_system_writes_what_is_there_himself() {
        let machine = SimMachine::new(1);
        let log = open(&machine);
        append(&log, 100, Durability::Memory);
        append(&log, 100, Durability::Os);
        let ticket = append(&log, 100, Durability::Os);
        let before = commits(&log);
        assert!(log.committed(ticket).is_ready(), "no step of the job was needed");
        assert_eq!(commits(&log), before + 1);
        assert_eq!(log.durable(Durability::Os), log.end());
        assert!(log.durable(Durability::Synced) < log.end());
    }

    #[test]
    fn a_wait_for_the_device_or_a_new_segment_is_left_to_the_job() {
        let machine = SimMachine::new(1);
        let host = machine.host();
        let log = open(&machine);
        let synced = append(&log, 100, Durability::Synced);
        let os = append(&log, 100, Durability::Os);
        assert!(!log.committed(os).is_ready(), "a sync comes first");
        host.settle();
        assert!(log.is_committed(synced).unwrap() && log.is_committed(os).unwrap());
        append(&log, 3000, Durability::Memory);
        let ticket = append(&log, 3000, Durability::Os);
        assert!(!log.committed(ticket).is_ready());
        host.wait(log.committed(ticket)).unwrap();
        let ticket = append(&log, WRITE_HERE_BYTES_MAX, Durability::Os);
        assert!(!log.committed(ticket).is_ready(), "a long copy holds nobody up");
        host.wait(log.committed(ticket)).unwrap();
    }

    #[test]
    fn after_a_write_that_failed_nobody_writes_any_more() {
        let machine = SimMachine::new(1);
        let host = machine.host();
        let log = open(&machine);
        machine.set_faults(FaultPlan::new().on(OpKind::Write, "log", FaultKind::Error, 1));
        let ticket = append(&log, 100, Durability::Os);
        let error = log.committed(ticket).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        let writes = machine.io_count();
        host.settle();
        assert!(log.committed(ticket).wait().is_err());
        assert_eq!(machine.io_count(), writes, "neither here nor by the job");
    }

    /// Appends when it is woken, which is under the lock of the committer.
    struct AppendsWhenWoken(Arc<Log>, Mutex<Option<CommitTicket>>);

    impl Wake for AppendsWhenWoken {
        fn wake(self: Arc<Self>) {
            let ticket = append(&self.0, 20, Durability::Os);
            assert!(!self.0.committed(ticket).is_ready(), "the committer is taken");
            *self.1.lock().unwrap() = Some(ticket);
        }
    }

    #[test]
    fn who_finds_the_committer_taken_is_not_forgotten() {
        let machine = SimMachine::new(1);
        let log = open(&machine);
        let mut reader = log.retain(None).unwrap();
        let other = Arc::new(AppendsWhenWoken(Arc::clone(&log), Mutex::new(None)));
        let (waker, mut visit) = (Waker::from(Arc::clone(&other)), |_, _: &[u8]| Ok(()));
        {
            let mut next = pin!(reader.next(1, &mut visit));
            assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let ticket = append(&log, 20, Durability::Os);
            assert!(log.committed(ticket).is_ready());
        }
        let ticket = other.1.lock().unwrap().unwrap();
        assert!(log.is_committed(ticket).unwrap(), "and the job has not made a step");
    }

    #[test]
    fn many_threads_write_for_each_other() {
        let machine = SimMachine::new(1);
        let (host, config) = (machine.threaded_host(), LogConfig::default());
        let log = Log::open(&host, "log", config, LogPosition(0), &mut |_, _| Ok(())).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let ticket = append(&log, 20, Durability::Os);
                        log.committed(ticket).wait().unwrap();
                        assert!(log.is_committed(ticket).unwrap());
                    }
                });
            }
        });
        assert_eq!(log.durable(Durability::Os), log.end());
    }

    #[test]
    fn what_nobody_waits_for_is_committed_soon() {
        let machine = SimMachine::new(1);
        let (host, config) = (machine.threaded_host(), LogConfig::default());
        let log = Log::open(&host, "log", config, LogPosition(0), &mut |_, _| Ok(())).unwrap();
        let ticket = append(&log, 100, Durability::Os);
        while !log.is_committed(ticket).unwrap() {
            std::thread::yield_now();
        }
        // The calls of a busy writer come to a step every few milliseconds, not one each.
        let before = commits(&log);
        for _ in 0..1000 {
            append(&log, 100, Durability::Os);
        }
        assert!(commits(&log) - before < 100);
    }
}
