//! [`Plan`]: what one run is to do.

use ferrokit_engine::{Durability, Error, Result};
use serde::{Deserialize, Serialize};

use crate::dataset::VALUE_BYTES_MIN;
use crate::distribution::Distribution;
use crate::workload::{Shape, Workload};

/// Items are 32-bit numbers, inserts among them.
const RECORDS_MAX: u64 = 1 << 31;
const OPERATIONS_MAX: u64 = 1 << 31;
const VALUE_BYTES_MAX: usize = 16 << 20;
const THREADS_MAX: usize = 256;
const TASKS_MAX: usize = 4096;
const MEMORY_BYTES_MIN: u64 = 1 << 20;
const RATE_MAX: f64 = 1e9;
/// How many times a workload opens an engine, at most.
const OPENINGS_MAX: u64 = 10;

/// What measured writes survive; see [`Durability`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
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

/// Who calls the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Caller {
    /// Threads that wait for each answer.
    Sync,
    /// Tasks that await each answer, several on a thread.
    Async,
}

/// One run: a workload on an engine. Equal plans (but for the engine and the directory) do the same
/// operations on the same data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The URL of the engine, without a directory.
    pub engine: String,
    /// What is done.
    pub workload: Workload,
    /// Records loaded before the run (or written by a fill).
    pub records: u64,
    /// Operations of all threads together; fills and deletes have one for each record.
    pub operations: u64,
    /// Operations of all threads together that come before, and are not measured.
    pub warmup: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// In the place of the workload's own distribution.
    pub distribution: Option<Distribution>,
    /// Threads.
    pub threads: usize,
    /// How they call.
    pub caller: Caller,
    /// Tasks of each thread, where tasks call.
    pub tasks: usize,
    /// Operations per second of all threads together, begun at even distances; `None`: each as soon
    /// as the one before it is done.
    pub rate_per_s: Option<f64>,
    /// What measured writes survive.
    pub durability: Promise,
    /// Memory for the engine's caches and write buffers, in bytes.
    pub memory_bytes: u64,
    /// The memory cgroup that the run joins before it opens the engine, if there is one; see
    /// [`cgroup`](crate::cgroup).
    pub memory_group: Option<String>,
    /// The seed of data and operations.
    pub seed: u64,
    /// A directory for the engine, not there yet.
    pub directory: String,
}

impl Plan {
    /// Refuses sizes out of range.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub fn check(&self) -> Result<()> {
        // A trace says itself what it loads: maybe nothing.
        let records_min = u64::from(self.workload.profile().shape != Shape::Replay);
        range("records", self.records, records_min, RECORDS_MAX)?;
        range("operations", self.operations, 1, OPERATIONS_MAX)?;
        range("warmup", self.warmup, 0, OPERATIONS_MAX)?;
        let value_bytes = self.value_bytes as u64;
        range("value-size", value_bytes, VALUE_BYTES_MIN as u64, VALUE_BYTES_MAX as u64)?;
        range("threads", self.threads as u64, 1, THREADS_MAX as u64)?;
        range("tasks", self.tasks as u64, 1, TASKS_MAX as u64)?;
        range("memory", self.memory_bytes, MEMORY_BYTES_MIN, u64::MAX)?;
        if let Some(rate) = self.rate_per_s
            && !(rate > 0.0 && rate <= RATE_MAX)
        {
            return Err(Error::invalid("bench", format!("--rate {rate} is no rate")));
        }
        if self.rate_per_s.is_some() && self.caller == Caller::Async {
            return Err(Error::invalid("bench", "--rate is for sync callers"));
        }
        if self.records + (self.operations + self.warmup) * 2 + THREADS_MAX as u64
            > u64::from(u32::MAX)
        {
            return Err(Error::invalid("bench", "records and operations together are too many"));
        }
        Ok(())
    }

    /// The plan with what its workload fixes: threads, durability, bytes of a value, numbers of
    /// records and operations, who calls. So what a result says of itself is what was done.
    #[must_use]
    pub fn fixed(mut self) -> Self {
        let profile = self.workload.profile();
        self.threads = profile.threads.unwrap_or(self.threads);
        self.value_bytes = profile.value_bytes.unwrap_or(self.value_bytes);
        if profile.fewer > 1 {
            // Not to be refused for what it divides, only for what was asked for.
            let fewer = |number: u64| (number / profile.fewer).max(u64::from(number > 0));
            self.records = fewer(self.records);
            self.operations = fewer(self.operations);
            self.warmup /= profile.fewer;
        }
        if profile.is_synced {
            self.durability = Promise::Synced;
        }
        if profile.shape != Shape::Mixed {
            self.warmup = 0;
        }
        match profile.shape {
            Shape::Mixed | Shape::Replay => {}
            Shape::EachRecord => self.operations = self.records,
            // Each is removed, looked for and written.
            Shape::DeleteRefill => self.operations = self.records.saturating_mul(3),
            Shape::Open { .. } => {
                self.operations = self.operations.min(OPENINGS_MAX);
                // Something must be left to be opened.
                self.durability = self.durability.max(Promise::Os);
                (self.caller, self.rate_per_s) = (Caller::Sync, None);
            }
        }
        self
    }
}

