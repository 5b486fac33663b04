//! A block: records with shared key prefixes, and restart points where a key is whole.
//!
//! ```text
//! block   = record* restart* restart_count(4)
//! restart = offset(4) of a record whose key shares nothing
//! record  = flags(1) expire_at(8, if flagged) shared_len unshared_len value_len sequence
//!           key_suffix value
//! ```
//! Lengths and the sequence are varints. Flags and expiry come first, so that a scan knows of
//! tombstone and expiry before it looks at the value.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use ferrokit_engine::UnixMillis;

use crate::config::MAX_KEY_BYTES;
use crate::encoding::{Malformed, Reader, put_varint};

use crate::key::{KEYSPACE_BYTES, compare_versions};
use crate::memtable::Kind;

const FLAG_DELETE: u8 = 1;
const FLAG_EXPIRES: u8 = 2;
const KNOWN_FLAGS: u8 = FLAG_DELETE | FLAG_EXPIRES;

/// The most records between two restart points: what the configuration allows. With the longest
/// key it bounds what a few bytes of shared keys stand for in memory.
const RESTART_INTERVAL_MAX: usize = 1024;
const STORED_KEY_BYTES_MAX: usize = MAX_KEY_BYTES + KEYSPACE_BYTES;

/// Collects sorted records into a block.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    restart_interval: usize,
    since_restart: usize,
    last_key: Vec<u8>,
    last_sequence: u64,
}

impl BlockBuilder {
    pub(crate) fn new(restart_interval: usize) -> Self {
        Self {
            bytes: Vec::new(),
            restarts: Vec::new(),
            restart_interval,
            since_restart: 0,
            last_key: Vec::new(),
            last_sequence: 0,
        }
    }

    /// Adds a record, which must sort behind the last one.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        sequence: u64,
        kind: Kind,
        expire_at: Option<UnixMillis>,
        value: &[u8],
    ) {
        debug_assert!(
            self.is_empty()
                || compare_versions((&self.last_key, self.last_sequence), (key, sequence))
                    == Ordering::Less
        );
        let restart = self.restarts.is_empty() || self.since_restart == self.restart_interval;
        let shared = if restart {
            self.restarts.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
            self.since_restart = 0;
            0
        } else {
            self.last_key.iter().zip(key).take_while(|(a, b)| a == b).count()
        };
        self.since_restart += 1;
        let mut flags = if kind == Kind::Delete { FLAG_DELETE } else { 0 };
        if expire_at.is_some() {
            flags |= FLAG_EXPIRES;
        }
        self.bytes.push(flags);
        if let Some(at) = expire_at {
            self.bytes.extend_from_slice(&at.0.to_le_bytes());
        }
        let suffix = key.get(shared..).unwrap_or_default();
        put_varint(&mut self.bytes, shared as u64);
        put_varint(&mut self.bytes, suffix.len() as u64);
        put_varint(&mut self.bytes, value.len() as u64);
        put_varint(&mut self.bytes, sequence);
        self.bytes.extend_from_slice(suffix);
        self.bytes.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(suffix);
        self.last_sequence = sequence;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.restarts.is_empty()
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() + (self.restarts.len() + 1) * 4
    }

    /// The last record added.
    pub(crate) fn last(&self) -> (&[u8], u64) {
        (&self.last_key, self.last_sequence)
    }

    /// The block; the builder begins anew.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        for restart in &self.restarts {
            bytes.extend_from_slice(&restart.to_le_bytes());
        }
        let count = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        self.restarts.clear();
        self.since_restart = 0;
        self.last_key.clear();
        bytes
    }
}

/// A decoded block. Its checksum was verified; its structure is verified as it is read.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    records_end: usize,
    restarts: usize,
}

