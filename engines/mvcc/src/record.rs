//! Bytes: the header before every value, the keys of older versions, the entries of the meta
//! keyspace. All integers are little-endian; `docs/design.md` has the tables.

use ferrokit_engine::{Entry, Error, ErrorKind, KeyspaceId, Result, Sequence, UnixMillis};
use xxhash_rust::xxh3::xxh3_64;

/// The format of headers and meta entries.
pub(crate) const FORMAT: u8 = 1;
/// Bytes before the value.
pub(crate) const HEADER_BYTES: usize = 32;
/// Bytes that the key of an older version has beyond the user's key.
pub(crate) const VERSION_KEY_BYTES: usize = 12;

/// The inner keyspace of geometry, clock, reserved timestamps and the directory.
pub(crate) const META: KeyspaceId = KeyspaceId(0);
/// The inner keyspace of all older versions.
pub(crate) const HISTORY: KeyspaceId = KeyspaceId(1);
/// The inner keyspaces that hold no newest versions.
pub(crate) const RESERVED_KEYSPACES: u32 = 2;

const FLAG_TOMBSTONE: u8 = 1;
const FLAG_EXPIRES: u8 = 2;
const KNOWN_FLAGS: u8 = FLAG_TOMBSTONE | FLAG_EXPIRES;

const _: () = assert!(HEADER_BYTES == 1 + 1 + 2 + 4 + 8 + 8 + 8);
const _: () = assert!(VERSION_KEY_BYTES == 4 + 8);

/// The number of a commit. They rise in the order in which commits took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Timestamp(pub(crate) u64);

impl Timestamp {
    /// Before every commit; as a link, the end of the chain.
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn sequence(self) -> Sequence {
        Sequence(self.0)
    }
}

/// What is known of a version without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) timestamp: Timestamp,
    /// The next older version that a view may need.
    pub(crate) previous: Timestamp,
    pub(crate) expire_at: Option<UnixMillis>,
    pub(crate) is_tombstone: bool,
}

impl Header {
    /// Appends the header and the value.
    pub(crate) fn encode(&self, value: &[u8], out: &mut Vec<u8>) {
        let mut bytes = [0; HEADER_BYTES];
        let mut flags = 0;
        if self.is_tombstone {
            flags |= FLAG_TOMBSTONE;
        }
        if self.expire_at.is_some() {
            flags |= FLAG_EXPIRES;
        }
        bytes[0] = FORMAT;
        bytes[1] = flags;
        bytes[8..16].copy_from_slice(&self.timestamp.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.previous.0.to_le_bytes());
        let expire_at = self.expire_at.map_or(0, |at| at.0);
        bytes[24..32].copy_from_slice(&expire_at.to_le_bytes());
        let check = checksum(&bytes);
        bytes[4..8].copy_from_slice(&check.to_le_bytes());
        out.extend_from_slice(&bytes);
        out.extend_from_slice(value);
    }

    /// Splits a stored record.
    pub(crate) fn decode(record: &[u8]) -> Result<(Self, &[u8])> {
        let Some((header, value)) = record.split_first_chunk::<HEADER_BYTES>() else {
            return Err(corrupt("a record is shorter than its header"));
        };
        let mut bytes = *header;
        let check = u32_at(&bytes, 4);
        bytes[4..8].fill(0);
        if check != checksum(&bytes) {
            return Err(corrupt("the checksum of a version's header does not match"));
        }
        if bytes[0] > FORMAT {
            return Err(too_new());
        }
        let flags = bytes[1];
        if bytes[0] == 0 || flags & !KNOWN_FLAGS != 0 || bytes[2] != 0 || bytes[3] != 0 {
            return Err(corrupt("a version's header has unknown flags"));
        }
        let header = Self {
            timestamp: Timestamp(u64_at(&bytes, 8)),
            previous: Timestamp(u64_at(&bytes, 16)),
            expire_at: (flags & FLAG_EXPIRES != 0).then(|| UnixMillis(u64_at(&bytes, 24))),
            is_tombstone: flags & FLAG_TOMBSTONE != 0,
        };
        if header.previous >= header.timestamp {
            return Err(corrupt("a version is linked to one that is not older"));
        }
        Ok((header, value))
    }

    /// Whether the version is a value at `now`.
    pub(crate) fn is_live_at(&self, now: UnixMillis) -> bool {
        !self.is_tombstone && !Entry::is_expired_at(self.expire_at, now)
    }

    /// The entry of this version with `value`.
    pub(crate) fn entry<'v>(&self, value: &'v [u8]) -> Entry<'v> {
        Entry { value, expire_at: self.expire_at, sequence: Some(self.timestamp.sequence()) }
    }
}

/// `slot (4) | user key | timestamp (8)`: fixed lengths at both ends, so no two are alike.
pub(crate) fn version_key(slot: u32, key: &[u8], timestamp: Timestamp) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + VERSION_KEY_BYTES);
    bytes.extend_from_slice(&slot.to_le_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&timestamp.0.to_le_bytes());
    bytes
}

