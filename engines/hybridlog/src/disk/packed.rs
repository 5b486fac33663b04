//! A packed segment: what an object of the object tier holds.
//!
//! ```text
//! object  = chunk* index trailer
//! chunk   = whole records of one page, a block (ferrokit_storage::codec)
//! index   = of each chunk: page in the segment(4) begin in the page(4) plain bytes(4) stored bytes(4);
//!           a block
//! trailer = magic(8) format(4) flags(4) engine(8) segment(8) identity(8) page_bytes(8)
//!           pages(8) index_bytes(8) wrapped key(68) zero(4) checksum(8)
//! ```
//! Numbers are little-endian; flag 1 is "encrypted". Every block is bound to the object (a number
//! made of engine, segment and identity) and to its offset there: none is taken for another. The
//! identity is drawn for each attempt to pack a segment. One request reads index and trailer, whose
//! length is kept where the object's name is; one more reads a chunk.

mod reader;
mod writer;

pub(crate) use reader::{Decoded, PackedSegment};
pub(crate) use writer::Packer;

use std::sync::Arc;

use ferrokit_engine::{Error, ErrorKind, Result};
use ferrokit_storage::atomic_file::read_file;
use ferrokit_storage::codec::WRAPPED_KEY_BYTES;
use ferrokit_storage::{BlockCodec, Compression, FileKey, Fs, KeyId, KeyRing, WrappedKey};
use xxhash_rust::xxh3::xxh3_64;

use super::segment::Layout;

const MAGIC: &[u8; 8] = b"FKHLPACK";
const FORMAT: u32 = 1;
const ENCRYPTED: u32 = 1;
const TRAILER_BYTES: usize = 8 + 4 + 4 + 6 * 8 + WRAPPED_KEY_BYTES + 4 + 8;
/// Bytes of a chunk's place in the index.
const PLACE_BYTES: usize = 16;
/// Plain bytes of a chunk, but for a record that is longer.
const CHUNK_BYTES_MAX: u64 = 32 << 10;
/// The id of the one key-encryption key.
const KEY_ID: KeyId = KeyId(1);

/// What must be known of a packed segment to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedFacts {
    /// Drawn when it was packed.
    pub(crate) identity: u64,
    /// Length of the object.
    pub(crate) bytes: u64,
    /// Length of index and trailer.
    pub(crate) tail_bytes: u64,
    pub(crate) is_encrypted: bool,
}

/// How segments are packed and unpacked.
pub(crate) struct Packing {
    codec: BlockCodec,
    keys: Option<KeyRing>,
}

impl Packing {
    /// # Errors
    /// `InvalidArgument` for a compression out of range.
    pub(crate) fn new(
        compression: Compression,
        key: Option<&[u8; 32]>,
        layout: Layout,
    ) -> Result<Self> {
        let plain_bytes_max = layout.page_bytes.max(layout.index_bytes_max()) as usize;
        let codec = BlockCodec::new(compression, plain_bytes_max)?;
        Ok(Self { codec, keys: key.map(|key| KeyRing::new(KEY_ID, key)) })
    }

    /// A new key for the object or file of that number, and its form to store.
    pub(crate) fn new_key(&self, file_id: u64) -> Result<Option<(FileKey, WrappedKey)>> {
        self.keys.as_ref().map(|keys| keys.new_file_key(file_id)).transpose()
    }

    /// The key stored in the object or file of that number.
    ///
    /// # Errors
    /// `InvalidArgument` without a key or with another one.
    pub(crate) fn key(
        &self,
        file_id: u64,
        wrapped: &WrappedKey,
        path: &str,
        offset: u64,
    ) -> Result<FileKey> {
        let refuse = |what: &'static str| {
            Error::invalid("hybridlog.unpack", what).with_file(path).with_offset(offset)
        };
        let keys = self.keys.as_ref().ok_or_else(|| {
            refuse("object_key: the segment is encrypted; open the engine with its key")
        })?;
        keys.unwrap_key(file_id, wrapped).map_err(|error| match error.kind() {
            // It was checked that it is what was written.
            ErrorKind::Corruption | ErrorKind::NotFound => {
                refuse("object_key: the segment was encrypted with another key").with_source(error)
            }
            _ => error.with_file(path).with_offset(offset),
        })
    }
}

/// Reads the file of a key. Blocks.
///
/// # Errors
/// `InvalidArgument` if it has not 32 bytes, `NotFound`, `Io`.
pub(crate) fn read_key(fs: &dyn Fs, path: &str) -> Result<[u8; 32]> {
    let refuse = || Error::invalid("hybridlog.open", "object_key: a file of 32 bytes is wanted");
    let bytes =
        ferrokit_engine::block_on(read_file(fs, path, 32)).map_err(|error| match error.kind() {
            ErrorKind::InvalidArgument => refuse().with_file(path),
            _ => error,
        })?;
    bytes.try_into().map_err(|_| refuse().with_file(path))
}

/// The number of an object: blocks of no other one pass for its own.
fn file_id(layout: Layout, segment: u64, identity: u64) -> u64 {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&layout.engine.to_le_bytes());
    bytes[8..16].copy_from_slice(&segment.to_le_bytes());
    bytes[16..].copy_from_slice(&identity.to_le_bytes());
    xxh3_64(&bytes)
}

impl Layout {
    /// Plain bytes of a chunk, but for a record that is longer.
    pub(crate) fn chunk_bytes(self) -> u64 {
        CHUNK_BYTES_MAX.min(self.page_bytes / 4)
    }

