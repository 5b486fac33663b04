//! [`ReadCache`]: copies of records that were read from disk, in memory.
//!
//! A record on disk never changes, so a copy is right for whoever asks for its *address*: nothing
//! has to be told of updates. A key that is written gets a newer record in the log, searches end
//! there, and the copy ages. It is the read cache of FASTER and F2 (Kanellis, Chandramouli, Hellerstein,
//! 2023) with another index: theirs hangs cached records into the hash chains, and has to unhook
//! them; this one is asked only where a chain leaves memory.
//!
//! The copies lie in a ring of words, oldest first; positions count words and never fall. A copy
//! that is hit in the oldest quarter is copied to the newest end (a second chance), the others are
//! overwritten. No latches: a writer takes its words by adding to `tail`, *then* writes; a reader
//! copies, *then* looks at `tail` again, and throws away what may have been overwritten. Two
//! writers a whole ring apart may write the same words; each record carries a checksum, bound to
//! its address, and what does not match is no hit.

use std::cell::Cell;
use std::io;

use crate::address::LogicalAddress;
use crate::disk::image::{StoredRecord, read_record};
use crate::primitive::{AtomicU64, Ordering, OwnLine, fence};
use crate::raw::Words;

/// Entries of a bucket: one cache line.
const BUCKET_ENTRIES: u64 = 8;
/// Words of the ring for each entry of the index: few records are shorter.
const WORDS_PER_ENTRY: usize = 12;
const POSITION_BITS: u32 = 48;
/// A record takes at most this part of the ring.
const RECORD_PARTS: usize = 32;
/// Bits of a ring's first word of a record that are its address; the others are its length in words.
const ADDRESS_BITS: u32 = LogicalAddress::BITS;
const MIN_WORDS: usize = 512;
/// In so many steps is told that it grows.
const GROWTH_STEPS: usize = 64;

/// The cache.
pub(crate) struct ReadCache {
    ring: Words,
    /// `tag(16) | position(48)`; 0 = none.
    index: Words,
    /// The position behind the newest copy.
    tail: OwnLine<AtomicU64>,
}

