//! [`count()`] and [`position()`]: BITCOUNT and BITPOS over a part of a string.

use super::BitsError;

/// What the ends of a range count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RangeUnit {
    /// Bytes.
    #[default]
    Byte,
    /// Bits.
    Bit,
}

impl RangeUnit {
    /// Reads `BYTE` or `BIT`.
    ///
    /// # Errors
    /// [`BitsError::Syntax`].
    pub fn parse(word: &[u8]) -> Result<Self, BitsError> {
        if word.eq_ignore_ascii_case(b"bit") {
            Ok(Self::Bit)
        } else if word.eq_ignore_ascii_case(b"byte") {
            Ok(Self::Byte)
        } else {
            Err(BitsError::Syntax)
        }
    }
}

/// A part of a string, both ends included; negative ends count from the end of the string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitRange {
    /// The first byte or bit.
    pub start: i64,
    /// The last one; the string's last if absent.
    pub end: Option<i64>,
    /// What the ends count.
    pub unit: RangeUnit,
}

impl BitRange {
    /// All of a string.
    pub const ALL: Self = Self { start: 0, end: None, unit: RangeUnit::Byte };

    /// The bits it comes to in a string of `len` bytes: the first and the one after the last.
    fn resolve(self, len: usize) -> Option<(u64, u64)> {
        let bytes = i64::try_from(len).ok()?;
        let total = match self.unit {
            RangeUnit::Byte => bytes,
            RangeUnit::Bit => bytes.checked_mul(8)?,
        };
        let from_end = |index: i64| if index < 0 { (index + total).max(0) } else { index };
        let start = from_end(self.start);
        let end = from_end(self.end.unwrap_or(total - 1)).min(total - 1);
        if start > end {
            return None;
        }
        let scale = if self.unit == RangeUnit::Byte { 8 } else { 1 };
        // Both lie within the string.
        Some((start as u64 * scale, (end as u64 + 1) * scale))
    }
}

/// The number of ones in a part of a string.
pub fn count(value: &[u8], range: BitRange) -> u64 {
    // As in Redis: -1 to -5 is nothing, though both may come to 0 in a short string.
    if range.start < 0 && range.end.is_some_and(|end| end < 0 && range.start > end) {
        return 0;
    }
    let Some((start, end)) = range.resolve(value.len()) else { return 0 };
    let part = bytes_of(value, start, end);
    let ones = ones(part);
    let (before, after) = margins(start, end);
    let in_margins = part.first().map_or(0, |byte| (byte & before).count_ones())
        + part.last().map_or(0, |byte| (byte & after).count_ones());
    ones - u64::from(in_margins)
}

/// The first bit that is `bit` in a part of a string.
///
/// A zero is found right after the string if the range has no end.
pub fn position(value: &[u8], bit: bool, range: BitRange) -> Option<u64> {
    let (start, end) = range.resolve(value.len())?;
    let part = bytes_of(value, start, end);
    let (before, _) = margins(start, end);
    let skipped = if bit { 0x00 } else { 0xff };
    // What lies before the range never matches.
    let masked = |byte: u8| if bit { byte & !before } else { byte | before };
    let (&first, rest) = part.split_first()?;
    let (index, byte) = if masked(first) == skipped {
        let index = first_other(rest, skipped).map_or(part.len(), |index| index + 1);
        (index, part.get(index).copied())
    } else {
        (0, Some(masked(first)))
    };
    let within = match byte {
        Some(byte) if bit => byte.leading_zeros(),
        Some(byte) => byte.leading_ones(),
        None => 0,
    };
    let found = (start / 8 + index as u64) * 8 + u64::from(within);
    if found < end {
        return Some(found);
    }
    (!bit && range.end.is_none()).then_some(end)
}

/// The bytes that hold the bits from `start` to before `end`.
fn bytes_of(value: &[u8], start: u64, end: u64) -> &[u8] {
    let first = usize::try_from(start / 8).unwrap_or(usize::MAX);
    let after = usize::try_from(end.div_ceil(8)).unwrap_or(usize::MAX);
    value.get(first..after).unwrap_or_default()
}

/// Masks of the bits before `start` in its byte, and from `end` on in its byte.
fn margins(start: u64, end: u64) -> (u8, u8) {
    let before = !(0xff_u8 >> (start % 8));
    let after = if end.is_multiple_of(8) { 0 } else { 0xff_u8 >> (end % 8) };
    (before, after)
}

fn ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let in_words: u64 =
        words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    in_words + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// The first byte that is not `skipped`, word by word.
