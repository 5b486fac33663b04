//! [`Measurement`]: what came of one run.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::sampler::Sample;

/// Latencies in nanoseconds (within 1 %).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The 99.9th percentile.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    /// The percentiles of a histogram of nanoseconds; `None` if it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        })
    }
}

/// Quantiles that a latency curve has, up to the last one that the number of operations resolves.
const CURVE: [f64; 15] = [
    0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999,
    0.999999,
];

/// Quantiles and their latencies in nanoseconds, ascending, with the longest at 1.
pub fn latency_curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let resolved = 1.0 - 1.0 / histogram.len().max(1) as f64;
    let mut curve: Vec<(f64, u64)> = CURVE
        .iter()
        .take_while(|quantile| **quantile <= resolved)
        .map(|quantile| (*quantile, histogram.value_at_quantile(*quantile)))
        .collect();
    curve.push((1.0, histogram.max()));
    curve
}

/// What came of one run. Bytes and times are the engine's process', less what it had before the
/// engine was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The engine's settings, in words.
    pub settings: String,
    /// Operations of all threads.
    pub operations: u64,
    /// From the first operation's begin to the last one's end, in seconds.
    pub elapsed_s: f64,
    /// Operations per second.
    pub ops_per_s: f64,
    /// Latencies of all operations.
    pub latency_ns: Latency,
    /// Latencies of reads and scans.
    pub read_latency_ns: Option<Latency>,
    /// Latencies of writes.
    pub write_latency_ns: Option<Latency>,
    /// Quantiles and their latencies.
    pub latency_curve: Vec<(f64, u64)>,
    /// Processor time of the process during the run, the engine's own threads included.
    pub cpu_s: f64,
    /// Processor time after it, until the engine's background work was done.
    pub settle_cpu_s: f64,
    /// Resident memory at the end of the run.
    pub rss_bytes: u64,
    /// The part of it that is the process' own.
    pub anonymous_bytes: u64,
    /// The part of it that is mapped files.
    pub file_mapped_bytes: u64,
    /// Bytes allocated to the files in the engine's directory when it had settled.
    pub disk_bytes: u64,
    /// Bytes of the keys and values that are stored then.
    pub live_bytes: u64,
    /// Bytes written to storage from the run's begin until the engine had settled.
    pub written_bytes: u64,
    /// Bytes fetched from storage during the run.
    pub read_bytes: u64,
    /// Bytes of the keys and values that the run put.
    pub user_bytes: u64,
    /// Operations that failed. Always 0: a failure ends the run.
    pub errors: u64,
    /// About one a second.
    pub samples: Vec<Sample>,
}

impl Measurement {
    /// Microseconds of processor time per operation, background work included.
    pub fn cpu_us_per_operation(&self) -> f64 {
        (self.cpu_s + self.settle_cpu_s) * 1e6 / self.operations.max(1) as f64
    }

    /// Bytes written to storage per byte put; `None` if none was put.
    pub fn write_amplification(&self) -> Option<f64> {
        (self.user_bytes > 0).then(|| self.written_bytes as f64 / self.user_bytes as f64)
    }

    /// Bytes on disk per live byte; `None` if there are none of either.
    pub fn space_amplification(&self) -> Option<f64> {
        (self.live_bytes > 0 && self.disk_bytes > 0)
            .then(|| self.disk_bytes as f64 / self.live_bytes as f64)
    }
}

/// A measurement, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It was measured.
    Measured(Box<Measurement>),
    /// The engine cannot do this.
    Unsupported {
        /// Why.
        reason: String,
    },
    /// The engine should be able to, and failed; not by a wrong answer, which ends everything.
    Failed {
        /// The error.
        reason: String,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One of a thousand operations a second.
    pub(crate) fn measurement() -> Measurement {
        let latency = Latency { p50: 1000, p90: 2000, p99: 3000, p999: 4000, max: 5000 };
        Measurement {
            settings: String::new(),
            operations: 1000,
            elapsed_s: 1.0,
            ops_per_s: 1000.0,
            latency_ns: latency,
            read_latency_ns: Some(latency),
            write_latency_ns: None,
            latency_curve: vec![(0.5, 1000), (1.0, 5000)],
            cpu_s: 1.0,
            settle_cpu_s: 0.0,
            rss_bytes: 1 << 20,
            anonymous_bytes: 1 << 20,
            file_mapped_bytes: 0,
            disk_bytes: 0,
            live_bytes: 116_000,
            written_bytes: 0,
            read_bytes: 0,
            user_bytes: 116_000,
            errors: 0,
            samples: Vec::new(),
        }
    }

    #[test]
    fn a_curve_ends_where_operations_resolve_it() {
        let mut histogram = Histogram::<u64>::new(2).unwrap();
        for value in 1..=1000 {
            histogram.record(value).unwrap();
        }
        let curve = latency_curve(&histogram);
        assert_eq!(curve.last(), Some(&(1.0, histogram.max())));
        assert_eq!(curve[curve.len() - 2].0, 0.999);
        assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{curve:?}");
    }
}
