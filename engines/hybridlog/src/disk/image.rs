//! A page of records as bytes on disk.
//!
//! The bytes are those of the words in memory, record after record, but for what only makes sense
//! there: the latch and the mark of a replaced record are cleared, and in the place of the version
//! stands a checksum of the record together with its address. So one record is read, and checked,
//! without its page; a page is checked against the checksum kept with its length.
//!
//! Words are in the byte order of the machine; a checkpoint of another order is refused.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::address::LogicalAddress;
use crate::log::record::{DiskHeader, words_of};
use crate::primitive::{AtomicU64, Ordering};

/// Bytes of a record before its expiry and key.
pub(crate) const FIXED_BYTES: usize = 32;

/// What is known of a page on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PageFacts {
    /// Bytes of records from its beginning.
    pub(crate) used_bytes: u32,
    /// The low bits of the checksum of those bytes.
    pub(crate) checksum: u32,
}

impl PageFacts {
    /// Those of a page's bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { used_bytes: bytes.len() as u32, checksum: xxh3_64_with_seed(bytes, 0) as u32 }
    }
}

/// A record as it lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredRecord<'b> {
    pub(crate) header: DiskHeader,
    pub(crate) space: u64,
    pub(crate) hash_low: u32,
    pub(crate) key: &'b [u8],
    pub(crate) value: &'b [u8],
    /// 0 = never.
    pub(crate) expire_at: u64,
    /// Bytes up to the next record.
    pub(crate) size_bytes: usize,
}

fn word(bytes: &[u8], index: usize) -> Option<u64> {
    let bytes = bytes.get(index * 8..index * 8 + 8)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

fn set_word(bytes: &mut [u8], index: usize, value: u64) {
    bytes[index * 8..index * 8 + 8].copy_from_slice(&value.to_ne_bytes());
}

/// Where the parts of a record end: of what is checked, and of the whole.
struct Extent {
    with_expiry: bool,
    key_len: usize,
    value_len: usize,
    checked_bytes: usize,
    size_bytes: usize,
}

impl Extent {
    /// That of the record which `bytes` begin with; `None` at the end of a page, or if it is none.
    fn of(bytes: &[u8]) -> Option<Self> {
        let header = DiskHeader(word(bytes, 0)?);
        let value_len = (word(bytes, 1)? as u32) as usize;
        let key_len = (word(bytes, 2)? & 0xffff) as usize;
        let size_bytes = (word(bytes, 3)? as u32) as usize * 8;
        let with_expiry = header.has_expiry_word();
        let checked_bytes = FIXED_BYTES
            + usize::from(with_expiry) * 8
            + (words_of(key_len) + words_of(value_len)) * 8;
        (checked_bytes <= size_bytes).then_some(Self {
            with_expiry,
            key_len,
            value_len,
            checked_bytes,
            size_bytes,
        })
    }
}

/// Bytes that the record which `bytes` begin with takes, as far as it says; `None` if it is none.
pub(crate) fn checked_bytes(bytes: &[u8]) -> Option<usize> {
    Extent::of(bytes).map(|extent| extent.checked_bytes)
}

/// The checksum of a record's bytes at its address.
fn checksum(bytes: &[u8], address: LogicalAddress) -> u32 {
    // Of the state word the length of the value; the rest is the place of the checksum itself.
    let value_len = u64::from(word(bytes, 1).unwrap_or(0) as u32);
    let seed = address.get() ^ value_len.rotate_left(48);
    let head = xxh3_64_with_seed(&bytes[..8], seed);
    xxh3_64_with_seed(&bytes[16..], head) as u32
}

/// A copy of a page's records, each sealed. No thread changes records of the page any more.
pub(crate) fn seal_page(words: &[AtomicU64], page_start: LogicalAddress) -> Vec<u8> {
    let mut bytes = vec![0; words.len() * 8];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
    }
    let mut at = 0;
    while let Some(extent) = Extent::of(&bytes[at..]).filter(|extent| extent.size_bytes > 0) {
        let record = &mut bytes[at..at + extent.size_bytes];
        let header = DiskHeader(word(record, 0).unwrap_or(0)).sealed();
        set_word(record, 0, header.0);
        record[extent.checked_bytes..].fill(0);
        let address = page_start.plus_words(at as u64 / 8);
        let sum = checksum(&record[..extent.checked_bytes], address);
        set_word(record, 1, u64::from(sum) << 32 | extent.value_len as u64);
        at += extent.size_bytes;
    }
    bytes.truncate(at);
    bytes
}

