//! The records this engine writes into the Log: one per write or batch.
//!
//! ```text
//! record = format(1) time_ms(8) first_sequence(8) count(4) change*
//! change = 1 keyspace key_len key expire_at(8) value_len value     a put
//!        | 2 keyspace key_len key                                   a delete
//!        | 3 keyspace key_len key                                   an expiry
//!        | 4 keyspace physical                                      a clear
//!        | 5 keyspace keyspace                                      a swap
//! ```
//! Numbers without a width are varints. The n-th change has the sequence `first_sequence + n`.

use ferrokit_engine::{BatchOp, Change, KeyspaceId, UnixMillis};

use crate::encoding::{Malformed, Reader, put_bytes, put_expiry, put_varint};
use crate::key::PhysicalKeyspace;

const FORMAT: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const EXPIRED: u8 = 3;
const CLEAR: u8 = 4;
const SWAP: u8 = 5;

/// A change as the log holds it: a clear also says where the keyspace lies from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogChange<'a> {
    Put { keyspace: KeyspaceId, key: &'a [u8], value: &'a [u8], expire_at: Option<UnixMillis> },
    Delete { keyspace: KeyspaceId, key: &'a [u8] },
    Expired { keyspace: KeyspaceId, key: &'a [u8] },
    Clear { keyspace: KeyspaceId, fresh: PhysicalKeyspace },
    Swap { a: KeyspaceId, b: KeyspaceId },
}

impl<'a> From<BatchOp<'a>> for LogChange<'a> {
    fn from(op: BatchOp<'a>) -> Self {
        match op {
            BatchOp::Put { keyspace, key, value, expire_at } => {
                Self::Put { keyspace, key, value, expire_at }
            }
            BatchOp::Delete { keyspace, key } => Self::Delete { keyspace, key },
        }
    }
}

impl<'a> From<LogChange<'a>> for Change<'a> {
    fn from(change: LogChange<'a>) -> Self {
        match change {
            LogChange::Put { keyspace, key, value, expire_at } => {
                Self::Put { keyspace, key, value, expire_at }
            }
            LogChange::Delete { keyspace, key } => Self::Delete { keyspace, key },
            LogChange::Expired { keyspace, key } => Self::Expired { keyspace, key },
            LogChange::Clear { keyspace, .. } => Self::Clear { keyspace },
            LogChange::Swap { a, b } => Self::Swap { a, b },
        }
    }
}

/// Bytes a record takes beyond keys and values, at most, for `changes` changes.
pub(crate) const fn overhead_bytes(changes: usize) -> usize {
    21 + changes * 32
}

/// Writes a record into `out`.
pub(crate) fn encode<'a>(
    out: &mut Vec<u8>,
    time: UnixMillis,
    first_sequence: u64,
    changes: impl ExactSizeIterator<Item = LogChange<'a>>,
) {
    out.clear();
    out.push(FORMAT);
    out.extend_from_slice(&time.0.to_le_bytes());
    out.extend_from_slice(&first_sequence.to_le_bytes());
    out.extend_from_slice(&u32::try_from(changes.len()).unwrap_or(u32::MAX).to_le_bytes());
    for change in changes {
        match change {
            LogChange::Put { keyspace, key, value, expire_at } => {
                put_keyed(out, PUT, keyspace, key);
                put_expiry(out, expire_at);
                put_bytes(out, value);
            }
            LogChange::Delete { keyspace, key } => put_keyed(out, DELETE, keyspace, key),
            LogChange::Expired { keyspace, key } => put_keyed(out, EXPIRED, keyspace, key),
            LogChange::Clear { keyspace, fresh } => {
                out.push(CLEAR);
                put_varint(out, u64::from(keyspace.0));
                put_varint(out, u64::from(fresh.0));
            }
            LogChange::Swap { a, b } => {
                out.push(SWAP);
                put_varint(out, u64::from(a.0));
                put_varint(out, u64::from(b.0));
            }
        }
    }
}

fn put_keyed(out: &mut Vec<u8>, tag: u8, keyspace: KeyspaceId, key: &[u8]) {
    out.push(tag);
    put_varint(out, u64::from(keyspace.0));
    put_bytes(out, key);
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogRecord<'a> {
    pub(crate) time: UnixMillis,
    pub(crate) first_sequence: u64,
    pub(crate) changes: Vec<LogChange<'a>>,
}

impl LogRecord<'_> {
    /// The sequence of the last change.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.first_sequence + (self.changes.len() as u64).saturating_sub(1)
    }
}

/// Reads a record.
pub(crate) fn decode(bytes: &[u8]) -> Result<LogRecord<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != FORMAT {
        return Err(Malformed("an unknown record format"));
    }
    let time = UnixMillis(reader.u64()?);
    let first_sequence = reader.u64()?;
    let count = reader.u32()? as usize;
    // A change takes at least 3 bytes: no more room is made than the record can fill.
    let mut changes = Vec::with_capacity(count.min(reader.remaining() / 3));
    for _ in 0..count {
        let tag = reader.u8()?;
        let keyspace = KeyspaceId(reader.varint_u32()?);
        changes.push(match tag {
            PUT => {
                let key = reader.bytes()?;
                let expire_at = reader.expiry()?;
                LogChange::Put { keyspace, key, value: reader.bytes()?, expire_at }
            }
            DELETE => LogChange::Delete { keyspace, key: reader.bytes()? },
            EXPIRED => LogChange::Expired { keyspace, key: reader.bytes()? },
            CLEAR => LogChange::Clear { keyspace, fresh: PhysicalKeyspace(reader.varint_u32()?) },
            SWAP => LogChange::Swap { a: keyspace, b: KeyspaceId(reader.varint_u32()?) },
            _ => return Err(Malformed("an unknown change")),
        });
    }
    if first_sequence.checked_add(count as u64).is_none() || first_sequence == 0 || count == 0 {
        return Err(Malformed("sequences out of range"));
    }
    if reader.is_empty() {
        Ok(LogRecord { time, first_sequence, changes })
    } else {
        Err(Malformed("bytes behind the changes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back() {
        let changes = [
            LogChange::Put {
                keyspace: KeyspaceId(1),
                key: b"k",
                value: b"v",
                expire_at: Some(UnixMillis(5)),
            },
            LogChange::Delete { keyspace: KeyspaceId(0), key: b"" },
            LogChange::Expired { keyspace: KeyspaceId(9), key: b"x" },
            LogChange::Clear { keyspace: KeyspaceId(3), fresh: PhysicalKeyspace(2000) },
            LogChange::Swap { a: KeyspaceId(0), b: KeyspaceId(1) },
        ];
        let mut bytes = Vec::new();
        encode(&mut bytes, UnixMillis(99), 40, changes.iter().copied());
        assert!(bytes.len() <= overhead_bytes(changes.len()) + 4);
        let record = decode(&bytes).unwrap();
        assert_eq!(record.changes, changes);
        assert_eq!((record.time, record.last_sequence()), (UnixMillis(99), 44));
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
