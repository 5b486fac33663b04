//! [`longest_common_subsequence()`]: LCS.

use ferrokit_engine::Entry;

use crate::db::{Db, ManyVisitor};
use crate::refusal::{Refusal, Result};
use crate::value::Value;

const TOO_LARGE: Refusal =
    Refusal::text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
const NOT_STRINGS: Refusal = Refusal::text("ERR The specified keys must contain string values");
/// What Redis takes for one pair of bytes; its limit on memory is kept, in fewer bytes.
const REDIS_CELL_BYTES: u64 = 4;

/// Where both strings have the same bytes; ends are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// First and last byte in the first string.
    pub a: (usize, usize),
    /// First and last byte in the second string.
    pub b: (usize, usize),
}

impl Match {
    /// Its length.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.a.1 - self.a.0 + 1
    }
}

/// The longest sequence of bytes that two strings have in common, not necessarily side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// The sequence.
    pub bytes: Vec<u8>,
    /// Where it lies, from the end of the strings to their start.
    pub matches: Vec<Match>,
}

/// Whether strings of these lengths may be compared within a limit of Redis.
fn is_within(a: usize, b: usize, bytes_max: u64) -> bool {
    let cells = (a as u64).saturating_add(1).saturating_mul((b as u64).saturating_add(1));
    cells.saturating_mul(REDIS_CELL_BYTES) <= bytes_max
}

/// The length of the longest common subsequence.
///
/// # Errors
/// A table of four bytes for each pair of bytes would not fit in `bytes_max`.
pub fn common_length(a: &[u8], b: &[u8], bytes_max: u64) -> Result<usize> {
    if !is_within(a.len(), b.len(), bytes_max) {
        return Err(TOO_LARGE);
    }
    Ok(fill(a, b, |_, _| {}))
}

/// The longest common subsequence; of several the one that Redis finds.
///
/// # Errors
/// A table of four bytes for each pair of bytes would not fit in `bytes_max`.
pub fn longest_common_subsequence(a: &[u8], b: &[u8], bytes_max: u64) -> Result<Common> {
    if !is_within(a.len(), b.len(), bytes_max) {
        return Err(TOO_LARGE);
    }
    let mut goes_up = Bits::new(a.len() * b.len());
    let len = fill(a, b, |row, column| goes_up.set(row * b.len() + column));
    Ok(walk_back(a, b, len, &goes_up))
}

/// Fills the table of lengths row by row, of which only one is kept; calls `goes_up` for each pair
/// of different bytes where the row above has more than the column before. The last length.
fn fill(a: &[u8], b: &[u8], mut goes_up: impl FnMut(usize, usize)) -> usize {
    // `lengths[j]` is that of the prefix of `a` so far and the first `j + 1` bytes of `b`.
    let mut lengths = vec![0_u32; b.len()];
    for (row, byte) in a.iter().enumerate() {
        let (mut left, mut above_left) = (0, 0);
        for (column, (other, length)) in b.iter().zip(&mut lengths).enumerate() {
            let above = *length;
            if byte == other {
                *length = above_left + 1;
            } else if above > left {
                goes_up(row, column);
            } else {
                *length = left;
            }
            above_left = above;
            left = *length;
        }
    }
    lengths.last().map_or(0, |length| *length as usize)
}

/// Collects the sequence and its matches from the end of the table.
fn walk_back(a: &[u8], b: &[u8], len: usize, goes_up: &Bits) -> Common {
    let mut bytes = Vec::with_capacity(len);
    let mut matches = Vec::new();
    let mut current: Option<Match> = None;
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        let (row, column) = (i - 1, j - 1);
        if a[row] == b[column] {
            bytes.push(a[row]);
            let found = current.get_or_insert(Match { a: (row, row), b: (column, column) });
            (found.a.0, found.b.0) = (row, column);
            (i, j) = (row, column);
        } else {
            matches.extend(current.take());
            if goes_up.get(row * b.len() + column) { i = row } else { j = column }
        }
    }
    matches.extend(current);
    bytes.reverse();
    Common { bytes, matches }
}