impl Block {
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let count_at = bytes.len().checked_sub(4).ok_or(Malformed("block without restarts"))?;
        let count = Reader::new(bytes.get(count_at..).unwrap_or_default()).u32()? as usize;
        let records_end = count
            .checked_mul(4)
            .and_then(|restart_bytes| count_at.checked_sub(restart_bytes))
            .ok_or(Malformed("more restarts than bytes"))?;
        if count == 0 {
            return Err(Malformed("block without restarts"));
        }
        Ok(Self { bytes, records_end, restarts: count })
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.capacity() + std::mem::size_of::<Self>()
    }

    fn restart(&self, index: usize) -> Result<usize, Malformed> {
        let at = self.records_end + index * 4;
        let offset = Reader::new(self.bytes.get(at..).unwrap_or_default()).u32()? as usize;
        if offset < self.records_end {
            Ok(offset)
        } else {
            Err(Malformed("restart beyond records"))
        }
    }

    /// Where the records of restart interval `index` lie.
    fn interval(&self, index: usize) -> Result<Range<usize>, Malformed> {
        let start = self.restart(index)?;
        let end =
            if index + 1 < self.restarts { self.restart(index + 1)? } else { self.records_end };
        if start < end { Ok(start..end) } else { Err(Malformed("restarts out of order")) }
    }

    /// Key and sequence of the first record of an interval.
    fn first_of(&self, index: usize) -> Result<(&[u8], u64), Malformed> {
        let interval = self.interval(index)?;
        let header =
            Header::read(&mut Reader::new(self.bytes.get(interval.clone()).unwrap_or_default()))?;
        if header.shared != 0 {
            return Err(Malformed("restart with a shared key"));
        }
        let start = interval.start + header.len;
        let key = self
            .bytes
            .get(start..start.saturating_add(header.unshared))
            .ok_or(Malformed("key beyond block"))?;
        Ok((key, header.sequence))
    }
}

struct Header {
    kind: Kind,
    expire_at: Option<UnixMillis>,
    shared: usize,
    unshared: usize,
    value: usize,
    sequence: u64,
    len: usize,
}

impl Header {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let before = reader.remaining();
        let flags = reader.u8()?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(Malformed("unknown record flags"));
        }
        let expire_at =
            if flags & FLAG_EXPIRES != 0 { Some(UnixMillis(reader.u64()?)) } else { None };
        let kind = if flags & FLAG_DELETE != 0 { Kind::Delete } else { Kind::Put };
        let (shared, unshared, value) = (reader.length()?, reader.length()?, reader.length()?);
        let sequence = reader.varint()?;
        let len = before - reader.remaining();
        Ok(Self { kind, expire_at, shared, unshared, value, sequence, len })
    }
}

#[derive(Debug, Clone)]
struct Record {
    key: Range<usize>,
    value: Range<usize>,
    sequence: u64,
    kind: Kind,
    expire_at: Option<UnixMillis>,
}

/// Stands on a record of a block and moves in both directions. It decodes one restart interval at
/// a time.
#[derive(Debug)]
pub(crate) struct BlockCursor {
    block: Arc<Block>,
    interval: usize,
    keys: Vec<u8>,
    records: Vec<Record>,
    at: usize,
}

impl BlockCursor {
    /// On no record: seek first.
    pub(crate) fn new(block: Arc<Block>) -> Self {
        Self { block, interval: 0, keys: Vec::new(), records: Vec::new(), at: 0 }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.at < self.records.len()
    }

    /// Moves to the first record.
    pub(crate) fn first(&mut self) -> Result<(), Malformed> {
        self.load(0)?;
        self.at = 0;
        Ok(())
    }

    /// Moves to the last record.
    pub(crate) fn last(&mut self) -> Result<(), Malformed> {
        self.load(self.block.restarts - 1)?;
        self.at = self.records.len() - 1;
        Ok(())
    }

    /// Moves to the first record at or behind the version; invalid if there is none.
    pub(crate) fn seek(&mut self, key: &[u8], sequence: u64) -> Result<(), Malformed> {
        let (mut low, mut high) = (0, self.block.restarts);
        while low + 1 < high {
            let middle = low.midpoint(high);
            let first = self.block.first_of(middle)?;
            match compare_versions(first, (key, sequence)) {
                Ordering::Greater => high = middle,
                _ => low = middle,
            }
        }
        self.load(low)?;
        self.at = self
            .records
            .iter()
            .position(|record| {
                let stored = self.keys.get(record.key.clone()).unwrap_or_default();
                compare_versions((stored, record.sequence), (key, sequence)) != Ordering::Less
            })
            .unwrap_or(self.records.len());
        if self.is_valid() { Ok(()) } else { self.load_next() }
    }

