//! [`self_test()`]: PFSELFTEST.

use super::{HyperLogLog, HyperLogLogError};

/// Elements added.
const ELEMENTS: u64 = 100_000;
/// The standard error of an estimate: 1.04 / sqrt(16,384).
const STANDARD_ERROR: f64 = 0.008_125;
const SPARSE_BYTES_MAX: usize = 3000;

/// Checks on fixed elements that both encodings agree and that estimates are as good as they
/// should be.
///
/// # Errors
/// What went wrong, as a client sees it.
pub fn self_test() -> Result<(), String> {
    run().unwrap_or_else(|error| Err(format!("TESTFAILED {error}")))
}

fn run() -> Result<Result<(), String>, HyperLogLogError> {
    let (mut dense, mut sparse) = (HyperLogLog::new(), HyperLogLog::new());
    dense.make_dense()?;
    let mut checkpoint = 1;
    for number in 1..=ELEMENTS {
        let element = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        dense.add(&element, SPARSE_BYTES_MAX)?;
        sparse.add(&element, SPARSE_BYTES_MAX)?;
        if number < checkpoint {
            continue;
        }
        checkpoint *= 10;
        let counts = (dense.view().count()?, sparse.view().count()?);
        if counts.0 != counts.1 || dense.view().registers()? != sparse.view().registers()? {
            return Ok(Err(format!("TESTFAILED dense/sparse disagree: {counts:?}")));
        }
        let error = counts.0.abs_diff(number);
        let bound = (STANDARD_ERROR * 6.0 * number as f64).ceil() as u64;
        if error > bound {
            return Ok(Err(format!("TESTFAILED Too big error. card:{number} abserr:{error}")));
        }
    }
    Ok(Ok(()))
}
