//! The payloads of DUMP and RESTORE, in the format of Redis.
//!
//! A payload is a value as in an RDB file, then a footer of ten bytes:
//!
//! | bytes | content |
//! |---|---|
//! | 1 | the type: 0 is a string |
//! | n | the value |
//! | 2 | the version of the format, little-endian |
//! | 8 | the checksum of all that precedes it, little-endian: [`crc64()`] |
//!
//! A length begins with a byte whose two highest bits say what follows:
//!
//! | bits | length |
//! |---|---|
//! | `00` | the other 6 bits |
//! | `01` | the other 6 bits and the next byte, big-endian |
//! | `10` | all bits after it zero: the next 4 bytes; the lowest bit set: the next 8; big-endian |
//! | `11` | none: the value is encoded in the way the other bits say |
//!
//! A string is its length and its bytes, or is encoded: as an integer of 1, 2 or 4 bytes
//! (ways 0, 1, 2; little-endian), or compressed (way 3: the length compressed, the length
//! uncompressed, [`lzf`] data). Payloads come from clients: nothing is allocated for a length that
//! the bytes at hand do not bear out.

mod crc64;
pub mod lzf;

pub use crc64::crc64;

use std::fmt;

use crate::integer::{parse_integer, push_integer};
use crate::refusal::Refusal;

/// The version that is written, and the latest one that is read.
pub const VERSION: u16 = 11;
const STRING: u8 = 0;
const ENCODED: u8 = 0b1100_0000;
/// Strings longer than this are compressed.
const UNCOMPRESSED_MAX: usize = 20;
/// Texts of integers that may be encoded are not longer.
const INTEGER_TEXT_MAX: usize = 11;

/// Why a payload is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpError {
    /// It is of a later version, or damaged.
    VersionOrChecksum,
    /// It makes no sense, or holds a type of value that is not there.
    Format,
}

impl DumpError {
    /// As a client sees it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::VersionOrChecksum => "ERR DUMP payload version or checksum are wrong",
            Self::Format => "ERR Bad data format",
        }
    }
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for DumpError {}

impl From<DumpError> for Refusal {
    fn from(error: DumpError) -> Self {
        Self::text(error.text())
    }
}

/// The payload of a string.
pub fn write_string(value: &[u8], compresses: bool) -> Vec<u8> {
    let mut payload = vec![STRING];
    push_string(&mut payload, value, compresses);
    finish(payload)
}

/// Adds the footer.
fn finish(mut payload: Vec<u8>) -> Vec<u8> {
    payload.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = crc64(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

fn push_string(out: &mut Vec<u8>, value: &[u8], compresses: bool) {
    if value.len() <= INTEGER_TEXT_MAX
        && let Some(number) = parse_integer(value).and_then(|number| i32::try_from(number).ok())
    {
        return push_encoded_integer(out, number);
    }
    if compresses
        && value.len() > UNCOMPRESSED_MAX
        && let Some(compressed) = lzf::compress(value, value.len() - 4)
    {
        out.push(ENCODED | 3);
        push_len(out, compressed.len());
        push_len(out, value.len());
        out.extend_from_slice(&compressed);
        return;
    }
    push_len(out, value.len());
    out.extend_from_slice(value);
}

fn push_encoded_integer(out: &mut Vec<u8>, number: i32) {
    if let Ok(number) = i8::try_from(number) {
        out.push(ENCODED);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        out.push(ENCODED | 1);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        out.push(ENCODED | 2);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn push_len(out: &mut Vec<u8>, len: usize) {
    if len < 1 << 6 {
        out.push(len as u8);
    } else if len < 1 << 14 {
        out.extend_from_slice(&(len as u16 | 1 << 14).to_be_bytes());
    } else if let Ok(len) = u32::try_from(len) {
        out.push(0x80);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(0x81);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

/// Reads the payload of a string of at most `bytes_max`.
///
/// # Errors
/// Any [`DumpError`].
pub fn read_string(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, DumpError> {
    let body = verify(payload)?;
    let (&kind, rest) = body.split_first().ok_or(DumpError::Format)?;
    if kind == STRING { Input(rest).string(bytes_max) } else { Err(DumpError::Format) }
}

/// What the footer vouches for.
fn verify(payload: &[u8]) -> Result<&[u8], DumpError> {
    let wrong = DumpError::VersionOrChecksum;
    let (checked, checksum) = payload.split_last_chunk().ok_or(wrong)?;
    let (body, version) = checked.split_last_chunk().ok_or(wrong)?;
    if u16::from_le_bytes(*version) > VERSION || crc64(checked) != u64::from_le_bytes(*checksum) {
        return Err(wrong);
    }
    Ok(body)
}

/// What has not been read yet.
struct Input<'a>(&'a [u8]);

/// A length, or a way of encoding.
enum Length {
    Bytes(u64),
    Encoded(u8),
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DumpError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DumpError::Format)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DumpError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DumpError::Format)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn len_or_encoding(&mut self) -> Result<Length, DumpError> {
        let [first] = self.array()?;
        Ok(match (first >> 6, first & 0x3f) {
            (0b00, len) => Length::Bytes(u64::from(len)),
            (0b01, high) => {
                let [low] = self.array()?;
                Length::Bytes(u64::from(u16::from_be_bytes([high, low])))
            }
            (0b10, 0) => Length::Bytes(u64::from(u32::from_be_bytes(self.array()?))),
            (0b10, 1) => Length::Bytes(u64::from_be_bytes(self.array()?)),
            (0b11, way) => Length::Encoded(way),
            _ => return Err(DumpError::Format),
        })
    }

    fn len(&mut self) -> Result<usize, DumpError> {
        match self.len_or_encoding()? {
            Length::Bytes(len) => usize::try_from(len).map_err(|_| DumpError::Format),
            Length::Encoded(_) => Err(DumpError::Format),
        }
    }

    fn string(&mut self, bytes_max: usize) -> Result<Vec<u8>, DumpError> {
        let mut text = Vec::new();
        match self.len_or_encoding()? {
            Length::Bytes(len) => {
                let len = usize::try_from(len).map_err(|_| DumpError::Format)?;
                if len > bytes_max {
                    return Err(DumpError::Format);
                }
                text.extend_from_slice(self.take(len)?);
            }
            Length::Encoded(0) => push_integer(&mut text, i8::from_le_bytes(self.array()?).into()),
            Length::Encoded(1) => push_integer(&mut text, i16::from_le_bytes(self.array()?).into()),
            Length::Encoded(2) => push_integer(&mut text, i32::from_le_bytes(self.array()?).into()),
            Length::Encoded(3) => {
                let compressed_len = self.len()?;
                let len = self.len()?;
                let compressed = self.take(compressed_len)?;
                if len > bytes_max {
                    return Err(DumpError::Format);
                }
                return lzf::decompress(compressed, len).ok_or(DumpError::Format);
            }
            Length::Encoded(_) => return Err(DumpError::Format),
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