    /// Moves forward; invalid behind the last record.
    pub(crate) fn next(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        if self.is_valid() { Ok(()) } else { self.load_next() }
    }

    /// Moves backward; invalid before the first record.
    pub(crate) fn prev(&mut self) -> Result<(), Malformed> {
        if self.at > 0 {
            self.at -= 1;
        } else if self.interval > 0 {
            self.load(self.interval - 1)?;
            self.at = self.records.len() - 1;
        } else {
            self.at = self.records.len();
        }
        Ok(())
    }

    fn load_next(&mut self) -> Result<(), Malformed> {
        if self.interval + 1 < self.block.restarts {
            self.load(self.interval + 1)?;
            self.at = 0;
        } else {
            self.at = self.records.len();
        }
        Ok(())
    }

    /// Decodes a restart interval; it holds at least one record.
    fn load(&mut self, interval: usize) -> Result<(), Malformed> {
        if interval == self.interval && !self.records.is_empty() {
            return Ok(());
        }
        let decoded = self.decode(interval);
        if decoded.is_err() {
            self.records.clear();
        }
        self.interval = interval;
        decoded
    }

    fn decode(&mut self, interval: usize) -> Result<(), Malformed> {
        self.records.clear();
        self.keys.clear();
        let range = self.block.interval(interval)?;
        let bytes = self.block.bytes.get(..range.end).unwrap_or_default();
        let mut at = range.start;
        let mut last = 0..0;
        while at < range.end {
            let header = Header::read(&mut Reader::new(bytes.get(at..).unwrap_or_default()))?;
            let suffix = at + header.len;
            let value = suffix.checked_add(header.unshared).ok_or(Malformed("key beyond block"))?;
            let end = value
                .checked_add(header.value)
                .filter(|end| *end <= range.end)
                .ok_or(Malformed("value beyond block"))?;
            if header.shared > last.len() {
                return Err(Malformed("more key shared than there is"));
            }
            if header.shared + header.unshared > STORED_KEY_BYTES_MAX {
                return Err(Malformed("a key beyond the limit"));
            }
            if self.records.len() == RESTART_INTERVAL_MAX {
                return Err(Malformed("too many records without a restart"));
            }
            let start = self.keys.len();
            self.keys.extend_from_within(last.start..last.start + header.shared);
            self.keys.extend_from_slice(bytes.get(suffix..value).unwrap_or_default());
            last = start..self.keys.len();
            self.records.push(Record {
                key: last.clone(),
                value: value..end,
                sequence: header.sequence,
                kind: header.kind,
                expire_at: header.expire_at,
            });
            at = end;
        }
        Ok(())
    }

    #[expect(clippy::indexing_slicing, reason = "only called on a record")]
    fn record(&self) -> &Record {
        &self.records[self.at]
    }

    /// The stored key. Like the other fields: only while [`is_valid`](Self::is_valid).
    #[expect(clippy::indexing_slicing, reason = "the range was made when the key was")]
    pub(crate) fn key(&self) -> &[u8] {
        &self.keys[self.record().key.clone()]
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.record().sequence
    }

    pub(crate) fn kind(&self) -> Kind {
        self.record().kind
    }

    pub(crate) fn expire_at(&self) -> Option<UnixMillis> {
        self.record().expire_at
    }

