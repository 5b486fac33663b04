//! [`KeyHash`]: where a key belongs.
//!
//! ```text
//! bit 63 .. 63-d      directory index (the most significant `d` bits)
//! bit 31 .. 16        tag, kept in the slot beside the record's address
//! bit 15 .. 8         fingerprint, compared 24 at a time
//! bit  5 .. 0         home bucket in the segment
//! ```
//! The bucket does not depend on the bits that a split looks at: an entry keeps its bucket for
//! life, whatever segment it moves to.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::keyspaces::SpaceWord;
use crate::table::layout::NORMAL_BUCKETS;

/// The 64-bit hash of a key in a keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyHash(pub(crate) u64);

impl KeyHash {
    /// XXH3 over the key; the seed is the table's own mixed with the keyspace's generation, so
    /// that nobody outside can aim keys at one bucket.
    #[inline]
    pub(crate) fn new(table_seed: u64, space: SpaceWord, key: &[u8]) -> Self {
        Self(xxh3_64_with_seed(key, table_seed ^ space.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// The index into a directory of that depth.
    #[inline]
    pub(crate) fn prefix(self, depth: u32) -> u64 {
        // Two shifts: a shift by 64 is no shift.
        (self.0 >> 1) >> (63 - depth)
    }

    /// The home bucket in its segment.
    #[inline]
    pub(crate) fn home(self) -> usize {
        self.0 as usize % NORMAL_BUCKETS
    }

    /// The byte compared by SIMD.
    #[inline]
    pub(crate) fn fingerprint(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The bits kept in the slot, beyond the fingerprint.
    #[inline]
    pub(crate) fn tag(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_the_most_significant_bits() {
        let hash = KeyHash(0xc000_0000_0000_0000);
        assert_eq!([0, 1, 2, 3].map(|depth| hash.prefix(depth)), [0, 1, 3, 6]);
    }

    #[test]
    fn keyspaces_and_seeds_change_the_hash() {
        let hash = KeyHash::new(1, SpaceWord(1), b"key");
        assert_ne!(hash, KeyHash::new(1, SpaceWord(2), b"key"));
        assert_ne!(hash, KeyHash::new(2, SpaceWord(1), b"key"));
    }
}
