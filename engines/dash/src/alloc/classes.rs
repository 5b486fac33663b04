//! Size classes: steps of 16 bytes up to 512, then four to each doubling up to 64 KiB, and one for
//! segments.

use crate::table::layout::SEGMENT_BYTES;

const SMALL_MIN: u64 = 32;
const SMALL_STEP: u64 = 16;
const SMALL_MAX: u64 = 512;
const SMALL_CLASSES: usize = ((SMALL_MAX - SMALL_MIN) / SMALL_STEP) as usize + 1;
const LARGE_MAX: u64 = 64 << 10;
const LARGE_CLASSES: usize = 4 * (LARGE_MAX / SMALL_MAX).ilog2() as usize;
const SEGMENT_CLASS: usize = SMALL_CLASSES + LARGE_CLASSES;

/// How many classes there are.
pub(super) const CLASSES: usize = SEGMENT_CLASS + 1;

const _: () = assert!(CLASSES < 0xfd, "classes fit the chunk table's byte");

/// The class of an object; `None` for those that take whole chunks.
#[inline]
pub(super) fn class_of(bytes: u64) -> Option<usize> {
    if bytes == SEGMENT_BYTES {
        return Some(SEGMENT_CLASS);
    }
    if bytes <= SMALL_MAX {
        return Some(bytes.max(SMALL_MIN).div_ceil(SMALL_STEP) as usize - 2);
    }
    if bytes > LARGE_MAX {
        return None;
    }
    // 512 < bytes <= 65536: the doubling it lies in, and the quarter of that, rounded up.
    let doubling = (bytes - 1).ilog2() - SMALL_MAX.ilog2();
    let base = SMALL_MAX << doubling;
    let quarter = (bytes - base).div_ceil(base / 4) as usize;
    Some(SMALL_CLASSES + doubling as usize * 4 + quarter - 1)
}

/// The bytes that an object of a class takes.
#[inline]
pub(super) fn class_bytes(class: usize) -> u64 {
    if class == SEGMENT_CLASS {
        return SEGMENT_BYTES;
    }
    match class.checked_sub(SMALL_CLASSES) {
        None => SMALL_MIN + class as u64 * SMALL_STEP,
        Some(large) => {
            let base = SMALL_MAX << (large / 4);
            base + base / 4 * (large as u64 % 4 + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_least_class_that_holds_it() {
        for bytes in (1..=LARGE_MAX).filter(|bytes| *bytes != SEGMENT_BYTES) {
            let class = class_of(bytes).unwrap();
            assert!(class_bytes(class) >= bytes && class < SEGMENT_CLASS, "{bytes}");
            if class > 0 {
                assert!(class_bytes(class - 1) < bytes, "{bytes}");
            }
        }
        assert_eq!(class_of(LARGE_MAX + 1), None);
        assert_eq!(class_of(SEGMENT_BYTES), Some(SEGMENT_CLASS));
        assert_eq!(class_bytes(SEGMENT_CLASS), SEGMENT_BYTES);
    }
}
