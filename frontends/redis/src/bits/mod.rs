//! Strings as arrays of bits: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP and BITFIELD.
//!
//! Bit 0 is the most significant bit of the first byte. A string is followed by zeros without end:
//! reading beyond it finds zeros, writing beyond it makes it longer. Everything here is a pure
//! function of bytes; what grows is bounded by the offset, which [`parse_offset`] bounds.

mod combine;
mod field;
mod range;

pub use combine::{BitOperation, Combination};
pub use field::{FieldProgram, Written};
pub use range::{BitRange, RangeUnit, count, position};

use std::fmt;

use crate::integer::parse_integer;
use crate::refusal::Refusal;

/// Why a command on bits is refused, in the words a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitsError {
    /// An offset that is none, or lies beyond the limit.
    Offset,
    /// A bit that is neither 0 nor 1.
    Bit,
    /// BITPOS: a bit that is neither 0 nor 1.
    WantedBit,
    /// A number that is none.
    Integer,
    /// Words that make no sense.
    Syntax,
    /// BITFIELD: a type that is none.
    FieldType,
    /// BITFIELD: an overflow behaviour that is none.
    OverflowKind,
    /// BITFIELD_RO: it was asked to write.
    ReadOnly,
    /// BITOP NOT: not exactly one source.
    NotNeedsOneSource,
}

impl BitsError {
    /// As a client sees it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Offset => "ERR bit offset is not an integer or out of range",
            Self::Bit => "ERR bit is not an integer or out of range",
            Self::WantedBit => "ERR The bit argument must be 1 or 0.",
            Self::Integer => "ERR value is not an integer or out of range",
            Self::Syntax => "ERR syntax error",
            Self::FieldType => {
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not \
                 supported but i64 is."
            }
            Self::OverflowKind => "ERR Invalid OVERFLOW type specified",
            Self::ReadOnly => "ERR BITFIELD_RO only supports the GET subcommand",
            Self::NotNeedsOneSource => "ERR BITOP NOT must be called with a single source key.",
        }
    }
}

impl fmt::Display for BitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for BitsError {}

impl From<BitsError> for Refusal {
    fn from(error: BitsError) -> Self {
        Self::text(error.text())
    }
}

/// Reads the offset of a bit; its byte lies below `limit_bytes`.
///
/// # Errors
/// [`BitsError::Offset`].
pub fn parse_offset(text: &[u8], limit_bytes: u64) -> Result<u64, BitsError> {
    let offset = parse_integer(text).ok_or(BitsError::Offset)?;
    within_limit(offset, limit_bytes)
}

/// Reads the offset of a field of `width` bits: of a bit, or with `#` in front the number of a field
/// among fields of that width.
fn parse_field_offset(text: &[u8], width: u32, limit_bytes: u64) -> Result<u64, BitsError> {
    let Some(number) = text.strip_prefix(b"#") else { return parse_offset(text, limit_bytes) };
    let number = parse_integer(number).ok_or(BitsError::Offset)?;
    within_limit(number.checked_mul(i64::from(width)).ok_or(BitsError::Offset)?, limit_bytes)
}

fn within_limit(offset: i64, limit_bytes: u64) -> Result<u64, BitsError> {
    u64::try_from(offset).ok().filter(|offset| offset >> 3 < limit_bytes).ok_or(BitsError::Offset)
}

/// Reads a bit to be set.
///
/// # Errors
/// [`BitsError::Bit`].
pub fn parse_bit(text: &[u8]) -> Result<bool, BitsError> {
    match parse_integer(text) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(BitsError::Bit),
    }
}

/// Reads a bit to be looked for.
///
/// # Errors
/// [`BitsError::Integer`], [`BitsError::WantedBit`].
pub fn parse_wanted_bit(text: &[u8]) -> Result<bool, BitsError> {
    match parse_integer(text) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        Some(_) => Err(BitsError::WantedBit),
        None => Err(BitsError::Integer),
    }
}

