//! The filter of a table: a blocked bloom filter (Putze, Sanders, Singler: "Cache-, Hash- and
//! Space-Efficient Bloom Filters", WEA 2007). All bits of a key lie in one cache line.
//!
//! ```text
//! filter = probes(1) line*          line = 64 bytes
//! ```

use crate::encoding::Malformed;

const LINE_BYTES: usize = 64;
const LINE_BITS: u32 = (LINE_BYTES * 8) as u32;

/// The hash of a stored key that filters are built from.
pub(crate) fn filter_hash(stored_key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(stored_key)
}

/// The bit positions of a hash in its line.
fn probes(hash: u64, count: u8) -> impl Iterator<Item = u32> {
    // Double hashing within the line; the step is odd, so that it visits every position.
    let step = (hash >> 17) as u32 | 1;
    let mut position = hash as u32;
    (0..count).map(move |_| {
        position = position.wrapping_add(step).rotate_left(5);
        position % LINE_BITS
    })
}

fn line_of(hash: u64, lines: usize) -> usize {
    (((hash >> 32) * lines as u64) >> 32) as usize
}

/// The encoded filter of these hashes.
#[expect(clippy::indexing_slicing, reason = "positions within the buffer made here")]
pub(crate) fn build(hashes: &[u64], bits_per_key: usize) -> Vec<u8> {
    let lines = (hashes.len() * bits_per_key).div_ceil(LINE_BITS as usize).max(1);
    let count = ((bits_per_key * 69).div_ceil(100)).clamp(1, 30) as u8;
    let mut bytes = vec![0; 1 + lines * LINE_BYTES];
    bytes[0] = count;
    for &hash in hashes {
        let start = 1 + line_of(hash, lines) * LINE_BYTES;
        let line = &mut bytes[start..start + LINE_BYTES];
        for bit in probes(hash, count) {
            line[bit as usize / 8] |= 1 << (bit % 8);
        }
    }
    bytes
}

/// A filter that was read.
#[derive(Debug)]
pub(crate) struct Filter {
    bytes: Vec<u8>,
    lines: usize,
}

impl Filter {
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let line_bytes = bytes.len().saturating_sub(1);
        if line_bytes == 0 || !line_bytes.is_multiple_of(LINE_BYTES) {
            return Err(Malformed("filter of a broken length"));
        }
        Ok(Self { bytes, lines: line_bytes / LINE_BYTES })
    }

    /// Whether the key of this hash may be in the table; `false` is certain.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let start = 1 + line_of(hash, self.lines) * LINE_BYTES;
        let count = self.bytes.first().copied().unwrap_or(0);
        let line = self.bytes.get(start..start + LINE_BYTES).unwrap_or(&[u8::MAX; LINE_BYTES]);
        probes(hash, count)
            .all(|bit| line.get(bit as usize / 8).is_none_or(|byte| byte & (1 << (bit % 8)) != 0))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_few_others_are() {
        let hash = |n: u64| filter_hash(&n.to_le_bytes());
        let hashes: Vec<u64> = (0..10_000).map(hash).collect();
        let filter = Filter::parse(build(&hashes, 10)).unwrap();
        assert!((0..10_000).all(|n| filter.may_contain(hash(n))));
        let wrong = (10_000..110_000).filter(|&n| filter.may_contain(hash(n))).count();
        assert!(wrong < 2_500, "{wrong} false positives in 100,000");
    }

    #[test]
    fn a_broken_length_is_refused() {
        for len in [0, 1, 64, 66] {
            assert!(Filter::parse(vec![0; len]).is_err());
        }
    }
}
