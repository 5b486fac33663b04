//! A payload of DUMP is read or refused, whatever it says of its lengths; what is read is written
//! and read again.
#![no_main]

use ferrokit_redis::dump::{VERSION, crc64, lzf, read_string, write_string};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 16 << 20;

/// The bytes with a footer that vouches for them: no mutation gets behind a checksum.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut payload = body.to_vec();
    payload.extend_from_slice(&VERSION.to_le_bytes());
    payload.extend_from_slice(&crc64(&payload).to_le_bytes());
    payload
}

fuzz_target!(|bytes: &[u8]| {
    let _ = read_string(bytes, BYTES_MAX);
    if let Ok(value) = read_string(&sealed(bytes), BYTES_MAX) {
        assert!(value.len() <= BYTES_MAX);
        for compresses in [false, true] {
            let written = write_string(&value, compresses);
            assert_eq!(read_string(&written, BYTES_MAX).as_ref(), Ok(&value));
        }
    }
    let Some(([low, high], compressed)) = bytes.split_first_chunk() else { return };
    let len = usize::from(u16::from_le_bytes([*low, *high]));
    if let Some(value) = lzf::decompress(compressed, len) {
        assert_eq!(value.len(), len);
    }
    if let Some(small) = lzf::compress(bytes, bytes.len()) {
        assert_eq!(lzf::decompress(&small, bytes.len()).as_deref(), Some(bytes));
    }
});
