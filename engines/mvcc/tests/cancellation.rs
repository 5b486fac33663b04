//! Operations dropped midway, over an inner engine whose writes take effect when it is told so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use ferrokit_engine::*;
use ferrokit_memory::{MemoryConfig, MemoryEngine};
use ferrokit_mvcc::{Mvcc, MvccOptions};
use ferrokit_storage::sim::SimMachine;

const KS: KeyspaceId = KeyspaceId::DEFAULT;
const WRITE: WriteOptions = WriteOptions::with_durability(Durability::Memory);

/// Puts and batches wait in a queue, whether or not their callers do.
struct Slow {
    inner: Arc<MemoryEngine>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    is_slow: bool,
    waiting: Vec<WriteBatch>,
    applied: usize,
    queued: usize,
    wakers: Vec<Waker>,
    /// What reads of many keys say is to be waited for.
    seen: CommitTicket,
}

impl Slow {
    /// Applies what waits, the last first: only the wrapper's locks keep the order.
    fn flush(&self) -> usize {
        let (waiting, wakers) = {
            let mut queue = self.queue.lock().unwrap();
            let waiting = std::mem::take(&mut queue.waiting);
            (waiting, std::mem::take(&mut queue.wakers))
        };
        for batch in waiting.iter().rev() {
            self.inner.write(batch, &WRITE).wait().unwrap();
        }
        self.queue.lock().unwrap().applied += waiting.len();
        wakers.into_iter().for_each(Waker::wake);
        waiting.len()
    }
}

impl Slow {
    fn enqueue(&self, batch: WriteBatch) -> Op<'_, Written> {
        let mut queue = self.queue.lock().unwrap();
        if !queue.is_slow {
            return self.inner.write(&batch, &WRITE).wait().into();
        }
        queue.waiting.push(batch);
        queue.queued += 1;
        let number = queue.queued;
        drop(queue);
        Op::pending(poll_fn(move |cx| {
            let mut queue = self.queue.lock().unwrap();
            if queue.applied >= number {
                return Poll::Ready(Ok(Written::default()));
            }
            queue.wakers.push(cx.waker().clone());
            Poll::Pending
        }))
    }
}

impl KvRead for Slow {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        self.inner.get_with(keyspace, key, options, visit)
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let ticket = self.queue.lock().unwrap().seen;
        self.inner
            .get_many_with(keyspace, keys, options, visit)
            .map(move |seen| Seen { ticket, ..seen })
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        self.inner.sweep(keyspace, cursor, budget, options, visit)
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        None
    }
}

impl KvEngine for Slow {
    fn put<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        value: &'a [u8],
        expire_at: Option<UnixMillis>,
        _: &WriteOptions,
    ) -> Op<'a, Written> {
        let mut batch = WriteBatch::new();
        batch.put(keyspace, key, value, expire_at);
        self.enqueue(batch)
    }

    fn delete<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        self.inner.delete(keyspace, key, options)
    }

    fn update<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written> {
        self.inner.update(keyspace, key, options, change)
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch, _: &WriteOptions) -> Op<'a, Written> {
        self.enqueue(batch.clone())
    }

    fn committed(&self, ticket: CommitTicket) -> Op<'_, ()> {
        self.inner.committed(ticket)
    }

    fn sync(&self, level: Durability) -> Op<'_, ()> {
        self.inner.sync(level)
    }

    fn clear_keyspace(&self, keyspace: KeyspaceId, options: &WriteOptions) -> Op<'_, Written> {
        self.inner.clear_keyspace(keyspace, options)
    }

    fn swap_keyspaces(&self, a: KeyspaceId, b: KeyspaceId, o: &WriteOptions) -> Op<'_, Written> {
        self.inner.swap_keyspaces(a, b, o)
    }

    fn keyspace_len(&self, keyspace: KeyspaceId) -> Op<'_, KeyspaceLen> {
        self.inner.keyspace_len(keyspace)
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn close(&self) -> Op<'_, ()> {
        self.inner.close()
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

fn open() -> (Arc<Slow>, Arc<Mvcc>) {
    let machine = SimMachine::new(1);
    let inner = MemoryEngine::open(&machine.host(), MemoryConfig::default()).unwrap();
    let slow = Arc::new(Slow { inner, queue: Mutex::default() });
    let engine = Mvcc::new(Arc::clone(&slow) as Arc<dyn KvEngine>, MvccOptions::default()).unwrap();
    engine.put(KS, b"first", b"", None, &WRITE).wait().unwrap();
    slow.queue.lock().unwrap().is_slow = true;
    (slow, engine)
}

