//! Records: a key, its value and expiry, written once and then published by a slot.
//!
//! ```text
//! offset  bytes  field
//!      0      8  keyspace word (see `keyspaces`)
//!      8      4  value length
//!     12      2  key length
//!     14      2  flags: bit 0, the record expires
//!     16      8  expiry in milliseconds since the Unix epoch; 0 without
//!     24      8  hash of the key
//!     32      v  value, padded with zeros to 8
//!   32+v      k  key, padded with zeros to 8
//! ```
//! After its publication nothing of a record changes, with one exception: a value of up to 8 bytes
//! is one aligned word, and a new value of the same length and expiry is one atomic store to it.
//! That is update in place as far as one store can be whole after a crash. So longer values are
//! lent in place, and short ones are copied out while the bucket's version vouches for them.

use crossbeam_epoch::Guard;
use ferrokit_engine::{Entry, Result, UnixMillis};
use ferrokit_storage::PmemRegion;

use crate::hash::KeyHash;
use crate::keyspaces::SpaceWord;
use crate::raw::PinnedRecord;

/// Bytes before the value.
pub(crate) const RECORD_HEADER_BYTES: u64 = 32;
/// Values up to this length are updated in place.
pub(crate) const INLINE_VALUE_BYTES: usize = 8;
/// Records from this length on are written past the cache.
const STREAMING_BYTES: usize = 1024;

const HAS_EXPIRY: u64 = 1 << 48;

/// A key and where to look for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe<'k> {
    pub(crate) hash: KeyHash,
    pub(crate) space: SpaceWord,
    pub(crate) key: &'k [u8],
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) space: SpaceWord,
    pub(crate) key_len: usize,
    pub(crate) value_len: usize,
    pub(crate) expire_at: Option<UnixMillis>,
    pub(crate) hash: KeyHash,
}

impl RecordHeader {
    pub(crate) fn load(region: &PmemRegion, at: u64) -> Self {
        let lengths = region.load_relaxed(at + 8);
        let expire_at = region.load_relaxed(at + 16);
        Self {
            space: SpaceWord(region.load_relaxed(at)),
            key_len: usize::from((lengths >> 32) as u16),
            value_len: lengths as u32 as usize,
            expire_at: (lengths & HAS_EXPIRY != 0).then_some(UnixMillis(expire_at)),
            hash: KeyHash(region.load_relaxed(at + 24)),
        }
    }

    /// How many bytes the record takes.
    pub(crate) fn record_bytes(&self) -> u64 {
        record_bytes(self.key_len, self.value_len)
    }

    /// Where the key of the record at `at` begins.
    #[inline]
    pub(crate) fn key_at(&self, at: u64) -> u64 {
        at + RECORD_HEADER_BYTES + padded(self.value_len)
    }
}

/// How many bytes a record takes.
pub(crate) fn record_bytes(key_len: usize, value_len: usize) -> u64 {
    RECORD_HEADER_BYTES + padded(value_len) + padded(key_len)
}

fn padded(len: usize) -> u64 {
    (len as u64).next_multiple_of(8)
}

/// Writes a record that nobody sees yet and makes it persistent.
pub(crate) fn write(
    region: &PmemRegion,
    at: u64,
    probe: &Probe<'_>,
    value: &[u8],
    expire_at: Option<UnixMillis>,
) -> Result<()> {
    let flags = if expire_at.is_some() { HAS_EXPIRY } else { 0 };
    region.store(at, probe.space.0);
    region.store(at + 8, value.len() as u64 | (probe.key.len() as u64) << 32 | flags);
    region.store(at + 16, expire_at.unwrap_or_default().0);
    region.store(at + 24, probe.hash.0);
    let value_at = at + RECORD_HEADER_BYTES;
    let key_at = value_at + padded(value.len());
    if value.len() < STREAMING_BYTES {
        region.write(value_at, value);
        region.write(key_at, probe.key);
        region.flush(at, record_bytes(probe.key.len(), value.len()));
    } else {
        region.write_streaming(value_at, value);
        region.write(key_at, probe.key);
        region.flush(at, RECORD_HEADER_BYTES);
        region.flush(key_at, padded(probe.key.len()));
    }
    region.fence()
}

/// A published record, kept from reuse by a pin.
#[derive(Clone, Copy)]
pub(crate) struct RecordView<'g> {
    pub(crate) header: RecordHeader,
    /// The value where it fits one word, as it was while the bucket's version held.
    inline: [u8; INLINE_VALUE_BYTES],
    record: PinnedRecord<'g>,
}

impl<'g> RecordView<'g> {
    /// The record at `at`, which was loaded from a slot while `pinned` was held.
    #[inline]
    pub(crate) fn new(region: &'g PmemRegion, at: u64, pinned: &'g Guard) -> Self {
        let header = RecordHeader::load(region, at);
        let inline = if (1..=INLINE_VALUE_BYTES).contains(&header.value_len) {
            region.load_relaxed(at + RECORD_HEADER_BYTES).to_le_bytes()
        } else {
            [0; INLINE_VALUE_BYTES]
        };
        Self { header, inline, record: PinnedRecord::new(region, at, pinned) }
    }

    /// Where the record lies.
    #[inline]
    pub(crate) fn at(&self) -> u64 {
        self.record.at()
    }

    /// Whether this is the record of that key.
    #[inline]
    pub(crate) fn is_of(&self, probe: &Probe<'_>) -> bool {
        self.header.hash == probe.hash
            && self.header.space == probe.space
            && self.header.key_len == probe.key.len()
            && self.key() == probe.key
    }

    pub(crate) fn key(&self) -> &'g [u8] {
        self.record.key(&self.header)
    }

    pub(crate) fn value(&self) -> &[u8] {
        match self.inline.get(..self.header.value_len) {
            Some(value) => value,
            None => self.record.long_value(&self.header),
        }
    }

    pub(crate) fn entry(&self) -> Entry<'_> {
        Entry { value: self.value(), expire_at: self.header.expire_at, sequence: None }
    }

    /// Stores a new value of the same length and expiry in place, if one store can.
    pub(crate) fn try_update_in_place(
        &self,
        value: &[u8],
        expire_at: Option<UnixMillis>,
    ) -> Option<Result<()>> {
        let fits = value.len() == self.header.value_len
            && value.len() <= INLINE_VALUE_BYTES
            && expire_at == self.header.expire_at;
        if !fits {
            return None;
        }
        if value.is_empty() {
            return Some(Ok(()));
        }
        let mut word = [0; INLINE_VALUE_BYTES];
        word.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
        let at = self.at() + RECORD_HEADER_BYTES;
        Some(self.record.region().store_persist(at, u64::from_le_bytes(word)))
    }
}
