//! Memory mappings, as slices of atomic words.

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, mmap_anonymous, msync, munmap};

use super::WORD_BYTES;

/// A readable and writable mapping, unmapped when dropped.
///
/// Invariant: `base` is the start of a live mapping of `words` words that nobody else unmaps.
pub(super) struct MappedWords {
    base: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping is process-wide memory reached only as atomic words; were it thread-bound or
// not atomic, sharing it would race.
unsafe impl Send for MappedWords {}
// SAFETY: as above.
unsafe impl Sync for MappedWords {}

impl MappedWords {
    /// Zeroed memory that takes space page by page, as it is touched.
    pub(super) fn anonymous(bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing; with a
        // fixed address it could replace memory in use.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        Self::from_address(base, bytes)
    }

    /// The first `bytes` of a file, shared with it.
    pub(super) fn shared(file: &File, bytes: usize) -> io::Result<Self> {
        // SAFETY: as above: a new mapping. That the file may change under it is no concern, since
        // all access is by atomic words.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        Self::from_address(base, bytes)
    }

    fn from_address(base: *mut std::ffi::c_void, bytes: usize) -> io::Result<Self> {
        let base = NonNull::new(base.cast())
            .ok_or_else(|| io::Error::other("the kernel mapped the null page"))?;
        Ok(Self { base, words: bytes / WORD_BYTES as usize })
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the type's invariant; pages are page-aligned and any bytes are a valid word. If
        // the mapping were shorter, this would reach foreign memory.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }

    /// Writes the pages of a page-aligned range to their file and waits for the device.
    pub(super) fn sync(&self, offset: usize, bytes: usize) -> io::Result<()> {
        assert!(offset + bytes <= self.words * WORD_BYTES as usize);
        // SAFETY: within the mapping, by the assertion; msync of foreign memory would write other
        // files' pages.
        unsafe {
            msync(self.base.as_ptr().cast::<u8>().add(offset).cast(), bytes, MsyncFlags::SYNC)
        }?;
        Ok(())
    }
}

impl Drop for MappedWords {
    fn drop(&mut self) {
        // SAFETY: `self` owns the mapping, and no reference into it outlives `self`. A failure
        // leaves it mapped, which harms nobody.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.words * WORD_BYTES as usize) };
    }
}

/// The size of a page in bytes.
pub(super) fn page_bytes() -> u64 {
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}
