//! Strings and counts as redis-server 7.0.15 made them, and properties.

use proptest::prelude::*;

use super::*;
use crate::dump::crc64;

const SPARSE_BYTES_MAX: usize = 3000;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn with_elements(prefix: &str, numbers: std::ops::Range<u32>) -> HyperLogLog {
    let mut sketch = HyperLogLog::new();
    for number in numbers {
        sketch.add(format!("{prefix}:{number}").as_bytes(), SPARSE_BYTES_MAX).unwrap();
    }
    sketch
}

#[test]
fn small_strings_are_those_of_redis() {
    let mut sketch = HyperLogLog::new();
    assert_eq!(sketch.as_bytes(), bytes("48594c4c0100000000000000000000007fff"));
    for element in [b"a", b"b", b"c"] {
        assert_eq!(sketch.add(element, SPARSE_BYTES_MAX), Ok(true));
        assert_eq!(sketch.add(element, SPARSE_BYTES_MAX), Ok(false));
    }
    let stored = "48594c4c01000000000000000000008060f38050b1844bfb80425a";
    assert_eq!(sketch.as_bytes(), bytes(stored));
    assert_eq!((sketch.view().cached_cardinality(), sketch.view().count()), (None, Ok(3)));
    sketch.cache(3);
    let counted = "48594c4c01000000030000000000000060f38050b1844bfb80425a";
    assert_eq!(sketch.as_bytes(), bytes(counted));
    assert_eq!(sketch.view().cached_cardinality(), Some(3));
    let decoded = "Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603";
    assert_eq!(sketch.view().decode().as_deref(), Ok(decoded));
}

/// Lengths, checksums of the whole string and counts of elements `ele:0`, `ele:1`, ...
#[test]
fn growing_strings_and_their_counts_are_those_of_redis() {
    let mut sketch = HyperLogLog::new();
    let mut number = 0;
    for (elements, len, encoding, checksum, count) in [
        (10, 47, Encoding::Sparse, 0x757d_b2f7_f0fa_c24b, 10),
        (100, 289, Encoding::Sparse, 0x39d2_9e73_a6a3_f7fb, 100),
        (500, 1055, Encoding::Sparse, 0x3c42_c11c_15e6_6711, 502),
        (1000, 1896, Encoding::Sparse, 0xca41_839a_64c1_e378, 1002),
        (2000, 12304, Encoding::Dense, 0x292e_a972_8214_ae8f, 2005),
        (5000, 12304, Encoding::Dense, 0xa766_7f55_1b78_90f6, 4993),
        (20_000, 12304, Encoding::Dense, 0x13b6_ab1a_cb9a_d4c2, 20261),
        (100_000, 12304, Encoding::Dense, 0xd281_23c0_e2f4_b0a6, 99778),
    ] {
        while number < elements {
            sketch.add(format!("ele:{number}").as_bytes(), SPARSE_BYTES_MAX).unwrap();
            number += 1;
        }
        let value = sketch.as_bytes();
        assert_eq!((value.len(), crc64(value)), (len, checksum), "{elements} elements");
        assert_eq!((sketch.encoding, sketch.view().count()), (encoding, Ok(count)));
        // As PFCOUNT does.
        sketch.cache(count);
    }
}

#[test]
fn merged_strings_are_those_of_redis() {
    let others = with_elements("other", 0..300);
    let elements = with_elements("ele", 0..300);
    let mut union = Union::new();
    union.add(others.as_bytes()).unwrap();
    union.add(elements.as_bytes()).unwrap();
    let mut merged = HyperLogLog::new();
    union.merge_into(&mut merged, SPARSE_BYTES_MAX).unwrap();
    let value = merged.as_bytes();
    assert_eq!((value.len(), crc64(value)), (1236, 0xb345_0e3d_d333_4ee3));
    assert_eq!((union.count(), merged.view().count()), (606, Ok(606)));

    union.add(with_elements("ele", 0..100_000).as_bytes()).unwrap();
    let mut merged = HyperLogLog::new();
    union.merge_into(&mut merged, SPARSE_BYTES_MAX).unwrap();
    assert_eq!(crc64(merged.as_bytes()), 0x475a_b2f0_db96_c82f);
    assert_eq!(union.count(), 100_080);
}

