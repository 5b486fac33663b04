//! Keys: one for each file, wrapped by a key-encryption key of a [`KeyRing`].
//!
//! ```text
//! wrapped key: offset  bytes  field
//!              0       1      format version, 1
//!              1       3      0
//!              4       4      id of the key-encryption key, little-endian
//!              8       12     nonce, random
//!              20      32     the file's key, encrypted with AES-256-GCM
//!              52      16     authentication tag; associated data: bytes 0..8, file id (8)
//! ```
//! Nonces of wrapped keys are random: one key-encryption key may wrap 2^32 file keys before a
//! repetition is likelier than 2^-32. Rotation: add a key and make it active; new files use it at
//! once, [`KeyRing::rewrap`] moves existing ones over without touching their blocks; a key may be
//! removed when no file is wrapped by it any more.

use std::collections::BTreeMap;
use std::fmt;

use aes_gcm::aead::rand_core::RngCore;
use aes_gcm::aead::{AeadInPlace, KeyInit, OsRng};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use ferrokit_engine::{Error, ErrorKind, Result};

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of a nonce.
const NONCE_BYTES: usize = 12;
/// Bytes of an AES-GCM tag.
pub(super) const AUTHENTICATION_TAG_BYTES: usize = 16;
/// Bytes of a wrapped key before its nonce.
const WRAPPED_HEADER_BYTES: usize = 8;
/// The format of wrapped keys written.
const WRAPPED_VERSION: u8 = 1;

/// Bytes of a [`WrappedKey`].
pub const WRAPPED_KEY_BYTES: usize =
    WRAPPED_HEADER_BYTES + NONCE_BYTES + KEY_BYTES + AUTHENTICATION_TAG_BYTES;
const _: () = assert!(WRAPPED_KEY_BYTES == 68);

/// A file key as stored in its file.
pub type WrappedKey = [u8; WRAPPED_KEY_BYTES];

/// Names a key-encryption key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

/// The key of one file.
pub struct FileKey(Aes256Gcm);

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(..)")
    }
}

impl FileKey {
    /// Encrypts `bytes` in place; answers the tag.
    pub(super) fn seal(
        &self,
        offset: u64,
        associated: &[u8],
        bytes: &mut [u8],
    ) -> Result<[u8; AUTHENTICATION_TAG_BYTES]> {
        self.0
            .encrypt_in_place_detached(&nonce_of(offset), associated, bytes)
            .map(Into::into)
            .map_err(|_| Error::invalid("block.encode", "too long for AES-GCM"))
    }

    /// Decrypts ciphertext and tag; `None` if they are not authentic.
    pub(super) fn open(&self, offset: u64, associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (ciphertext, tag) = sealed.split_last_chunk::<AUTHENTICATION_TAG_BYTES>()?;
        let mut plain = ciphertext.to_vec();
        self.0
            .decrypt_in_place_detached(
                &nonce_of(offset),
                associated,
                &mut plain,
                Tag::from_slice(tag),
            )
            .ok()?;
        Some(plain)
    }
}

/// Unique under a file's key, as each offset is written once.
fn nonce_of(offset: u64) -> Nonce<aes_gcm::aes::cipher::consts::U12> {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..8].copy_from_slice(&offset.to_le_bytes());
    nonce.into()
}

/// Key-encryption keys, one of them active.
pub struct KeyRing {
    keys: BTreeMap<KeyId, Aes256Gcm>,
    active: KeyId,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&KeyId> = self.keys.keys().collect();
        f.debug_struct("KeyRing").field("keys", &ids).field("active", &self.active).finish()
    }
}

impl KeyRing {
    /// A ring of one key, active.
    pub fn new(id: KeyId, key: &[u8; KEY_BYTES]) -> Self {
        Self { keys: BTreeMap::from([(id, Aes256Gcm::new(key.into()))]), active: id }
    }

    /// Adds a key and makes it the active one; the others still unwrap.
    ///
    /// # Errors
    /// `InvalidArgument` if the id is taken: wrapped keys name keys by it.
    pub fn rotate(&mut self, id: KeyId, key: &[u8; KEY_BYTES]) -> Result<()> {
        if self.keys.contains_key(&id) {
            return Err(Error::invalid("keys.rotate", format!("key {} is there already", id.0)));
        }
        self.keys.insert(id, Aes256Gcm::new(key.into()));
        self.active = id;
        Ok(())
    }

    /// Removes a key that wraps nothing any more.
    ///
    /// # Errors
    /// `InvalidArgument` for the active key, `NotFound`.
    pub fn remove(&mut self, id: KeyId) -> Result<()> {
        if id == self.active {
            return Err(Error::invalid("keys.remove", "the active key; rotate first"));
        }
        self.keys.remove(&id).map(drop).ok_or_else(|| missing("keys.remove", id))
    }

