//! [`TableBuilder`]: writes sorted versions into a FerroSST file. Blocks: for maintenance jobs.

use std::sync::Arc;

use ferrokit_engine::{Error, Result, UnixMillis};
use ferrokit_storage::{BlockCodec, BlockContext, Compression, File};

use super::block::BlockBuilder;
use super::filter;
use super::format::{BlockHandle, Footer, Properties};
use crate::config::LsmConfig;
use crate::key::split_stored_key;
use crate::memtable::Kind;

/// Encoded bytes that are collected before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// A table that was written and synced.
#[derive(Debug)]
pub(crate) struct BuiltTable {
    pub(crate) bytes: u64,
    pub(crate) properties: Properties,
}

pub(crate) struct TableBuilder<'a> {
    config: &'a LsmConfig,
    file: Arc<dyn File>,
    id: u64,
    data_codec: BlockCodec,
    meta_codec: BlockCodec,
    /// Encoded, not yet written; it belongs at `written`.
    pending: Vec<u8>,
    written: u64,
    data: BlockBuilder,
    /// Finished index partitions, keyed by their last record.
    top_index: BlockBuilder,
    /// The index partition in the making: a single-level index if it stays the only one.
    index: BlockBuilder,
    index_partitions: usize,
    hashes: Vec<u64>,
    properties: Properties,
}

impl<'a> TableBuilder<'a> {
    pub(crate) fn new(config: &'a LsmConfig, file: Arc<dyn File>, id: u64) -> Result<Self> {
        let block_bytes_max = block_bytes_max(config);
        Ok(Self {
            config,
            file,
            id,
            data_codec: BlockCodec::new(config.compression, block_bytes_max)?,
            meta_codec: BlockCodec::new(Compression::None, 1 << 30)?,
            pending: Vec::new(),
            written: 0,
            data: BlockBuilder::new(config.restart_interval),
            top_index: BlockBuilder::new(1),
            index: BlockBuilder::new(1),
            index_partitions: 0,
            hashes: Vec::new(),
            properties: Properties { sequence_min: u64::MAX, ..Properties::default() },
        })
    }

