//! [`Table`]: an open FerroSST file. Footer, properties, filter and the top of the index stay in
//! memory; data blocks and index partitions are fetched.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ferrokit_engine::{Error, ErrorKind, Op, Result};
use ferrokit_storage::{BlockCodec, BlockContext, Compression, File};

use super::block::Block;
use super::filter::Filter;
use super::format::{BadFooter, BlockHandle, FOOTER_BYTES, Footer, Properties};
use crate::encoding::Malformed;

/// The largest filter, properties or index block that is believed.
const META_BYTES_MAX: usize = 1 << 30;

/// Tables that nobody needs any more: their files are removed by a maintenance job, never by the
/// reader that happens to be the last to hold one.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    ids: Mutex<Vec<u64>>,
}

impl Garbage {
    pub(crate) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&self, id: u64) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }
}

pub(crate) struct Table {
    id: u64,
    file: Arc<dyn File>,
    file_bytes: u64,
    codec: BlockCodec,
    pub(crate) index: Arc<Block>,
    pub(crate) two_level_index: bool,
    filter: Option<Filter>,
    properties: Properties,
    obsolete: AtomicBool,
    garbage: Arc<Garbage>,
}

impl Drop for Table {
    fn drop(&mut self) {
        if *self.obsolete.get_mut() {
            self.garbage.add(self.id);
        }
    }
}

impl Table {
    /// Reads what stays in memory. Blocks: for opening and maintenance jobs.
    pub(crate) fn open(file: Arc<dyn File>, id: u64, garbage: &Arc<Garbage>) -> Result<Arc<Self>> {
        let file_bytes = file.len()?;
        let footer_at = file_bytes
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or_else(|| corrupt(&file, 0, Malformed("shorter than a footer")))?;
        let bytes = file.read_at(footer_at, FOOTER_BYTES).wait()?;
        let footer = Footer::decode(&bytes).map_err(|bad| match bad {
            BadFooter::Malformed(malformed) => corrupt(&file, footer_at, malformed),
            BadFooter::TooNew(version) => Error::new(
                ErrorKind::VersionTooNew,
                "sst.open",
                format!("FerroSST version {version}"),
            )
            .with_file(file.path()),
        })?;
        let meta = BlockCodec::new(Compression::None, META_BYTES_MAX)?;
        let read = |handle| load(&meta, &file, id, footer_at, handle).wait();
        let properties = Properties::decode(&read(footer.properties)?)
            .map_err(|malformed| corrupt(&file, footer.properties.offset, malformed))?;
        let filter = match footer.filter {
            Some(handle) => Some(
                Filter::parse(read(handle)?)
                    .map_err(|malformed| corrupt(&file, handle.offset, malformed))?,
            ),
            None => None,
        };
        let index = Block::parse(read(footer.index)?)
            .map_err(|malformed| corrupt(&file, footer.index.offset, malformed))?;
        let block_bytes_max =
            usize::try_from(properties.block_bytes_max).unwrap_or(usize::MAX).min(META_BYTES_MAX);
        Ok(Arc::new(Self {
            id,
            codec: BlockCodec::new(Compression::None, block_bytes_max)?,
            file,
            file_bytes: footer_at,
            index: Arc::new(index),
            two_level_index: footer.two_level_index,
            filter,
            properties,
            obsolete: AtomicBool::new(false),
            garbage: Arc::clone(garbage),
        }))
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn path(&self) -> &str {
        self.file.path()
    }

    pub(crate) fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Bytes of its blocks in the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes held in memory while the table is open.
    pub(crate) fn pinned_bytes(&self) -> usize {
        self.index.bytes() + self.filter.as_ref().map_or(0, Filter::bytes)
    }

    /// Whether the key of this hash may be in the table.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_contain(hash))
    }

    /// Removes the file once nobody holds the table.
    pub(crate) fn make_obsolete(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    /// Fetches a data block or an index partition.
    pub(crate) fn load(&self, handle: BlockHandle) -> Op<'static, Arc<Block>> {
        let file = Arc::clone(&self.file);
        let parse = move |plain: Vec<u8>| {
            Block::parse(plain)
                .map(Arc::new)
                .map_err(|malformed| corrupt(&file, handle.offset, malformed))
        };
        match load_stored(&self.file, self.file_bytes, handle) {
            Op::Ready(Ok(stored)) => {
                Op::Ready(decode(&self.codec, &self.file, self.id, handle, &stored).and_then(parse))
            }
            Op::Ready(Err(error)) => Op::err(error),
            pending => {
                let (file, id) = (Arc::clone(&self.file), self.id);
                let limit = usize::try_from(self.properties.block_bytes_max)
                    .unwrap_or(usize::MAX)
                    .min(META_BYTES_MAX);
                Op::pending(async move {
                    let stored = pending.await?;
                    let codec = BlockCodec::new(Compression::None, limit)?;
                    decode(&codec, &file, id, handle, &stored).and_then(parse)
                })
            }
        }
    }

    /// A structure in this table that makes no sense.
    #[cold]
    pub(crate) fn malformed(&self, offset: u64, malformed: Malformed) -> Error {
        corrupt(&self.file, offset, malformed)
    }
}

#[cold]
fn corrupt(file: &Arc<dyn File>, offset: u64, Malformed(what): Malformed) -> Error {
    Error::corruption("sst.read", what, file.path(), offset)
}

fn load_stored(file: &Arc<dyn File>, end: u64, handle: BlockHandle) -> Op<'static, Vec<u8>> {
    let inside = handle.offset.checked_add(u64::from(handle.len)).is_some_and(|to| to <= end);
    if !inside {
        return Op::err(corrupt(file, handle.offset, Malformed("a block beyond the file")));
    }
    file.read_at(handle.offset, handle.len as usize)
}

fn decode(
    codec: &BlockCodec,
    file: &Arc<dyn File>,
    id: u64,
    handle: BlockHandle,
    stored: &[u8],
) -> Result<Vec<u8>> {
    codec.decode(BlockContext { file: file.path(), file_id: id, offset: handle.offset }, stored)
}

fn load(
    codec: &BlockCodec,
    file: &Arc<dyn File>,
    id: u64,
    end: u64,
    handle: BlockHandle,
) -> Op<'static, Vec<u8>> {
    match load_stored(file, end, handle).wait() {
        Ok(stored) => Op::Ready(decode(codec, file, id, handle, &stored)),
        Err(error) => Op::err(error),
    }
}
