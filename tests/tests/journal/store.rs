//! [`Store`]: the state behind the engine, and the job that commits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use ferrokit_engine::{
    Change, Clock, CommitTicket, Durability, Error, ErrorKind, KvEngine, Result, UnixMillis,
    WriteBatch, WriteOptions,
};
use ferrokit_memory::{MemoryConfig, MemoryEngine};
use ferrokit_storage::{DirLock, File, Host, Progress};

use crate::Fault;
use crate::compact;
use crate::record::{Record, Write};
use crate::segments::{self, Strictness};

/// A clock that never goes back, and is handed the times that recovery finds.
pub(crate) struct FloorClock {
    clock: Arc<dyn Clock>,
    floor: AtomicU64,
}

impl Clock for FloorClock {
    fn now(&self) -> UnixMillis {
        let wall = self.clock.now().0;
        UnixMillis(self.floor.fetch_max(wall, Ordering::SeqCst).max(wall))
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

/// What the lock guards.
pub(crate) struct State {
    file: Arc<dyn File>,
    segment: u64,
    sealed: Vec<u64>,
    /// Where in the segment's file the buffer begins, and up to where the file is synced.
    offset: u64,
    synced_offset: u64,
    buffer: Vec<u8>,
    /// Log positions: end, written, synced; and how far each is asked for.
    appended: u64,
    written: u64,
    synced: u64,
    pub(crate) wanted: CommitTicket,
    pub(crate) poison: Option<Error>,
    pub(crate) is_closed: bool,
    wakers: Vec<Waker>,
    /// Whether someone is between taking the buffer and having committed it.
    pub(crate) is_committing: bool,
    _lock: Option<Box<dyn DirLock>>,
}

/// The engine without its traits.
pub(crate) struct Store {
    host: Host,
    directory: String,
    segment_bytes: u64,
    pub(crate) fault: Option<Fault>,
    pub(crate) memory: Arc<MemoryEngine>,
    /// The same data under a clock that stands still.
    pub(crate) timeless: Option<Arc<MemoryEngine>>,
    clock: Arc<FloorClock>,
    state: Mutex<State>,
}

pub(crate) const IN_MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);

impl Store {
    pub(crate) fn open(
        host: &Host,
        directory: &str,
        segment_bytes: u64,
        fault: Option<Fault>,
    ) -> Result<Self> {
        host.fs.create_dir_all(directory)?;
        let lock = host.fs.lock_dir(directory)?;
        let clock =
            Arc::new(FloorClock { clock: Arc::clone(&host.env.clock), floor: AtomicU64::new(0) });
        let mut memory_host = host.clone();
        memory_host.env.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let memory = MemoryEngine::open(&memory_host, MemoryConfig::default())?;
        let timeless = match fault {
            Some(Fault::ExpiryIgnoredInScans) => {
                let still = FloorClock { clock: Arc::new(StillClock), floor: AtomicU64::new(0) };
                memory_host.env.clock = Arc::new(still);
                Some(MemoryEngine::open(&memory_host, MemoryConfig::default())?)
            }
            _ => None,
        };
        let mut numbers = segments::list(host, directory)?;
        let strictness = Strictness {
            verify: fault != Some(Fault::ChecksumUnchecked),
            believe_torn: fault == Some(Fault::TornTailBelieved),
        };
        let apply = |record: &Record| -> Result<()> {
            if fault != Some(Fault::ClockForgotten) {
                clock.floor.fetch_max(record.stamp.0, Ordering::SeqCst);
            }
            apply(&memory, &record.writes)?;
            timeless.as_ref().map_or(Ok(()), |timeless| apply(timeless, &record.writes))
        };
        let mut unsealed = None;
        for (index, number) in numbers.iter().enumerate() {
            let is_last = index + 1 == numbers.len();
            let segment = segments::read(host, directory, *number, is_last, strictness)?;
            segment.records.iter().try_for_each(apply)?;
            if is_last {
                let file = segments::rewrite(host, directory, &segment)?;
                unsealed = (!segment.is_sealed).then_some((segment, file));
            }
        }
        let (segment, file, offset) = match unsealed {
            Some((segment, file)) => {
                numbers.pop();
                (segment.number, file, segment.bytes)
            }
            None => {
                let number = numbers.last().map_or(1, |last| last + 1);
                (number, segments::create(host, directory, number)?, 0)
            }
        };
        let state = State {
            file,
            segment,
            sealed: numbers,
            offset,
            synced_offset: offset,
            buffer: Vec::new(),
            appended: 0,
            written: 0,
            synced: 0,
            wanted: CommitTicket::NONE,
            poison: None,
            is_closed: false,
            wakers: Vec::new(),
            is_committing: false,
            _lock: Some(lock),
        };
        Ok(Self {
            host: host.clone(),
            directory: directory.to_owned(),
            segment_bytes,
            fault,
            memory,
            timeless,
            clock,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of an engine that takes writes.
    pub(crate) fn writable(&self, operation: &'static str) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.is_closed {
            return Err(Error::new(ErrorKind::Closed, operation, "the engine was closed"));
        }
        match &state.poison {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }

    /// Applies writes to the memory and appends them to the log, as one record.
    pub(crate) fn commit(
        &self,
        state: &mut State,
        writes: &[Write],
        level: Durability,
    ) -> Result<CommitTicket> {
        apply(&self.memory, writes)?;
        if let Some(timeless) = &self.timeless {
            apply(timeless, writes)?;
        }
        Ok(self.append(state, writes, level))
    }

    /// Appends what already took effect.
    pub(crate) fn append(
        &self,
        state: &mut State,
        writes: &[Write],
        level: Durability,
    ) -> CommitTicket {
        if level == Durability::Memory {
            return CommitTicket::NONE;
        }
        let whole = [writes.to_vec()];
        let single: Vec<Vec<Write>> = writes.iter().map(|write| vec![write.clone()]).collect();
        let records = if self.has(Fault::BatchSplit) { &single[..] } else { &whole[..] };
        for writes in records {
            let record = Record {
                stamp: self.clock.now(),
                synced: state.synced_offset,
                is_end: false,
                writes: writes.clone(),
            };
            let bytes = record.encode();
            state.appended += bytes.len() as u64;
            state.buffer.extend_from_slice(&bytes);
            if self.has(Fault::BatchSplit) && state.buffer.len() > 512 {
                // So that a crash can fall between them.
                let _ = self.write_buffer(state);
            }
        }
        let ticket = CommitTicket::at(state.appended, level);
        state.wanted = state.wanted.join(ticket);
        ticket
    }

    fn write_buffer(&self, state: &mut State) -> Result<()> {
        let buffer = std::mem::take(&mut state.buffer);
        let len = buffer.len() as u64;
        state.file.write_at(state.offset, buffer).wait()?;
        state.offset += len;
        Ok(())
    }

    /// Whether the log is durable through `ticket`, or never will be. Otherwise keeps the waker.
    pub(crate) fn poll_committed(&self, ticket: CommitTicket, waker: &Waker) -> Option<Result<()>> {
        let mut state = self.state();
        let is_written =
            state.written >= ticket.os || (self.has(Fault::WriteDelayed) && ticket.synced == 0);
        if is_written && state.synced >= ticket.synced {
            return Some(Ok(()));
        }
        if let Some(error) = &state.poison {
            return Some(Err(error.clone()));
        }
        state.wakers.push(waker.clone());
        None
    }

    /// One step of the committer.
    pub(crate) fn commit_step(&self) -> Progress {
        if self.has(Fault::WriteDelayed) {
            let state = self.state();
            if state.wanted.synced <= state.synced && state.buffer.len() < 2000 {
                return Progress::Idle;
            }
        }
        let result = self.commit_buffer().and_then(|()| self.roll());
        let mut state = self.state();
        if let Err(error) = result {
            if !self.has(Fault::PoisonForgotten) {
                state.poison.get_or_insert(error.into_poison());
            } else {
                (state.written, state.synced) = (state.appended, state.appended);
            }
        }
        for waker in state.wakers.drain(..) {
            waker.wake();
        }
        Progress::Idle
    }

    /// Writes the buffer, and syncs where that is asked for. Only one at a time.
    pub(crate) fn commit_buffer(&self) -> Result<()> {
        let (file, buffer, offset, end, sync) = {
            let mut state = self.state();
            if state.poison.is_some() {
                return Ok(());
            }
            let buffer = std::mem::take(&mut state.buffer);
            let sync = state.wanted.synced > state.synced;
            (Arc::clone(&state.file), buffer, state.offset, state.appended, sync)
        };
        let len = buffer.len() as u64;
        if len > 0 {
            file.write_at(offset, buffer).wait()?;
        }
        {
            let mut state = self.state();
            state.offset = offset + len;
            state.written = end;
        }
        if sync {
            if !self.has(Fault::SyncSkipped) {
                file.sync_data().wait()?;
            }
            let mut state = self.state();
            state.synced = end;
            state.synced_offset = offset + len;
        }
        Ok(())
    }

    /// Seals a segment that is full, begins the next one, and compacts.
    fn roll(&self) -> Result<()> {
        let sealed = {
            let mut state = self.state();
            if state.offset < self.segment_bytes || state.poison.is_some() {
                return Ok(());
            }
            let synced = state.synced_offset;
            let end = Record { stamp: self.clock.now(), synced, is_end: true, writes: Vec::new() };
            let mut rest = std::mem::take(&mut state.buffer);
            rest.extend_from_slice(&end.encode());
            state.file.write_at(state.offset, rest).wait()?;
            state.file.sync_all().wait()?;
            (state.written, state.synced) = (state.appended, state.appended);
            let number = state.segment;
            state.sealed.push(number);
            state.segment += 1;
            state.file = segments::create(&self.host, &self.directory, state.segment)?;
            (state.offset, state.synced_offset) = (0, 0);
            state.sealed.clone()
        };
        // The oldest two stay as they are, so that there is always something below a merge.
        let Some([first, second]) = sealed.last_chunk::<2>().copied() else { return Ok(()) };
        if sealed.len() < 4 {
            return Ok(());
        }
        let (pair, now) = ([first, second], self.clock.now());
        if compact::merge(&self.host, &self.directory, pair, now, self.fault)? {
            self.state().sealed.retain(|sealed| *sealed != second);
        }
        Ok(())
    }

    /// Commits everything and gives the directory back.
    pub(crate) fn shut(&self) -> Result<()> {
        let result = self.commit_buffer().and_then(|()| self.state().file.sync_all().wait());
        self.state()._lock = None;
        result
    }
}

struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(1)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Applies writes to a memory engine, together.
pub(crate) fn apply(memory: &MemoryEngine, writes: &[Write]) -> Result<()> {
    let mut batch = WriteBatch::new();
    for write in writes {
        match write.change() {
            Change::Put { keyspace, key, value, expire_at } => {
                batch.put(keyspace, key, value, expire_at);
            }
            Change::Delete { keyspace, key } | Change::Expired { keyspace, key } => {
                batch.delete(keyspace, key);
            }
            Change::Clear { keyspace } => {
                memory.clear_keyspace(keyspace, &IN_MEMORY).wait()?;
            }
            Change::Swap { a, b } => {
                memory.swap_keyspaces(a, b, &IN_MEMORY).wait()?;
            }
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    memory.write(&batch, &IN_MEMORY).wait().map(|_| ())
}
