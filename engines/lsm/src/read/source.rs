//! Where blocks come from.

use std::collections::HashMap;
use std::sync::Arc;

use std::future::Future;

use ferrokit_engine::{Error, Op, Result};

use crate::cache::BlockCache;
use crate::sst::{Block, BlockHandle, Table};

/// A block to fetch before a lookup can go on.
#[derive(Clone)]
pub(crate) struct Missing {
    pub(crate) table: Arc<Table>,
    pub(crate) handle: BlockHandle,
}

/// Why a lookup stopped.
pub(crate) enum Fault {
    Missing(Missing),
    Failed(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

pub(crate) trait BlockSource {
    fn block(&mut self, table: &Arc<Table>, handle: BlockHandle) -> Result<Arc<Block>, Fault>;
}

/// Blocks out of the cache, and those the operation has fetched itself.
pub(crate) struct CachedBlocks<'a> {
    cache: &'a BlockCache,
    held: HashMap<(u64, u64), Arc<Block>>,
}

impl<'a> CachedBlocks<'a> {
    pub(crate) fn new(cache: &'a BlockCache) -> Self {
        Self { cache, held: HashMap::new() }
    }

    /// Keeps a fetched block for this operation and offers it to the cache.
    pub(crate) fn hold(&mut self, missing: &Missing, block: Arc<Block>) {
        let at = (missing.table.id(), missing.handle.offset);
        self.cache.insert(at, Arc::clone(&block));
        self.held.insert(at, block);
    }

    /// Fetches what is missing.
    pub(crate) async fn fetch(&mut self, missing: Missing) -> Result<()> {
        let block = missing.table.load(missing.handle).await?;
        self.hold(&missing, block);
        Ok(())
    }

    /// Fetches all that is missing, the waits overlapping.
    pub(crate) async fn fetch_all(&mut self, missing: Vec<Missing>) -> Result<()> {
        let mut loads: Vec<(Missing, Op<'static, Arc<Block>>)> = missing
            .into_iter()
            .map(|missing| {
                let load = missing.table.load(missing.handle);
                (missing, load)
            })
            .collect();
        // Every load is polled in every round, so that none waits for another to begin.
        std::future::poll_fn(|cx| {
            let mut failed = None;
            loads.retain_mut(|(missing, load)| match std::pin::Pin::new(load).poll(cx) {
                std::task::Poll::Pending => true,
                std::task::Poll::Ready(Ok(block)) => {
                    self.hold(missing, block);
                    false
                }
                std::task::Poll::Ready(Err(error)) => {
                    failed = Some(error);
                    false
                }
            });
            match failed {
                Some(error) => std::task::Poll::Ready(Err(error)),
                None if loads.is_empty() => std::task::Poll::Ready(Ok(())),
                None => std::task::Poll::Pending,
            }
        })
        .await
    }
}

impl BlockSource for CachedBlocks<'_> {
    fn block(&mut self, table: &Arc<Table>, handle: BlockHandle) -> Result<Arc<Block>, Fault> {
        let at = (table.id(), handle.offset);
        if let Some(block) = self.held.get(&at) {
            return Ok(Arc::clone(block));
        }
        match self.cache.get(at) {
            Some(block) => Ok(block),
            None => Err(Fault::Missing(Missing { table: Arc::clone(table), handle })),
        }
    }
}

/// Blocks read on the spot, past the cache: for maintenance jobs, which may wait, and whose one
/// pass over the data must not push out what readers use.
pub(crate) struct LoadedBlocks;

impl BlockSource for LoadedBlocks {
    fn block(&mut self, table: &Arc<Table>, handle: BlockHandle) -> Result<Arc<Block>, Fault> {
        Ok(table.load(handle).wait()?)
    }
}
