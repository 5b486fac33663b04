//! Cache-line write-back, fences and non-temporal stores of the CPU.

use std::sync::atomic::AtomicU64;

/// How this CPU writes a cache line back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteBack {
    /// `clwb`: the line stays in the cache.
    Clwb,
    /// `clflushopt`: the line leaves the cache; flushes overlap.
    ClflushOpt,
    /// `clflush`: the line leaves the cache; flushes wait for each other.
    Clflush,
    /// The CPU has none of them: stores are ordered, not written back.
    OrderOnly,
}

impl WriteBack {
    /// The best of this CPU.
    #[cfg(target_arch = "x86_64")]
    pub fn detect() -> Self {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        if __cpuid(0).eax < 7 {
            return Self::Clflush;
        }
        let features = __cpuid_count(7, 0).ebx;
        match (features & (1 << 24) != 0, features & (1 << 23) != 0) {
            (true, _) => Self::Clwb,
            (false, true) => Self::ClflushOpt,
            (false, false) => Self::Clflush,
        }
    }

    /// The best of this CPU.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn detect() -> Self {
        Self::OrderOnly
    }

    /// Starts the write-back of the line that holds `word`. `self` must be an instruction that
    /// [`detect`](Self::detect) allows on this CPU.
    #[inline]
    pub(super) fn line(self, word: &AtomicU64) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::asm;
            let address = word.as_ptr();
            // SAFETY: the instructions write back the line of a mapped address (`word` is a
            // reference) and change no value; `detect` found that the CPU has them, without which
            // they would be illegal. No `nomem`: the compiler must not move stores across.
            unsafe {
                match self {
                    Self::Clwb => {
                        asm!("clwb [{}]", in(reg) address, options(nostack, preserves_flags));
                    }
                    Self::ClflushOpt => {
                        asm!("clflushopt [{}]", in(reg) address, options(nostack, preserves_flags));
                    }
                    Self::Clflush | Self::OrderOnly => {
                        asm!("clflush [{}]", in(reg) address, options(nostack, preserves_flags));
                    }
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = word;
    }
}

/// Waits until the write-backs and non-temporal stores before it are done.
#[inline]
pub(super) fn store_fence() {
    #[cfg(target_arch = "x86_64")]
    {
        // `sfence` orders write-backs; the compiler keeps stores on their side of a release fence.
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
        // SAFETY: every x86-64 CPU has SSE; without it the instruction would be illegal.
        unsafe { std::arch::x86_64::_mm_sfence() };
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// Stores words past the cache. They are visible and written back when it returns.
pub(super) fn stream(words: &[AtomicU64], values: &[u64]) {
    assert_eq!(words.len(), values.len());
    #[cfg(target_arch = "x86_64")]
    {
        for (word, value) in words.iter().zip(values) {
            // SAFETY: `word` is a mapped, aligned word of the region, and the caller lets nobody
            // else access it before the fence that follows; a racing access would be undefined.
            unsafe {
                std::arch::x86_64::_mm_stream_si64(word.as_ptr().cast(), value.cast_signed());
            }
        }
        store_fence();
    }
    #[cfg(not(target_arch = "x86_64"))]
    for (word, value) in words.iter().zip(values) {
        word.store(*value, std::sync::atomic::Ordering::Release);
    }
}

/// Asks for the line of `word` ahead of its use.
#[inline]
pub(super) fn prefetch(word: &AtomicU64) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint that reads and changes nothing a program can see, on a mapped address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(word.as_ptr().cast_const().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
}
