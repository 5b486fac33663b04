//! [`Mapped`]: read-only memory over a range of a file.
//!
//! Unsafe code: `mmap`, `munmap`, and a slice over what was mapped.
//!
//! A file must not be cut short while it is mapped: touching a page beyond the new end raises
//! SIGBUS. Backends and engines never shorten a file that may be mapped (tables and flushed
//! segments are immutable until they are removed, and a removed file lives on under its mapping);
//! other processes are kept out by the directory lock. A device error under a mapping raises SIGBUS
//! as well; who must survive that reads with [`File::read_at`](crate::File::read_at).

#![allow(unsafe_code)]

use std::ops::Deref;
use std::ptr::NonNull;

use ferrokit_engine::{Error, Result};
use rustix::mm::{MapFlags, ProtFlags};

use super::Descriptor;
use crate::fs::Mapping;

/// A mapping. It keeps the file's bytes alive by itself; the descriptor may be closed.
pub(crate) struct Mapped {
    /// The start of the mapped pages; dangling if there are none.
    base: NonNull<u8>,
    /// Bytes mapped from `base`: `skip + len`.
    mapped_bytes: usize,
    /// The range begins so many bytes into the first page.
    skip: usize,
}

// SAFETY: the pages are mapped read-only and private to no thread; nothing in this process writes
// through them, and `Mapped` hands out shared slices only. Were they writable, two threads could
// race on them.
unsafe impl Send for Mapped {}
// SAFETY: as for `Send`: all access is shared and read-only.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps a range that lies within the file.
    pub(crate) fn new(descriptor: &Descriptor, offset: u64, len: usize) -> Result<Self> {
        let file_bytes = descriptor.len()?;
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > file_bytes) {
            return Err(Error::invalid(
                "file.map",
                format!("{len} bytes asked, the file has {file_bytes} in all"),
            )
            .with_file(descriptor.path())
            .with_offset(offset));
        }
        if len == 0 {
            return Ok(Self { base: NonNull::dangling(), mapped_bytes: 0, skip: 0 });
        }
        let page_bytes = rustix::param::page_size() as u64;
        let skip = (offset % page_bytes) as usize;
        let mapped_bytes = len.checked_add(skip).ok_or_else(|| {
            Error::invalid("file.map", "the range does not fit the address space")
        })?;
        // SAFETY: a new mapping at an address the kernel chooses touches no memory of this
        // process; the result is owned by the `Mapped` alone. With a fixed address it could
        // replace memory that is in use.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                mapped_bytes,
                ProtFlags::READ,
                MapFlags::SHARED,
                descriptor.file(),
                offset - skip as u64,
            )
        }
        .map_err(|errno| descriptor.error("file.map", offset, errno.into()))?;
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| {
            descriptor.error("file.map", offset, std::io::Error::other("mapped at address 0"))
        })?;
        Ok(Self { base, mapped_bytes, skip })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `base..base + mapped_bytes` stays mapped and readable until `drop` (or is empty,
        // where a dangling base is allowed), `skip <= mapped_bytes`, and the bytes are not changed
        // while they are lent: mapped files are immutable (module header). Otherwise the slice
        // would alias a write, or fault.
        unsafe {
            std::slice::from_raw_parts(
                self.base.as_ptr().add(self.skip),
                self.mapped_bytes - self.skip,
            )
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.mapped_bytes == 0 {
            return;
        }
        // SAFETY: exactly the range that `new` mapped, once; no slice of it outlives `self`. A
        // second unmap could take away memory that was mapped there since.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.mapped_bytes) };
        debug_assert!(unmapped.is_ok(), "munmap of a live mapping failed: {unmapped:?}");
    }
}

impl Mapping for Mapped {
    fn expect_random_reads(&self) {
        if self.mapped_bytes == 0 {
            return;
        }
        // SAFETY: advice on the range that `new` mapped, which it neither unmaps nor changes. Another
        // advice (to drop pages of an anonymous mapping, say) could change what is read.
        let advised = unsafe {
            rustix::mm::madvise(
                self.base.as_ptr().cast(),
                self.mapped_bytes,
                rustix::mm::Advice::Random,
            )
        };
        // Only advice: without it reads are as right, and slower.
        let _ = advised;
    }
}
