//! [`EmulatedPmem`]: memory that is written back as persistent memory would be.

use std::sync::atomic::AtomicU64;

use ferrokit_engine::{Error, Result};

use super::intrinsics::{self, WriteBack};
use super::mapped::{MappedWords, page_bytes};
use super::{CACHE_LINE_BYTES, Pmem, PmemKind, StoreObserver, WORD_BYTES, lines};

/// Anonymous memory with the real write-back instructions of the CPU, so that code has the speed
/// it would have on persistent memory of DRAM latency. Nothing survives the process.
pub struct EmulatedPmem {
    mapping: MappedWords,
    write_back: WriteBack,
}

impl EmulatedPmem {
    /// A zeroed region of `bytes`, rounded up to pages. It takes memory as it is touched.
    ///
    /// # Errors
    /// `InvalidArgument` for 0 bytes or more than the address space; `Io`.
    pub fn new(bytes: u64) -> Result<Self> {
        let bytes = whole_pages("pmem.emulated", bytes)?;
        let mapping =
            MappedWords::anonymous(bytes).map_err(|error| Error::io("pmem.emulated", error))?;
        Ok(Self { mapping, write_back: WriteBack::detect() })
    }

    /// The instruction used.
    pub fn write_back(&self) -> WriteBack {
        self.write_back
    }
}

impl Pmem for EmulatedPmem {
    fn kind(&self) -> PmemKind {
        PmemKind::Emulated
    }

    fn words(&self) -> &[AtomicU64] {
        self.mapping.words()
    }

    fn observer(&self) -> Option<&dyn StoreObserver> {
        None
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        check_growth(self.words(), bytes)
    }

    fn flush(&self, offset: u64, len: u64) {
        let words_per_line = CACHE_LINE_BYTES / WORD_BYTES;
        for line in lines(offset, len) {
            self.write_back.line(&self.words()[(line * words_per_line) as usize]);
        }
    }

    fn fence(&self) -> Result<()> {
        intrinsics::store_fence();
        Ok(())
    }

    fn stream(&self, first_word: usize, values: &[u64]) {
        intrinsics::stream(&self.words()[first_word..first_word + values.len()], values);
    }
}

/// A length rounded up to pages.
pub(super) fn whole_pages(operation: &'static str, bytes: u64) -> Result<usize> {
    bytes
        .checked_next_multiple_of(page_bytes())
        .filter(|bytes| *bytes > 0 && i64::try_from(*bytes).is_ok())
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| Error::invalid(operation, format!("a region of {bytes} bytes")))
}

pub(super) fn check_growth(words: &[AtomicU64], bytes: u64) -> Result<()> {
    let len_bytes = words.len() as u64 * WORD_BYTES;
    if bytes <= len_bytes {
        return Ok(());
    }
    Err(Error::new(
        ferrokit_engine::ErrorKind::OutOfSpace,
        "pmem.grow",
        format!("{bytes} bytes asked of a region of {len_bytes}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_of_this_cpu_writes_back() {
        let mut pmem = EmulatedPmem::new(1).unwrap();
        let all = [WriteBack::Clflush, WriteBack::ClflushOpt, WriteBack::Clwb];
        let best = all.iter().position(|kind| *kind == WriteBack::detect());
        for kind in all.into_iter().take(best.map_or(0, |best| best + 1)) {
            pmem.write_back = kind;
            pmem.words()[100].store(7, std::sync::atomic::Ordering::Release);
            pmem.flush(100 * WORD_BYTES, 200);
            pmem.fence().unwrap();
            assert_eq!(pmem.words()[100].load(std::sync::atomic::Ordering::Acquire), 7);
        }
    }

    #[test]
    fn lengths_are_checked() {
        assert!(EmulatedPmem::new(0).is_err());
        assert!(EmulatedPmem::new(u64::MAX).is_err());
        let pmem = EmulatedPmem::new(1).unwrap();
        assert!(pmem.grow(page_bytes()).is_ok());
        assert!(pmem.grow(page_bytes() + 1).is_err());
    }
}
