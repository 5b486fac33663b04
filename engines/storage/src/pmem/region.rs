//! [`PmemRegion`]: typed access to a region.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferrokit_engine::Result;

use super::raw::RawWords;
use super::{Pmem, PmemKind, WORD_BYTES};

/// Access to a region by atomic words. Cheap to clone; offsets are in bytes and, unless said
/// otherwise, multiples of [`WORD_BYTES`].
///
/// Loads and stores compile to plain moves on the backends that do not observe stores.
///
/// # Panics
/// Every access panics outside the region and at an offset that is not aligned: offsets that came
/// from the medium are to be checked before they are used.
#[derive(Clone)]
pub struct PmemRegion {
    pub(super) words: RawWords,
    observed: bool,
}

impl PmemRegion {
    /// Access to a backend.
    pub fn new(pmem: Arc<dyn Pmem>) -> Self {
        let observed = pmem.observer().is_some();
        Self { words: RawWords::new(pmem), observed }
    }

    /// Which backend this is.
    pub fn kind(&self) -> PmemKind {
        self.pmem().kind()
    }

    /// The length of the region in bytes.
    #[inline]
    pub fn len_bytes(&self) -> u64 {
        self.words.len() as u64 * WORD_BYTES
    }

    /// See [`Pmem::grow`].
    ///
    /// # Errors
    /// As there.
    pub fn grow(&self, bytes: u64) -> Result<()> {
        self.pmem().grow(bytes)
    }

    /// Loads a word (acquire).
    #[inline]
    pub fn load(&self, offset: u64) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Loads a word without ordering, for reads that a version check validates.
    #[inline]
    pub fn load_relaxed(&self, offset: u64) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    /// Stores a word (release).
    #[inline]
    pub fn store(&self, offset: u64, value: u64) {
        match self.observer() {
            None => self.word(offset).store(value, Ordering::Release),
            Some(observer) => observer.store(self.index(offset), value),
        }
    }

    /// Stores `new` if the word is `current` (acquire and release).
    ///
    /// # Errors
    /// The word found, if it is not `current`.
    #[inline]
    pub fn compare_exchange(&self, offset: u64, current: u64, new: u64) -> Result<u64, u64> {
        match self.observer() {
            None => self.word(offset).compare_exchange(
                current,
                new,
                Ordering::AcqRel,
                Ordering::Acquire,
            ),
            Some(observer) => observer.compare_exchange(self.index(offset), current, new),
        }
    }

    /// A word that means nothing after a crash, such as a lock: stores to it are no events of the
    /// shadow backend, yet may persist with their line. Recovery must reset it.
    #[inline]
    pub fn transient_word(&self, offset: u64) -> &AtomicU64 {
        self.word(offset)
    }

