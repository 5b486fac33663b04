//! [`cardinality()`]: Ertl's improved estimator (arXiv:1702.01284), without bias tables.

use super::{Histogram, RANK_BITS, REGISTERS};

/// 1 / (2 ln 2).
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// Estimates how many different elements raised the registers.
pub(super) fn cardinality(histogram: &Histogram) -> u64 {
    let registers = REGISTERS as f64;
    let holding = |number: usize| f64::from(histogram.get(number).copied().unwrap_or_default());
    let largest = RANK_BITS as usize + 1;
    let mut sum = registers * tau((registers - holding(largest)) / registers);
    for number in (1..largest).rev() {
        sum = (sum + holding(number)) * 0.5;
    }
    sum += registers * sigma(holding(0) / registers);
    (ALPHA * registers * registers / sum).round() as u64
}

/// What registers at zero contribute.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum == before {
            return sum;
        }
    }
}

/// What registers at their largest contribute.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut weight, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * weight;
        if sum == before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_estimated_for_empty_registers() {
        let mut histogram = [0; 64];
        histogram[0] = REGISTERS as u32;
        assert_eq!(cardinality(&histogram), 0);
    }

    proptest! {
        /// Whatever a hostile string holds, an estimate is found in a few steps.
        #[test]
        fn any_registers_have_an_estimate(numbers in prop::collection::vec(0_usize..64, 0..200)) {
            let mut histogram = [0; 64];
            for number in &numbers {
                histogram[*number] += (REGISTERS / 200) as u32;
            }
            histogram[63] += REGISTERS as u32 - histogram.iter().sum::<u32>();
            let _ = cardinality(&histogram);
        }
    }
}