/// The bit at `offset`.
pub fn get(value: &[u8], offset: u64) -> bool {
    let byte = usize::try_from(offset >> 3).ok().and_then(|index| value.get(index));
    byte.is_some_and(|byte| byte >> bit_shift(offset) & 1 == 1)
}

/// The length a string of `len` bytes has once the bit at `offset` is written.
pub fn len_with(len: usize, offset: u64) -> usize {
    let needed = usize::try_from(offset >> 3).unwrap_or(usize::MAX).saturating_add(1);
    len.max(needed)
}

/// Writes the bit at `offset` of a string that is [long enough](len_with).
pub fn set(value: &mut [u8], offset: u64, bit: bool) {
    let index = usize::try_from(offset >> 3).unwrap_or(usize::MAX);
    if let Some(byte) = value.get_mut(index) {
        let mask = 1_u8 << bit_shift(offset);
        *byte = if bit { *byte | mask } else { *byte & !mask };
    }
}

/// How far the bit at `offset` is from the lowest of its byte.
fn bit_shift(offset: u64) -> u32 {
    7 - (offset & 7) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 512 << 20;

    #[test]
    fn offsets_are_bounded_by_the_length_they_make() {
        assert_eq!(parse_offset(b"4294967295", LIMIT), Ok(4_294_967_295));
        for bad in [&b"4294967296"[..], b"-1", b"", b"x", b" 1", b"01", b"9223372036854775808"] {
            assert_eq!(parse_offset(bad, LIMIT), Err(BitsError::Offset), "{bad:?}");
        }
        assert_eq!(parse_field_offset(b"#100", 8, LIMIT), Ok(800));
        assert_eq!(parse_field_offset(b"#536870911", 8, LIMIT), Ok(4_294_967_288));
        for bad in [&b"#536870912"[..], b"#-1", b"#", b"##1", b"#9223372036854775807"] {
            assert_eq!(parse_field_offset(bad, 8, LIMIT), Err(BitsError::Offset), "{bad:?}");
        }
        assert_eq!(parse_offset(b"#1", LIMIT), Err(BitsError::Offset));
    }

    #[test]
    fn bits_are_zero_or_one() {
        assert_eq!((parse_bit(b"0"), parse_bit(b"1")), (Ok(false), Ok(true)));
        assert_eq!((parse_bit(b"2"), parse_bit(b"-1")), (Err(BitsError::Bit), Err(BitsError::Bit)));
        assert_eq!(parse_wanted_bit(b"2"), Err(BitsError::WantedBit));
        assert_eq!(parse_wanted_bit(b"x"), Err(BitsError::Integer));
    }

    #[test]
    fn the_first_bit_is_the_highest_of_the_first_byte() {
        let mut value = [0; 3];
        set(&mut value, 0, true);
        assert_eq!(value, [0x80, 0, 0]);
        set(&mut value, 23, true);
        assert_eq!(value, [0x80, 0, 1]);
        set(&mut value, 0, false);
        set(&mut value, 24, true);
        assert_eq!(value, [0, 0, 1]);
        assert!(!get(&value, u64::MAX));
        assert_eq!((len_with(0, 0), len_with(0, 8), len_with(5, 8)), (1, 2, 5));
    }

    proptest! {
        #[test]
        fn a_string_behaves_as_an_array_of_bits(
            writes in prop::collection::vec((0_u64..300, any::<bool>()), 0..60)
        ) {
            let mut value = Vec::new();
            let mut model = [false; 300];
            for (offset, bit) in writes {
                value.resize(len_with(value.len(), offset), 0);
                prop_assert_eq!(get(&value, offset), model[offset as usize]);
                set(&mut value, offset, bit);
                model[offset as usize] = bit;
            }
            for offset in 0..300 {
                prop_assert_eq!(get(&value, offset), model[offset as usize]);
            }
        }
    }
}