/// The record that `bytes` begin with, if they are that of `address`, whole and undamaged.
pub(crate) fn read_record(bytes: &[u8], address: LogicalAddress) -> Option<StoredRecord<'_>> {
    let extent = Extent::of(bytes)?;
    let checked = bytes.get(..extent.checked_bytes)?;
    if (word(checked, 1)? >> 32) as u32 != checksum(checked, address) {
        return None;
    }
    let key_start = FIXED_BYTES + usize::from(extent.with_expiry) * 8;
    let value_start = key_start + words_of(extent.key_len) * 8;
    Some(StoredRecord {
        header: DiskHeader(word(checked, 0)?),
        space: word(checked, 2)? >> 16,
        hash_low: (word(checked, 3)? >> 32) as u32,
        key: &checked[key_start..key_start + extent.key_len],
        value: &checked[value_start..value_start + extent.value_len],
        expire_at: if extent.with_expiry { word(checked, 4)? } else { 0 },
        size_bytes: extent.size_bytes,
    })
}

/// Puts a page's bytes into memory again.
pub(crate) fn load_page(bytes: &[u8], words: &[AtomicU64]) {
    for (chunk, word) in bytes.chunks_exact(8).zip(words) {
        let mut whole = [0; 8];
        whole.copy_from_slice(chunk);
        word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
    }
    let mut at = 0;
    while let Some(extent) = Extent::of(&bytes[at..]).filter(|extent| extent.size_bytes > 0) {
        // Versions begin anew.
        words[at / 8 + 1].store(extent.value_len as u64, Ordering::Relaxed);
        at += extent.size_bytes;
    }
    // Whoever scans the page stops here.
    if let Some(size) = words.get(at / 8 + 3) {
        size.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::log::record::{Blueprint, Born, End, Record};

    fn plan<'a>(key: &'a [u8], value: &'a [u8], expire_at: u64) -> Blueprint<'a> {
        Blueprint {
            space: 7,
            hash_low: 9,
            key,
            value,
            expire_at,
            capacity: 40,
            is_tombstone: false,
            is_long: false,
        }
    }

    fn page() -> (Vec<AtomicU64>, Vec<usize>) {
        let words: Vec<AtomicU64> = (0..128).map(|_| AtomicU64::new(u64::MAX)).collect();
        let (mut at, mut starts) = (0, Vec::new());
        for (key, value, expire_at) in [
            (&b"a"[..], &b"one"[..], 0),
            (b"longer key", b"", 5),
            (b"", b"twenty bytes of value", 0),
        ] {
            let plan = plan(key, value, expire_at);
            Record::at(&words[at..]).write_new(&plan, LogicalAddress::NULL, Born::Free);
            starts.push(at);
            at += plan.words();
        }
        Record::write_end_of_page(&words[at..]);
        (words, starts)
    }

    fn start() -> LogicalAddress {
        LogicalAddress::new(3, 0, 7)
    }

    #[test]
    fn records_come_back_from_a_sealed_page_and_into_memory() {
        let (words, starts) = page();
        Record::at(&words[starts[0]..]).latch().unwrap().end(End::Replaced);
        let bytes = seal_page(&words, start());
        let again: Vec<AtomicU64> = (0..128).map(|_| AtomicU64::new(u64::MAX)).collect();
        load_page(&bytes, &again);
        for (at, key, value) in [
            (starts[0], &b"a"[..], &b"one"[..]),
            (starts[1], b"longer key", b""),
            (starts[2], b"", b"twenty bytes of value"),
        ] {
            let record = read_record(&bytes[at * 8..], start().plus_words(at as u64)).unwrap();
            assert_eq!((record.key, record.value, record.space), (key, value, 7));
            assert!(!record.header.is_removed(), "what was replaced is read as it was");
            let mut out = Vec::new();
            Record::at(&again[at..]).read(&mut out).unwrap();
            assert_eq!(out, value);
        }
        assert_eq!(Record::at(&again[bytes.len() / 8..]).size_words(), 0);
    }

    #[test]
    fn a_flipped_bit_or_another_place_is_not_believed() {
        let (words, starts) = page();
        let bytes = seal_page(&words, start());
        for at in starts {
            let address = start().plus_words(at as u64);
            assert!(read_record(&bytes[at * 8..], address.plus_words(1)).is_none());
            let checked = checked_bytes(&bytes[at * 8..]).unwrap();
            for bit in 0..checked * 8 {
                let mut damaged = bytes[at * 8..].to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(read_record(&damaged, address).is_none(), "bit {bit}");
            }
            assert!(read_record(&bytes[at * 8..at * 8 + checked - 1], address).is_none());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read_record(&bytes, start());
        }
    }
}
