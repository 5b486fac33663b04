//! [`LogicalAddress`]: a place in the record log.

use std::fmt;

/// A place in the one address space of the log: 48 bits, counted in words of 8 bytes, growing
/// forever. Page number and offset within the page are its high and low bits; 0 is no place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct LogicalAddress(u64);

impl LogicalAddress {
    /// Bits of an address.
    pub(crate) const BITS: u32 = 48;
    /// All bits of an address.
    pub(crate) const MASK: u64 = (1 << Self::BITS) - 1;
    /// No record.
    pub(crate) const NULL: Self = Self(0);

    /// The address in the low bits of a word.
    #[inline]
    pub(crate) const fn from_low_bits(word: u64) -> Self {
        Self(word & Self::MASK)
    }

    /// The place `offset` words into `page`.
    #[inline]
    pub(crate) const fn new(page: u64, offset: u64, page_words_log2: u32) -> Self {
        Self((page << page_words_log2) | offset)
    }

    /// The place so many words after this one.
    #[inline]
    pub(crate) const fn plus_words(self, words: u64) -> Self {
        Self(self.0 + words)
    }

    /// The address as a number.
    #[inline]
    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    /// The page number.
    #[inline]
    pub(crate) const fn page(self, page_words_log2: u32) -> u64 {
        self.0 >> page_words_log2
    }

    /// The offset within the page, in words.
    #[inline]
    pub(crate) const fn offset(self, page_words_log2: u32) -> usize {
        (self.0 & ((1 << page_words_log2) - 1)) as usize
    }
}

impl fmt::Debug for LogicalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{:#x}", self.0)
    }
}