    /// Copies bytes out, word by word: each word is whole, the sequence is not atomic.
    #[inline]
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        let mut at = offset;
        for chunk in out.chunks_mut(WORD_BYTES as usize) {
            let bytes = self.load(at).to_le_bytes();
            let (head, _) = bytes.split_at(chunk.len());
            chunk.copy_from_slice(head);
            at += WORD_BYTES;
        }
    }

    /// Copies bytes in, word by word. The rest of the last word becomes zero.
    #[inline]
    pub fn write(&self, offset: u64, data: &[u8]) {
        let mut at = offset;
        let (whole, tail) = data.as_chunks::<{ WORD_BYTES as usize }>();
        for chunk in whole {
            self.store(at, u64::from_le_bytes(*chunk));
            at += WORD_BYTES;
        }
        if !tail.is_empty() {
            self.store(at, partial_word(tail));
        }
    }

    /// As [`write`](Self::write) and [`flush`](Self::flush), past the cache: for data that nobody
    /// reads soon. Nobody else may access these bytes until the next fence.
    pub fn write_streaming(&self, offset: u64, data: &[u8]) {
        let mut first = self.index(offset);
        let mut values = [0; 64];
        for block in data.chunks(values.len() * WORD_BYTES as usize) {
            let words = block.len().div_ceil(WORD_BYTES as usize);
            for (value, bytes) in values.iter_mut().zip(block.chunks(WORD_BYTES as usize)) {
                *value = partial_word(bytes);
            }
            self.pmem().stream(first, &values[..words]);
            first += words;
        }
    }

    /// Asks for the cache line at `offset` ahead of its use.
    #[inline]
    pub fn prefetch(&self, offset: u64) {
        super::intrinsics::prefetch(self.word(offset));
    }

    /// Starts the write-back of a range; see [`Pmem::flush`]. Any alignment.
    #[inline]
    pub fn flush(&self, offset: u64, len: u64) {
        self.pmem().flush(offset, len);
    }

    /// Waits for this thread's write-backs; see [`Pmem::fence`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn fence(&self) -> Result<()> {
        self.pmem().fence()
    }

    /// [`flush`](Self::flush) and [`fence`](Self::fence).
    ///
    /// # Errors
    /// Those of the fence.
    #[inline]
    pub fn persist(&self, offset: u64, len: u64) -> Result<()> {
        self.flush(offset, len);
        self.fence()
    }

    /// Stores a word and makes it persistent: the atomic publish.
    ///
    /// # Errors
    /// Those of the fence.
    #[inline]
    pub fn store_persist(&self, offset: u64, value: u64) -> Result<()> {
        self.store(offset, value);
        self.persist(offset, WORD_BYTES)
    }

    #[inline]
    fn pmem(&self) -> &dyn Pmem {
        &**self.words.owner()
    }

    #[inline]
    fn observer(&self) -> Option<&dyn super::StoreObserver> {
        if self.observed { self.pmem().observer() } else { None }
    }

    #[inline]
    fn index(&self, offset: u64) -> usize {
        assert!(offset.is_multiple_of(WORD_BYTES), "offset {offset} is not word-aligned");
        (offset / WORD_BYTES) as usize
    }

    #[inline]
    fn word(&self, offset: u64) -> &AtomicU64 {
        &self.words.as_slice()[self.index(offset)]
    }
}

impl std::fmt::Debug for PmemRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PmemRegion({:?}, {} bytes)", self.kind(), self.len_bytes())
    }
}

/// Up to eight bytes as a little-endian word, zeros above them.
#[inline]
fn partial_word(bytes: &[u8]) -> u64 {
    let mut word = [0; WORD_BYTES as usize];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pmem::{EmulatedPmem, ShadowPmem};

    fn regions() -> [PmemRegion; 2] {
        [
            PmemRegion::new(Arc::new(EmulatedPmem::new(1 << 16).unwrap())),
            PmemRegion::new(Arc::new(ShadowPmem::new(1 << 16))),
        ]
    }

    #[test]
    fn bytes_come_back_as_written() {
        for region in regions() {
            let data: Vec<u8> = (0..=255).cycle().take(1003).collect();
            for (offset, streaming) in [(8, false), (4096, true)] {
                if streaming {
                    region.write_streaming(offset, &data);
                    region.fence().unwrap();
                } else {
                    region.write(offset, &data);
                    region.persist(offset, data.len() as u64).unwrap();
                }
                let mut out = vec![0; data.len()];
                region.read(offset, &mut out);
                assert_eq!(out, data, "{region:?}");
            }
        }
    }

    #[test]
    fn a_word_is_exchanged_only_if_it_is_the_expected_one() {
        for region in regions() {
            region.store(64, 5);
            assert_eq!(region.compare_exchange(64, 4, 6), Err(5));
            assert_eq!(region.compare_exchange(64, 5, 6), Ok(5));
            assert_eq!(region.load(64), 6);
        }
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn an_access_outside_the_region_panics() {
        regions()[0].load(1 << 16);
    }

    #[test]
    #[should_panic(expected = "not word-aligned")]
    fn an_unaligned_access_panics() {
        regions()[0].load(3);
    }
}
