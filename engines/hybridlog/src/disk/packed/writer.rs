//! [`Packer`]: makes a packed segment of pages, from front to back.

use ferrokit_engine::{Error, Result};
use ferrokit_storage::{BlockCodec, BlockContext, WrappedKey};

use super::{ChunkPlace, Index, PackedFacts, Packing, Trailer, codec, file_id};
use crate::address::LogicalAddress;
use crate::disk::image::read_record;
use crate::disk::segment::Layout;

/// A segment that is being packed.
pub(crate) struct Packer {
    layout: Layout,
    segment: u64,
    identity: u64,
    name: String,
    codec: BlockCodec,
    wrapped: Option<WrappedKey>,
    places: Vec<ChunkPlace>,
    offset: u64,
}

impl Packer {
    /// The segment has no pages yet; `name` is for messages.
    ///
    /// # Errors
    /// `Io` if there is no randomness for a key.
    pub(crate) fn new(
        packing: &Packing,
        layout: Layout,
        segment: u64,
        identity: u64,
        name: &str,
    ) -> Result<Self> {
        let (key, wrapped) = packing.new_key(file_id(layout, segment, identity))?.unzip();
        Ok(Self {
            layout,
            segment,
            identity,
            name: name.to_owned(),
            codec: codec(packing, key),
            wrapped,
            places: Vec::new(),
            offset: 0,
        })
    }

    /// The stored form of the next page, of whose bytes `page_at` makes the errors.
    ///
    /// # Errors
    /// What `damaged` makes of the offset of a record that is damaged.
    pub(crate) fn page(
        &mut self,
        page: u64,
        bytes: &[u8],
        damaged: impl Fn(u64) -> Error,
    ) -> Result<Vec<u8>> {
        let log2 = (self.layout.page_bytes / 8).trailing_zeros();
        let mut out = Vec::with_capacity(bytes.len() / 2);
        let (mut begin, mut at) = (0, 0);
        while at < bytes.len() {
            let address = LogicalAddress::new(page, at as u64 / 8, log2);
            let record = read_record(&bytes[at..], address).ok_or_else(|| damaged(at as u64))?;
            let end = at + record.size_bytes;
            if at > begin && (end - begin) as u64 > self.layout.chunk_bytes() {
                self.chunk(page, begin, &bytes[begin..at], &mut out)?;
                begin = at;
            }
            at = end;
        }
        if at > bytes.len() {
            return Err(damaged(begin as u64));
        }
        if begin < at {
            self.chunk(page, begin, &bytes[begin..at], &mut out)?;
        }
        self.offset += out.len() as u64;
        Ok(out)
    }

    fn chunk(&mut self, page: u64, begin: usize, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let offset = self.offset + start as u64;
        self.codec.encode(self.context(offset), plain, out)?;
        self.places.push(ChunkPlace {
            // Below the number of pages of a segment, and of bytes of a page.
            page: (page % self.layout.pages_per_segment) as u32,
            begin: begin as u32,
            plain_bytes: plain.len() as u32,
            stored_bytes: (out.len() - start) as u32,
            offset,
        });
        Ok(())
    }

    /// Index and trailer, and what is to be kept of the object.
    ///
    /// # Errors
    /// `InvalidArgument` beyond what an index may take.
    pub(crate) fn finish(self) -> Result<(Vec<u8>, PackedFacts)> {
        let mut tail = Vec::new();
        self.codec.encode(self.context(self.offset), &Index::encode(&self.places), &mut tail)?;
        let trailer = Trailer { index_bytes: tail.len() as u64, wrapped: self.wrapped };
        tail.extend_from_slice(&trailer.encode(self.layout, self.segment, self.identity));
        let tail_bytes = tail.len() as u64;
        let facts = PackedFacts {
            identity: self.identity,
            bytes: self.offset + tail_bytes,
            tail_bytes,
            is_encrypted: self.wrapped.is_some(),
        };
        Ok((tail, facts))
    }

    fn context(&self, offset: u64) -> BlockContext<'_> {
        let file_id = file_id(self.layout, self.segment, self.identity);
        BlockContext { file: &self.name, file_id, offset }
    }
}
