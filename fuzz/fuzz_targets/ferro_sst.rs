//! A FerroSST image is opened and read in both directions, or refused.
#![no_main]

use ferrokit_lsm::fuzzing::read_table;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|image: &[u8]| {
    let _ = read_table(image);
});