/// A key of the meta keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetaKey {
    /// Value: format, slots, user keyspaces.
    Geometry,
    /// Value: no timestamp at or above it was given out.
    ReservedTimestamps,
    /// Value: expiry's clock has reached it.
    Clock,
    /// Value: the slot that holds this keyspace, where it is not the one of the same number.
    Mapping(u32),
    /// A slot that no keyspace uses and that must be cleared before one does. No value.
    Retired(u32),
}

impl MetaKey {
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Self::Geometry => vec![b'g'],
            Self::ReservedTimestamps => vec![b't'],
            Self::Clock => vec![b'c'],
            Self::Mapping(id) => tagged(b'k', id),
            Self::Retired(slot) => tagged(b'r', slot),
        }
    }

    pub(crate) fn decode(key: &[u8]) -> Result<Self> {
        match *key {
            [b'g'] => Ok(Self::Geometry),
            [b't'] => Ok(Self::ReservedTimestamps),
            [b'c'] => Ok(Self::Clock),
            [b'k', a, b, c, d] => Ok(Self::Mapping(u32::from_le_bytes([a, b, c, d]))),
            [b'r', a, b, c, d] => Ok(Self::Retired(u32::from_le_bytes([a, b, c, d]))),
            _ => Err(corrupt("the inner engine's keyspace 0 holds what mvcc did not write")
                .with_key(key)),
        }
    }
}

fn tagged(tag: u8, id: u32) -> Vec<u8> {
    let mut key = vec![tag];
    key.extend_from_slice(&id.to_le_bytes());
    key
}

/// `format (1) | zero (3) | checksum (4) | number (8)`, the value of every meta entry.
pub(crate) fn encode_meta(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = FORMAT;
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    let check = checksum(&bytes);
    bytes[4..8].copy_from_slice(&check.to_le_bytes());
    bytes
}

pub(crate) fn decode_meta(value: &[u8]) -> Result<u64> {
    let Ok(mut bytes) = <[u8; 16]>::try_from(value) else {
        return Err(corrupt("a meta entry has another length"));
    };
    let check = u32_at(&bytes, 4);
    bytes[4..8].fill(0);
    if check != checksum(&bytes) {
        return Err(corrupt("the checksum of a meta entry does not match"));
    }
    match bytes[0] {
        FORMAT => Ok(u64_at(&bytes, 8)),
        newer if newer > FORMAT => Err(too_new()),
        _ => Err(corrupt("a meta entry has no format")),
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    (xxh3_64(bytes) & u64::from(u32::MAX)) as u32
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

#[cold]
pub(crate) fn corrupt(message: &'static str) -> Error {
    Error::new(ErrorKind::Corruption, "mvcc", message)
}

#[cold]
fn too_new() -> Error {
    Error::new(ErrorKind::VersionTooNew, "mvcc", "written by a newer version of mvcc")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            timestamp: Timestamp(0x0102_0304_0506_0708),
            previous: Timestamp(9),
            expire_at: Some(UnixMillis(77)),
            is_tombstone: false,
        }
    }

    #[test]
    fn a_record_reads_back_and_its_bytes_are_where_the_document_says() {
        let mut record = Vec::new();
        header().encode(b"value", &mut record);
        assert_eq!((record[0], record[1], &record[2..4]), (1, FLAG_EXPIRES, &[0, 0][..]));
        assert_eq!(record[8..16], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(record[16..24], [9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(record[24..32], [77, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&record[32..], b"value");
        assert_eq!(Header::decode(&record).unwrap(), (header(), &b"value"[..]));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_found() {
        let mut record = Vec::new();
        header().encode(b"", &mut record);
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = Header::decode(&flipped).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "bit {bit}");
        }
        for len in 0..HEADER_BYTES {
            assert!(Header::decode(&record[..len]).is_err());
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut bytes = encode_meta(5);
        assert_eq!(decode_meta(&bytes).unwrap(), 5);
        bytes[0] = FORMAT + 1;
        bytes[4..8].fill(0);
        let check = checksum(&bytes);
        bytes[4..8].copy_from_slice(&check.to_le_bytes());
        assert_eq!(decode_meta(&bytes).unwrap_err().kind(), ErrorKind::VersionTooNew);
        bytes[9] ^= 1;
        assert_eq!(decode_meta(&bytes).unwrap_err().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn meta_keys_read_back() {
        for key in [
            MetaKey::Geometry,
            MetaKey::ReservedTimestamps,
            MetaKey::Clock,
            MetaKey::Mapping(7),
            MetaKey::Retired(u32::MAX),
        ] {
            assert_eq!(MetaKey::decode(&key.encode()).unwrap(), key);
        }
        assert!(MetaKey::decode(b"user").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let _ = Header::decode(&bytes);
            let _ = decode_meta(&bytes);
            let _ = MetaKey::decode(&bytes);
        }
    }
}
