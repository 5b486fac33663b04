//! [`Resp`]: the protocol of Redis, version 2.

use super::protocol::{Decoded, Malformed, Protocol, Reply, block, line, number};

/// The protocol of Redis, Valkey and ferrokit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resp;

impl Resp {
    fn write_array(count: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("*{count}\r\n").as_bytes());
    }

    fn write_bulk(bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }

    fn write_command(words: &[&[u8]], out: &mut Vec<u8>) {
        Self::write_array(words.len(), out);
        words.iter().for_each(|word| Self::write_bulk(word, out));
    }
}

impl Protocol for Resp {
    fn write_get(&self, key: &[u8], out: &mut Vec<u8>) {
        Self::write_command(&[b"GET", key], out);
    }

    fn write_set(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        Self::write_command(&[b"SET", key, value], out);
    }

    fn write_increment(&self, key: &[u8], out: &mut Vec<u8>) {
        Self::write_command(&[b"INCR", key], out);
    }

    fn write_set_many(&self, keys: usize, out: &mut Vec<u8>) -> bool {
        Self::write_array(1 + 2 * keys, out);
        Self::write_bulk(b"MSET", out);
        true
    }

    fn write_pair(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        Self::write_bulk(key, out);
        Self::write_bulk(value, out);
    }

    fn decode<'a>(
        &self,
        bytes: &'a [u8],
        value_bytes_max: usize,
    ) -> Result<Option<Decoded<'a>>, Malformed> {
        let Some((line, line_bytes)) = line(bytes)? else { return Ok(None) };
        let (kind, rest) = line.split_first().ok_or(Malformed("an empty line"))?;
        let reply = match kind {
            b'+' if rest == b"OK" => Reply::Stored,
            b'-' => Reply::Error(rest),
            b':' => Reply::Integer(number(rest).ok_or(Malformed("a number that is none"))?),
            b'$' if rest == b"-1" => Reply::Missing,
            b'$' => {
                let length = number(rest)
                    .and_then(|length| usize::try_from(length).ok())
                    .ok_or(Malformed("a length that is none"))?;
                if length > value_bytes_max {
                    return Err(Malformed("a value of another length"));
                }
                let Some(value) = block(bytes, line_bytes, length)? else { return Ok(None) };
                let bytes = line_bytes + length + 2;
                return Ok(Some(Decoded { reply: Reply::Value { key: None, value }, bytes }));
            }
            _ => return Err(Malformed("a line of an unexpected kind")),
        };
        Ok(Some(Decoded { reply, bytes: line_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_are_arrays_of_bulk_strings() {
        let get = written(|out| Resp.write_get(b"key", out));
        assert_eq!(get, "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
        let set = written(|out| Resp.write_set(b"k", b"value", out));
        assert_eq!(set, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n");
        let increment = written(|out| Resp.write_increment(b"k", out));
        assert_eq!(increment, "*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n");
        let set_many = written(|out| {
            assert!(Resp.write_set_many(2, out));
            Resp.write_pair(b"a", b"1", out);
            Resp.write_pair(b"b", b"22", out);
        });
        assert_eq!(set_many, "*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$2\r\n22\r\n");
    }

    #[test]
    fn a_reply_is_read_when_its_last_byte_is_there_and_not_before() {
        let value = |value| Reply::Value { key: None, value };
        for (text, reply) in [
            (&b"+OK\r\n"[..], Reply::Stored),
            (b"-ERR no\r\n", Reply::Error(b"ERR no")),
            (b":0\r\n", Reply::Integer(0)),
            (b":18446744073709551615\r\n", Reply::Integer(u64::MAX)),
            (b"$-1\r\n", Reply::Missing),
            (b"$0\r\n\r\n", value(b"")),
            (b"$4\r\n\r\n\r\n\r\n", value(b"\r\n\r\n")),
        ] {
            for cut in 0..text.len() {
                assert_eq!(Resp.decode(&text[..cut], 10), Ok(None), "{text:?} cut at {cut}");
            }
            let more = [text, b"+OK\r\n"].concat();
            let bytes = text.len();
            assert_eq!(Resp.decode(&more, 10), Ok(Some(Decoded { reply, bytes })));
        }
    }

    #[test]
    fn what_cannot_become_a_reply_is_refused_at_once() {
        for text in [
            &b"\r\n"[..],
            b"+OK\n",
            b"hello\r\n",
            b"*1\r\n",
            b":-1\r\n",
            b":\r\n",
            b":18446744073709551616\r\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"$99999999999999999999\r\n",
            b"$11\r\n",
            b"$1\r\nabc",
        ] {
            assert!(Resp.decode(text, 10).is_err(), "{text:?}");
        }
        assert_eq!(Resp.decode(&[b'+'; 4095], 10), Ok(None));
        assert!(Resp.decode(&[b'+'; 4096], 10).is_err(), "an endless line");
    }
}
