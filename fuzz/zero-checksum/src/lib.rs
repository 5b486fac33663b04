//! Takes the place of the `crc32c` crate in fuzz targets, so that every checksum holds.

#![forbid(unsafe_code)]

/// Zero, whatever the bytes.
pub fn crc32c(_bytes: &[u8]) -> u32 {
    0
}

/// Zero, whatever the bytes.
pub fn crc32c_append(_checksum: u32, _bytes: &[u8]) -> u32 {
    0
}