impl ReadCache {
    /// A cache of about `bytes` bytes with its index; memory is taken as it fills. `None` if that
    /// is too little to be of use.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn new(bytes: u64) -> io::Result<Option<Self>> {
        let words = (bytes / 8) as usize;
        let entries =
            (words / (WORDS_PER_ENTRY + 1)).next_power_of_two().max(BUCKET_ENTRIES as usize);
        let ring = words.saturating_sub(entries);
        if ring < MIN_WORDS {
            return Ok(None);
        }
        // Position 0 would make an entry that says "none".
        let tail = OwnLine(AtomicU64::new(1));
        Ok(Some(Self { ring: Words::zeroed(ring)?, index: Words::zeroed(entries)?, tail }))
    }

    /// Bytes of memory taken so far, at most.
    pub(crate) fn used_bytes(&self) -> u64 {
        let words = self.tail.0.load(Ordering::Relaxed).min(self.ring.len() as u64);
        match words {
            0 | 1 => 0,
            words => (words + self.index.len() as u64) * 8,
        }
    }

    /// Shows the record at `address` and its bytes, if it is here.
    pub(crate) fn get<T>(
        &self,
        address: LogicalAddress,
        show: impl FnOnce(&StoredRecord<'_>, &[u8]) -> T,
    ) -> Option<T> {
        let mut bytes = COPY.take();
        let shown = self.get_by(address, &mut bytes, show);
        COPY.set(bytes);
        shown
    }

    fn get_by<T>(
        &self,
        address: LogicalAddress,
        bytes: &mut Vec<u8>,
        show: impl FnOnce(&StoredRecord<'_>, &[u8]) -> T,
    ) -> Option<T> {
        let (bucket, tag) = self.bucket_of(address);
        for entry in bucket {
            let entry = entry.load(Ordering::Acquire);
            if entry == 0 || entry >> POSITION_BITS != tag {
                continue;
            }
            let position = entry & ((1 << POSITION_BITS) - 1);
            bytes.clear();
            let Some(age) = self.copy(position, address, bytes) else { continue };
            let Some(record) = read_record(bytes, address) else { continue };
            let shown = show(&record, bytes);
            if age > self.ring.len() as u64 / 4 * 3 {
                self.insert(address, bytes);
            }
            return Some(shown);
        }
        None
    }

    /// Copies the words at `position` if they are those of `address`, and still whole; answers how
    /// far behind the newest end they lie.
    fn copy(&self, position: u64, address: LogicalAddress, bytes: &mut Vec<u8>) -> Option<u64> {
        let len = self.ring.len() as u64;
        let at = (position % len) as usize;
        let first = self.ring[at].load(Ordering::Relaxed);
        let words = (first >> ADDRESS_BITS) as usize;
        if first & ((1 << ADDRESS_BITS) - 1) != address.get() {
            return None;
        }
        for word in self.ring.get(at + 1..at + words)? {
            bytes.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        // Whoever overwrote any of these words had added to the tail before.
        fence(Ordering::Acquire);
        let age = self.tail.0.load(Ordering::Relaxed) - position;
        (age <= len).then_some(age)
    }

    /// Adds the record at `address`: its bytes as on disk, whose length is a multiple of 8. Answers
    /// whether it takes noticeably more memory than before.
    pub(crate) fn insert(&self, address: LogicalAddress, bytes: &[u8]) -> bool {
        let words = bytes.len() / 8 + 1;
        if words > self.ring.len() / RECORD_PARTS || words >> (64 - ADDRESS_BITS) != 0 {
            return false;
        }
        let position = loop {
            let position = self.tail.0.fetch_add(words as u64, Ordering::AcqRel);
            if (position % self.ring.len() as u64) as usize + words <= self.ring.len() {
                break position;
            }
        };
        if position >> POSITION_BITS != 0 {
            return false;
        }
        // The add comes before the words for whoever reads one of them.
        fence(Ordering::Release);
        let at = (position % self.ring.len() as u64) as usize;
        let first = (words as u64) << ADDRESS_BITS | address.get();
        self.ring[at].store(first, Ordering::Relaxed);
        for (word, chunk) in self.ring[at + 1..at + words].iter().zip(bytes.chunks_exact(8)) {
            let mut whole = [0; 8];
            whole.copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
        let (bucket, tag) = self.bucket_of(address);
        self.victim(bucket, tag).store(tag << POSITION_BITS | position, Ordering::Release);
        let step = (self.ring.len() / GROWTH_STEPS) as u64;
        position < self.ring.len() as u64 && position / step != (position + words as u64) / step
    }

    /// The entry to be overwritten: one of the same tag, else the oldest.
    fn victim<'b>(&self, bucket: &'b [AtomicU64], tag: u64) -> &'b AtomicU64 {
        let mut victim = (&bucket[0], u64::MAX);
        for slot in bucket {
            let entry = slot.load(Ordering::Relaxed);
            if entry != 0 && entry >> POSITION_BITS == tag {
                return slot;
            }
            let position = entry & ((1 << POSITION_BITS) - 1);
            if position < victim.1 {
                victim = (slot, position);
            }
        }
        victim.0
    }

    fn bucket_of(&self, address: LogicalAddress) -> (&[AtomicU64], u64) {
        let hash = address.get().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = hash ^ hash >> 29;
        let buckets = self.index.len() as u64 / BUCKET_ENTRIES;
        let start = ((hash & (buckets - 1)) * BUCKET_ENTRIES) as usize;
        (&self.index[start..start + BUCKET_ENTRIES as usize], hash >> POSITION_BITS)
    }
}

thread_local! {
    /// Where a thread copies a record to.
    static COPY: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::disk::image::{checked_bytes, seal_page};
    use crate::log::record::{Blueprint, Born, Record};

    /// The bytes of a record, as they are on disk at `address`.
    fn record_bytes(address: LogicalAddress, key: &[u8], value: &[u8]) -> Vec<u8> {
        let words: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
        let plan = Blueprint {
            space: 1,
            hash_low: 2,
            key,
            value,
            expire_at: 0,
            capacity: 0,
            is_tombstone: false,
            is_long: false,
        };
        Record::at(&words).write_new(&plan, LogicalAddress::NULL, Born::Free);
        let mut bytes = seal_page(&words, address);
        bytes.truncate(checked_bytes(&bytes).unwrap());
        bytes
    }

    fn address(number: u64) -> LogicalAddress {
        LogicalAddress::from_low_bits(number * 32)
    }

    fn value(number: u64) -> Vec<u8> {
        number.to_le_bytes().repeat(10)
    }

    fn value_of(cache: &ReadCache, number: u64) -> Option<Vec<u8>> {
        cache.get(address(number), |record, _| record.value.to_vec())
    }

    fn add(cache: &ReadCache, number: u64) {
        let bytes = record_bytes(address(number), b"key", &value(number));
        cache.insert(address(number), &bytes);
    }

    #[test]
    fn what_was_added_is_found_until_newer_records_push_it_out() {
        let cache = ReadCache::new(64 << 10).unwrap().unwrap();
        assert_eq!(cache.used_bytes(), 0);
        assert_eq!(value_of(&cache, 1), None);
        let mut hits = 0;
        for number in 1..100_000 {
            add(&cache, number);
            assert_eq!(value_of(&cache, number), Some(value(number)));
            // Asked for again and again, and so kept.
            let hot = number % 50;
            hits += usize::from(value_of(&cache, hot).is_some());
            if number <= 50 || number % 5000 < 50 {
                add(&cache, hot);
            }
        }
        assert!(hits > 90_000, "{hits}");
        let kept = (1..100_000).filter(|&number| value_of(&cache, number).is_some()).count();
        assert!((300..600).contains(&kept), "{kept}");
        assert!(cache.used_bytes() <= 64 << 10);
    }

    #[test]
    fn what_is_damaged_is_not_found() {
        let cache = ReadCache::new(64 << 10).unwrap().unwrap();
        add(&cache, 7);
        cache.ring[10].fetch_xor(1 << 9, Ordering::Relaxed);
        assert_eq!(value_of(&cache, 7), None);
        // As if another address's record lay there.
        let bytes = record_bytes(address(8), b"key", b"other");
        cache.insert(address(9), &bytes);
        assert_eq!(value_of(&cache, 9), None);
    }

    #[test]
    fn what_is_too_long_or_too_little_is_left_out() {
        assert!(ReadCache::new(1000).unwrap().is_none());
        let cache = ReadCache::new(8 << 10).unwrap().unwrap();
        let bytes = record_bytes(address(1), b"key", &[7; 400]);
        cache.insert(address(1), &bytes);
        assert_eq!(cache.get(address(1), |_, _| ()), None);
    }

    #[test]
    fn threads_that_overwrite_each_other_show_no_wrong_value() {
        let cache = ReadCache::new(8 << 10).unwrap().unwrap();
        let hits = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (cache, hits) = (&cache, &hits);
                scope.spawn(move || {
                    for turn in 0..50_000_u64 {
                        // Some are asked for all the time, and hit; others push each other out.
                        let is_hot = turn % 2 == 0;
                        let number = if is_hot { turn % 10 } else { (turn + thread * 13) % 100 };
                        let number = number + 1;
                        match value_of(cache, number) {
                            Some(found) => {
                                assert_eq!(found, value(number));
                                hits.fetch_add(1, Ordering::Relaxed);
                            }
                            None => add(cache, number),
                        }
                    }
                });
            }
        });
        assert!(hits.load(Ordering::Relaxed) > 1000);
    }
}