#[test]
fn foreign_strings_are_told_from_corrupted_ones() {
    let valid = with_elements("ele", 0..10);
    for (at, byte) in [(0, b'h'), (3, 0), (4, 2), (4, 0)] {
        let mut value = valid.as_bytes().to_vec();
        value[at] = byte;
        assert_eq!(View::of(&value).err(), Some(HyperLogLogError::Foreign), "byte {at}");
    }
    for len in 0..HEADER_BYTES {
        assert!(View::of(&valid.as_bytes()[..len]).is_err());
    }
    let mut longer = valid.as_bytes().to_vec();
    longer.extend_from_slice(b"hello");
    assert_eq!(View::of(&longer).unwrap().count(), Err(HyperLogLogError::Corrupted));
    assert_eq!(Union::new().add(&longer), Err(HyperLogLogError::Corrupted));
    let mut dense = valid.clone();
    assert_eq!((dense.make_dense(), dense.make_dense()), (Ok(true), Ok(false)));
    assert_eq!(dense.view().decode(), Err(HyperLogLogError::NotSparse));
    assert!(View::of(&dense.as_bytes()[..DENSE_BYTES - 1]).is_err());
}

#[test]
fn the_limit_of_sparse_ones_is_kept() {
    for limit in [0, 18, 100, 3000] {
        let mut sketch = HyperLogLog::new();
        for number in 0..3000_u32 {
            sketch.add(&number.to_le_bytes(), limit).unwrap();
            let is_dense = sketch.encoding == Encoding::Dense;
            assert!(is_dense || sketch.as_bytes().len() <= limit.max(18), "{limit}");
        }
        assert_eq!(sketch.encoding, Encoding::Dense);
    }
}

#[test]
fn the_self_test_passes() {
    assert_eq!(self_test(), Ok(()));
}

proptest! {
    #[test]
    fn both_encodings_hold_the_same(
        elements in prop::collection::vec(any::<u32>(), 0..400), limit in 18_usize..4000
    ) {
        let (mut sketch, mut dense) = (HyperLogLog::new(), HyperLogLog::new());
        dense.make_dense().unwrap();
        for element in elements {
            let element = element.to_le_bytes();
            prop_assert_eq!(sketch.add(&element, limit), dense.add(&element, limit));
        }
        prop_assert_eq!(sketch.view().registers(), dense.view().registers());
        prop_assert_eq!(sketch.view().count(), dense.view().count());
        sketch.make_dense().unwrap();
        prop_assert_eq!(sketch.as_bytes(), dense.as_bytes());
    }

    /// Any string in the place of a HyperLogLog is used or refused.
    #[test]
    fn hostile_strings_are_refused(
        runs in prop::collection::vec(any::<u8>(), 0..3000),
        encoding in 0_u8..3,
        flips in prop::collection::vec((0_usize..3000, any::<u8>()), 0..4),
        starts_valid: bool,
    ) {
        let mut value = with_elements("ele", 0..50).as_bytes().to_vec();
        value[4] = encoding;
        if !starts_valid {
            value.truncate(HEADER_BYTES);
            value.extend_from_slice(&runs);
        }
        for (at, byte) in flips {
            if let Some(place) = value.get_mut(at) {
                *place = byte;
            }
        }
        let _ = Union::new().add(&value);
        if let Ok(view) = View::of(&value) {
            let _ = (view.count(), view.decode(), view.registers());
            let mut sketch = HyperLogLog::of(Some(&value)).unwrap();
            for number in 0..50_u32 {
                let _ = sketch.add(&number.to_le_bytes(), SPARSE_BYTES_MAX);
            }
            let _ = sketch.make_dense();
            prop_assert!(sketch.as_bytes().len() <= DENSE_BYTES.max(value.len()));
        }
    }
}
