//! The block cache: decoded blocks by (table, offset), bounded in bytes, scan-resistant.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::sst::Block;

/// Bytes an average block is expected to weigh, for the cache's initial shape.
const BLOCK_BYTES_EXPECTED: u64 = 4096;

#[derive(Clone)]
struct ByBytes;

impl Weighter<(u64, u64), Arc<Block>> for ByBytes {
    fn weight(&self, _at: &(u64, u64), block: &Arc<Block>) -> u64 {
        // The cache's own bookkeeping counts too.
        block.bytes() as u64 + 64
    }
}

pub(crate) struct BlockCache {
    blocks: Cache<(u64, u64), Arc<Block>, ByBytes>,
}

impl BlockCache {
    pub(crate) fn new(bytes: u64) -> Self {
        let expected = usize::try_from(bytes / BLOCK_BYTES_EXPECTED).unwrap_or(usize::MAX).max(1);
        Self { blocks: Cache::with_weighter(expected, bytes, ByBytes) }
    }

    pub(crate) fn get(&self, at: (u64, u64)) -> Option<Arc<Block>> {
        self.blocks.get(&at)
    }

    pub(crate) fn insert(&self, at: (u64, u64), block: Arc<Block>) {
        self.blocks.insert(at, block);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.weight()
    }

    pub(crate) fn hits(&self) -> u64 {
        self.blocks.hits()
    }

    pub(crate) fn misses(&self) -> u64 {
        self.blocks.misses()
    }
}
