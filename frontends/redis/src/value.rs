//! [`Value`]: how a Redis value lies in an engine.
//!
//! Almost every string is stored as it is, without a byte of overhead: a copy on neither way. A
//! first byte of [`FIRST_MARK`] or above, which begins no UTF-8 text, is a mark that says what
//! follows; a string that happens to begin with such a byte is stored behind the mark
//! `0xFF`.
//!
//! | first byte | what follows |
//! |---|---|
//! | below `0xF8` | it is itself the first byte of a string |
//! | `0xF8` ... `0xFC` | list, hash, set, sorted set, stream (`docs/design.md`) |
//! | `0xFE` | a string that was built by edits: its encoding is `raw` |
//! | `0xFF` | a string that begins with a byte of `0xF8` or above |

use crate::integer::parse_integer;

/// Bytes from here on are marks.
pub const FIRST_MARK: u8 = 0xF8;
const EDITED: u8 = 0xFE;
const ESCAPED: u8 = 0xFF;
/// The longest string Redis keeps inside its object.
const EMBEDDED_BYTES_MAX: usize = 44;

/// The type of a value, in the order of their marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// Bytes.
    String,
    /// A list.
    List,
    /// A hash.
    Hash,
    /// A set.
    Set,
    /// A sorted set.
    SortedSet,
    /// A stream.
    Stream,
}

impl Type {
    /// The name TYPE answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Hash => "hash",
            Self::Set => "set",
            Self::SortedSet => "zset",
            Self::Stream => "stream",
        }
    }
}

/// A stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string, and whether it was built by edits (APPEND, SETRANGE, SETBIT, ...).
    String {
        /// Its bytes.
        bytes: &'a [u8],
        /// Whether it was edited in place.
        is_edited: bool,
    },
    /// A value of another type: the bytes behind the mark.
    Other {
        /// Its type.
        kind: Type,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// A mark that this version does not know.
    Unknown(u8),
}

impl<'a> Value<'a> {
    /// Reads what is stored.
    #[inline]
    pub fn decode(stored: &'a [u8]) -> Self {
        match stored.split_first() {
            Some((&mark, bytes)) if mark >= FIRST_MARK => Self::decode_marked(mark, bytes),
            _ => Self::String { bytes: stored, is_edited: false },
        }
    }

    #[cold]
    fn decode_marked(mark: u8, bytes: &'a [u8]) -> Self {
        let kind = match mark {
            0xF8 => Type::List,
            0xF9 => Type::Hash,
            0xFA => Type::Set,
            0xFB => Type::SortedSet,
            0xFC => Type::Stream,
            EDITED | ESCAPED => return Self::String { bytes, is_edited: mark == EDITED },
            unknown => return Self::Unknown(unknown),
        };
        Self::Other { kind, bytes }
    }

    /// The bytes of a string; `None` of anything else.
    #[inline]
    pub fn as_string(self) -> Option<&'a [u8]> {
        match self {
            Self::String { bytes, .. } => Some(bytes),
            _ => None,
        }
    }

    /// Its type; `None` if this version does not know it.
    pub const fn kind(self) -> Option<Type> {
        match self {
            Self::String { .. } => Some(Type::String),
            Self::Other { kind, .. } => Some(kind),
            Self::Unknown(_) => None,
        }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(self) -> &'static str {
        match self {
            Self::String { bytes, is_edited: false } if is_integer(bytes) => "int",
            Self::String { bytes, is_edited: false } if bytes.len() <= EMBEDDED_BYTES_MAX => {
                "embstr"
            }
            Self::String { .. } => "raw",
            Self::Other { .. } | Self::Unknown(_) => "unknown",
        }
    }
}

fn is_integer(bytes: &[u8]) -> bool {
    bytes.len() <= 20 && parse_integer(bytes).is_some()
}

/// A string as it is stored; a copy is made in `scratch` only where it needs a mark.
#[inline]
pub(crate) fn encode_string<'a>(bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    match bytes.first() {
        Some(&first) if first >= FIRST_MARK => {
            scratch.clear();
            scratch.reserve_exact(bytes.len() + 1);
            scratch.push(ESCAPED);
            scratch.extend_from_slice(bytes);
            scratch
        }
        _ => bytes,
    }
}

/// Where a new string is written: behind the mark it needs.
#[derive(Debug)]
pub struct StringWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> StringWriter<'a> {
    /// A writer into the empty `out`. An edited string bears its mark from the start.
    pub(crate) fn new(out: &'a mut Vec<u8>, is_edited: bool) -> Self {
        if is_edited {
            out.push(EDITED);
        }
        let start = out.len();
        Self { out, start }
    }

    /// Takes what will be written for a new string, which is as it was given.
    pub fn begin_new(&mut self) {
        self.out.clear();
        self.start = 0;
    }

    /// The string so far.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.out.get_mut(self.start..).unwrap_or_default()
    }

    /// The length so far.
    pub fn len(&self) -> usize {
        self.out.len() - self.start
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Makes the string `len` bytes long, with zeros at its end or without its end.
    pub fn resize(&mut self, len: usize) {
        self.out.resize(self.start + len, 0);
    }

    /// Puts the mark in front where the string turned out to need one.
    pub(crate) fn finish(self) {
        if self.start == 0 && self.out.first().is_some_and(|&first| first >= FIRST_MARK) {
            self.out.insert(0, ESCAPED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_string_is_read_back(bytes: Vec<u8>, is_edited: bool) {
            let mut scratch = Vec::new();
            let stored = encode_string(&bytes, &mut scratch);
            let expected = Value::String { bytes: &bytes, is_edited: false };
            proptest::prop_assert_eq!(Value::decode(stored), expected);
            let mut out = Vec::new();
            let mut writer = StringWriter::new(&mut out, is_edited);
            writer.extend(&bytes);
            proptest::prop_assert_eq!(&*writer.bytes(), &bytes);
            writer.finish();
            proptest::prop_assert_eq!(Value::decode(&out), Value::String { bytes: &bytes, is_edited });
        }
    }

    #[test]
    fn text_is_stored_as_it_is_and_encodings_are_those_of_redis() {
        let mut scratch = Vec::new();
        assert_eq!(encode_string(b"text", &mut scratch), b"text");
        assert_eq!(scratch.capacity(), 0);
        let encoding = |bytes: &[u8]| Value::decode(bytes).encoding();
        assert_eq!(encoding(b"-12"), "int");
        assert_eq!(encoding(b"012"), "embstr");
        assert_eq!(encoding(&[b'x'; 44]), "embstr");
        assert_eq!(encoding(&[b'x'; 45]), "raw");
        assert_eq!(encoding(&[EDITED, b'1']), "raw");
        assert_eq!(Value::decode(&[0xF9, 1]), Value::Other { kind: Type::Hash, bytes: &[1] });
        assert_eq!(Value::decode(&[0xFD]).kind(), None);
    }
}
