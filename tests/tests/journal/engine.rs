//! [`JournalEngine`]: the memory engine with a log under it, as small as a durable engine gets.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use ferrokit_engine::*;
use ferrokit_storage::{Host, JobHandle};

use crate::Fault;
use crate::record::Write;
use crate::store::{IN_MEMORY, Store};

/// The engine.
pub(crate) struct JournalEngine {
    store: Arc<Store>,
    committer: JobHandle,
    capabilities: Capabilities,
    /// For the faults that strike every now and then.
    reads: AtomicU64,
    old_view: Mutex<Option<Arc<dyn Snapshot>>>,
}

/// A visitor of entries without sequence numbers, which the log does not keep.
fn without_sequence(entry: Entry<'_>) -> Entry<'_> {
    Entry { sequence: None, ..entry }
}

impl JournalEngine {
    pub(crate) fn open(
        host: &Host,
        directory: &str,
        segment_bytes: u64,
        fault: Option<Fault>,
    ) -> Result<Self> {
        let store = Arc::new(Store::open(host, directory, segment_bytes, fault)?);
        let committing = Arc::clone(&store);
        let job = Box::new(move || committing.commit_step());
        let committer = host.background.register("journal-commit", job)?;
        let capabilities = Capabilities {
            engine: "journal",
            snapshots: false,
            checkpoint: false,
            changes: false,
            transactions: None,
            sequence_numbers: false,
            max_value_bytes: 1 << 20,
            max_batch_ops: 1 << 16,
            max_batch_bytes: 4 << 20,
            max_keyspaces: 16,
            strongest_durability: Durability::Synced,
            tiers: &[Tier::Memory, Tier::Disk],
            ..store.memory.capabilities().clone()
        };
        Ok(Self {
            store,
            committer,
            capabilities,
            reads: AtomicU64::new(0),
            old_view: Mutex::new(None),
        })
    }

    fn has(&self, fault: Fault) -> bool {
        self.store.has(fault)
    }

    /// Completes when the log is durable through `ticket`.
    fn commit_wait<'a, T: Send + 'a>(&'a self, ticket: CommitTicket, answer: T) -> Op<'a, T> {
        if self.has(Fault::CommitByCaller) {
            return self.commit_by_caller(ticket, answer);
        }
        self.committer.wake();
        let mut answer = Some(answer);
        Op::pending(poll_fn(move |cx| match self.store.poll_committed(ticket, cx.waker()) {
            None => Poll::Pending,
            Some(result) => Poll::Ready(result.and_then(|()| {
                answer.take().ok_or_else(|| Error::invalid("poll", "polled after its end"))
            })),
        }))
    }

    fn commit_by_caller<'a, T: Send + 'a>(&'a self, ticket: CommitTicket, answer: T) -> Op<'a, T> {
        Op::pending(async move {
            let store = &self.store;
            poll_fn(|cx| {
                let mut state = store.state();
                if state.is_committing {
                    drop(state);
                    return match store.poll_committed(ticket, cx.waker()) {
                        Some(_) => Poll::Ready(()),
                        None => Poll::Pending,
                    };
                }
                state.is_committing = true;
                Poll::Ready(())
            })
            .await;
            // The place where a drop leaves everyone else waiting.
            let mut yielded = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut yielded, true) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            store.commit_step();
            store.state().is_committing = false;
            Ok(answer)
        })
    }

    fn written<'a>(
        &'a self,
        existed: Option<bool>,
        ticket: CommitTicket,
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        match options.completion {
            Completion::Applied => {
                self.committer.wake();
                Op::ok(Written { existed, sequence: None, ticket })
            }
            Completion::Durable if ticket == CommitTicket::NONE => {
                Op::ok(Written { existed, ..Written::default() })
            }
            Completion::Durable => {
                self.commit_wait(ticket, Written { existed, ..Written::default() })
            }
        }
    }

    /// What a read that just happened waits for: everything that may have been seen.
    fn seen<'a, T: Send + 'a>(
        &'a self,
        result: Result<T>,
        options: &ReadOptions,
        with_ticket: impl FnOnce(T, CommitTicket) -> T,
    ) -> Op<'a, T> {
        let value = match result {
            Ok(value) => value,
            Err(error) => return Op::err(error),
        };
        let ticket = self.store.state().wanted;
        match options.completion {
            _ if self.has(Fault::ReadTooEarly) => Op::ok(value),
            Completion::Applied => Op::ok(with_ticket(value, ticket)),
            Completion::Durable if ticket == CommitTicket::NONE => Op::ok(value),
            Completion::Durable => self.commit_wait(ticket, value),
        }
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.store.state().is_closed {
            return Err(Error::new(ErrorKind::Closed, operation, "the engine was closed"));
        }
        Ok(())
    }

    fn write_one(
        &self,
        operation: &'static str,
        write: Write,
        options: &WriteOptions,
    ) -> Result<(Option<bool>, CommitTicket)> {
        let (keyspace, key): (KeyspaceId, &[u8]) = match &write {
            Write::Put { keyspace, key, .. } | Write::Delete { keyspace, key } => (*keyspace, key),
            Write::Clear { keyspace } => (*keyspace, &[]),
            Write::Swap { a, b } => {
                self.capabilities.check_key(operation, *b, &[])?;
                (*a, &[])
            }
        };
        self.capabilities.check_key(operation, keyspace, key)?;
        if let Write::Put { value, .. } = &write {
            self.capabilities.check_value(operation, key, value)?;
        }
        let mut state = self.store.writable(operation)?;
        let before = options.report_existed.then(|| self.is_there(keyspace, key)).transpose()?;
        let ticket =
            self.store.commit(&mut state, std::slice::from_ref(&write), options.durability)?;
        let existed = match before {
            Some(_) if self.has(Fault::ExistedWrong) => Some(self.is_there(keyspace, key)?),
            before => before,
        };
        Ok((existed, ticket))
    }

    fn is_there(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool> {
        let mut visit = |_: Entry<'_>| {};
        let op = self.store.memory.get_with(keyspace, key, &ReadOptions::APPLIED, &mut visit);
        Ok(op.wait()?.found == 1)
    }

    fn update_one(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        options: &WriteOptions,
        change: &mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + '_),
    ) -> Result<(Option<bool>, CommitTicket)> {
        self.capabilities.check_key("update", keyspace, key)?;
        let mut state = self.store.writable("update")?;
        let mut existed = false;
        let mut value = Vec::new();
        let mut decision = Update::Keep;
        let mut peek = |current: Option<Entry<'_>>, _: &mut Vec<u8>| {
            existed = current.is_some();
            decision = change(current.map(without_sequence), &mut value);
            Update::Keep
        };
        self.store.memory.update(keyspace, key, &IN_MEMORY, &mut peek).wait()?;
        let write = match decision {
            Update::Keep => return Ok((Some(existed), CommitTicket::NONE)),
            Update::Delete => Write::Delete { keyspace, key: key.to_vec() },
            Update::Put { expire_at } => {
                self.capabilities.check_value("update", key, &value)?;
                Write::Put { keyspace, key: key.to_vec(), value, expire_at }
            }
        };
        if self.has(Fault::UpdateLost) {
            drop(state);
            std::thread::yield_now();
            state = self.store.writable("update")?;
        }
        let ticket = self.store.commit(&mut state, &[write], options.durability)?;
        Ok((Some(existed), ticket))
    }

    fn write_batch(&self, batch: &WriteBatch, options: &WriteOptions) -> Result<CommitTicket> {
        self.capabilities.check_batch("write", batch)?;
        let writes: Vec<Write> = batch
            .iter()
            .map(|op| match op {
                BatchOp::Put { keyspace, key, value, expire_at } => {
                    Write::Put { keyspace, key: key.to_vec(), value: value.to_vec(), expire_at }
                }
                BatchOp::Delete { keyspace, key } => Write::Delete { keyspace, key: key.to_vec() },
            })
            .collect();
        let mut state = self.store.writable("write")?;
        if writes.is_empty() {
            return Ok(CommitTicket::NONE);
        }
        if self.has(Fault::BatchSeenHalf) {
            for write in &writes {
                crate::store::apply(&self.store.memory, std::slice::from_ref(write))?;
                std::thread::yield_now();
            }
            return Ok(self.store.append(&mut state, &writes, options.durability));
        }
        self.store.commit(&mut state, &writes, options.durability)
    }

    fn read_many(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        visit: &mut (dyn FnMut(usize, Entry<'_>) + Send + '_),
    ) -> Result<Seen> {
        self.check_open("get")?;
        for key in keys {
            self.capabilities.check_key("get", keyspace, key)?;
        }
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        let mut visit = |index: usize, entry: Entry<'_>| visit(index, without_sequence(entry));
        if self.has(Fault::StaleRead) {
            let mut old_view = self.old_view.lock().unwrap_or_else(PoisonError::into_inner);
            if number.is_multiple_of(50) {
                *old_view = Some(self.store.memory.snapshot().wait()?);
            } else if let (20, Some(view)) = (number % 50, &*old_view) {
                return view
                    .get_many_with(keyspace, keys, &ReadOptions::APPLIED, &mut visit)
                    .wait();
            }
        }
        if self.has(Fault::BatchedReadTorn) {
            let mut found = 0;
            for (index, key) in keys.iter().enumerate() {
                let mut one = |entry: Entry<'_>| visit(index, entry);
                let memory = &self.store.memory;
                found +=
                    memory.get_with(keyspace, key, &ReadOptions::APPLIED, &mut one).wait()?.found;
                std::thread::yield_now();
            }
            return Ok(Seen { found, ticket: CommitTicket::NONE });
        }
        self.store.memory.get_many_with(keyspace, keys, &ReadOptions::APPLIED, &mut visit).wait()
    }
}

impl KvRead for JournalEngine {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let mut visit_many = |_: usize, entry: Entry<'_>| visit(entry);
        let result = self.read_many(keyspace, &[key], &mut visit_many);
        self.seen(result, options, |seen, ticket| Seen { ticket, ..seen })
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let result = self.read_many(keyspace, keys, visit);
        self.seen(result, options, |seen, ticket| Seen { ticket, ..seen })
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        let sweep = || {
            self.check_open("sweep")?;
            self.capabilities.check_key("sweep", keyspace, &[])?;
            let misses = self.has(Fault::SweepMisses) && !cursor.is_start();
            let newest = self.store.memory.stats().get("last_sequence").unwrap_or_default();
            let mut skipped = 0;
            let mut visit = |key: &[u8], entry: Entry<'_>| {
                let is_recent = entry.sequence.is_some_and(|s| s.0 + 30 > newest);
                if misses && is_recent {
                    skipped += 1;
                } else {
                    visit(key, without_sequence(entry));
                }
            };
            let memory = &self.store.memory;
            let op = memory.sweep(keyspace, cursor, budget, &ReadOptions::APPLIED, &mut visit);
            let swept = op.wait()?;
            Ok(Swept { visited: swept.visited - skipped, ..swept })
        };
        let mut sweep = sweep;
        let result = sweep();
        self.seen(result, options, |swept, ticket| Swept { ticket, ..swept })
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        Some(self)
    }
}

