//! A record that the LSM engine finds in its log is decoded, or refused.
#![no_main]

use ferrokit_lsm::fuzzing::read_log_record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|record: &[u8]| {
    let _ = read_log_record(record);
});
