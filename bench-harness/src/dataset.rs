//! [`Dataset`]: keys and values that are made from a seed, and recognised when they come back.
//!
//! A record is known by its item number. Its key is 16 hexadecimal digits: of the number itself
//! ([`KeyOrder::Sequential`]), or of a bijective mix of it ([`KeyOrder::Hashed`]), so that a key of
//! a scan tells its item. A value names its item, the write that made it, and its length:
//!
//! ```text
//! item (8) | stamp (8) | length (4) | count (4) | filler
//! ```
//!
//! The filler is a piece of random bytes drawn beforehand (it does not compress); which piece
//! follows from item and stamp, so that a value nobody wrote is found.

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// The shortest value: its header and a little filler.
pub const VALUE_BYTES_MIN: usize = HEADER_BYTES + 8;
const HEADER_BYTES: usize = 24;
/// Places where a filler may begin. Small enough to stay in the processor's cache.
const FILLER_STARTS: u64 = 1 << 16;

/// A key.
pub type Key = [u8; KEY_BYTES];

/// The write that made a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The load before the run.
    pub const LOADED: Self = Self(0);

    /// Operation `index` of thread `thread`.
    pub const fn of(thread: usize, index: usize) -> Self {
        Self(((thread as u64 + 1) << 40) | index as u64)
    }

    /// That of the `places`-th operation behind this one.
    #[must_use]
    pub const fn later(self, places: usize) -> Self {
        Self(self.0 + places as u64)
    }

    /// Whether it is of thread `thread`.
    pub const fn is_of(self, thread: usize) -> bool {
        self.0 >> 40 == thread as u64 + 1
    }
}

/// How the order of keys follows from the order of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrder {
    /// Not at all.
    Hashed,
    /// It is the same.
    Sequential,
}

/// What a value says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueHeader {
    /// The write that made it.
    pub stamp: Stamp,
    /// Read-modify-writes since then.
    pub count: u32,
}

/// Keys and values of a run.
pub struct Dataset {
    order: KeyOrder,
    salt: u64,
    value_bytes_max: usize,
    filler: Vec<u8>,
}

impl Dataset {
    /// The data of `seed`, with values of up to `value_bytes_max` bytes.
    pub fn new(seed: u64, order: KeyOrder, value_bytes_max: usize) -> Self {
        let value_bytes_max = value_bytes_max.max(VALUE_BYTES_MIN);
        let mut filler = vec![0; FILLER_STARTS as usize + value_bytes_max];
        SmallRng::seed_from_u64(seed).fill_bytes(&mut filler);
        Self { order, salt: mix(seed), value_bytes_max, filler }
    }

    /// Bytes of the longest value.
    pub fn value_bytes_max(&self) -> usize {
        self.value_bytes_max
    }

