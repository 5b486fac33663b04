//! A string in the place of a HyperLogLog is used or refused, and stays of a bounded size.
#![no_main]

use ferrokit_redis::hyperloglog::{HyperLogLog, REGISTERS, Union, View};
use libfuzzer_sys::fuzz_target;

const SPARSE_BYTES_MAX: usize = 3000;

fuzz_target!(|bytes: &[u8]| {
    let _ = Union::new().add(bytes);
    let Ok(view) = View::of(bytes) else { return };
    let is_valid = view.count().is_ok();
    assert_eq!(view.registers().is_ok_and(|it| it.len() == REGISTERS), is_valid);
    let Ok(mut sketch) = HyperLogLog::of(Some(bytes)) else { return };
    for element in 0..20_u8 {
        let added = sketch.add(&[element], SPARSE_BYTES_MAX);
        assert!(added.is_ok() || !is_valid, "a valid one was damaged");
    }
    assert_eq!(sketch.view().count().is_ok(), is_valid);
    assert_eq!(sketch.make_dense().is_ok(), is_valid);
    assert!(sketch.as_bytes().len() <= bytes.len().max(12_304), "it grew beyond its bound");
});
