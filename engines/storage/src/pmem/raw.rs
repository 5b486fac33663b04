//! Words of a region by address. The only place of `pmem` that turns addresses into references.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{Pmem, PmemRegion};

/// The words of a region, reachable without a virtual call.
///
/// Invariant: `base .. base + len` are the words of `owner`, which keeps them mapped.
#[derive(Clone)]
pub(super) struct RawWords {
    base: NonNull<AtomicU64>,
    len: usize,
    owner: Arc<dyn Pmem>,
}

// SAFETY: the pointer is only ever used as a shared reference to atomic words that `owner`, which
// is Send, keeps alive; if the words were not atomic, moving it would allow data races.
unsafe impl Send for RawWords {}
// SAFETY: as for Send: shared use is shared use of atomics.
unsafe impl Sync for RawWords {}

impl RawWords {
    pub(super) fn new(owner: Arc<dyn Pmem>) -> Self {
        let words = owner.words();
        let (base, len) = (NonNull::from(words).cast(), words.len());
        Self { base, len, owner }
    }

    #[inline]
    pub(super) fn owner(&self) -> &Arc<dyn Pmem> {
        &self.owner
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The words of the region.
    #[inline]
    pub(super) fn as_slice(&self) -> &[AtomicU64] {
        // SAFETY: the invariant of this type: `owner` promises one address for as long as it
        // lives, and `self` holds it. Were the region unmapped meanwhile, this would dangle.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// The bytes `offset .. offset + len` as a plain slice.
    ///
    /// # Safety
    /// Nobody may store to the words that the range touches while the slice is lent.
    ///
    /// # Panics
    /// If the range leaves the region.
    #[inline]
    pub(super) unsafe fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        let end = offset.checked_add(len as u64);
        assert!(
            end.is_some_and(|end| end <= self.len as u64 * super::WORD_BYTES),
            "bytes {offset}+{len} leave the region"
        );
        // SAFETY: in bounds by the assertion above and mapped by the type's invariant; the caller
        // promises that there is no store to race with, which for plain bytes would be undefined.
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().cast::<u8>().add(offset as usize), len)
        }
    }
}

impl PmemRegion {
    /// Lends bytes in place; `offset` needs no alignment.
    ///
    /// # Safety
    /// Nobody may store to the words that the range touches while the slice is lent.
    ///
    /// # Panics
    /// If the range leaves the region.
    #[inline]
    pub unsafe fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        // SAFETY: the caller makes the same promise to us.
        unsafe { self.words.bytes(offset, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pmem::ShadowPmem;

    #[test]
    fn bytes_are_lent_from_any_offset() {
        let region = PmemRegion::new(Arc::new(ShadowPmem::new(4096)));
        let data: Vec<u8> = (0..100).collect();
        region.write(64, &data);
        for offset in 0..20 {
            // SAFETY: this thread alone uses the region, and stores nothing meanwhile.
            let lent = unsafe { region.bytes(64 + offset as u64, 50) };
            assert_eq!(lent, &data[offset..offset + 50]);
        }
    }

    #[test]
    #[should_panic(expected = "leave the region")]
    fn nothing_is_lent_from_outside() {
        let region = PmemRegion::new(Arc::new(ShadowPmem::new(4096)));
        // SAFETY: this thread alone uses the region; the range is refused.
        let _ = unsafe { region.bytes(4090, 7) };
    }
}