fn first_other(bytes: &[u8], skipped: u8) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let same = words.iter().take_while(|word| **word == [skipped; 8]).count() * 8;
    let found = bytes.get(same..)?.iter().position(|byte| *byte != skipped)?;
    Some(same + found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::get;
    use super::*;

    fn range(start: i64, end: Option<i64>, unit: RangeUnit) -> BitRange {
        BitRange { start, end, unit }
    }

    #[test]
    fn counts_are_those_of_redis() {
        use RangeUnit::{Bit, Byte};
        for (value, start, end, unit, expected) in [
            (&b"foobar"[..], 0, -1, Byte, 26),
            (b"foobar", 0, 0, Byte, 4),
            (b"foobar", 1, 1, Byte, 6),
            (b"foobar", 5, 30, Bit, 17),
            (b"foobar", 0, -1, Bit, 26),
            (b"foobar", -100, -90, Byte, 4),
            (b"foobar", -90, -100, Byte, 0),
            (b"foobar", 6, 9, Byte, 0),
            (b"foobar", i64::MIN, i64::MAX, Bit, 26),
            (b"__PPxxxxxxxxxxxxxxxxRR__", -6, -1, Byte, 26),
            (b"", 0, -1, Byte, 0),
        ] {
            assert_eq!(count(value, range(start, Some(end), unit)), expected, "{start} {end}");
        }
        assert_eq!(count(b"foobar", BitRange::ALL), 26);
    }

    #[test]
    fn a_zero_is_found_after_a_string_of_ones_only_without_an_end() {
        let ones = [0xff; 3];
        assert_eq!(position(&ones, false, BitRange::ALL), Some(24));
        assert_eq!(position(&ones, false, range(0, Some(-1), RangeUnit::Byte)), None);
        assert_eq!(position(&ones, false, range(2, None, RangeUnit::Byte)), Some(24));
        assert_eq!(position(&ones, false, range(3, None, RangeUnit::Byte)), None);
        assert_eq!(position(&ones, true, range(13, None, RangeUnit::Bit)), Some(13));
        assert_eq!(position(b"", false, BitRange::ALL), None);
        assert_eq!(position(&[0; 100], true, BitRange::ALL), None);
    }

    fn any_range() -> impl Strategy<Value = BitRange> {
        let end = prop::option::of(-300_i64..300);
        let unit = prop_oneof![Just(RangeUnit::Byte), Just(RangeUnit::Bit)];
        (-300_i64..300, end, unit).prop_map(|(start, end, unit)| range(start, end, unit))
    }

    /// The bits of the range, one by one.
    fn bits_in(value: &[u8], range: BitRange) -> Vec<u64> {
        let total = value.len() as i64 * if range.unit == RangeUnit::Bit { 8 } else { 1 };
        let scale = 8 * value.len() as u64 / total.max(1) as u64;
        let absolute = |index: i64| if index < 0 { (total + index).max(0) } else { index };
        let (start, end) = (absolute(range.start), absolute(range.end.unwrap_or(-1)));
        (0..total)
            .filter(|index| (start..=end).contains(index))
            .flat_map(|index| index as u64 * scale..(index as u64 + 1) * scale)
            .collect()
    }

    /// Bytes that are often all zeros or all ones.
    fn any_value() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![3 => Just(0), 3 => Just(0xff), 1 => any::<u8>()], 0..40)
    }

    proptest! {
        #[test]
        fn both_are_what_looking_at_each_bit_finds(value in any_value(), range in any_range()) {
            let bits = bits_in(&value, range);
            let is_backwards = range.start < 0 && range.end.is_some_and(|end| end < 0 && range.start > end);
            if !is_backwards {
                let ones = bits.iter().filter(|bit| get(&value, **bit)).count() as u64;
                prop_assert_eq!(count(&value, range), ones);
            }
            for wanted in [false, true] {
                let mut found = bits.iter().copied().find(|bit| get(&value, *bit) == wanted);
                if !wanted && range.end.is_none() && found.is_none() && !bits.is_empty() {
                    found = Some(value.len() as u64 * 8);
                }
                prop_assert_eq!(position(&value, wanted, range), found);
            }
        }

        #[test]
        fn extreme_ends_are_no_trouble(value in any_value(), start: i64, end: Option<i64>) {
            for unit in [RangeUnit::Byte, RangeUnit::Bit] {
                let _ = count(&value, range(start, end, unit));
                let _ = position(&value, true, range(start, end, unit));
            }
        }
    }
}
