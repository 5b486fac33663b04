//! [`Plan`]: what one measurement is to do. [`Measurement`]: what came of it.

use ferrokit_engine::{Durability, Error, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::dataset::VALUE_BYTES_MIN;
use crate::distribution::Distribution;
use crate::usage::CpuTime;
use crate::workload::Workload;

/// Items are 32-bit numbers, inserts among them.
const RECORDS_MAX: u64 = 1 << 31;
const OPERATIONS_MAX: u64 = 1 << 31;
const VALUE_BYTES_MAX: usize = 16 << 20;
const THREADS_MAX: usize = 256;
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// What measured writes survive; see [`Durability`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Promise {
    /// Nothing beyond the process.
    Memory,
    /// The end of the process.
    Os,
    /// The end of the machine's power.
    Synced,
}

impl Promise {
    /// The durability that it is.
    pub fn durability(self) -> Durability {
        match self {
            Self::Memory => Durability::Memory,
            Self::Os => Durability::Os,
            Self::Synced => Durability::Synced,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Synced => "synced",
        }
    }
}

/// One measurement: a workload on a store. Equal plans (but for the engine and the directory) do
/// the same operations on the same data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The URL of the engine, without a directory.
    pub engine: String,
    /// What is done.
    pub workload: Workload,
    /// Records loaded before the run (or written by a fill).
    pub records: u64,
    /// Operations of all threads together; fills and deletes have one for each record.
    pub operations: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// In the place of the workload's own distribution.
    pub distribution: Option<Distribution>,
    /// Threads, each of which begins an operation when its last one is done.
    pub threads: usize,
    /// What measured writes survive.
    pub durability: Promise,
    /// Memory for the store's caches and write buffers, in bytes.
    pub memory_bytes: u64,
    /// The seed of data and operations.
    pub seed: u64,
    /// A directory for the store, not there yet.
    pub directory: String,
}

impl Plan {
    /// Refuses sizes out of range.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub fn check(&self) -> Result<()> {
        range("records", self.records, 1, RECORDS_MAX)?;
        range("operations", self.operations, 1, OPERATIONS_MAX)?;
        let value_bytes = self.value_bytes as u64;
        range("field-length", value_bytes, VALUE_BYTES_MIN as u64, VALUE_BYTES_MAX as u64)?;
        range("threads", self.threads as u64, 1, THREADS_MAX as u64)?;
        range("memory", self.memory_bytes, MEMORY_BYTES_MIN, u64::MAX)?;
        if self.records + self.operations * 2 + THREADS_MAX as u64 > u64::from(u32::MAX)
            && !self.workload.takes_every_record_once()
        {
            return Err(Error::invalid("bench", "records and operations together are too many"));
        }
        Ok(())
    }
}

fn range(option: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid("bench", format!("--{option} {value} is not between {least} and {most}")))
}

/// Latencies of one kind of operation, in nanoseconds (within 1 %). An operation's latency runs
/// from the end of the one before it on its thread, so that it includes the check of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// How many operations there were.
    pub operations: u64,
    /// The median.
    pub p50_ns: u64,
    /// The 99th percentile.
    pub p99_ns: u64,
    /// The 99.9th percentile.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Latency {
    /// The percentiles of a histogram of nanoseconds; `None` if it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            operations: histogram.len(),
            p50_ns: histogram.value_at_quantile(0.5),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        })
    }
}

/// What came of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The store's settings, in words.
    pub settings: String,
    /// Operations of all threads.
    pub operations: u64,
    /// From the first operation's begin to the last one's end, in seconds.
    pub elapsed_s: f64,
    /// Operations per second.
    pub operations_per_s: f64,
    /// Latencies of all operations.
    pub latency: Latency,
    /// Latencies of reads and scans.
    pub read_latency: Option<Latency>,
    /// Latencies of writes.
    pub write_latency: Option<Latency>,
    /// Processor time of the process during the run, the store's own threads included.
    pub cpu: CpuTime,
    /// Resident memory after the run, less that before the store was opened (the data and the
    /// operations of the run itself), in bytes.
    pub resident_bytes: u64,
    /// Bytes allocated to the files in the store's directory after the run.
    pub disk_bytes: u64,
    /// Bytes of the keys and values that are stored after the run.
    pub live_bytes: u64,
}

impl Measurement {
    /// Microseconds of processor time per operation.
    pub fn cpu_us_per_operation(&self) -> f64 {
        (self.cpu.user_ns + self.cpu.system_ns) as f64 / 1e3 / self.operations.max(1) as f64
    }
}

/// A measurement, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It was measured.
    Measured(Measurement),
    /// The store cannot do this.
    Unsupported {
        /// Why.
        reason: String,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small plan.
    pub(crate) fn plan(workload: Workload) -> Plan {
        Plan {
            engine: "memory:".to_owned(),
            workload,
            records: 1000,
            operations: 2000,
            value_bytes: 100,
            distribution: None,
            threads: 2,
            durability: Promise::Memory,
            memory_bytes: 64 << 20,
            seed: 7,
            directory: String::new(),
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        plan(Workload::A).check().unwrap();
        let base = plan(Workload::A);
        for (option, wrong) in [
            ("records", Plan { records: 0, ..base.clone() }),
            ("operations", Plan { operations: u64::MAX, ..base.clone() }),
            ("field-length", Plan { value_bytes: 31, ..base.clone() }),
            ("threads", Plan { threads: 0, ..base.clone() }),
            ("memory", Plan { memory_bytes: 1, ..base.clone() }),
            ("together", Plan { records: 1 << 31, operations: 1 << 31, ..base.clone() }),
        ] {
            let error = wrong.check().unwrap_err().to_string();
            assert!(error.contains(option), "{option}: {error}");
        }
    }
}
