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

/// Appends a word so that [`split_line`] gives it back.
pub(crate) fn push_quoted(line: &mut Vec<u8>, word: &[u8]) {
    let is_plain = !word.is_empty()
        && word.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\'));
    // A line that begins with it would be a comment.
    if is_plain && word.first() != Some(&b'#') {
        return line.extend_from_slice(word);
    }
    line.push(b'"');
    for &byte in word {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            b' '..=b'~' => line.push(byte),
            _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    line.push(b'"');
}
