//! [`Entry`] and [`Control`]: the words of a bucket.

use crate::address::LogicalAddress;

/// The hash of a key, from which all its places follow: the low 32 bits choose the bucket, the
/// high 14 bits are the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyHash(pub(crate) u64);

/// Which bits of a hash are the tag.
///
/// They are those that tell, from here on, which half of a bucket an entry goes to when the table
/// doubles: records that are not in memory are not asked. At the largest size the lowest four of
/// them are known from the bucket already, and ten tell keys of a bucket apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TagBits {
    /// The lowest one.
    first: u32,
}

impl TagBits {
    /// Doublings from the largest table down for which the tag tells the half.
    const DOUBLINGS: u32 = 4;
    /// The highest bit that may be the first.
    const FIRST_MAX: u32 = 28;

    /// For tables of up to `primaries_max` buckets.
    pub(crate) fn for_tables_up_to(primaries_max: u64) -> Self {
        let first = primaries_max.max(1).ilog2().saturating_sub(Self::DOUBLINGS);
        Self { first: first.min(Self::FIRST_MAX) }
    }

    /// As it was [stored](Self::get).
    pub(crate) fn from_first(first: u64) -> Option<Self> {
        let first = u32::try_from(first).ok().filter(|first| *first <= Self::FIRST_MAX)?;
        Some(Self { first })
    }

    /// The first bit, to be stored.
    pub(crate) fn get(self) -> u64 {
        u64::from(self.first)
    }

    /// The hash of a key with these bits of it as its tag.
    #[inline]
    pub(crate) const fn hash(self, hash: u64) -> KeyHash {
        let rest = u64::BITS - Entry::TAG_BITS;
        KeyHash(hash >> self.first << rest | (hash << Entry::TAG_BITS >> Entry::TAG_BITS))
    }

    /// Whether an entry of a table of `primaries` buckets goes to the upper half when it doubles;
    /// `None` if its tag does not tell.
    pub(crate) fn is_upper(self, tag: u64, primaries: u64) -> Option<bool> {
        let bit = primaries.ilog2().checked_sub(self.first)?;
        // The highest bit of a tag stands for itself or for no bits at all.
        (bit < Entry::TAG_BITS - 1).then_some(tag >> bit & 1 == 1)
    }
}

impl KeyHash {
    /// The bits a record keeps and that choose a bucket, whatever the size of the table.
    #[inline]
    pub(crate) const fn low(self) -> u32 {
        self.0 as u32
    }

    /// The bits an entry keeps: 1 to 16383.
    #[inline]
    pub(crate) const fn tag(self) -> u64 {
        let tag = self.0 >> (u64::BITS - Entry::TAG_BITS);
        if tag == 0 { 1 << (Entry::TAG_BITS - 1) } else { tag }
    }
}

/// One slot of a bucket: 0 if free, else
/// `held(1) | tentative(1) | tag(14) | address(48)` from the highest bit down.
///
/// The address is that of the newest record of a chain: all records whose bucket and tag are
/// these. It is null while a first record is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    const TAG_BITS: u32 = 14;
    const TENTATIVE: u64 = 1 << 62;
    /// Set by whoever holds the bucket's latch: only the holder may change the entry, everybody
    /// else's exchange fails.
    pub(crate) const HELD: u64 = 1 << 63;
    /// A free slot.
    pub(crate) const FREE: Self = Self(0);

    #[inline]
    pub(crate) const fn new(tag: u64, address: LogicalAddress) -> Self {
        Self(tag << LogicalAddress::BITS | address.get())
    }

    #[inline]
    pub(crate) const fn address(self) -> LogicalAddress {
        LogicalAddress::from_low_bits(self.0)
    }

    #[inline]
    pub(crate) const fn tag(self) -> u64 {
        (self.0 & !Self::HELD & !Self::TENTATIVE) >> LogicalAddress::BITS
    }

    #[inline]
    pub(crate) const fn is_tentative(self) -> bool {
        self.0 & Self::TENTATIVE != 0
    }

    #[inline]
    pub(crate) const fn is_held(self) -> bool {
        self.0 & Self::HELD != 0
    }

    #[inline]
    pub(crate) const fn tentative(self) -> Self {
        Self(self.0 | Self::TENTATIVE)
    }

    #[inline]
    pub(crate) const fn held(self) -> Self {
        Self(self.0 | Self::HELD)
    }

    #[inline]
    pub(crate) const fn released(self) -> Self {
        Self(self.0 & !Self::HELD)
    }

    /// As it is when nobody works on it: not held, and free unless it leads somewhere.
    pub(crate) const fn at_rest(self) -> Self {
        let entry = self.released();
        if entry.is_tentative() || entry.address().get() == 0 { Self::FREE } else { entry }
    }

    /// The same chain with another newest record; without one, a free slot. Held stays held.
    #[inline]
    pub(crate) const fn with_address(self, address: LogicalAddress) -> Self {
        let held = self.0 & Self::HELD;
        if address.get() == 0 {
            return Self(held);
        }
        Self(held | Self::new(self.tag(), address).0)
    }

    /// Whether the slot may be claimed: free, or the end of a chain that lies wholly before
    /// `begin`, where nothing lives any more.
    #[inline]
    pub(crate) fn is_claimable(self, begin: LogicalAddress) -> bool {
        self == Self::FREE
            || (self.0 >> 62 == 0
                && self.address() != LogicalAddress::NULL
                && self.address() < begin)
    }
}

