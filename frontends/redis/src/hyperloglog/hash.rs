//! [`register_and_rank()`]: where an element belongs, by MurmurHash64A.

use super::{INDEX_BITS, RANK_BITS, REGISTERS};

const SEED: u64 = 0xadc8_3b19;
const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
const SHIFT: u32 = 47;

/// The register of an element, and the number it raises it to: one more than the zeros at the end
/// of the rest of its hash.
pub(super) fn register_and_rank(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element, SEED);
    let index = hash as usize % REGISTERS;
    // A one beyond the end bounds the rank.
    let rest = hash >> INDEX_BITS | 1 << RANK_BITS;
    (index, rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash2 in its 64-bit form A, over little-endian words.
fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut mixed = u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> SHIFT;
        hash ^= mixed.wrapping_mul(MULTIPLIER);
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> SHIFT;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ hash >> SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PFDEBUG DECODE of Redis shows after PFADD of "a", "b" and "c".
    #[test]
    fn registers_are_those_of_redis() {
        let mut places = [b"a", b"b", b"c"].map(|element| register_and_rank(element));
        places.sort_unstable();
        assert_eq!(places, [(8436, 1), (12711, 2), (15780, 1)]);
    }
}
