//! [`split_words()`]: the words of an inline request; [`split_line()`]: those of any line.

use super::arguments::{Arguments, Place};

/// Splits a line into words. A word may hold quoted parts, `"..."` with escapes (`\n`, `\xHH`, ...)
/// or `'...'` with `\'` only; a closing quote must end the word. `None` if a quote stays open.
pub(super) fn split_words(line: &[u8], arguments: &mut Arguments) -> Option<()> {
    let mut rest = line;
    loop {
        let space = rest.iter().take_while(|byte| is_space(**byte)).count();
        rest = rest.get(space..)?;
        if rest.is_empty() {
            return Some(());
        }
        let start = arguments.unescaped.len();
        rest = take_word(rest, &mut arguments.unescaped)?;
        let len = arguments.unescaped.len() - start;
        arguments
            .places
            .push(Place { start: u32::try_from(start).ok()?, len: u32::try_from(len).ok()? });
    }
}

/// The words of a line, by the same rules.
pub(crate) fn split_line(mut rest: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    loop {
        let space = rest.iter().take_while(|byte| is_space(**byte)).count();
        rest = rest.get(space..)?;
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        words.push(word);
    }
}

/// Appends the first word of `rest` to `out`; what follows it.
fn take_word<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return Some(rest),
            [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some(rest),
            [quote @ (b'"' | b'\''), after @ ..] => {
                let after = take_quoted(*quote, after, out)?;
                let ends = after.first().is_none_or(|byte| is_space(*byte));
                return ends.then_some(after);
            }
            [byte, after @ ..] => {
                out.push(*byte);
                rest = after;
            }
        }
    }
}

/// Appends what is quoted; what follows the closing quote.
fn take_quoted<'a>(quote: u8, mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match (quote, rest) {
            (_, []) => return None,
            (b'\'', [b'\\', b'\'', after @ ..]) => {
                out.push(b'\'');
                rest = after;
            }
            (b'"', [b'\\', b'x', high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(hex_value(*high) << 4 | hex_value(*low));
                rest = after;
            }
            (b'"', [b'\\', escaped, after @ ..]) => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            (_, [byte, after @ ..]) => {
                if *byte == quote {
                    return Some(after);
                }
                out.push(*byte);
                rest = after;
            }
        }
    }
}

/// White space between words. Within a word its vertical kinds are bytes like others, as in Redis.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}
