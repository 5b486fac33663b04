//! Lending record bytes in place.

use crossbeam_epoch::Guard;
use ferrokit_storage::PmemRegion;

/// Lends bytes of a record.
///
/// # Safety
/// The range must lie in the part of a record that is never stored to after its publication, and
/// the record's address must have been loaded from a slot while `pinned` was held (or the record
/// is not published and the caller's own).
#[inline]
pub(crate) unsafe fn lend<'g>(
    region: &'g PmemRegion,
    _pinned: &'g Guard,
    offset: u64,
    len: usize,
) -> &'g [u8] {
    // SAFETY: a record is unlinked from all slots before it is retired, and reused only when all
    // threads that were pinned at that moment are not any more; so while `pinned` lives nobody
    // stores to it. Without the pin its space could be another record's by now: torn bytes.
    unsafe { region.bytes(offset, len) }
}