/// The last word of a bucket:
/// `version(33) | migrated(1) | frozen(1) | latched(1) | overflow(28)` from the highest bit down.
///
/// `overflow` is the next bucket's number plus 1. The other fields matter in a primary bucket,
/// `frozen` in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Control(pub(crate) u64);

impl Control {
    const OVERFLOW_BITS: u32 = 28;
    const OVERFLOW_MASK: u64 = (1 << Self::OVERFLOW_BITS) - 1;
    const LATCHED: u64 = 1 << 28;
    /// No overflow bucket may be added any more.
    pub(crate) const FROZEN: u64 = 1 << 29;
    const MIGRATED: u64 = 1 << 30;
    const VERSION_ONE: u64 = 1 << 31;
    /// The most overflow buckets of a table.
    pub(crate) const MAX_OVERFLOW: u64 = Self::OVERFLOW_MASK - 1;

    #[inline]
    pub(crate) const fn overflow(self) -> Option<u64> {
        match self.0 & Self::OVERFLOW_MASK {
            0 => None,
            number => Some(number - 1),
        }
    }

    #[inline]
    pub(crate) const fn with_overflow(self, number: u64) -> Self {
        Self(self.0 & !Self::OVERFLOW_MASK | (number + 1))
    }

    #[inline]
    pub(crate) const fn is_latched(self) -> bool {
        self.0 & Self::LATCHED != 0
    }

    #[inline]
    pub(crate) const fn is_frozen(self) -> bool {
        self.0 & Self::FROZEN != 0
    }

    #[inline]
    pub(crate) const fn is_migrated(self) -> bool {
        self.0 & Self::MIGRATED != 0
    }

    #[inline]
    pub(crate) const fn latched(self) -> Self {
        Self(self.0 | Self::LATCHED)
    }

    #[inline]
    pub(crate) const fn unlatched(self) -> Self {
        Self(self.0 & !Self::LATCHED)
    }

    #[inline]
    pub(crate) const fn migrated(self) -> Self {
        Self(self.0 | Self::MIGRATED)
    }

    /// As it is when nobody works on the bucket, in a table of so many overflow buckets.
    pub(crate) const fn at_rest(self, overflow: u64) -> Self {
        match self.overflow() {
            Some(number) if number < overflow => Self(0).with_overflow(number),
            _ => Self(0),
        }
    }

    /// With the next version: a batch was applied here.
    #[inline]
    pub(crate) const fn next_version(self) -> Self {
        Self(self.0.wrapping_add(Self::VERSION_ONE))
    }

    /// What must be unchanged for two reads of the bucket to lie between the same two batches.
    #[inline]
    pub(crate) const fn version_and_latches(self) -> u64 {
        self.0 & !Self::OVERFLOW_MASK & !Self::FROZEN
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_tag_and_address_apart() {
        let address = LogicalAddress::from_low_bits(LogicalAddress::MASK);
        for hash in [0, 1, u64::MAX, 1 << 50, 0x8000_0000_0000_0000] {
            let tag = KeyHash(hash).tag();
            assert!((1..1 << 14).contains(&tag));
            let entry = Entry::new(tag, address);
            assert_eq!((entry.tag(), entry.address()), (tag, address));
            assert_eq!(entry.held().tentative().tag(), tag);
            assert!(entry.held().is_held() && entry.tentative().is_tentative());
            assert_eq!(entry.with_address(LogicalAddress::NULL), Entry::FREE);
        }
    }

    #[test]
    fn a_tag_tells_the_half_that_the_hash_goes_to() {
        for primaries_max in [1_u64, 16, 1 << 10, 1 << 20, 1 << 32] {
            let bits = TagBits::for_tables_up_to(primaries_max);
            assert_eq!(TagBits::from_first(bits.get()), Some(bits));
            let mut told = 0;
            for log2 in 0..primaries_max.ilog2() {
                for hash in [0, u64::MAX, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210] {
                    let key = bits.hash(hash);
                    assert_eq!(key.low(), hash as u32);
                    if let Some(is_upper) = bits.is_upper(key.tag(), 1 << log2) {
                        assert_eq!(is_upper, hash >> log2 & 1 == 1, "{hash:x} at 2^{log2}");
                        told += 1;
                    }
                }
            }
            assert!(told >= 4 * primaries_max.ilog2().min(4), "{primaries_max}");
        }
        assert_eq!(TagBits::from_first(29), None);
    }

    #[test]
    fn a_slot_is_claimable_when_nothing_lives_behind_it() {
        let entry = Entry::new(3, LogicalAddress::from_low_bits(10));
        let begin = LogicalAddress::from_low_bits;
        assert!(Entry::FREE.is_claimable(begin(0)));
        assert!(entry.is_claimable(begin(11)), "its whole chain was given up");
        assert!(!entry.is_claimable(begin(10)));
        assert!(
            !entry.held().is_claimable(begin(11)) && !entry.tentative().is_claimable(begin(11))
        );
        assert!(!Entry::new(3, LogicalAddress::NULL).is_claimable(begin(11)), "one is on its way");
    }

    #[test]
    fn a_version_change_shows_and_an_overflow_bucket_does_not() {
        let control = Control(0);
        assert_eq!(
            control.with_overflow(Control::MAX_OVERFLOW).version_and_latches(),
            control.version_and_latches()
        );
        assert_eq!(control.with_overflow(9).overflow(), Some(9));
        assert_ne!(control.next_version().version_and_latches(), control.version_and_latches());
        assert_ne!(control.latched().version_and_latches(), control.version_and_latches());
        assert_eq!(control.latched().next_version().unlatched().overflow(), None);
    }
}
