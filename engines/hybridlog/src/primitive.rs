//! The atomics this crate is written on: the standard ones, or loom's when models are checked
//! (`RUSTFLAGS="--cfg loom"`), so that loom runs the real code.

pub(crate) use std::sync::atomic::Ordering;

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU64, fence};

/// A full barrier right after a sequentially consistent read-modify-write.
///
/// On x86-64 a locked instruction already is one, and `mfence` would cost as much again.
#[inline]
pub(crate) fn full_barrier_after_rmw() {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    fence(Ordering::SeqCst);
}

/// Waiting for another thread to finish a few instructions: spins a little, then yields.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    waits: u32,
}

impl Backoff {
    /// Doublings of the spin before the thread yields instead.
    #[cfg(not(loom))]
    const SPIN_DOUBLINGS: u32 = 5;

    /// Waits a little longer than the time before.
    pub(crate) fn wait(&mut self) {
        #[cfg(loom)]
        loom::thread::yield_now();
        #[cfg(not(loom))]
        if self.waits < Self::SPIN_DOUBLINGS {
            for _ in 0..1_u32 << self.waits {
                std::hint::spin_loop();
            }
        } else {
            std::thread::yield_now();
        }
        self.waits = self.waits.saturating_add(1);
    }

    /// How often it waited.
    pub(crate) fn waits(&self) -> u32 {
        self.waits
    }
}

/// A value alone on its cache line (two, for the prefetcher of adjacent lines).
#[repr(align(128))]
#[derive(Debug, Default)]
pub(crate) struct OwnLine<T>(pub(crate) T);