    /// What an index may take: of two chunks that follow each other in a page at least one is more
    /// than half full.
    pub(crate) fn index_bytes_max(self) -> u64 {
        let chunks = self.page_bytes / self.chunk_bytes() * 2 + 2;
        self.pages_per_segment.saturating_mul(chunks * PLACE_BYTES as u64)
    }
}

/// Where a chunk is, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChunkPlace {
    page: u32,
    begin: u32,
    plain_bytes: u32,
    stored_bytes: u32,
    offset: u64,
}

/// The places of all chunks, and what decodes them.
pub(crate) struct Index {
    places: Vec<ChunkPlace>,
    codec: BlockCodec,
}

impl Index {
    fn encode(places: &[ChunkPlace]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(places.len() * PLACE_BYTES);
        for place in places {
            for number in [place.page, place.begin, place.plain_bytes, place.stored_bytes] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }

    /// The places, if they fill the object up to `end` without a gap and ascend.
    fn decode(bytes: &[u8], end: u64) -> Option<Vec<ChunkPlace>> {
        let mut places: Vec<ChunkPlace> = Vec::with_capacity(bytes.len() / PLACE_BYTES);
        let mut offset = 0;
        for bytes in bytes.chunks(PLACE_BYTES) {
            let number = |at: usize| {
                let bytes = bytes.get(at * 4..at * 4 + 4)?;
                Some(u32::from_le_bytes(bytes.try_into().ok()?))
            };
            let place = ChunkPlace {
                page: number(0)?,
                begin: number(1)?,
                plain_bytes: number(2)?,
                stored_bytes: number(3)?,
                offset,
            };
            let follows = match places.last() {
                Some(last) if last.page == place.page => {
                    last.begin.checked_add(last.plain_bytes) == Some(place.begin)
                }
                Some(last) => last.page < place.page && place.begin == 0,
                None => place.begin == 0,
            };
            if !follows || place.plain_bytes == 0 {
                return None;
            }
            offset = offset.checked_add(u64::from(place.stored_bytes))?;
            places.push(place);
        }
        (offset == end).then_some(places)
    }

    /// The chunk which holds what lies at an offset in a page.
    fn place(&self, page: u32, offset: u32) -> Option<(usize, ChunkPlace)> {
        let after = self.places.partition_point(|it| (it.page, it.begin) <= (page, offset));
        let number = after.checked_sub(1)?;
        let place = *self.places.get(number)?;
        let is_there = place.page == page && offset - place.begin < place.plain_bytes;
        is_there.then_some((number, place))
    }

    /// The chunks of a page.
    fn places_of(&self, page: u32) -> &[ChunkPlace] {
        let begin = self.places.partition_point(|it| it.page < page);
        let end = self.places.partition_point(|it| it.page <= page);
        self.places.get(begin..end).unwrap_or_default()
    }

    /// Bytes in memory.
    fn bytes(&self) -> u64 {
        (self.places.len() * size_of::<ChunkPlace>() + size_of::<Self>()) as u64
    }
}

/// An object's trailer.
struct Trailer {
    index_bytes: u64,
    wrapped: Option<WrappedKey>,
}

impl Trailer {
    /// Everything before the index's length.
    fn head(layout: Layout, segment: u64, facts: (u64, bool)) -> Vec<u8> {
        let (identity, is_encrypted) = facts;
        let mut bytes = Vec::with_capacity(TRAILER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(if is_encrypted { ENCRYPTED } else { 0 }).to_le_bytes());
        let numbers =
            [layout.engine, segment, identity, layout.page_bytes, layout.pages_per_segment];
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn encode(&self, layout: Layout, segment: u64, identity: u64) -> Vec<u8> {
        let mut bytes = Self::head(layout, segment, (identity, self.wrapped.is_some()));
        bytes.extend_from_slice(&self.index_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.wrapped.unwrap_or([0; WRAPPED_KEY_BYTES]));
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// The trailer of the object that is expected; else what is wrong.
    fn decode(
        bytes: &[u8],
        layout: Layout,
        segment: u64,
        facts: PackedFacts,
    ) -> Result<Self, &'static str> {
        let (covered, checksum) = bytes.split_last_chunk::<8>().ok_or("cut short")?;
        if bytes.len() != TRAILER_BYTES || covered.get(..8) != Some(MAGIC) {
            return Err("not a packed segment");
        }
        if xxh3_64(covered).to_le_bytes() != *checksum {
            return Err("the trailer does not match its checksum");
        }
        let head = Self::head(layout, segment, (facts.identity, facts.is_encrypted));
        let rest = covered.strip_prefix(&head[..]).ok_or("another segment, or another engine's")?;
        let (index_bytes, rest) = rest.split_first_chunk::<8>().ok_or("cut short")?;
        let (wrapped, _) = rest.split_first_chunk::<WRAPPED_KEY_BYTES>().ok_or("cut short")?;
        Ok(Self {
            index_bytes: u64::from_le_bytes(*index_bytes),
            wrapped: facts.is_encrypted.then_some(*wrapped),
        })
    }
}

/// A codec for one object.
fn codec(packing: &Packing, key: Option<FileKey>) -> BlockCodec {
    let codec = packing.codec.clone();
    match key {
        Some(key) => codec.with_key(Arc::new(key)),
        None => codec,
    }
}
