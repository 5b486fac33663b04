//! [`BlockCodec`]: how a block of bytes is stored: compressed, optionally encrypted, checksummed.
//!
//! ```text
//! offset  bytes  field
//! 0       1      tag: bits 0..4 compression (0 none, 1 lz4, 2 zstd), bit 7 encrypted, rest 0
//! 1       4      plain length, little-endian
//! 5       n      payload; encrypted: ciphertext (n - 16 bytes), then the AES-GCM tag (16 bytes)
//! 5 + n   4      crc32c of file id (8) | offset (8) | everything above, little-endian
//! ```
//!
//! The checksum covers where the block belongs, so that a block read from the wrong place, or from
//! another file, fails it. It is checked before anything else is believed; the plain length is then
//! held against the codec's limit before anything is allocated for it.
//!
//! Encryption is AES-256-GCM under a key of the file's own ([`FileKey`]). The nonce is the block's
//! offset: **no two different blocks may be encoded at one offset of one file**, which holds for
//! files that are written once, from front to back. A file that is begun anew gets a new key. The
//! associated data are the header, the file id and the offset, so that an attacker who can compute
//! checksums cannot exchange blocks either. A codec with a key refuses blocks in the clear.
//!
//! Thread-safety: a codec may be used by any number of threads at once.

mod compression;
mod keys;

pub use compression::Compression;
pub use keys::{FileKey, KeyId, KeyRing, WRAPPED_KEY_BYTES, WrappedKey};

use std::sync::Arc;

use ferrokit_engine::{Error, ErrorKind, Result};

use self::compression::Compressor;
use self::keys::AUTHENTICATION_TAG_BYTES;

/// Bytes before the payload.
const HEADER_BYTES: usize = 5;
/// Bytes after it.
const CHECKSUM_BYTES: usize = 4;
/// Set in the tag of an encrypted block.
const ENCRYPTED: u8 = 0x80;

/// The most bytes that storing a block adds to it.
pub const BLOCK_OVERHEAD_BYTES_MAX: usize =
    HEADER_BYTES + AUTHENTICATION_TAG_BYTES + CHECKSUM_BYTES;
const _: () = assert!(BLOCK_OVERHEAD_BYTES_MAX == 25);

/// Where a block belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockContext<'a> {
    /// The file's name, for messages.
    pub file: &'a str,
    /// A number that no other file of the store has, and that stays with the file's content
    /// (through renames and links).
    pub file_id: u64,
    /// Where in the file the stored block begins, in bytes.
    pub offset: u64,
}

impl BlockContext<'_> {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.file_id.to_le_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    #[cold]
    fn corruption(&self, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::corruption("block.decode", message, self.file, self.offset)
    }
}

/// Encodes and decodes the blocks of one file, or, without a key, of any. Clones share what
/// compresses.
#[derive(Clone)]
pub struct BlockCodec {
    compressor: Arc<Compressor>,
    plain_bytes_max: usize,
    key: Option<Arc<FileKey>>,
}

impl BlockCodec {
    /// A codec that compresses new blocks so, and takes blocks of up to `plain_bytes_max` bytes
    /// (at most 1 GiB). It decodes blocks of every compression.
    ///
    /// # Errors
    /// `InvalidArgument` for a limit or a zstd level out of range.
    pub fn new(compression: Compression, plain_bytes_max: usize) -> Result<Self> {
        if plain_bytes_max > 1 << 30 {
            return Err(Error::invalid(
                "block.codec",
                format!("blocks of {plain_bytes_max} bytes, the limit is 1 GiB"),
            ));
        }
        Ok(Self { compressor: Arc::new(Compressor::new(compression)?), plain_bytes_max, key: None })
    }

    /// Encrypts new blocks under `key`, and refuses blocks that are not.
    #[must_use]
    pub fn with_key(mut self, key: Arc<FileKey>) -> Self {
        self.key = Some(key);
        self
    }

    /// Appends the stored form of `plain` to `out`.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the limit; `out` is unchanged then.
    pub fn encode(&self, context: BlockContext<'_>, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if plain.len() > self.plain_bytes_max {
            return Err(Error::invalid(
                "block.encode",
                format!("a block of {} bytes, the limit is {}", plain.len(), self.plain_bytes_max),
            )
            .with_file(context.file)
            .with_offset(context.offset));
        }
        let start = out.len();
        out.push(0);
        // The limit is below 2^32.
        out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
        let tag =
            self.compressor.compress(plain, out) | if self.key.is_some() { ENCRYPTED } else { 0 };
        out[start] = tag;
        let place = context.bytes();
        if let Some(key) = &self.key {
            let (header, payload) = out[start..].split_at_mut(HEADER_BYTES);
            let authentication = key.seal(context.offset, &[&*header, &place].concat(), payload)?;
            out.extend_from_slice(&authentication);
        }
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&place), &out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
        Ok(())
    }

    /// The block whose stored form is `stored`.
    ///
    /// # Errors
    /// `Corruption`, naming file and offset, if `stored` is not exactly what was encoded for this
    /// place; `VersionTooNew` for a compression this code does not know; `InvalidArgument` for an
    /// encrypted block where the codec has no key.
    pub fn decode(&self, context: BlockContext<'_>, stored: &[u8]) -> Result<Vec<u8>> {
        let (covered, checksum) = stored
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or_else(|| context.corruption("the block is cut short"))?;
        let place = context.bytes();
        let actual = crc32c::crc32c_append(crc32c::crc32c(&place), covered);
        if actual != u32::from_le_bytes(*checksum) {
            return Err(context.corruption("checksum mismatch"));
        }
        let (header, payload) = covered
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or_else(|| context.corruption("the block is cut short"))?;
        let [tag, length @ ..] = *header;
        let plain_bytes = u32::from_le_bytes(length) as usize;
        if plain_bytes > self.plain_bytes_max {
            return Err(context.corruption(format!(
                "the block claims {plain_bytes} bytes, the limit is {}",
                self.plain_bytes_max
            )));
        }
        let compression = tag & !ENCRYPTED;
        match (&self.key, tag & ENCRYPTED != 0) {
            (None, false) => self.decompress(context, compression, payload, plain_bytes),
            (Some(key), true) => {
                let associated = [&header[..], &place].concat();
                let payload = key
                    .open(context.offset, &associated, payload)
                    .ok_or_else(|| context.corruption("authentication failed"))?;
                self.decompress(context, compression, &payload, plain_bytes)
            }
            (Some(_), false) => {
                Err(context.corruption("a block in the clear in an encrypted file"))
            }
            (None, true) => {
                Err(Error::invalid("block.decode", "the block is encrypted, and no key was given")
                    .with_file(context.file)
                    .with_offset(context.offset))
            }
        }
    }

    fn decompress(
        &self,
        context: BlockContext<'_>,
        compression: u8,
        payload: &[u8],
        plain_bytes: usize,
    ) -> Result<Vec<u8>> {
        match self.compressor.decompress(compression, payload, plain_bytes) {
            None => Err(Error::new(
                ErrorKind::VersionTooNew,
                "block.decode",
                format!("compression {compression} is not known to this version"),
            )
            .with_file(context.file)
            .with_offset(context.offset)),
            Some(Ok(plain)) => Ok(plain),
            Some(Err(why)) => Err(context.corruption(why)),
        }
    }
}

#[cfg(test)]
mod tests;
