//! [`Protocol`]: how requests are written and replies are read, for all servers alike.

use ferrokit_engine::{Error, ErrorKind};

/// The longest line of a reply, without which it is taken for garbage.
pub(super) const LINE_BYTES_MAX: usize = 4096;

/// A server's wire protocol.
///
/// Requests of one kind, with keys of one length and values of one length, have one length:
/// `Requests` relies on it.
pub trait Protocol: Sync {
    /// Appends a read of `key`.
    fn write_get(&self, key: &[u8], out: &mut Vec<u8>);

    /// Appends a write of `key`.
    fn write_set(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>);

    /// Appends an increment of `key` by one.
    fn write_increment(&self, key: &[u8], out: &mut Vec<u8>);

    /// Appends the beginning of a write of `keys` keys at once; each follows with
    /// [`write_pair`](Self::write_pair). Answers whether the protocol has such a request.
    fn write_set_many(&self, keys: usize, out: &mut Vec<u8>) -> bool;

    /// Appends a key and its value to a write of several.
    fn write_pair(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>);

    /// Reads the first reply in `bytes`; `None` if its end has not arrived.
    ///
    /// # Errors
    /// [`Malformed`] if it cannot become a reply, whatever follows: a value of more than
    /// `value_bytes_max` bytes among others, so that what is kept of an unfinished reply is bounded.
    fn decode<'a>(
        &self,
        bytes: &'a [u8],
        value_bytes_max: usize,
    ) -> Result<Option<Decoded<'a>>, Malformed>;
}

/// A whole reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// What it says.
    pub reply: Reply<'a>,
    /// Its length on the wire, in bytes.
    pub bytes: usize,
}

/// What a reply says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The write is done.
    Stored,
    /// The key's value; the key itself where the protocol repeats it.
    Value {
        /// The key.
        key: Option<&'a [u8]>,
        /// The value.
        value: &'a [u8],
    },
    /// The key is not there.
    Missing,
    /// A number.
    Integer(u64),
    /// A refusal, in the server's words.
    Error(&'a [u8]),
}

/// Bytes that are no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(
            ErrorKind::Corruption,
            "bench.server",
            format!("wrong answer: {} where a reply is due", malformed.0),
        )
    }
}

/// The line at the start of `bytes`, without its end, and how many bytes it has with it.
pub(super) fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Malformed> {
    let searched = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = searched.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() < LINE_BYTES_MAX {
            Ok(None)
        } else {
            Err(Malformed("an endless line"))
        };
    };
    match bytes.get(..end).and_then(|line| line.strip_suffix(b"\r")) {
        Some(line) => Ok(Some((line, end + 1))),
        None => Err(Malformed("a line that ends without a carriage return")),
    }
}

/// A decimal number of digits alone.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The `length` bytes of `bytes` from `start`, which a line's end follows; `None` if they have not
/// all arrived.
pub(super) fn block(bytes: &[u8], start: usize, length: usize) -> Result<Option<&[u8]>, Malformed> {
    let end = start + length;
    match bytes.get(end..end + 2) {
        None => Ok(None),
        Some(b"\r\n") => Ok(bytes.get(start..end)),
        Some(_) => Err(Malformed("a value longer than announced")),
    }
}
