//! The bytes of a checkpoint; `docs/design.md` describes them.

use std::sync::Arc;

use ferrokit_engine::{Error, ErrorKind, KeyspaceId, Result, Sequence, UnixMillis};

use crate::table::{Key, Record};

/// The file of a checkpoint.
pub(crate) const FILE_NAME: &str = "memory.checkpoint";
/// Its name while it is being written: `open` does not accept it.
pub(crate) const UNFINISHED_NAME: &str = "memory.checkpoint.unfinished";

const MAGIC: [u8; 8] = *b"FKMEMCP\0";
const VERSION: u32 = 1;

/// `magic(8) | version(4) | reserved(4) | sequence(8) | clock(8) | crc32c(4)`.
pub(crate) const HEADER_BYTES: usize = 36;
const _: () = assert!(HEADER_BYTES == MAGIC.len() + 4 + 4 + 8 + 8 + 4);

/// `payload length(4) | crc32c of index and payload(4)`.
pub(crate) const BLOCK_HEADER_BYTES: usize = 8;

/// `keyspace(4) | flags(1) | key length(4) | value length(4) | sequence(8) | expire_at(8)`.
const RECORD_HEADER_BYTES: usize = 29;
const _: () = assert!(RECORD_HEADER_BYTES == 4 + 1 + 4 + 4 + 8 + 8);

/// The record has an expiry.
const FLAG_EXPIRES: u8 = 1;

/// A block is closed once it has this many bytes.
pub(crate) const BLOCK_TARGET_BYTES: usize = 64 << 10;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The last write in the checkpoint.
    pub(crate) sequence: Sequence,
    /// The time at which it was taken; the clock of whoever opens it starts no earlier.
    pub(crate) clock: UnixMillis,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.0.to_le_bytes());
        bytes.extend_from_slice(&self.clock.0.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], file: &str) -> Result<Self> {
        let bad = |message: &'static str| Error::corruption("open", message, file, 0);
        let mut reader = Reader::new(bytes);
        if reader.array::<8>() != Some(MAGIC) {
            return Err(bad("not a checkpoint of the memory engine"));
        }
        let version = reader.u32().ok_or_else(|| bad("the header is cut short"))?;
        let body = bytes.get(..HEADER_BYTES - 4).unwrap_or_default();
        let fields = (reader.u32(), reader.u64(), reader.u64(), reader.u32());
        let (Some(_), Some(sequence), Some(clock), Some(checksum)) = fields else {
            return Err(bad("the header is cut short"));
        };
        // The checksum stands at the same place in every version, so that a damaged version is
        // not taken for a new one.
        if crc32c::crc32c(body) != checksum {
            return Err(bad("the header's checksum does not match"));
        }
        if version != VERSION {
            return Err(Error::new(
                ErrorKind::VersionTooNew,
                "open",
                format!("the checkpoint has version {version}, this code reads {VERSION}"),
            )
            .with_file(file));
        }
        Ok(Self { sequence: Sequence(sequence), clock: UnixMillis(clock) })
    }
}

/// Adds a record to the payload of a block.
pub(crate) fn encode_record(
    payload: &mut Vec<u8>,
    keyspace: KeyspaceId,
    key: &[u8],
    record: &Record,
) -> Result<()> {
    let too_long = |_| Error::invalid("checkpoint", "a key or value is longer than 4 GiB");
    let key_bytes = u32::try_from(key.len()).map_err(too_long)?;
    let value_bytes = u32::try_from(record.value.len()).map_err(too_long)?;
    payload.extend_from_slice(&keyspace.0.to_le_bytes());
    payload.push(if record.expire_at.is_some() { FLAG_EXPIRES } else { 0 });
    payload.extend_from_slice(&key_bytes.to_le_bytes());
    payload.extend_from_slice(&value_bytes.to_le_bytes());
    payload.extend_from_slice(&record.sequence.0.to_le_bytes());
    payload.extend_from_slice(&record.expire_at.unwrap_or_default().0.to_le_bytes());
    payload.extend_from_slice(key);
    payload.extend_from_slice(&record.value);
    Ok(())
}

/// Frames a payload as the block with this index. An empty payload ends the checkpoint.
pub(crate) fn encode_block(index: u64, payload: &[u8]) -> Result<Vec<u8>> {
    let payload_bytes = u32::try_from(payload.len())
        .map_err(|_| Error::invalid("checkpoint", "a block is longer than 4 GiB"))?;
    let mut bytes = Vec::with_capacity(BLOCK_HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&payload_bytes.to_le_bytes());
    bytes.extend_from_slice(&block_checksum(index, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Length and checksum of a block's payload.
pub(crate) fn decode_block_header(bytes: &[u8]) -> Option<(usize, u32)> {
    let mut reader = Reader::new(bytes);
    Some((reader.u32()? as usize, reader.u32()?))
}

/// The index is under the checksum, so that a block in another's place is found.
pub(crate) fn block_checksum(index: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&index.to_le_bytes()), payload)
}

/// Decodes the records of a block's payload; `None` if they do not fill it exactly.
pub(crate) fn decode_records(
    payload: &[u8],
    mut found: impl FnMut(KeyspaceId, Key, Record),
) -> Option<()> {
    let mut reader = Reader::new(payload);
    while !reader.rest.is_empty() {
        let keyspace = KeyspaceId(reader.u32()?);
        let [flags] = reader.array::<1>()?;
        let (key_bytes, value_bytes) = (reader.u32()? as usize, reader.u32()? as usize);
        let sequence = Sequence(reader.u64()?);
        let expire_at = UnixMillis(reader.u64()?);
        let key = Arc::from(reader.bytes(key_bytes)?);
        let value = Arc::from(reader.bytes(value_bytes)?);
        let expire_at = match flags {
            0 => None,
            FLAG_EXPIRES => Some(expire_at),
            _ => return None,
        };
        found(keyspace, key, Record { value, expire_at, sequence });
    }
    Some(())
}

/// Reads little-endian fields; `None` beyond the end.
struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    fn bytes(&mut self, len: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_the_header_is_found() {
        let header = Header { sequence: Sequence(7), clock: UnixMillis(99) };
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::decode(&bytes, "f").unwrap(), header);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = Header::decode(&damaged, "f").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "bit {bit}");
        }
        assert!(Header::decode(&bytes[..20], "f").is_err());
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let mut bytes = Header { sequence: Sequence(7), clock: UnixMillis(99) }.encode();
        bytes[8] = 2;
        let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        let error = Header::decode(&bytes, "f").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::VersionTooNew);
    }

    proptest::proptest! {
        #[test]
        fn any_payload_is_decoded_or_refused(payload: Vec<u8>) {
            let _ = decode_records(&payload, |_, _, _| {});
        }
    }
}
