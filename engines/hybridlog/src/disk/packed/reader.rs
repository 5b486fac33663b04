//! [`PackedSegment`]: reads records and pages of a packed segment, a chunk at a time.

use std::sync::Arc;

use ferrokit_engine::{Error, ErrorKind, Op, Result};
use ferrokit_storage::BlockContext;
use ferrokit_storage::object::Object;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{ChunkPlace, Index, PackedFacts, Packing, TRAILER_BYTES, Trailer, codec, file_id};
use crate::disk::segment::Layout;

/// Chunks and indexes that were decoded: the most useful ones, up to a number of bytes.
pub(crate) struct Decoded(Cache<(u64, u64), Item, ByBytes>);

#[derive(Clone)]
enum Item {
    Index(Arc<Index>),
    Chunk(Arc<Vec<u8>>),
}

#[derive(Clone)]
struct ByBytes;

/// The place of a segment's index in the cache: no chunk has that number.
const INDEX: u64 = u64::MAX;
/// What an entry takes beside its bytes, about.
const ENTRY_BYTES: u64 = 128;

impl Weighter<(u64, u64), Item> for ByBytes {
    fn weight(&self, _: &(u64, u64), item: &Item) -> u64 {
        ENTRY_BYTES
            + match item {
                Item::Index(index) => index.bytes(),
                Item::Chunk(chunk) => chunk.len() as u64,
            }
    }
}

