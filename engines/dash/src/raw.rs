//! Lending record bytes in place.
//!
//! Unsafe code: plain slices over words that are otherwise only reached as atomics.
//!
//! Invariant: whoever makes a [`PinnedRecord`] loaded its address from a slot while the pin was
//! held, or the record is not published and the caller's own. A record is unlinked from all slots
//! before it is retired, and reused only when all threads that were pinned at that moment are not
//! any more. What is lent of it is never stored to after its publication: keys, and values longer
//! than a word.

use crossbeam_epoch::Guard;
use ferrokit_storage::PmemRegion;

use crate::record::{INLINE_VALUE_BYTES, RECORD_HEADER_BYTES, RecordHeader};

/// A record's place, kept from reuse by a pin.
#[derive(Clone, Copy)]
pub(crate) struct PinnedRecord<'g> {
    region: &'g PmemRegion,
    at: u64,
    _pinned: &'g Guard,
}

impl<'g> PinnedRecord<'g> {
    /// The record at `at`, under the module's invariant.
    #[inline]
    pub(crate) fn new(region: &'g PmemRegion, at: u64, pinned: &'g Guard) -> Self {
        Self { region, at, _pinned: pinned }
    }

    /// The region it lies in.
    #[inline]
    pub(crate) fn region(&self) -> &'g PmemRegion {
        self.region
    }

    /// Where it lies.
    #[inline]
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The key, in place.
    #[inline]
    pub(crate) fn key(&self, header: &RecordHeader) -> &'g [u8] {
        // SAFETY: nobody stores to a key once its record is published, nor to the record's space
        // while the pin lives (the module's invariant). Without the pin the space could be another
        // record's by now: torn bytes, and a data race.
        unsafe { self.region.bytes(header.key_at(self.at), header.key_len) }
    }

    /// A value longer than a word, in place.
    ///
    /// # Panics
    /// If the value may be updated in place: that one is to be copied.
    #[inline]
    pub(crate) fn long_value(&self, header: &RecordHeader) -> &'g [u8] {
        assert!(header.value_len > INLINE_VALUE_BYTES, "a value that is updated in place");
        // SAFETY: as for the key: longer values never change after publication, as asserted; a
        // shorter one could be stored to while it is lent.
        unsafe { self.region.bytes(self.at + RECORD_HEADER_BYTES, header.value_len) }
    }
}