    /// The key that new files are wrapped by.
    pub fn active(&self) -> KeyId {
        self.active
    }

    /// A new random key for the file `file_id`, and its form to store.
    ///
    /// # Errors
    /// `Io` if the system has no randomness.
    pub fn new_file_key(&self, file_id: u64) -> Result<(FileKey, WrappedKey)> {
        let mut key = [0; KEY_BYTES];
        random(&mut key)?;
        let wrapped = self.wrap(file_id, &key)?;
        Ok((FileKey(Aes256Gcm::new(&key.into())), wrapped))
    }

    /// The key stored in the file `file_id`.
    ///
    /// # Errors
    /// `NotFound` if its key-encryption key is not in the ring, `Corruption` if it is not
    /// authentic, `VersionTooNew`.
    pub fn unwrap_key(&self, file_id: u64, wrapped: &WrappedKey) -> Result<FileKey> {
        Ok(FileKey(Aes256Gcm::new(&self.unwrap_bytes(file_id, wrapped)?.into())))
    }

    /// The same key of the file, wrapped by the active key.
    ///
    /// # Errors
    /// As [`unwrap_key`](Self::unwrap_key).
    pub fn rewrap(&self, file_id: u64, wrapped: &WrappedKey) -> Result<WrappedKey> {
        self.wrap(file_id, &self.unwrap_bytes(file_id, wrapped)?)
    }

    /// The id of the key that `wrapped` was wrapped by.
    pub fn id_of(wrapped: &WrappedKey) -> KeyId {
        let [_, _, _, _, a, b, c, d, ..] = *wrapped;
        KeyId(u32::from_le_bytes([a, b, c, d]))
    }

    fn wrap(&self, file_id: u64, key: &[u8; KEY_BYTES]) -> Result<WrappedKey> {
        let cipher =
            self.keys.get(&self.active).ok_or_else(|| missing("keys.wrap", self.active))?;
        let mut wrapped = [0; WRAPPED_KEY_BYTES];
        let (header, rest) = wrapped.split_at_mut(WRAPPED_HEADER_BYTES);
        header[0] = WRAPPED_VERSION;
        header[4..].copy_from_slice(&self.active.0.to_le_bytes());
        let (nonce, rest) = rest.split_at_mut(NONCE_BYTES);
        random(nonce)?;
        let (ciphertext, tag) = rest.split_at_mut(KEY_BYTES);
        ciphertext.copy_from_slice(key);
        let sealed = cipher
            .encrypt_in_place_detached(
                Nonce::from_slice(nonce),
                &associated(header, file_id),
                ciphertext,
            )
            .map_err(|_| Error::invalid("keys.wrap", "AES-GCM refused the key"))?;
        tag.copy_from_slice(&sealed);
        Ok(wrapped)
    }

    fn unwrap_bytes(&self, file_id: u64, wrapped: &WrappedKey) -> Result<[u8; KEY_BYTES]> {
        const OPERATION: &str = "keys.unwrap";
        let (header, rest) = wrapped.split_at(WRAPPED_HEADER_BYTES);
        if header[0] > WRAPPED_VERSION {
            return Err(Error::new(
                ErrorKind::VersionTooNew,
                OPERATION,
                format!("wrapped key of format {}", header[0]),
            ));
        }
        let id = Self::id_of(wrapped);
        let cipher = self.keys.get(&id).ok_or_else(|| missing(OPERATION, id))?;
        let (nonce, rest) = rest.split_at(NONCE_BYTES);
        let (ciphertext, tag) = rest.split_at(KEY_BYTES);
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(ciphertext);
        cipher
            .decrypt_in_place_detached(
                Nonce::from_slice(nonce),
                &associated(header, file_id),
                &mut key,
                Tag::from_slice(tag),
            )
            .map_err(|_| {
                Error::new(
                    ErrorKind::Corruption,
                    OPERATION,
                    format!("the key of file {file_id} is not authentic under key {}", id.0),
                )
            })?;
        Ok(key)
    }
}

fn associated(header: &[u8], file_id: u64) -> Vec<u8> {
    [header, &file_id.to_le_bytes()].concat()
}

fn missing(operation: &'static str, id: KeyId) -> Error {
    Error::new(ErrorKind::NotFound, operation, format!("key {} is not in the key ring", id.0))
}

fn random(bytes: &mut [u8]) -> Result<()> {
    OsRng
        .try_fill_bytes(bytes)
        .map_err(|error| Error::io("keys.random", std::io::Error::other(error.to_string())))
}
