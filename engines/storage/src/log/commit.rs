//! [`Committer`]: the job that writes and syncs the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrokit_engine::{Error, ErrorKind, Result};

use super::format::{SEGMENT_HEADER_BYTES, first_record_bytes, whole_records};
use super::recovery::Recovered;
use super::segment::Segment;
use super::shared::{Batch, Shared};
use super::store::Store;
use crate::background::{Job, JobHandle, Progress};

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
        self.written += count;
        self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
        let readable = self.unsynced_record.unwrap_or(self.written).min(self.written);
        self.shared.publish_written(self.written, readable, count);
        let is_half_full = offset + count > self.current.file_bytes / 2
            && self.shared.segments().spares.is_empty();
        if is_half_full {
            self.preparer.wake();
        }
        Ok(buffer)
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

impl Job for Committer {
    fn run(&mut self) -> Progress {
        let _unwinding = FailOnUnwind(Arc::clone(&self.shared));
        match self.step() {
            Ok(progress) => progress,
            Err(error) => {
                self.shared.fail(error);
                Progress::Finished
            }
        }
    }
}

/// A committer that unwinds is never run again: those who wait for it must learn of it.
struct FailOnUnwind(Arc<Shared>);

impl Drop for FailOnUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::new(ErrorKind::Poisoned, "log.commit", "the committer panicked"));
        }
    }
}
