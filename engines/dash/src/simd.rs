//! Comparing the 32 fingerprints of a bucket with one byte, at once.
//!
//! SSE2 is part of x86-64; AVX2 is used where the build targets it (`-C target-cpu`), because a
//! call through a run-time check costs more than the second 16-byte compare.

/// The lanes of `fingerprints` (little-endian bytes of four words) that equal `wanted`: bit *i*
/// for byte *i*.
#[inline]
pub(crate) fn match_mask(fingerprints: [u64; 4], wanted: u8) -> u32 {
    #[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
    {
        // SAFETY: the build targets CPUs with AVX2; on others the instruction would be illegal.
        unsafe { match_mask_avx2(fingerprints, wanted) }
    }
    #[cfg(all(target_arch = "x86_64", not(target_feature = "avx2")))]
    {
        match_mask_sse2(fingerprints, wanted)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        match_mask_portable(fingerprints, wanted)
    }
}

#[cfg(all(target_arch = "x86_64", any(test, target_feature = "avx2")))]
#[target_feature(enable = "avx2")]
fn match_mask_avx2(fingerprints: [u64; 4], wanted: u8) -> u32 {
    use std::arch::x86_64::*;
    let [a, b, c, d] = fingerprints.map(u64::cast_signed);
    let lanes = _mm256_set_epi64x(d, c, b, a);
    let equal = _mm256_cmpeq_epi8(lanes, _mm256_set1_epi8(wanted.cast_signed()));
    _mm256_movemask_epi8(equal).cast_unsigned()
}

#[cfg(all(target_arch = "x86_64", any(test, not(target_feature = "avx2"))))]
#[inline]
fn match_mask_sse2(fingerprints: [u64; 4], wanted: u8) -> u32 {
    use std::arch::x86_64::*;
    let [a, b, c, d] = fingerprints.map(u64::cast_signed);
    // SAFETY: SSE2 is part of x86-64, and the values are passed in registers; without SSE2 the
    // instructions would be illegal.
    unsafe {
        let wanted = _mm_set1_epi8(wanted.cast_signed());
        let low = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_set_epi64x(b, a), wanted));
        let high = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_set_epi64x(d, c), wanted));
        low.cast_unsigned() | high.cast_unsigned() << 16
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn match_mask_portable(fingerprints: [u64; 4], wanted: u8) -> u32 {
    let lanes = fingerprints.iter().flat_map(|word| word.to_le_bytes());
    lanes.enumerate().fold(0, |mask, (lane, byte)| mask | u32::from(byte == wanted) << lane)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_ways_of_comparing_agree(
            bytes in prop::array::uniform32(0_u8..4),
            wanted in 0_u8..5,
        ) {
            let (words, _) = bytes.as_chunks::<8>();
            let words = [0, 1, 2, 3].map(|index| u64::from_le_bytes(words[index]));
            let expected = match_mask_portable(words, wanted);
            prop_assert_eq!(expected.count_ones() as usize,
                bytes.iter().filter(|byte| **byte == wanted).count());
            prop_assert_eq!(match_mask(words, wanted), expected);
            #[cfg(target_arch = "x86_64")]
            {
                prop_assert_eq!(match_mask_sse2(words, wanted), expected);
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: AVX2 was just found; without it the instruction would be illegal.
                    prop_assert_eq!(unsafe { match_mask_avx2(words, wanted) }, expected);
                }
            }
        }
    }
}
