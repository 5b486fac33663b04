//! Lines of words, quoted where need be.

use super::cell::Cell;
pub(crate) use crate::resp::split_line;

/// The words of a value that was given as one text.
pub(crate) fn of_value<'v>(cell: &dyn Cell, value: &'v [u8]) -> Vec<&'v [u8]> {
    if !cell.is_list() {
        return vec![value];
    }
    let words: Vec<&[u8]> =
        value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { vec![b""] } else { words }
}