/// One bit for each pair of bytes.
struct Bits(Vec<u64>);

impl Bits {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    fn set(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    fn get(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

/// The strings of two keys.
#[derive(Default)]
struct Pair {
    strings: [Vec<u8>; 2],
    is_wrong_type: bool,
}

impl ManyVisitor for Pair {
    fn restart(&mut self) {
        *self = Self::default();
    }

    fn visit(&mut self, index: usize, entry: Entry<'_>) {
        match (Value::decode(entry.value).as_string(), self.strings.get_mut(index)) {
            (Some(bytes), Some(string)) => bytes.clone_into(string),
            _ => self.is_wrong_type = true,
        }
    }
}

impl Db<'_> {
    /// The strings of two keys as they were at one moment, to be compared; empty without a key.
    ///
    /// # Errors
    /// One of them is no string; those of the engine.
    pub async fn get_pair(&mut self, a: &[u8], b: &[u8]) -> Result<[Vec<u8>; 2]> {
        let mut pair = Pair::default();
        let found = self.read_many(&[a, b], &mut pair).await?;
        self.looked_up_many(2, found);
        if pair.is_wrong_type { Err(NOT_STRINGS) } else { Ok(pair.strings) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 512 << 20;

    fn common(a: &str, b: &str) -> (String, Vec<[usize; 4]>) {
        let common = longest_common_subsequence(a.as_bytes(), b.as_bytes(), LIMIT).unwrap();
        let places = common.matches.iter().map(|it| [it.a.0, it.a.1, it.b.0, it.b.1]).collect();
        (String::from_utf8(common.bytes).unwrap(), places)
    }

    #[test]
    fn matches_are_those_of_redis() {
        assert_eq!(
            common("ohmytext", "mynewtext"),
            ("mytext".into(), vec![[4, 7, 5, 8], [2, 3, 0, 1]])
        );
        assert_eq!(common("", "a"), (String::new(), vec![]));
        assert_eq!(common("abc", "abc"), ("abc".into(), vec![[0, 2, 0, 2]]));
        assert_eq!(
            common("xaybzc", "aabbcc"),
            ("abc".into(), vec![[5, 5, 5, 5], [3, 3, 2, 2], [1, 1, 0, 0]])
        );
    }

    #[test]
    fn the_limit_is_that_of_redis() {
        let (a, b) = ([b'a'; 99], [b'b'; 9]);
        assert_eq!(common_length(&a, &b, 4000).unwrap(), 0);
        assert!(common_length(&a, &b, 3999).is_err());
        assert!(longest_common_subsequence(&a, &b, 4000).is_ok());
        assert!(longest_common_subsequence(&a, &b, 3999).is_err());
        assert!(!is_within(usize::MAX, usize::MAX, u64::MAX - 1));
    }

    fn is_subsequence(part: &[u8], whole: &[u8]) -> bool {
        let mut whole = whole.iter();
        part.iter().all(|byte| whole.any(|other| other == byte))
    }

    proptest! {
        #[test]
        fn the_sequence_is_common_as_long_as_counted_and_lies_where_said(
            a in "[abc]{0,40}", b in "[abc]{0,40}"
        ) {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let common = longest_common_subsequence(a, b, LIMIT).unwrap();
            prop_assert_eq!(common.bytes.len(), common_length(a, b, LIMIT).unwrap());
            prop_assert!(is_subsequence(&common.bytes, a) && is_subsequence(&common.bytes, b));
            let lay_out = |string: &[u8], ends: fn(&Match) -> (usize, usize)| -> Vec<u8> {
                let places = common.matches.iter().rev().map(ends);
                places.flat_map(|(first, last)| string[first..=last].to_vec()).collect()
            };
            prop_assert_eq!(&lay_out(a, |it| it.a), &common.bytes);
            prop_assert_eq!(&lay_out(b, |it| it.b), &common.bytes);
        }
    }
}