impl Ordered for JournalEngine {
    fn scan_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        range: &'a KeyRange,
        direction: Direction,
        limits: ScanLimits,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Scanned> {
        let mut visit = |key: &[u8], entry: Entry<'_>| visit(key, without_sequence(entry));
        let result = self.check_open("scan").and_then(|()| {
            self.capabilities.check_key("scan", keyspace, &[])?;
            let memory = self.store.timeless.as_ref().unwrap_or(&self.store.memory);
            let read = ReadOptions::APPLIED;
            memory.scan_with(keyspace, range, direction, limits, &read, &mut visit).wait()
        });
        self.seen(result, options, |scanned, ticket| Scanned { ticket, ..scanned })
    }
}

impl KvEngine for JournalEngine {
    fn put<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        value: &'a [u8],
        expire_at: Option<UnixMillis>,
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        let write = Write::Put { keyspace, key: key.to_vec(), value: value.to_vec(), expire_at };
        match self.write_one("put", write, options) {
            Ok((existed, ticket)) => self.written(existed, ticket, options),
            Err(error) => Op::err(error),
        }
    }

    fn delete<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        match self.write_one("delete", Write::Delete { keyspace, key: key.to_vec() }, options) {
            Ok((existed, ticket)) => self.written(existed, ticket, options),
            Err(error) => Op::err(error),
        }
    }

    fn update<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written> {
        match self.update_one(keyspace, key, options, change) {
            // An update that kept what it saw waits for that, as a read does.
            Ok((existed, CommitTicket::NONE)) => {
                let ticket = self.store.state().wanted;
                self.written(existed, ticket, options)
            }
            Ok((existed, ticket)) => self.written(existed, ticket, options),
            Err(error) => Op::err(error),
        }
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch, options: &WriteOptions) -> Op<'a, Written> {
        match self.write_batch(batch, options) {
            Ok(ticket) => self.written(None, ticket, options),
            Err(error) => Op::err(error),
        }
    }

    fn committed(&self, ticket: CommitTicket) -> Op<'_, ()> {
        match self.check_open("committed") {
            Ok(()) => self.commit_wait(ticket, ()),
            Err(error) => Op::err(error),
        }
    }

    fn sync(&self, level: Durability) -> Op<'_, ()> {
        let ticket = self.store.writable("sync").map(|mut state| {
            let ticket = self.store.append(&mut state, &[], level);
            state.wanted = state.wanted.join(ticket);
            ticket
        });
        match ticket {
            Ok(ticket) => self.commit_wait(ticket, ()),
            Err(error) => Op::err(error),
        }
    }

    fn clear_keyspace(&self, keyspace: KeyspaceId, options: &WriteOptions) -> Op<'_, Written> {
        let options = &WriteOptions { report_existed: false, ..*options };
        match self.write_one("clear_keyspace", Write::Clear { keyspace }, options) {
            Ok((existed, ticket)) => self.written(existed, ticket, options),
            Err(error) => Op::err(error),
        }
    }

    fn swap_keyspaces(
        &self,
        a: KeyspaceId,
        b: KeyspaceId,
        options: &WriteOptions,
    ) -> Op<'_, Written> {
        let options = &WriteOptions { report_existed: false, ..*options };
        match self.write_one("swap_keyspaces", Write::Swap { a, b }, options) {
            Ok((existed, ticket)) => self.written(existed, ticket, options),
            Err(error) => Op::err(error),
        }
    }

    fn keyspace_len(&self, keyspace: KeyspaceId) -> Op<'_, KeyspaceLen> {
        let checked = self
            .check_open("keyspace_len")
            .and_then(|()| self.capabilities.check_key("keyspace_len", keyspace, &[]));
        match checked {
            Ok(()) => self.store.memory.keyspace_len(keyspace),
            Err(error) => Op::err(error),
        }
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn stats(&self) -> Stats {
        self.store.memory.stats()
    }

    fn close(&self) -> Op<'_, ()> {
        {
            let mut state = self.store.state();
            if std::mem::replace(&mut state.is_closed, true) {
                return Op::ok(());
            }
        }
        self.store.shut().into()
    }

    fn as_snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }

    fn as_checkpoint(&self) -> Option<&dyn Checkpoint> {
        None
    }

    fn as_changes(&self) -> Option<&dyn Changes> {
        None
    }

    fn as_transactions(&self) -> Option<&dyn Transactions> {
        None
    }
}
