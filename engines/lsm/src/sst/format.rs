//! Footer, handles and properties of a table.

use std::collections::BTreeMap;

use ferrokit_engine::UnixMillis;

use crate::encoding::{Malformed, Reader, put_bytes, put_varint};
use crate::key::PhysicalKeyspace;

/// The first bytes of a footer.
const MAGIC: [u8; 8] = *b"FerroSST";
/// The format this code writes; older ones are read, newer ones refused.
pub(crate) const VERSION: u32 = 1;
/// Bytes of the footer.
pub(crate) const FOOTER_BYTES: usize = 60;
const FLAG_TWO_LEVEL_INDEX: u32 = 1;
const FLAG_FILTER: u32 = 2;

const _: () = assert!(FOOTER_BYTES == MAGIC.len() + 4 + 4 + 3 * BlockHandle::BYTES + 4 + 4);

/// Where a stored block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlockHandle {
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl BlockHandle {
    const BYTES: usize = 12;

    fn put_fixed(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
    }

    fn read_fixed(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { offset: reader.u64()?, len: reader.u32()? })
    }

    /// As the value of an index record.
    pub(crate) fn to_index_value(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(15);
        put_varint(&mut out, self.offset);
        put_varint(&mut out, u64::from(self.len));
        out
    }

    pub(crate) fn from_index_value(value: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(value);
        let handle = Self { offset: reader.varint()?, len: reader.varint_u32()? };
        if reader.is_empty() {
            Ok(handle)
        } else {
            Err(Malformed("index value of a broken length"))
        }
    }
}

/// The end of a table, from which everything else is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) filter: Option<BlockHandle>,
    pub(crate) index: BlockHandle,
    pub(crate) two_level_index: bool,
    pub(crate) properties: BlockHandle,
}

/// Why a footer is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadFooter {
    Malformed(Malformed),
    TooNew(u32),
}

impl From<Malformed> for BadFooter {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Footer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        if self.two_level_index {
            flags |= FLAG_TWO_LEVEL_INDEX;
        }
        if self.filter.is_some() {
            flags |= FLAG_FILTER;
        }
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&u32::to_le_bytes(flags));
        self.filter.unwrap_or(BlockHandle { offset: 0, len: 0 }).put_fixed(&mut out);
        self.index.put_fixed(&mut out);
        self.properties.put_fixed(&mut out);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadFooter> {
        let mut reader = Reader::new(bytes);
        if bytes.len() != FOOTER_BYTES || reader.take(MAGIC.len())? != MAGIC {
            return Err(Malformed("no FerroSST footer").into());
        }
        let version = reader.u32()?;
        if version > VERSION {
            return Err(BadFooter::TooNew(version));
        }
        let (body, stored) = bytes.split_at(FOOTER_BYTES - 4);
        if Reader::new(stored).u32()? != crc32c::crc32c(body) {
            return Err(Malformed("footer checksum mismatch").into());
        }
        let flags = reader.u32()?;
        if version == 0 || flags & !(FLAG_TWO_LEVEL_INDEX | FLAG_FILTER) != 0 {
            return Err(Malformed("unknown footer flags").into());
        }
        let filter = BlockHandle::read_fixed(&mut reader)?;
        let index = BlockHandle::read_fixed(&mut reader)?;
        let properties = BlockHandle::read_fixed(&mut reader)?;
        Ok(Self {
            filter: (flags & FLAG_FILTER != 0).then_some(filter),
            index,
            two_level_index: flags & FLAG_TWO_LEVEL_INDEX != 0,
            properties,
        })
    }
}

/// Versions of one keyspace in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct KeyspaceCounts {
    pub(crate) puts: u64,
    pub(crate) deletes: u64,
}

/// Facts about a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Properties {
    pub(crate) versions: u64,
    pub(crate) deletes: u64,
    pub(crate) expiring: u64,
    /// Bytes of keys and values before compression.
    pub(crate) raw_bytes: u64,
    /// Bytes of the largest block before compression: a reader's limit.
    pub(crate) block_bytes_max: u64,
    pub(crate) sequence_min: u64,
    pub(crate) sequence_max: u64,
    /// The earliest expiry in it; `None` if nothing expires.
    pub(crate) expire_at_min: Option<UnixMillis>,
    pub(crate) smallest: Vec<u8>,
    pub(crate) largest: Vec<u8>,
    pub(crate) keyspaces: BTreeMap<PhysicalKeyspace, KeyspaceCounts>,
}

impl Properties {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [
            self.versions,
            self.deletes,
            self.expiring,
            self.raw_bytes,
            self.block_bytes_max,
            self.sequence_min,
            self.sequence_max,
            self.expire_at_min.map_or(0, |at| at.0.max(1)),
        ] {
            put_varint(&mut out, number);
        }
        put_bytes(&mut out, &self.smallest);
        put_bytes(&mut out, &self.largest);
        put_varint(&mut out, self.keyspaces.len() as u64);
        for (keyspace, counts) in &self.keyspaces {
            put_varint(&mut out, u64::from(keyspace.0));
            put_varint(&mut out, counts.puts);
            put_varint(&mut out, counts.deletes);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut properties = Self {
            versions: reader.varint()?,
            deletes: reader.varint()?,
            expiring: reader.varint()?,
            raw_bytes: reader.varint()?,
            block_bytes_max: reader.varint()?,
            sequence_min: reader.varint()?,
            sequence_max: reader.varint()?,
            expire_at_min: Some(reader.varint()?).filter(|at| *at > 0).map(UnixMillis),
            smallest: reader.bytes()?.to_vec(),
            largest: reader.bytes()?.to_vec(),
            keyspaces: BTreeMap::new(),
        };
        for _ in 0..reader.varint()? {
            let keyspace = PhysicalKeyspace(reader.varint_u32()?);
            let counts = KeyspaceCounts { puts: reader.varint()?, deletes: reader.varint()? };
            properties.keyspaces.insert(keyspace, counts);
        }
        if reader.is_empty() { Ok(properties) } else { Err(Malformed("bytes behind properties")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_comes_back_and_every_flipped_bit_is_noticed() {
        let footer = Footer {
            filter: Some(BlockHandle { offset: 10, len: 20 }),
            index: BlockHandle { offset: 30, len: 40 },
            two_level_index: true,
            properties: BlockHandle { offset: 70, len: 5 },
        };
        let bytes = footer.encode();
        assert_eq!(bytes.len(), FOOTER_BYTES);
        assert_eq!(Footer::decode(&bytes), Ok(footer));
        for bit in 0..FOOTER_BYTES * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_told_apart_from_a_broken_one() {
        let handle = BlockHandle { offset: 0, len: 1 };
        let mut bytes =
            Footer { filter: None, index: handle, two_level_index: false, properties: handle }
                .encode();
        bytes[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
        assert_eq!(Footer::decode(&bytes), Err(BadFooter::TooNew(VERSION + 1)));
    }

    #[test]
    fn properties_come_back() {
        let mut properties = Properties {
            versions: 7,
            deletes: 1,
            expiring: 2,
            raw_bytes: 1 << 40,
            block_bytes_max: 4096,
            sequence_min: 3,
            sequence_max: 9,
            expire_at_min: Some(UnixMillis(77)),
            smallest: b"a".to_vec(),
            largest: b"z".to_vec(),
            keyspaces: BTreeMap::new(),
        };
        properties.keyspaces.insert(PhysicalKeyspace(4), KeyspaceCounts { puts: 6, deletes: 1 });
        assert_eq!(Properties::decode(&properties.encode()), Ok(properties.clone()));
        assert!(Properties::decode(&properties.encode()[..9]).is_err());
    }
}
