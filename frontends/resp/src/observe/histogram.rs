//! [`Histogram`]: how long something took, to two significant digits.

use std::sync::atomic::{AtomicU64, Ordering};

/// Up to here every nanosecond has its bucket; beyond, each octave has [`PER_OCTAVE`].
const EXACT: u64 = 256;
const PER_OCTAVE: u64 = 128;
/// Longer times count as this long: a second, as in Redis.
const NANOS_MAX: u64 = 1_000_000_000;
const BUCKETS: usize = bucket_of(NANOS_MAX) + 1;

const fn bucket_of(nanos: u64) -> usize {
    let nanos = if nanos > NANOS_MAX { NANOS_MAX } else { nanos };
    if nanos < EXACT {
        return nanos as usize;
    }
    let octave = nanos.ilog2() as u64;
    let in_octave = (nanos >> (octave - 7)) - PER_OCTAVE;
    (EXACT + (octave - 8) * PER_OCTAVE + in_octave) as usize
}

/// The longest time that falls into a bucket.
const fn longest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let (octave, in_octave) = ((bucket - EXACT) / PER_OCTAVE + 8, (bucket - EXACT) % PER_OCTAVE);
    ((PER_OCTAVE + in_octave + 1) << (octave - 7)) - 1
}

/// Times, counted; one thread counts, any thread reads.
pub(crate) struct Histogram(Box<[AtomicU64]>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Histogram {
    #[inline]
    pub(crate) fn count(&self, nanos: u64, times: u64) {
        if let Some(bucket) = self.0.get(bucket_of(nanos)) {
            bucket.fetch_add(times, Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(&self) {
        self.0.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
    }
}

/// What several histograms counted together.
#[derive(Debug, Default)]
pub(crate) struct Distribution {
    /// By bucket; empty while nothing was counted.
    counts: Vec<u64>,
    total: u64,
}

impl Distribution {
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        self.counts.resize(BUCKETS, 0);
        for (count, bucket) in self.counts.iter_mut().zip(&histogram.0) {
            let counted = bucket.load(Ordering::Relaxed);
            *count += counted;
            self.total += counted;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The time that `percent` of all did not exceed, in nanoseconds.
    pub(crate) fn percentile(&self, percent: f64) -> u64 {
        let wanted = ((percent / 100.0 * self.total as f64) + 0.5) as u64;
        let mut counted = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            counted += count;
            if counted >= wanted.max(1) {
                return longest_of(bucket);
            }
        }
        0
    }

    /// How many took at most so long, for times that double from a microsecond on, up to the one
    /// that covers all: only where something was counted, in microseconds.
    pub(crate) fn by_doubling_micros(&self) -> Vec<(u64, u64)> {
        let mut steps = Vec::new();
        let (mut counted, mut told, mut bucket) = (0, 0, 0);
        let mut limit: u64 = 1024;
        while told < self.total {
            let end = bucket_of(limit);
            while bucket <= end {
                counted += self.counts.get(bucket).copied().unwrap_or(0);
                bucket += 1;
            }
            if counted > told {
                steps.push((longest_of(end) / 1000, counted));
                told = counted;
            }
            if limit > NANOS_MAX {
                break;
            }
            limit *= 2;
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_times_that_agree_in_two_digits() {
        let mut before = 0;
        for bucket in 0..BUCKETS {
            let longest = longest_of(bucket);
            assert_eq!(bucket_of(longest), bucket.min(BUCKETS - 1), "{longest}");
            assert!(bucket == 0 || longest > before);
            assert!(longest - before <= 1.max(longest / 100), "{before}..{longest}");
            before = longest;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_and_steps_are_those_of_what_was_counted() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.count(900, 90);
        other.count(40_000, 9);
        other.count(5_000_000_000, 1);
        let mut both = Distribution::default();
        both.add(&one);
        both.add(&other);
        assert_eq!(both.total(), 100);
        assert_eq!(both.percentile(50.0), longest_of(bucket_of(900)));
        assert_eq!(both.percentile(99.0), longest_of(bucket_of(40_000)));
        assert_eq!(both.percentile(100.0), longest_of(BUCKETS - 1));
        assert_eq!(both.by_doubling_micros()[..2], [(1, 90), (66, 99)]);
        assert_eq!(both.by_doubling_micros()[2].1, 100);
        one.clear();
        let mut cleared = Distribution::default();
        cleared.add(&one);
        assert_eq!((cleared.total(), cleared.percentile(50.0)), (0, 0));
    }
}