fn poll<T>(op: &mut Op<'_, T>) -> Poll<Result<T>> {
    Pin::new(op).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_dropped_write_keeps_its_key_until_it_has_happened() {
    let (slow, engine) = open();
    let mut dropped = engine.put(KS, b"k", b"1", None, &WRITE);
    assert!(poll(&mut dropped).is_pending());
    drop(dropped);
    let mut second = engine.put(KS, b"k", b"2", None, &WRITE);
    assert!(poll(&mut second).is_pending());
    let mut snapshot = engine.as_snapshots().unwrap().snapshot();
    assert!(poll(&mut snapshot).is_pending(), "a write before it is under way");
    assert_eq!(slow.flush(), 1, "the second waits for the first");
    let Poll::Ready(Ok(snapshot)) = poll(&mut snapshot) else { panic!("nobody else drives it") };
    assert!(poll(&mut second).is_pending());
    assert_eq!(slow.flush(), 1);
    assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
    let mut found = Vec::new();
    let mut visit = |entry: Entry<'_>| found.push(entry.value.to_vec());
    engine.get_with(KS, b"k", &ReadOptions::default(), &mut visit).wait().unwrap();
    snapshot.get_with(KS, b"k", &ReadOptions::default(), &mut visit).wait().unwrap();
    assert_eq!(found, [b"2", b"1"]);
}

#[test]
fn a_write_dropped_in_a_queue_leaves_it() {
    let (slow, engine) = open();
    let mut first = engine.put(KS, b"k", b"1", None, &WRITE);
    let mut queued = engine.put(KS, b"k", b"2", None, &WRITE);
    let mut third = engine.put(KS, b"k", b"3", None, &WRITE);
    for op in [&mut first, &mut queued, &mut third] {
        assert!(poll(op).is_pending());
    }
    drop(queued);
    slow.flush();
    assert!(poll(&mut first).is_ready());
    assert!(poll(&mut third).is_pending());
    slow.flush();
    assert!(poll(&mut third).is_ready());
    slow.queue.lock().unwrap().is_slow = false;
    assert!(engine.clear_keyspace(KS, &WRITE).wait().is_ok(), "nobody is left inside");
}

fn found(read: &dyn KvRead, key: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    let mut visit = |entry: Entry<'_>| found = Some(entry.value.to_vec());
    read.get_with(KS, key, &ReadOptions::default(), &mut visit).wait().unwrap();
    found
}

#[test]
fn a_collection_that_waits_takes_nothing_that_a_later_view_needs() {
    let (slow, engine) = open();
    let set_slow = |is_slow| slow.queue.lock().unwrap().is_slow = is_slow;
    let snapshot = || engine.as_snapshots().unwrap().snapshot().wait().unwrap();
    set_slow(false);
    let keys = [&b"a"[..], b"b", b"gone"];
    for key in keys {
        engine.put(KS, key, b"1", None, &WRITE).wait().unwrap();
    }
    let first = snapshot();
    for key in keys {
        engine.put(KS, key, b"2", None, &WRITE).wait().unwrap();
    }
    drop(first);
    set_slow(true);
    let mut collecting = engine.collect(100);
    assert!(poll(&mut collecting).is_pending(), "there are versions to remove");
    set_slow(false);
    let second = snapshot();
    engine.delete(KS, b"gone", &WRITE).wait().unwrap();
    slow.flush();
    assert!(matches!(poll(&mut collecting), Poll::Ready(Ok(_))));
    assert_eq!(found(&*second, b"gone").as_deref(), Some(&b"2"[..]));
    assert_eq!(found(&*engine, b"gone"), None);
}

#[test]
fn who_learns_of_an_entry_waits_for_the_write_that_made_it() {
    let (slow, engine) = open();
    let seen = CommitTicket::at(77, Durability::Synced);
    let mut queue = slow.queue.lock().unwrap();
    (queue.is_slow, queue.seen) = (false, seen);
    drop(queue);
    let options = WRITE.applied().reporting_existed();
    let written = engine.put(KS, b"first", b"", None, &options).wait().unwrap();
    assert_eq!((written.existed, written.ticket), (Some(true), seen));
    let written = engine.delete(KS, b"absent", &options).wait().unwrap();
    assert_eq!((written.existed, written.ticket), (Some(false), seen));
}

#[test]
fn a_commit_dropped_after_its_engine_holds_nothing() {
    let (slow, engine) = open();
    let mut transaction =
        engine.as_transactions().unwrap().begin(&TransactionOptions::default()).wait().unwrap();
    transaction.put(KS, b"k", b"v", None).unwrap();
    let mut commit = transaction.commit(&WRITE);
    assert!(poll(&mut commit).is_pending());
    drop(engine);
    drop(commit);
    assert_eq!(Arc::strong_count(&slow), 1, "the inner engine stays open for ever");
}
