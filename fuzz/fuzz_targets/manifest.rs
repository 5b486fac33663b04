//! A manifest image is replayed, or refused.
#![no_main]

use ferrokit_lsm::fuzzing::read_manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|image: &[u8]| {
    let _ = read_manifest(image);
});
