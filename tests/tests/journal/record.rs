//! The bytes of a record: `length(4) | crc32c(4) | payload`, the payload being
//! `stamp(8) | synced(8) | kind(1) | writes`.

use ferrokit_engine::{Change, KeyspaceId, UnixMillis};

pub(crate) const HEADER_BYTES: usize = 8;
const FIXED_BYTES: usize = 17;

/// A write that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    Put { keyspace: KeyspaceId, key: Vec<u8>, value: Vec<u8>, expire_at: Option<UnixMillis> },
    Delete { keyspace: KeyspaceId, key: Vec<u8> },
    Clear { keyspace: KeyspaceId },
    Swap { a: KeyspaceId, b: KeyspaceId },
}

impl Write {
    pub(crate) fn change(&self) -> Change<'_> {
        match self {
            Self::Put { keyspace, key, value, expire_at } => {
                Change::Put { keyspace: *keyspace, key, value, expire_at: *expire_at }
            }
            Self::Delete { keyspace, key } => Change::Delete { keyspace: *keyspace, key },
            Self::Clear { keyspace } => Change::Clear { keyspace: *keyspace },
            Self::Swap { a, b } => Change::Swap { a: *a, b: *b },
        }
    }
}

/// A decoded record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The engine's time when it was made.
    pub(crate) stamp: UnixMillis,
    /// Up to where its segment was synced when it was written: below, nothing may be torn.
    pub(crate) synced: u64,
    /// Whether it seals its segment.
    pub(crate) is_end: bool,
    pub(crate) writes: Vec<Write>,
}

impl Record {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(&self.stamp.0.to_le_bytes());
        bytes.extend_from_slice(&self.synced.to_le_bytes());
        bytes.push(u8::from(self.is_end));
        for write in &self.writes {
            encode_write(&mut bytes, write);
        }
        let payload_bytes = (bytes.len() - HEADER_BYTES) as u32;
        let checksum = crc32c::crc32c(&bytes[HEADER_BYTES..]);
        bytes[..4].copy_from_slice(&payload_bytes.to_le_bytes());
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The record at the start of `bytes` and its length.
    pub(crate) fn decode(bytes: &[u8], verify: bool) -> Option<(Self, usize)> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let payload = rest.get(..u32::from_le_bytes(*length) as usize)?;
        if payload.len() < FIXED_BYTES
            || (verify && crc32c::crc32c(payload) != u32::from_le_bytes(*checksum))
        {
            return None;
        }
        let mut reader = Reader(payload);
        let mut record = Self {
            stamp: UnixMillis(reader.u64()?),
            synced: reader.u64()?,
            is_end: reader.bytes(1)? == [1],
            writes: Vec::new(),
        };
        while !reader.0.is_empty() {
            record.writes.push(decode_write(&mut reader)?);
        }
        Some((record, HEADER_BYTES + payload.len()))
    }
}

fn encode_write(bytes: &mut Vec<u8>, write: &Write) {
    let mut push = |part: &[u8]| {
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        bytes.extend_from_slice(part);
    };
    match write {
        Write::Put { keyspace, key, value, expire_at } => {
            push(b"p");
            push(&keyspace.0.to_le_bytes());
            push(key);
            push(value);
            push(&expire_at.map(|at| at.0.to_le_bytes().to_vec()).unwrap_or_default());
        }
        Write::Delete { keyspace, key } => {
            push(b"d");
            push(&keyspace.0.to_le_bytes());
            push(key);
        }
        Write::Clear { keyspace } => {
            push(b"c");
            push(&keyspace.0.to_le_bytes());
        }
        Write::Swap { a, b } => {
            push(b"s");
            push(&a.0.to_le_bytes());
            push(&b.0.to_le_bytes());
        }
    }
}

fn decode_write(reader: &mut Reader<'_>) -> Option<Write> {
    Some(match reader.part()? {
        b"p" => Write::Put {
            keyspace: reader.keyspace()?,
            key: reader.part()?.to_vec(),
            value: reader.part()?.to_vec(),
            expire_at: match reader.part()? {
                [] => None,
                at => Some(UnixMillis(u64::from_le_bytes(at.try_into().ok()?))),
            },
        },
        b"d" => Write::Delete { keyspace: reader.keyspace()?, key: reader.part()?.to_vec() },
        b"c" => Write::Clear { keyspace: reader.keyspace()? },
        b"s" => Write::Swap { a: reader.keyspace()?, b: reader.keyspace()? },
        _ => return None,
    })
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn bytes(&mut self, len: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn part(&mut self) -> Option<&'b [u8]> {
        let len = self.bytes(4)?.try_into().ok().map(u32::from_le_bytes)?;
        self.bytes(len as usize)
    }

    fn keyspace(&mut self) -> Option<KeyspaceId> {
        self.part()?.try_into().ok().map(u32::from_le_bytes).map(KeyspaceId)
    }
}