    /// The key of an item.
    pub fn key(&self, item: u64) -> Key {
        let number = match self.order {
            KeyOrder::Hashed => mix(item ^ self.salt),
            KeyOrder::Sequential => item,
        };
        let mut key = [0; KEY_BYTES];
        for (index, digit) in key.iter_mut().enumerate() {
            let nibble = (number >> (60 - 4 * index)) as u8 & 15;
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
        key
    }

    /// The item of a key, if it is a key of this data set.
    pub fn item_of(&self, key: &[u8]) -> Option<u64> {
        if key.len() != KEY_BYTES {
            return None;
        }
        let mut number = 0;
        for digit in key {
            let nibble = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            number = number << 4 | u64::from(nibble);
        }
        Some(match self.order {
            KeyOrder::Hashed => unmix(number) ^ self.salt,
            KeyOrder::Sequential => number,
        })
    }

    /// Writes a value of `bytes` bytes (within [`VALUE_BYTES_MIN`] and the longest) into `out`,
    /// replacing what was there.
    pub fn write_value(&self, item: u64, stamp: Stamp, bytes: usize, out: &mut Vec<u8>) {
        let bytes = bytes.clamp(VALUE_BYTES_MIN, self.value_bytes_max);
        out.clear();
        out.extend_from_slice(&item.to_le_bytes());
        out.extend_from_slice(&stamp.0.to_le_bytes());
        out.extend_from_slice(&(bytes as u32).to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(self.filler(item, stamp, bytes));
    }

    /// Writes into the empty `out` the value after one more read-modify-write of `old`.
    pub fn write_counted(&self, old: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(old);
        let count = (word(old, 16) >> 32) as u32;
        if let Some(bytes) = out.get_mut(20..HEADER_BYTES) {
            bytes.copy_from_slice(&count.wrapping_add(1).to_le_bytes());
        }
    }

    /// Checks that `value` is one that was made for `item`.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn check_value(&self, item: u64, value: &[u8]) -> Result<ValueHeader, &'static str> {
        let lengths = word(value, 16);
        if value.len() < VALUE_BYTES_MIN || lengths as u32 as usize != value.len() {
            return Err("a value of another length");
        }
        if word(value, 0) != item {
            return Err("the value of another key");
        }
        let header = ValueHeader { stamp: Stamp(word(value, 8)), count: (lengths >> 32) as u32 };
        if value.len() > self.value_bytes_max
            || value.get(HEADER_BYTES..) != Some(self.filler(item, header.stamp, value.len()))
        {
            return Err("a value that nobody wrote");
        }
        Ok(header)
    }

    fn filler(&self, item: u64, stamp: Stamp, bytes: usize) -> &[u8] {
        let start = mix(item ^ stamp.0.rotate_left(17)) % FILLER_STARTS;
        &self.filler[start as usize..][..bytes - HEADER_BYTES]
    }
}

/// The little-endian word at `offset`; 0 beyond the end.
fn word(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk::<8>())
        .map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

const MULTIPLIER_A: u64 = 0xbf58_476d_1ce4_e5b9;
const MULTIPLIER_B: u64 = 0x94d0_49bb_1331_11eb;

/// A bijection that leaves no pattern: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014).
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(MULTIPLIER_A);
    x = (x ^ (x >> 27)).wrapping_mul(MULTIPLIER_B);
    x ^ (x >> 31)
}

const fn unmix(mut x: u64) -> u64 {
    x = unshift(x, 31).wrapping_mul(inverse(MULTIPLIER_B));
    x = unshift(x, 27).wrapping_mul(inverse(MULTIPLIER_A));
    unshift(x, 30)
}

/// The `y` with `y ^ (y >> shift) == x`, for shifts of at least 22.
const fn unshift(x: u64, shift: u32) -> u64 {
    x ^ (x >> shift) ^ (x >> (2 * shift))
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut rounds = 0;
    while rounds < 6 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        rounds += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_item() {
        for order in [KeyOrder::Hashed, KeyOrder::Sequential] {
            let data = Dataset::new(7, order, 100);
            for item in (0..10_000).chain([u64::MAX, u64::from(u32::MAX), 1 << 40]) {
                assert_eq!(data.item_of(&data.key(item)), Some(item));
            }
            for key in [&b"0123"[..], b"0123456789abcdeF", b"+123456789abcdef"] {
                assert_eq!(data.item_of(key), None);
            }
        }
    }

    #[test]
    fn sequential_keys_are_in_order_and_hashed_ones_are_not() {
        let ascents = |order| {
            let data = Dataset::new(7, order, 100);
            (0..1000).filter(|&item| data.key(item) < data.key(item + 1)).count()
        };
        assert_eq!(ascents(KeyOrder::Sequential), 1000);
        assert!((400..600).contains(&ascents(KeyOrder::Hashed)));
    }

    #[test]
    fn a_value_is_recognised_and_a_changed_one_is_not() {
        let data = Dataset::new(7, KeyOrder::Hashed, 100);
        let mut value = Vec::new();
        data.write_value(5, Stamp::of(1, 9), 100, &mut value);
        assert_eq!(value.len(), 100);
        let header = data.check_value(5, &value).unwrap();
        assert_eq!(header, ValueHeader { stamp: Stamp::of(1, 9), count: 0 });

        let mut counted = Vec::new();
        data.write_counted(&value, &mut counted);
        assert_eq!(data.check_value(5, &counted).unwrap().count, 1);

        assert!(data.check_value(6, &value).is_err());
        for len in 0..100 {
            assert!(data.check_value(5, &value[..len]).is_err(), "cut to {len}");
        }
        for byte in (0..20).chain(24..100) {
            let mut changed = value.clone();
            changed[byte] ^= 1;
            assert!(data.check_value(5, &changed).is_err(), "byte {byte}");
        }
    }
}
