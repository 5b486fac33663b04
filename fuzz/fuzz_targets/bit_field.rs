//! The arguments of BITFIELD are a program or refused; a program runs on any string and answers each
//! of its operations.
#![no_main]

use ferrokit_redis::bits::FieldProgram;
use libfuzzer_sys::fuzz_target;

/// Offsets lie within so much.
const LIMIT_BYTES: u64 = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let (arguments, value) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &b""[..]),
    };
    let words = arguments.split(|byte| *byte == b' ');
    let Ok(program) = FieldProgram::parse(words, LIMIT_BYTES) else { return };
    if program.only_reads() {
        assert_eq!(program.read(value).count(), program.len());
    }
    let len = program.len_after(value.len());
    assert!(len <= value.len().max(LIMIT_BYTES as usize + 8), "a write beyond the limit");
    let mut after = value.to_vec();
    after.resize(len, 0);
    let mut answers = Vec::new();
    program.run(&mut after, &mut answers);
    assert_eq!((answers.len(), after.len()), (program.len(), len));
});