    /// Adds a version, which must sort behind the last one.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        sequence: u64,
        kind: Kind,
        expire_at: Option<UnixMillis>,
        value: &[u8],
    ) -> Result<()> {
        if self.config.filter_bits_per_key > 0 {
            let hash = filter::filter_hash(key);
            if self.hashes.last() != Some(&hash) {
                self.hashes.push(hash);
            }
        }
        self.note(key, sequence, kind, expire_at, value);
        self.data.add(key, sequence, kind, expire_at, value);
        if self.data.bytes() >= self.config.block_bytes { self.finish_data_block() } else { Ok(()) }
    }

    fn note(
        &mut self,
        key: &[u8],
        sequence: u64,
        kind: Kind,
        expire_at: Option<UnixMillis>,
        value: &[u8],
    ) {
        let facts = &mut self.properties;
        if facts.versions == 0 {
            facts.smallest = key.to_vec();
        }
        facts.versions += 1;
        facts.raw_bytes += (key.len() + value.len()) as u64;
        facts.sequence_min = facts.sequence_min.min(sequence);
        facts.sequence_max = facts.sequence_max.max(sequence);
        if let Some(at) = expire_at {
            // 0 stands for "none" in the properties; it is as much in the past as 1 is.
            let at = at.max(UnixMillis(1));
            facts.expiring += 1;
            facts.expire_at_min = Some(facts.expire_at_min.map_or(at, |earliest| earliest.min(at)));
        }
        if let Some((keyspace, _)) = split_stored_key(key) {
            let counts = facts.keyspaces.entry(keyspace).or_default();
            match kind {
                Kind::Put => counts.puts += 1,
                Kind::Delete => counts.deletes += 1,
            }
        }
        if kind == Kind::Delete {
            facts.deletes += 1;
        }
    }

    /// Bytes of the file so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.written + (self.pending.len() + self.data.bytes()) as u64
    }

    /// Completes and syncs the file. The directory is the caller's to sync.
    pub(crate) fn finish(mut self) -> Result<BuiltTable> {
        if !self.data.is_empty() {
            let (key, _) = self.data.last();
            self.properties.largest = key.to_vec();
            self.finish_data_block()?;
        }
        let filter = if self.hashes.is_empty() {
            None
        } else {
            let bits = filter::build(&self.hashes, self.config.filter_bits_per_key);
            Some(self.write_meta(&bits)?)
        };
        let two_level_index = self.index_partitions > 0;
        let index = if two_level_index {
            self.finish_index_partition()?;
            let top = self.top_index.finish();
            self.write_meta(&top)?
        } else {
            let only = self.index.finish();
            self.write_meta(&only)?
        };
        // Not counted among the blocks of its own `block_bytes_max`.
        let facts = self.properties.encode();
        let properties = write_block(
            &self.meta_codec,
            self.id,
            &self.file,
            self.written,
            &mut self.pending,
            &facts,
        )?;
        self.pending
            .extend_from_slice(&Footer { filter, index, two_level_index, properties }.encode());
        self.write_pending()?;
        self.file.sync_all().wait()?;
        Ok(BuiltTable { bytes: self.written, properties: self.properties })
    }

    fn finish_data_block(&mut self) -> Result<()> {
        let (last_key, last_sequence) = self.data.last();
        let (last_key, last_sequence) = (last_key.to_vec(), last_sequence);
        self.properties.largest.clone_from(&last_key);
        let plain = self.data.finish();
        self.properties.block_bytes_max = self.properties.block_bytes_max.max(plain.len() as u64);
        let handle = write_block(
            &self.data_codec,
            self.id,
            &self.file,
            self.written,
            &mut self.pending,
            &plain,
        )?;
        self.index.add(&last_key, last_sequence, Kind::Put, None, &handle.to_index_value());
        if self.index.bytes() >= self.config.index_split_bytes {
            self.finish_index_partition()?;
        }
        if self.pending.len() >= WRITE_BYTES { self.write_pending() } else { Ok(()) }
    }

    fn finish_index_partition(&mut self) -> Result<()> {
        if self.index.is_empty() {
            return Ok(());
        }
        let (last_key, last_sequence) = self.index.last();
        let (last_key, last_sequence) = (last_key.to_vec(), last_sequence);
        let plain = self.index.finish();
        let handle = self.write_meta(&plain)?;
        self.top_index.add(&last_key, last_sequence, Kind::Put, None, &handle.to_index_value());
        self.index_partitions += 1;
        Ok(())
    }

    fn write_meta(&mut self, plain: &[u8]) -> Result<BlockHandle> {
        self.properties.block_bytes_max = self.properties.block_bytes_max.max(plain.len() as u64);
        write_block(&self.meta_codec, self.id, &self.file, self.written, &mut self.pending, plain)
    }

    fn write_pending(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.pending);
        let len = buffer.len() as u64;
        self.pending = self.file.write_at(self.written, buffer).wait()?;
        self.pending.clear();
        self.written += len;
        Ok(())
    }
}

/// A bound for what any data block of such a configuration can hold.
fn block_bytes_max(config: &LsmConfig) -> usize {
    let record = config.value_bytes_max + crate::config::MAX_KEY_BYTES + 64;
    (config.block_bytes + record + 4096).min(1 << 30)
}

fn write_block(
    codec: &BlockCodec,
    id: u64,
    file: &Arc<dyn File>,
    written: u64,
    pending: &mut Vec<u8>,
    plain: &[u8],
) -> Result<BlockHandle> {
    let start = pending.len();
    let offset = written + start as u64;
    let context = BlockContext { file: file.path(), file_id: id, offset };
    codec.encode(context, plain, pending)?;
    let len = u32::try_from(pending.len() - start)
        .map_err(|_| Error::invalid("sst.build", "a block beyond 4 GiB"))?;
    Ok(BlockHandle { offset, len })
}
