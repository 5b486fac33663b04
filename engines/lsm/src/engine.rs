//! [`LsmEngine`]: the contract, and nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrokit_engine::{
    Capabilities, Changes, Checkpoint, CommitTicket, Direction, Durability, Entry, KeyRange,
    KeyspaceId, KeyspaceLen, KvEngine, KvRead, Op, Ordered, ReadOptions, Result, ScanLimits,
    Scanned, Seen, Snapshots, Stats, SweepCursor, Swept, Transactions, UnixMillis, Update,
    WriteBatch, WriteOptions, Written,
};
use ferrokit_storage::{Host, JobHandle};

use crate::config::LsmConfig;
use crate::reads::{self, At};
use crate::tree::Tree;
use crate::{jobs, keyspace_len, recovery, stats, writes};

/// A log-structured merge-tree.
///
/// Dropping it without [`close`](KvEngine::close) is a crash of the process as far as durability
/// goes; its maintenance jobs end either way.
pub struct LsmEngine {
    tree: Arc<Tree>,
    jobs: Vec<Arc<JobHandle>>,
}

impl LsmEngine {
    /// Opens the tree in the configured directory, or begins one. Blocks while it recovers.
    ///
    /// # Errors
    /// `Locked` if it is open elsewhere, `Corruption` (with file and offset), `VersionTooNew`,
    /// `InvalidArgument` for options that cannot work, `Io`, `OutOfSpace`.
    pub fn open(host: &Host, config: LsmConfig) -> Result<Arc<Self>> {
        let tree = Arc::new(recovery::open(host, config)?);
        let jobs = jobs::start(&tree)?;
        tree.jobs.wake_all();
        Ok(Arc::new(Self { tree, jobs }))
    }

    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }
}

impl Drop for LsmEngine {
    fn drop(&mut self) {
        self.tree.is_closed.store(true, Ordering::Release);
        for job in self.jobs.drain(..) {
            job.stop();
        }
        self.tree.release_directory();
    }
}

impl KvRead for LsmEngine {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        reads::get(&self.tree, At::Now, keyspace, key, options, visit)
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        reads::get_many(&self.tree, At::Now, keyspace, keys, options, visit)
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        reads::sweep(&self.tree, At::Now, keyspace, cursor, budget, options, visit)
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        Some(self)
    }
}

impl Ordered for LsmEngine {
    fn scan_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        range: &'a KeyRange,
        direction: Direction,
        limits: ScanLimits,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Scanned> {
        reads::scan(&self.tree, At::Now, keyspace, range, direction, limits, options, visit)
    }
}

impl KvEngine for LsmEngine {
    fn put<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        value: &'a [u8],
        expire_at: Option<UnixMillis>,
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        writes::put(&self.tree, keyspace, key, value, expire_at, options)
    }

    fn delete<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        writes::delete(&self.tree, keyspace, key, options)
    }

    fn update<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written> {
        writes::update(&self.tree, keyspace, key, options, change)
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch, options: &WriteOptions) -> Op<'a, Written> {
        writes::write(&self.tree, batch, options)
    }

    fn committed(&self, ticket: CommitTicket) -> Op<'_, ()> {
        reads::when_committed(&self.tree, ticket, ())
    }

    fn sync(&self, level: Durability) -> Op<'_, ()> {
        if let Err(error) = self.tree.check_open("lsm.sync") {
            return Op::err(error);
        }
        self.tree.log.sync(level)
    }

    fn clear_keyspace(&self, keyspace: KeyspaceId, options: &WriteOptions) -> Op<'_, Written> {
        writes::clear_keyspace(&self.tree, keyspace, options)
    }

    fn swap_keyspaces(
        &self,
        a: KeyspaceId,
        b: KeyspaceId,
        options: &WriteOptions,
    ) -> Op<'_, Written> {
        writes::swap_keyspaces(&self.tree, a, b, options)
    }

    fn keyspace_len(&self, keyspace: KeyspaceId) -> Op<'_, KeyspaceLen> {
        Op::Ready(keyspace_len::keyspace_len(&self.tree, keyspace))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.tree.capabilities
    }

    fn stats(&self) -> Stats {
        stats::collect(&self.tree)
    }

    fn close(&self) -> Op<'_, ()> {
        let tree = &self.tree;
        Op::pending(async move {
            tree.is_closed.store(true, Ordering::Release);
            tree.progress.notify();
            tree.jobs.wake_all();
            loop {
                let ticket = tree.progress.ticket();
                if tree.jobs.running.load(Ordering::Acquire) == 0 {
                    break;
                }
                tree.progress.changed(ticket).await;
            }
            if !tree.is_released() {
                let closed = tree.log.close().await;
                tree.release_directory();
                return closed;
            }
            Ok(())
        })
    }

    fn as_snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn as_checkpoint(&self) -> Option<&dyn Checkpoint> {
        Some(self)
    }

    fn as_changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }

    fn as_transactions(&self) -> Option<&dyn Transactions> {
        None
    }
}