fn range(option: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid("bench", format!("--{option} {value} is not between {least} and {most}")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small plan.
    pub(crate) fn plan(workload: &str) -> Plan {
        Plan {
            engine: "memory:".to_owned(),
            workload: workload.parse().unwrap(),
            records: 1000,
            operations: 2000,
            warmup: 0,
            value_bytes: 100,
            distribution: None,
            threads: 2,
            caller: Caller::Sync,
            tasks: 16,
            rate_per_s: None,
            durability: Promise::Memory,
            memory_bytes: 64 << 20,
            memory_group: None,
            seed: 7,
            directory: String::new(),
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        plan("ycsb-a").check().unwrap();
        let base = plan("ycsb-a");
        for (option, wrong) in [
            ("records", Plan { records: 0, ..base.clone() }),
            ("operations", Plan { operations: u64::MAX, ..base.clone() }),
            ("warmup", Plan { warmup: u64::MAX, ..base.clone() }),
            ("value-size", Plan { value_bytes: 31, ..base.clone() }),
            ("threads", Plan { threads: 0, ..base.clone() }),
            ("tasks", Plan { tasks: 0, ..base.clone() }),
            ("memory", Plan { memory_bytes: 1, ..base.clone() }),
            ("rate", Plan { rate_per_s: Some(0.0), ..base.clone() }),
            ("rate", Plan { rate_per_s: Some(f64::NAN), ..base.clone() }),
            ("together", Plan { records: 1 << 31, operations: 1 << 31, ..base.clone() }),
        ] {
            let error = wrong.check().unwrap_err().to_string();
            assert!(error.contains(option), "{option}: {error}");
        }
    }

    #[test]
    fn a_plan_says_what_its_workload_does() {
        let fixed = |workload: &str, plan: Plan| {
            Plan { workload: workload.parse().unwrap(), ..plan }.fixed()
        };
        let base = Plan { warmup: 100, operations: 50_000, ..plan("ycsb-a") };
        assert_eq!(fixed("fill-seq", base.clone()).operations, 1000, "one for each record");
        assert_eq!(fixed("delete-refill", base.clone()).operations, 3000, "three for each");
        let asked = Plan { caller: Caller::Async, rate_per_s: Some(5.0), ..base.clone() };
        let opened = fixed("open-crash", asked);
        assert_eq!((opened.operations, opened.durability), (10, Promise::Os));
        assert_eq!((opened.caller, opened.rate_per_s, opened.warmup), (Caller::Sync, None, 0));
        let large = fixed("large-values", base.clone());
        assert_eq!((large.records, large.operations, large.warmup), (10, 500, 1));
        assert_eq!(fixed("commit-8", base.clone()).durability, Promise::Synced);
        // What makes no sense is refused, not made sense of.
        for workload in ["ycsb-a", "large-values", "fill-seq"] {
            let nothing = fixed(workload, Plan { records: 0, ..base.clone() });
            assert!(nothing.check().unwrap_err().to_string().contains("records"), "{workload}");
        }
        assert!(fixed("ycsb-a", Plan { operations: 0, ..base }).check().is_err());
    }
}
