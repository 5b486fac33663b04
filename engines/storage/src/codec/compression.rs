//! Compression of blocks: none, lz4, zstd.

use std::sync::{Mutex, PoisonError};

use ferrokit_engine::{Error, Result};

/// How a block is compressed. The value in a stored block's tag is in parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all (0).
    None,
    /// LZ4's block format (1): cheap enough for every read.
    #[default]
    Lz4,
    /// Zstandard (2) of a level (1 to 22; higher is smaller and slower to write).
    Zstd(i32),
}

const NONE: u8 = 0;
const LZ4: u8 = 1;
const ZSTD: u8 = 2;

/// What a compressed byte can stand for at most, so that a claimed length allocates no more: in
/// LZ4 a byte of a match's length; in Zstandard a quarter of a block of 128 KiB of one byte.
const LZ4_RATIO_MAX: usize = 255;
const ZSTD_RATIO_MAX: usize = 32 << 10;

/// Contexts kept for later use: making one costs more than a block does.
const CONTEXTS_MAX: usize = 16;

struct Contexts<T>(Mutex<Vec<T>>);

impl<T> Contexts<T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn with<R>(
        &self,
        make: impl FnOnce() -> std::io::Result<T>,
        work: impl FnOnce(&mut T) -> std::io::Result<R>,
    ) -> std::io::Result<R> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut context = kept.map_or_else(make, Ok)?;
        let answer = work(&mut context);
        let mut contexts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if contexts.len() < CONTEXTS_MAX {
            contexts.push(context);
        }
        answer
    }
}

/// Compresses one way, decompresses all.
pub(super) struct Compressor {
    compression: Compression,
    zstd_compressors: Contexts<zstd::bulk::Compressor<'static>>,
    zstd_decompressors: Contexts<zstd::bulk::Decompressor<'static>>,
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> Result<Self> {
        if let Compression::Zstd(level) = compression
            && !(1..=22).contains(&level)
        {
            return Err(Error::invalid(
                "block.codec",
                format!("zstd level {level}, levels are 1 to 22"),
            ));
        }
        Ok(Self {
            compression,
            zstd_compressors: Contexts::new(),
            zstd_decompressors: Contexts::new(),
        })
    }

    /// Appends the compressed form of `plain`, or `plain` itself where compression would not save
    /// an eighth; answers which.
    pub(super) fn compress(&self, plain: &[u8], out: &mut Vec<u8>) -> u8 {
        let start = out.len();
        // No room for a form that saves too little: the compressors give up by themselves.
        let room = plain.len() - plain.len() / 8;
        let compressed = match self.compression {
            Compression::None => None,
            Compression::Lz4 => {
                out.resize(start + lz4_flex::block::get_maximum_output_size(plain.len()), 0);
                lz4_flex::block::compress_into(plain, &mut out[start..])
                    .ok()
                    .map(|bytes| (LZ4, bytes))
            }
            Compression::Zstd(level) => {
                out.resize(start + room, 0);
                self.zstd_compressors
                    .with(
                        || zstd::bulk::Compressor::new(level),
                        |context| context.compress_to_buffer(plain, &mut out[start..]),
                    )
                    .ok()
                    .map(|bytes| (ZSTD, bytes))
            }
        };
        match compressed {
            Some((tag, bytes)) if bytes < room => {
                out.truncate(start + bytes);
                tag
            }
            _ => {
                out.truncate(start);
                out.extend_from_slice(plain);
                NONE
            }
        }
    }

    /// The `plain_bytes` bytes whose compressed form is `payload`; `None` for an unknown tag.
    pub(super) fn decompress(
        &self,
        tag: u8,
        payload: &[u8],
        plain_bytes: usize,
    ) -> Option<Result<Vec<u8>, String>> {
        if tag == NONE {
            return Some(if payload.len() == plain_bytes {
                Ok(payload.to_vec())
            } else {
                Err(format!("{} bytes stored, {plain_bytes} claimed", payload.len()))
            });
        }
        let decompress = |plain: &mut [u8]| match tag {
            LZ4 => lz4_flex::block::decompress_into(payload, plain)
                .map_err(|error| format!("lz4: {error}")),
            _ => self
                .zstd_decompressors
                .with(zstd::bulk::Decompressor::new, |context| {
                    context.decompress_to_buffer(payload, plain)
                })
                .map_err(|error| format!("zstd: {error}")),
        };
        let ratio_max = match tag {
            LZ4 => LZ4_RATIO_MAX,
            ZSTD => ZSTD_RATIO_MAX,
            _ => return None,
        };
        if plain_bytes > payload.len().saturating_mul(ratio_max) {
            return Some(Err(format!(
                "{plain_bytes} bytes claimed, more than {} compressed bytes can hold",
                payload.len()
            )));
        }
        let mut plain = vec![0; plain_bytes];
        Some(match decompress(&mut plain) {
            Ok(bytes) if bytes == plain_bytes => Ok(plain),
            Ok(bytes) => Err(format!("{bytes} bytes decompressed, {plain_bytes} claimed")),
            Err(why) => Err(why),
        })
    }
}