impl Decoded {
    pub(crate) fn new(bytes: u64, chunk_bytes: u64) -> Self {
        let expected = usize::try_from(bytes / chunk_bytes.max(1)).unwrap_or(usize::MAX).max(1);
        Self(Cache::with_weighter(expected, bytes, ByBytes))
    }

    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.weight()
    }

    fn index(&self, segment: u64) -> Option<Arc<Index>> {
        match self.0.get(&(segment, INDEX)) {
            Some(Item::Index(index)) => Some(index),
            _ => None,
        }
    }

    fn chunk(&self, segment: u64, number: usize) -> Option<Arc<Vec<u8>>> {
        match self.0.get(&(segment, number as u64)) {
            Some(Item::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }
}

/// A segment in the object tier.
pub(crate) struct PackedSegment {
    object: Arc<dyn Object>,
    layout: Layout,
    segment: u64,
    facts: PackedFacts,
    packing: Arc<Packing>,
    decoded: Arc<Decoded>,
}

/// What a read of records wants.
#[derive(Clone, Copy)]
struct Wanted {
    page: u32,
    offset: u32,
    len: usize,
}

impl PackedSegment {
    pub(crate) fn new(
        object: Arc<dyn Object>,
        layout: Layout,
        segment: u64,
        facts: PackedFacts,
        packing: Arc<Packing>,
        decoded: Arc<Decoded>,
    ) -> Arc<Self> {
        Arc::new(Self { object, layout, segment, facts, packing, decoded })
    }

    pub(crate) fn facts(&self) -> PackedFacts {
        self.facts
    }

    /// The object's name, for messages.
    pub(crate) fn path(&self) -> &str {
        self.object.path()
    }

    /// `len` bytes of a page from `offset` on, where a record begins; what follows the records of
    /// its chunk reads as zeros. The first request is on its way when this returns.
    pub(crate) fn read(
        self: &Arc<Self>,
        page: u64,
        offset: u64,
        len: usize,
    ) -> Op<'static, Vec<u8>> {
        let page = (page % self.layout.pages_per_segment) as u32;
        // A page has less than 2^32 bytes.
        let wanted = Wanted { page, offset: offset as u32, len };
        let this = Arc::clone(self);
        let Some(index) = self.decoded.index(self.segment) else {
            let tail = self.begin_tail();
            return Op::pending(async move {
                let index = this.decode_tail(tail.await)?;
                this.read_indexed(&index, wanted).await
            });
        };
        self.read_indexed(&index, wanted)
    }

    fn read_indexed(self: &Arc<Self>, index: &Arc<Index>, wanted: Wanted) -> Op<'static, Vec<u8>> {
        let Some((number, place)) = index.place(wanted.page, wanted.offset) else {
            let what = "the index of the packed segment lacks a record";
            return Op::err(self.damaged(what, self.tail_offset()));
        };
        if let Some(chunk) = self.decoded.chunk(self.segment, number) {
            return Op::ok(cut(&chunk, place, wanted));
        }
        let stored = self.object.read_at(place.offset, place.stored_bytes as usize);
        let (this, index) = (Arc::clone(self), Arc::clone(index));
        let finish = move |stored| {
            let chunk = Arc::new(this.decode_chunk(&index, place, stored)?);
            let answer = cut(&chunk, place, wanted);
            this.decoded.0.insert((this.segment, number as u64), Item::Chunk(chunk));
            Ok(answer)
        };
        match stored {
            Op::Ready(stored) => Op::Ready(finish(stored)),
            pending => Op::pending(async move { finish(pending.await) }),
        }
    }

    /// All records of a page, `used_bytes` of them. What is read is not kept.
    pub(crate) fn read_page(self: &Arc<Self>, page: u64, used_bytes: u32) -> Op<'static, Vec<u8>> {
        let page = (page % self.layout.pages_per_segment) as u32;
        let this = Arc::clone(self);
        let known = self.decoded.index(self.segment).ok_or_else(|| self.begin_tail());
        Op::pending(async move {
            let index = match known {
                Ok(index) => index,
                Err(tail) => this.decode_tail(tail.await)?,
            };
            let places = index.places_of(page);
            let plain: u64 = places.iter().map(|it| u64::from(it.plain_bytes)).sum();
            let (Some(first), true) = (places.first(), plain == u64::from(used_bytes)) else {
                let what = "the index of the packed segment lacks a page";
                return if used_bytes == 0 && places.is_empty() {
                    Ok(Vec::new())
                } else {
                    Err(this.damaged(what, this.tail_offset()))
                };
            };
            let stored: u64 = places.iter().map(|it| u64::from(it.stored_bytes)).sum();
            let stored = this.object.read_at(first.offset, stored as usize).await;
            let stored = stored.map_err(|error| this.explain(error, first.offset))?;
            let mut bytes = Vec::with_capacity(used_bytes as usize);
            for place in places {
                let at = (place.offset - first.offset) as usize;
                let block = stored.get(at..at + place.stored_bytes as usize);
                let block = block.unwrap_or_default().to_vec();
                bytes.append(&mut this.decode_chunk(&index, *place, Ok(block))?);
            }
            Ok(bytes)
        })
    }

    fn tail_offset(&self) -> u64 {
        self.facts.bytes - self.facts.tail_bytes
    }

    fn begin_tail(&self) -> Op<'static, Vec<u8>> {
        // Both lengths were checked when they were read.
        self.object.read_at(self.tail_offset(), self.facts.tail_bytes as usize)
    }

    fn decode_tail(&self, tail: Result<Vec<u8>>) -> Result<Arc<Index>> {
        let offset = self.tail_offset();
        let tail = tail.map_err(|error| self.explain(error, offset))?;
        let cut = tail.len().saturating_sub(TRAILER_BYTES);
        let (block, trailer) = tail.split_at(cut);
        let trailer_at = offset + cut as u64;
        let trailer = Trailer::decode(trailer, self.layout, self.segment, self.facts)
            .map_err(|what| self.damaged(what, trailer_at))?;
        if trailer.index_bytes != block.len() as u64 {
            return Err(self.damaged("the trailer tells another length of the index", trailer_at));
        }
        let file_id = file_id(self.layout, self.segment, self.facts.identity);
        let key = trailer
            .wrapped
            .map(|wrapped| self.packing.key(file_id, &wrapped, self.path(), trailer_at))
            .transpose()?;
        let codec = codec(&self.packing, key);
        let context = BlockContext { file: self.path(), file_id, offset };
        let places = Index::decode(&codec.decode(context, block)?, offset)
            .ok_or_else(|| self.damaged("an index that is none", offset))?;
        let index = Arc::new(Index { places, codec });
        self.decoded.0.insert((self.segment, INDEX), Item::Index(Arc::clone(&index)));
        Ok(index)
    }

    fn decode_chunk(
        &self,
        index: &Index,
        place: ChunkPlace,
        stored: Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let offset = place.offset;
        let stored = stored.map_err(|error| self.explain(error, offset))?;
        let file_id = file_id(self.layout, self.segment, self.facts.identity);
        let plain =
            index.codec.decode(BlockContext { file: self.path(), file_id, offset }, &stored)?;
        if plain.len() != place.plain_bytes as usize {
            return Err(self.damaged("a chunk of another length", offset));
        }
        Ok(plain)
    }

    /// What an error of the tier means here.
    fn explain(&self, error: Error, offset: u64) -> Error {
        let end_of_file = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|source| source.kind() == std::io::ErrorKind::UnexpectedEof);
        match error.kind() {
            ErrorKind::NotFound => {
                self.damaged("a segment is missing in the object tier", offset).with_source(error)
            }
            _ if end_of_file => self.damaged("a packed segment is cut short", offset),
            _ => error,
        }
    }

    fn damaged(&self, what: &'static str, offset: u64) -> Error {
        Error::corruption("hybridlog.unpack", what, self.path(), offset)
    }
}

/// What is wanted of a chunk; zeros behind its end.
fn cut(chunk: &[u8], place: ChunkPlace, wanted: Wanted) -> Vec<u8> {
    let from = (wanted.offset - place.begin) as usize;
    let there = chunk.get(from..).unwrap_or_default();
    let mut bytes = Vec::with_capacity(wanted.len);
    bytes.extend_from_slice(&there[..there.len().min(wanted.len)]);
    bytes.resize(wanted.len, 0);
    bytes
}