    #[expect(clippy::indexing_slicing, reason = "the range was checked when it was decoded")]
    pub(crate) fn value(&self) -> &[u8] {
        &self.block.bytes[self.record().value.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(count: u64, interval: usize) -> Arc<Block> {
        let mut builder = BlockBuilder::new(interval);
        for n in 0..count {
            let key = format!("key{:05}", n * 2);
            let expire_at = (n % 3 == 0).then_some(UnixMillis(n + 1));
            builder.add(key.as_bytes(), 100 + n, Kind::Put, expire_at, &n.to_le_bytes());
        }
        Arc::new(Block::parse(builder.finish()).unwrap())
    }

    #[test]
    fn records_come_back_in_both_directions() {
        for interval in [1, 2, 16] {
            let mut cursor = BlockCursor::new(build(50, interval));
            cursor.first().unwrap();
            for n in 0..50u64 {
                assert_eq!(cursor.key(), format!("key{:05}", n * 2).as_bytes());
                assert_eq!(cursor.value(), n.to_le_bytes());
                assert_eq!(cursor.sequence(), 100 + n);
                assert_eq!(cursor.expire_at(), (n % 3 == 0).then_some(UnixMillis(n + 1)));
                cursor.next().unwrap();
            }
            assert!(!cursor.is_valid());
            cursor.last().unwrap();
            for n in (0..50u64).rev() {
                assert_eq!(cursor.value(), n.to_le_bytes());
                cursor.prev().unwrap();
            }
            assert!(!cursor.is_valid());
        }
    }

    #[test]
    fn a_seek_finds_the_first_record_at_or_behind() {
        for interval in [1, 3, 16] {
            let mut cursor = BlockCursor::new(build(50, interval));
            for n in 0..99u64 {
                cursor.seek(format!("key{n:05}").as_bytes(), u64::MAX).unwrap();
                assert_eq!(cursor.value(), n.div_ceil(2).to_le_bytes());
            }
            cursor.seek(b"key00004", 101).unwrap();
            assert_eq!(cursor.value(), 3u64.to_le_bytes(), "version 102 is newer than 101");
            cursor.seek(b"z", 0).unwrap();
            assert!(!cursor.is_valid());
        }
    }

    #[test]
    fn what_was_decoded_before_damage_is_not_taken_for_another_interval() {
        let mut builder = BlockBuilder::new(2);
        for (n, key) in [b"a", b"b", b"c", b"d"].into_iter().enumerate() {
            builder.add(key, n as u64 + 1, Kind::Put, None, b"value");
        }
        let mut bytes = builder.finish();
        // The length of the last record's value.
        let last = bytes.len() - 12 - 6;
        assert_eq!((bytes[last - 2], bytes[last]), (5, b'd'));
        bytes[last - 2] = 100;
        let mut cursor = BlockCursor::new(Arc::new(Block::parse(bytes).unwrap()));
        cursor.first().unwrap();
        cursor.next().unwrap();
        assert!(cursor.next().is_err());
        assert!(!cursor.is_valid());
        cursor.first().unwrap();
        assert_eq!(cursor.key(), b"a");
    }

    #[test]
    fn a_small_block_cannot_stand_for_endless_keys() {
        let build = |keys: &mut dyn Iterator<Item = Vec<u8>>| {
            let mut builder = BlockBuilder::new(usize::MAX);
            keys.for_each(|key| builder.add(&key, 1, Kind::Put, None, b""));
            BlockCursor::new(Arc::new(Block::parse(builder.finish()).unwrap()))
        };
        let long = |n: u16| [&[b'k'; STORED_KEY_BYTES_MAX - 2][..], &n.to_be_bytes()].concat();
        build(&mut (0..4).map(long)).first().unwrap();
        let many = u16::try_from(RESTART_INTERVAL_MAX).unwrap() + 1;
        assert!(build(&mut (0..many).map(|n| n.to_be_bytes().to_vec())).first().is_err());
        let mut longer = long(0);
        longer.push(0);
        assert!(build(&mut [long(0), longer].into_iter()).first().is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(block) = Block::parse(bytes) {
                let mut cursor = BlockCursor::new(Arc::new(block));
                let _ = cursor.seek(b"k", 3);
                if cursor.first().is_ok() {
                    for _ in 0..100 {
                        if !cursor.is_valid() || cursor.next().is_err() {
                            break;
                        }
                    }
                }
            }
        }
    }
}
