//! Where things lie in a region. `docs/design.md` draws it; the two change together.

/// The first word of a formatted region: "FKDASH01" in little-endian.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"FKDASH01");
/// The version of the format.
pub(crate) const FORMAT_VERSION: u64 = 1;

/// Header words, as byte offsets in the region.
pub(crate) mod header {
    pub(crate) const MAGIC: u64 = 0;
    pub(crate) const VERSION: u64 = 8;
    pub(crate) const LEN_BYTES: u64 = 16;
    pub(crate) const SEED: u64 = 24;
    /// XXH3 of the four words before.
    pub(crate) const CHECKSUM: u64 = 32;
    /// Directory depth (8 bits) and address (56 bits), on a line of its own.
    pub(crate) const ROOT: u64 = 64;
}

/// The table of chunks: one word for each.
pub(crate) const CHUNK_TABLE: u64 = 4096;
/// The unit in which size classes take space.
pub(crate) const CHUNK_BYTES: u64 = 256 << 10;

/// Buckets that keys hash to.
pub(crate) const NORMAL_BUCKETS: usize = 64;
/// Buckets that take what the normal ones cannot.
pub(crate) const STASH_BUCKETS: usize = 4;
/// All buckets of a segment.
pub(crate) const BUCKETS: usize = NORMAL_BUCKETS + STASH_BUCKETS;
/// Slots of a bucket.
pub(crate) const SLOTS: usize = 24;
/// Fingerprints of stashed entries that a home bucket keeps.
pub(crate) const OVERFLOW_FINGERPRINTS: usize = 8;

/// The unit in which persistent memory writes internally, and four cache lines.
pub(crate) const BUCKET_BYTES: u64 = 256;
/// The segment's header, padded to a bucket.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = BUCKET_BYTES;
/// A segment.
pub(crate) const SEGMENT_BYTES: u64 = SEGMENT_HEADER_BYTES + BUCKETS as u64 * BUCKET_BYTES;

/// Bucket words, as byte offsets in the bucket.
pub(crate) mod bucket {
    pub(crate) const LOCK: u64 = 0;
    pub(crate) const META: u64 = 8;
    pub(crate) const FINGERPRINTS: u64 = 16;
    pub(crate) const OVERFLOW_BUCKETS: u64 = 48;
    pub(crate) const IDENTITY: u64 = 56;
    pub(crate) const SLOTS: u64 = 64;
}

const _: () = {
    assert!(bucket::FINGERPRINTS + (SLOTS + OVERFLOW_FINGERPRINTS) as u64 == 48);
    assert!(bucket::OVERFLOW_BUCKETS + OVERFLOW_FINGERPRINTS as u64 == bucket::IDENTITY);
    assert!(bucket::SLOTS + SLOTS as u64 * 8 == BUCKET_BYTES);
    assert!(SEGMENT_BYTES == 17_664);
    // Segments are multiples of the bucket, so that buckets are aligned to their size.
    assert!(SEGMENT_BYTES.is_multiple_of(BUCKET_BYTES) && CHUNK_BYTES.is_multiple_of(BUCKET_BYTES));
};
