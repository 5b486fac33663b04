//! [`ObjectTier`]: where whole, immutable objects go that are too cold for the local disk: a
//! directory ([`DirectoryTier`]), or the store of a cloud (`RemoteTier`, with the feature
//! `object-store`).
//!
//! An object is written once, from front to back, and is there as a whole or not at all; it is read
//! in ranges and deleted. Names are flat: letters, digits, `-` and `.`.
//!
//! Reads never block the caller. The rest is for opening and maintenance jobs, as the namespace of
//! an [`Fs`](crate::Fs) is: in a directory it changes names by blocking calls.
//!
//! Crash-safety: an object whose upload has answered survives every crash; one that was not finished
//! is not listed, and what it took is given back by [`ObjectTier::remove_unfinished`] or, in a
//! cloud, by the bucket's rule for unfinished uploads.

mod directory;
#[cfg(feature = "object-store")]
mod remote;

pub use directory::DirectoryTier;
#[cfg(feature = "object-store")]
pub use remote::RemoteTier;

use std::sync::Arc;

use ferrokit_engine::{Error, Op, Result};

use crate::Host;

/// One name in a tier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectEntry {
    /// The object's name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// An object that is whole.
pub trait Object: Send + Sync {
    /// Tier and name, for messages.
    fn path(&self) -> &str;

    /// Exactly `len` bytes from `offset`.
    ///
    /// # Errors
    /// `NotFound`, `Io` (source `UnexpectedEof` if the object ends before that).
    fn read_at(&self, offset: u64, len: usize) -> Op<'static, Vec<u8>>;
}

/// An object on its way. Dropped before it is finished, it leaves no object, but maybe something to
/// be [removed](ObjectTier::remove_unfinished).
pub trait Upload: Send {
    /// Appends bytes. One at a time: whoever begins one has seen the answer of the one before.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`; the upload is of no use after it.
    fn append(&mut self, bytes: Vec<u8>) -> Op<'static, ()>;

    /// Gives the object its name, durably. After an error it may be there or not.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    fn finish(self: Box<Self>) -> Op<'static, ()>;
}

/// Where objects are.
pub trait ObjectTier: Send + Sync {
    /// Where that is, for messages.
    fn location(&self) -> &str;

    /// Begins an object. No other one had, has or gets its name.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    fn upload(&self, name: &str) -> Result<Box<dyn Upload>>;

    /// An object of `bytes` bytes. Where asking is dear, a missing one shows when it is read.
    ///
    /// # Errors
    /// `NotFound`, `Io`, `Corruption` if it has another length.
    fn open(&self, name: &str, bytes: u64) -> Result<Arc<dyn Object>>;

    /// Deletes an object; an absent one is no error. Readers that have it open may go on or fail.
    ///
    /// # Errors
    /// `Io`.
    fn delete(&self, name: &str) -> Op<'static, ()>;

    /// The objects whose names begin with `prefix`, sorted.
    ///
    /// # Errors
    /// `Io`.
    fn list(&self, prefix: &str) -> Op<'static, Vec<ObjectEntry>>;

    /// Gives back what unfinished uploads of names with that prefix took, where that is known.
    ///
    /// # Errors
    /// `Io`.
    fn remove_unfinished(&self, prefix: &str) -> Op<'static, ()>;
}

/// Opens the tier at `location`: a directory, or the URL of a store (`s3://bucket/prefix`).
///
/// # Errors
/// `InvalidArgument` for a URL that names no store, `Unsupported` for any URL without the feature
/// `object-store`, `Io`, `OutOfSpace`.
pub fn open_tier(host: &Host, location: &str) -> Result<Arc<dyn ObjectTier>> {
    if location.is_empty() {
        return Err(Error::invalid("object.open", "a directory or a URL is wanted"));
    }
    if !location.contains("://") {
        return Ok(Arc::new(DirectoryTier::open(Arc::clone(&host.fs), location)?));
    }
    #[cfg(feature = "object-store")]
    return Ok(Arc::new(RemoteTier::open(&host.env, location)?));
    #[cfg(not(feature = "object-store"))]
    Err(Error::unsupported(
        "object.open",
        "the URL of an object store: this program was built without the feature object-store",
    ))
}

/// Refuses names that are not the same in every tier.
fn check_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let is_name = !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain);
    if is_name && !name.ends_with(crate::atomic_file::TEMPORARY_SUFFIX) {
        return Ok(());
    }
    Err(Error::invalid("object.name", "not the name of an object").with_file(name))
}
