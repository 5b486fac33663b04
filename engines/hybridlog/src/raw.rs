//! Raw memory: large zeroed arrays of atomic words straight from the operating system, and
//! prefetching.
//!
//! Everything the engine stores is such words: whoever reads a word while another thread writes
//! it gets a torn *record* at worst (which the record's version shows), never undefined behaviour.

#![allow(unsafe_code)]

use std::ops::Deref;

use crate::primitive::AtomicU64;

/// Zeroed words, at least page aligned, on huge pages where the system has them.
///
/// Memory is taken from the system page by page as it is first touched.
#[cfg(all(unix, not(loom), not(miri)))]
pub(crate) struct Words {
    pointer: std::ptr::NonNull<AtomicU64>,
    len: usize,
}

#[cfg(all(unix, not(loom), not(miri)))]
impl Words {
    /// `len` zeroed words.
    ///
    /// # Errors
    /// Those of `mmap`.
    pub(crate) fn zeroed(len: usize) -> std::io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let too_large = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let bytes = len.max(1).checked_mul(size_of::<AtomicU64>()).ok_or_else(too_large)?;
        if isize::try_from(bytes).is_err() {
            return Err(too_large());
        }
        // SAFETY: a fresh private anonymous mapping at an address of the kernel's choosing
        // overlaps no memory that Rust knows of. With a fixed address it could.
        let pointer = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let pointer = std::ptr::NonNull::new(pointer.cast()).ok_or_else(too_large)?;
        let words = Self { pointer, len };
        #[cfg(target_os = "linux")]
        // SAFETY: the range is exactly the mapping made above. The advice changes no content; it
        // may be refused, and then only speed is lost.
        let _ = unsafe {
            rustix::mm::madvise(
                words.pointer.as_ptr().cast(),
                bytes,
                rustix::mm::Advice::LinuxHugepage,
            )
        };
        Ok(words)
    }

    /// Gives the memory of `words` that nobody uses back to the system: they are zero or as they
    /// were when they are looked at again. Only whole pages of the system go.
    pub(crate) fn give_back(&self, words: std::ops::Range<usize>) {
        let Some(given) = self.get(words) else { return };
        let page = rustix::param::page_size();
        let start = (given.as_ptr() as usize).next_multiple_of(page);
        let end = (given.as_ptr() as usize + size_of_val(given)) / page * page;
        if start >= end {
            return;
        }
        #[cfg(target_os = "linux")]
        // SAFETY: the range lies within this private anonymous mapping, whose pages come back zeroed:
        // valid words, reached as atomics alone, so that who still looks reads an old or a zero word.
        // A range beyond the mapping would zero memory of others.
        let _ = unsafe {
            rustix::mm::madvise(
                std::ptr::with_exposed_provenance_mut(start),
                end - start,
                rustix::mm::Advice::LinuxDontNeed,
            )
        };
    }
}

#[cfg(all(unix, not(loom), not(miri)))]
impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping holds `len` words from `pointer` (page aligned) and lives as long
        // as `self`; it came zeroed, and zero is a valid `AtomicU64`; it is only ever reached
        // through shared references to atomics. A wrong `len` would let callers leave the mapping.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }
}

#[cfg(all(unix, not(loom), not(miri)))]
impl Drop for Words {
    fn drop(&mut self) {
        let bytes = self.len.max(1) * size_of::<AtomicU64>();
        // SAFETY: the mapping is exactly this range, and no reference into it outlives `self`
        // (`deref` ties them to it). Unmapping twice or another range would pull memory from under
        // others. Failure leaves it mapped: a leak, no more.
        let _ = unsafe { rustix::mm::munmap(self.pointer.as_ptr().cast(), bytes) };
    }
}

// SAFETY: the mapping is owned by this value alone and is only reached as `&[AtomicU64]`, which
// threads may share and whose owner may move between threads.
#[cfg(all(unix, not(loom), not(miri)))]
unsafe impl Send for Words {}
// SAFETY: as above.
#[cfg(all(unix, not(loom), not(miri)))]
unsafe impl Sync for Words {}

/// Zeroed words from the allocator: where there is no `mmap`, and for loom and Miri.
#[cfg(not(all(unix, not(loom), not(miri))))]
pub(crate) struct Words(Box<[AtomicU64]>);

#[cfg(not(all(unix, not(loom), not(miri))))]
impl Words {
    /// `len` zeroed words.
    ///
    /// # Errors
    /// None here.
    pub(crate) fn zeroed(len: usize) -> std::io::Result<Self> {
        Ok(Self((0..len).map(|_| AtomicU64::new(0)).collect()))
    }

    /// Does nothing: an allocation is one piece.
    #[expect(clippy::unused_self, reason = "the other one's face")]
    pub(crate) fn give_back(&self, _: std::ops::Range<usize>) {}
}

#[cfg(not(all(unix, not(loom), not(miri))))]
impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        &self.0
    }
}

/// Asks for the cache line of a word ahead of its use.
#[inline]
pub(crate) fn prefetch(word: &AtomicU64) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    // SAFETY: a prefetch neither faults nor changes anything, whatever the address; SSE is part of
    // every x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = word;
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::primitive::Ordering;

    #[test]
    fn words_are_zero_writable_and_aligned() {
        let words = Words::zeroed(100_000).unwrap();
        assert_eq!(words.len(), 100_000);
        assert_eq!(words.as_ptr() as usize % 64, 0);
        assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        words[99_999].store(7, Ordering::Relaxed);
        prefetch(&words[99_999]);
        assert_eq!(words[99_999].load(Ordering::Relaxed), 7);
        words[3].store(5, Ordering::Relaxed);
        words[50_000].store(9, Ordering::Relaxed);
        words.give_back(3..100_000);
        assert_eq!(words[50_000].load(Ordering::Relaxed), 0);
        assert_eq!(words[3].load(Ordering::Relaxed), 5, "the system's page is not all given back");
        words.give_back(99_990..100_001);
    }

    #[cfg(not(miri))]
    #[test]
    fn too_much_memory_is_an_error() {
        assert!(Words::zeroed(usize::MAX / 4).is_err());
    }
}
