//! [`CountingAllocator`]: the system's allocator, which knows how much it has given out.
//!
//! Each thread sums its own allocations and frees, and adds the sum to the total when it has grown
//! to a few KiB: the total is at most that much per thread behind.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// A thread's sum is added to the total at this size.
const FLUSH_AT_BYTES: i64 = 4 << 10;

static TOTAL: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static OWN: Cell<i64> = const { Cell::new(0) };
}

/// Bytes allocated now; those of this thread to the byte.
pub(crate) fn allocated_bytes() -> u64 {
    let own = OWN.try_with(Cell::get).unwrap_or(0);
    u64::try_from(TOTAL.load(Ordering::Relaxed) + own).unwrap_or(0)
}

#[inline]
fn count(bytes: i64) {
    // A thread that is ending has no sum any more.
    let counted = OWN.try_with(|own| {
        let sum = own.get() + bytes;
        if sum.abs() < FLUSH_AT_BYTES {
            own.set(sum);
        } else {
            own.set(0);
            TOTAL.fetch_add(sum, Ordering::Relaxed);
        }
    });
    if counted.is_err() {
        TOTAL.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// See the module.
pub(crate) struct CountingAllocator;

// SAFETY: every call is passed on to the system's allocator as it came, and its answer returned as
// it is; counting allocates nothing and cannot unwind. If it did either, an allocation would recurse
// or unwind out of the allocator.
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise about `layout` is the one asked for here.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller got `block` here, with this `layout`, and so from the system.
        unsafe { System.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as i64 - layout.size() as i64);
        // SAFETY: as in `dealloc`; the promise about `new_size` is the caller's.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_allocation_of_this_thread_counts_at_once() {
        // Others run beside it: one try without any is enough.
        let is_seen = |_: usize| {
            let before = allocated_bytes();
            let block = vec![1_u8; 100];
            let counted = allocated_bytes().saturating_sub(before);
            drop(block);
            counted == 100
        };
        assert!((0..10_000).any(is_seen));
    }

    #[test]
    fn what_is_allocated_counts_until_it_is_freed() {
        let before = allocated_bytes();
        let block = vec![1_u8; 64 << 20];
        let during = allocated_bytes();
        assert!(during >= before + (48 << 20), "{before} {during}");
        drop(block);
        assert!(allocated_bytes() < during - (48 << 20));
    }
}
