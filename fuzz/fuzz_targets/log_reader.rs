//! A segment of the log is read to its end, or refused.
#![no_main]

use ferrokit_storage::log::fuzz_segment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|image: &[u8]| {
    let _ = fuzz_segment(image);
});
