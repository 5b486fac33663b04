//! [`Memcached`]: the text protocol of memcached.

use super::protocol::{Decoded, Malformed, Protocol, Reply, block, line, number};

/// What ends the answer to a read.
const END: &[u8] = b"END\r\n";

/// The text protocol of memcached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memcached;

impl Protocol for Memcached {
    fn write_get(&self, key: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"get ");
        out.extend_from_slice(key);
        out.extend_from_slice(b"\r\n");
    }

    fn write_set(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"set ");
        out.extend_from_slice(key);
        out.extend_from_slice(format!(" 0 0 {}\r\n", value.len()).as_bytes());
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }

    fn write_increment(&self, key: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"incr ");
        out.extend_from_slice(key);
        out.extend_from_slice(b" 1\r\n");
    }

    fn write_set_many(&self, _: usize, _: &mut Vec<u8>) -> bool {
        false
    }

    fn write_pair(&self, _: &[u8], _: &[u8], _: &mut Vec<u8>) {}

    fn decode<'a>(
        &self,
        bytes: &'a [u8],
        value_bytes_max: usize,
    ) -> Result<Option<Decoded<'a>>, Malformed> {
        let Some((line, line_bytes)) = line(bytes)? else { return Ok(None) };
        let reply = match line {
            b"STORED" => Reply::Stored,
            b"END" | b"NOT_FOUND" => Reply::Missing,
            _ if line.starts_with(b"VALUE ") => {
                return value(bytes, line, line_bytes, value_bytes_max);
            }
            _ if line.first().is_some_and(u8::is_ascii_digit) => {
                // An incremented number may be followed by spaces.
                Reply::Integer(number(line.trim_ascii_end()).ok_or(Malformed("a bad number"))?)
            }
            _ if [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR", b"NOT_STORED", b"EXISTS"]
                .iter()
                .any(|refusal| line.starts_with(refusal)) =>
            {
                Reply::Error(line)
            }
            _ => return Err(Malformed("a line of an unexpected kind")),
        };
        Ok(Some(Decoded { reply, bytes: line_bytes }))
    }
}

/// `VALUE key flags length`, the value, `END`.
fn value<'a>(
    bytes: &'a [u8],
    line: &'a [u8],
    line_bytes: usize,
    value_bytes_max: usize,
) -> Result<Option<Decoded<'a>>, Malformed> {
    let mut words = line.split(|&byte| byte == b' ').skip(1);
    let key = words.next();
    let length = words
        .nth(1)
        .and_then(number)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or(Malformed("a length that is none"))?;
    if length > value_bytes_max {
        return Err(Malformed("a value of another length"));
    }
    let Some(value) = block(bytes, line_bytes, length)? else { return Ok(None) };
    let end = line_bytes + length + 2;
    let after = bytes.get(end..).unwrap_or(&[]);
    if after.starts_with(END) {
        let reply = Reply::Value { key, value };
        return Ok(Some(Decoded { reply, bytes: end + END.len() }));
    }
    if END.starts_with(after) { Ok(None) } else { Err(Malformed("something after a value")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines() {
        let mut out = Vec::new();
        Memcached.write_get(b"key", &mut out);
        Memcached.write_set(b"k", b"value", &mut out);
        Memcached.write_increment(b"k", &mut out);
        assert_eq!(out, b"get key\r\nset k 0 0 5\r\nvalue\r\nincr k 1\r\n");
        assert!(!Memcached.write_set_many(2, &mut out));
    }

    #[test]
    fn a_reply_is_read_when_its_last_byte_is_there_and_not_before() {
        let value = |value| Reply::Value { key: Some(b"key"), value };
        for (text, reply) in [
            (&b"STORED\r\n"[..], Reply::Stored),
            (b"END\r\n", Reply::Missing),
            (b"NOT_FOUND\r\n", Reply::Missing),
            (b"7 \r\n", Reply::Integer(7)),
            (b"SERVER_ERROR out of memory\r\n", Reply::Error(b"SERVER_ERROR out of memory")),
            (b"VALUE key 0 5\r\nEND\r\n\r\nEND\r\n", value(b"END\r\n")),
            (b"VALUE key 0 0\r\n\r\nEND\r\n", value(b"")),
        ] {
            for cut in 0..text.len() {
                assert_eq!(Memcached.decode(&text[..cut], 10), Ok(None), "{text:?} cut at {cut}");
            }
            let more = [text, b"STORED\r\n"].concat();
            let bytes = text.len();
            assert_eq!(Memcached.decode(&more, 10), Ok(Some(Decoded { reply, bytes })));
        }
    }

    #[test]
    fn what_cannot_become_a_reply_is_refused_at_once() {
        for text in [
            &b"\r\n"[..],
            b"STORED\n",
            b"+OK\r\n",
            b"7x\r\n",
            b"VALUE key 0\r\n",
            b"VALUE key 0 x\r\n",
            b"VALUE key 0 11\r\n",
            b"VALUE key 0 1\r\nabc",
            b"VALUE key 0 1\r\na\r\nVALUE",
        ] {
            assert!(Memcached.decode(text, 10).is_err(), "{text:?}");
        }
    }
}
