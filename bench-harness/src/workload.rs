//! [`Workload`]: what is done to an engine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dataset::KeyOrder;
use crate::distribution::Distribution;

/// Writes of a batch of the workload `batch-100`.
const BATCH_WRITES: u16 = 100;
/// Keys of one multi-get of the workload `multiget-32`.
const MULTIGET_KEYS: u16 = 32;
/// The value of the workload `large-values`, in bytes, and by what it divides numbers of records and
/// operations.
const LARGE_VALUE_BYTES: usize = 64 << 10;
const LARGE_VALUE_FEWER: u64 = 100;

/// A workload: one of [`NAMED`], or the replay of a recorded trace. YCSB A to F are the core
/// workloads of Cooper et al. (SoCC 2010).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Workload {
    /// One of [`NAMED`], by its name.
    Named(&'static str),
    /// A trace, by its file; see [`trace`](crate::trace).
    Replay(String),
}

/// What one operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reads a record that is there.
    Read,
    /// Reads a key that is not there.
    ReadMiss,
    /// Reads a record that may have expired.
    ReadMaybe,
    /// Reads this and the records of the following operations at once.
    MultiGet,
    /// Replaces the value of a record that is there.
    Update,
    /// Adds a record.
    Insert,
    /// Replaces the value of a record by one that expires soon.
    PutExpiring,
    /// Writes this and the records of the following operations as one batch.
    Batch,
    /// Changes the value of a record that is there.
    ReadModifyWrite,
    /// Reads the records from a key on.
    Scan,
    /// Removes a record that is there.
    Delete,
}

impl Kind {
    /// Whether it changes the engine's data.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Read | Self::ReadMiss | Self::ReadMaybe | Self::MultiGet | Self::Scan)
    }

    /// Whether it takes the operations behind it with it.
    pub fn is_grouped(self) -> bool {
        matches!(self, Self::MultiGet | Self::Batch)
    }
}

/// What the timed part consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Operations drawn from the mix.
    Mixed,
    /// Every record is the subject of one operation; there are as many operations as records.
    EachRecord,
    /// Every record is removed, then each is looked for, then each is written again.
    DeleteRefill,
    /// The engine is opened, after it was closed or killed.
    Open {
        /// Whether its process was killed before.
        after_crash: bool,
    },
    /// The operations of a trace.
    Replay,
}

/// How many bytes values have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueSizes {
    /// As many as the run says.
    Fixed,
    /// A generalized Pareto distribution with location 0; at most `max`.
    Pareto {
        /// Its shape.
        k: f64,
        /// Its scale.
        sigma: f64,
        /// The longest.
        max: usize,
    },
    /// A log-normal distribution; at most `max`.
    LogNormal {
        /// Its median.
        median: f64,
        /// The standard deviation of the logarithm.
        sigma: f64,
        /// The longest.
        max: usize,
    },
}

/// How many entries a scan is to visit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScanEntries {
    /// Anything between, evenly.
    Between(u16, u16),
    /// A generalized Pareto distribution with location 0; at least 1 and at most `max`.
    Pareto {
        /// Its shape.
        k: f64,
        /// Its scale.
        sigma: f64,
        /// The most.
        max: u16,
    },
}

/// A workload in numbers.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// What the timed part consists of.
    pub shape: Shape,
    /// Kinds of operations and how many of 1000 they are.
    pub mix: &'static [(u32, Kind)],
    /// Which records they are about, unless the run says otherwise.
    pub distribution: Distribution,
    /// Entries of a scan.
    pub scan_entries: ScanEntries,
    /// Operations that are done at once: keys of a multi-get, writes of a batch.
    pub group: u16,
    /// Whether all records are loaded before the run.
    pub is_loaded: bool,
    /// The order of keys.
    pub order: KeyOrder,
    /// Bytes of a value, in the place of the run's.
    pub value_bytes: Option<usize>,
    /// How they vary.
    pub value_sizes: ValueSizes,
    /// Divides the numbers of records and operations.
    pub fewer: u64,
    /// Threads, in the place of the run's.
    pub threads: Option<usize>,
    /// Whether writes are synced whatever the run says.
    pub is_synced: bool,
    /// In words.
    pub summary: &'static str,
}

/// What the profiles begin with.
const BASE: Profile = Profile {
    shape: Shape::Mixed,
    mix: &[(1000, Kind::Read)],
    distribution: Distribution::Uniform,
    scan_entries: ScanEntries::Between(1, 100),
    group: 1,
    is_loaded: true,
    order: KeyOrder::Hashed,
    value_bytes: None,
    value_sizes: ValueSizes::Fixed,
    fewer: 1,
    threads: None,
    is_synced: false,
    summary: "",
};
const YCSB: Profile = Profile { distribution: Distribution::Zipfian, ..BASE };
const FILL: Profile =
    Profile { shape: Shape::EachRecord, mix: &[(1000, Kind::Insert)], is_loaded: false, ..BASE };
const SCAN: Profile = Profile { mix: &[(1000, Kind::Scan)], ..BASE };
const COMMIT: Profile = Profile { mix: &[(1000, Kind::Update)], is_synced: true, ..BASE };

/// All workloads but replays, by name.
pub const NAMED: &[(&str, Profile)] = &[
    (
        "ycsb-a",
        Profile {
            mix: &[(500, Kind::Read), (500, Kind::Update)],
            summary: "50 % reads, 50 % updates",
            ..YCSB
        },
    ),
    (
        "ycsb-b",
        Profile {
            mix: &[(950, Kind::Read), (50, Kind::Update)],
            summary: "95 % reads, 5 % updates",
            ..YCSB
        },
    ),
    ("ycsb-c", Profile { summary: "reads", ..YCSB }),
    (
        "ycsb-d",
        Profile {
            mix: &[(950, Kind::Read), (50, Kind::Insert)],
            distribution: Distribution::Latest,
            summary: "95 % reads of what is newest, 5 % inserts",
            ..YCSB
        },
    ),
    (
        "ycsb-e",
        Profile {
            mix: &[(950, Kind::Scan), (50, Kind::Insert)],
            summary: "95 % scans of 1 to 100 entries, 5 % inserts",
            ..YCSB
        },
    ),
    (
        "ycsb-f",
        Profile {
            mix: &[(500, Kind::Read), (500, Kind::ReadModifyWrite)],
            summary: "50 % reads, 50 % read-modify-writes",
            ..YCSB
        },
    ),
    (
        "fill-seq",
        Profile {
            order: KeyOrder::Sequential,
            summary: "inserts in key order into an empty engine",
            ..FILL
        },
    ),
    ("fill-random", Profile { summary: "inserts in no order into an empty engine", ..FILL }),
    (
        "overwrite",
        Profile { mix: &[(1000, Kind::Update)], summary: "updates of random records", ..BASE },
    ),
    ("read-uniform", Profile { summary: "reads of keys that are there", ..BASE }),
    ("read-zipfian", Profile { summary: "reads of keys that are there", ..YCSB }),
    (
        "read-hot",
        Profile {
            distribution: Distribution::Hot,
            summary: "reads, 90 % of them from 1 % of the records",
            ..BASE
        },
    ),
    (
        "read-missing",
        Profile {
            mix: &[(1000, Kind::ReadMiss)],
            summary: "reads of keys that are not there",
            ..BASE
        },
    ),
    (
        "multiget-32",
        Profile {
            mix: &[(1000, Kind::MultiGet)],
            group: MULTIGET_KEYS,
            summary: "reads of 32 keys at once; each key counts as an operation",
            ..BASE
        },
    ),
    (
        "scan-10",
        Profile {
            scan_entries: ScanEntries::Between(10, 10),
            summary: "scans of 10 entries",
            ..SCAN
        },
    ),
    (
        "scan-100",
        Profile {
            scan_entries: ScanEntries::Between(100, 100),
            summary: "scans of 100 entries",
            ..SCAN
        },
    ),
    (
        "scan-1000",
        Profile {
            scan_entries: ScanEntries::Between(1000, 1000),
            summary: "scans of 1000 entries",
            ..SCAN
        },
    ),
    (
        "delete",
        Profile {
            shape: Shape::EachRecord,
            mix: &[(1000, Kind::Delete)],
            summary: "removes every record",
            ..BASE
        },
    ),
    (
        "delete-refill",
        Profile {
            shape: Shape::DeleteRefill,
            mix: &[],
            summary: "removes every record, looks for it, and writes it again",
            ..BASE
        },
    ),
    (
        "rmw",
        Profile {
            mix: &[(1000, Kind::ReadModifyWrite)],
            summary: "read-modify-writes of random records",
            ..BASE
        },
    ),
    (
        "ttl-churn",
        Profile {
            mix: &[(500, Kind::ReadMaybe), (500, Kind::PutExpiring)],
            summary: "50 % reads, 50 % writes of entries that expire within a second",
            ..YCSB
        },
    ),
    ("commit", Profile { summary: "synced updates", ..COMMIT }),
    ("commit-1", Profile { threads: Some(1), summary: "synced updates by 1 writer", ..COMMIT }),
    ("commit-8", Profile { threads: Some(8), summary: "synced updates by 8 writers", ..COMMIT }),
    ("commit-32", Profile { threads: Some(32), summary: "synced updates by 32 writers", ..COMMIT }),
    (
        "batch-100",
        Profile {
            mix: &[(1000, Kind::Batch)],
            group: BATCH_WRITES,
            summary: "batches of 100 updates; each write counts as an operation",
            ..BASE
        },
    ),
    (
        "large-values",
        Profile {
            mix: &[(500, Kind::Read), (500, Kind::Update)],
            value_bytes: Some(LARGE_VALUE_BYTES),
            fewer: LARGE_VALUE_FEWER,
            summary: "50 % reads, 50 % updates of 64 KiB; a hundredth of records and operations",
            ..BASE
        },
    ),
    (
        "open-clean",
        Profile {
            shape: Shape::Open { after_crash: false },
            mix: &[],
            summary: "opening after an orderly close, up to the first read",
            ..BASE
        },
    ),
    (
        "open-crash",
        Profile {
            shape: Shape::Open { after_crash: true },
            mix: &[],
            summary: "opening after kill -9, up to the first read",
            ..BASE
        },
    ),
    (
        "mixgraph",
        Profile {
            mix: &[(830, Kind::Read), (140, Kind::Update), (30, Kind::Scan)],
            distribution: Distribution::KeyRanges,
            order: KeyOrder::Sequential,
            scan_entries: ScanEntries::Pareto { k: 2.517, sigma: 14.236, max: 10_000 },
            value_sizes: ValueSizes::Pareto { k: 0.2615, sigma: 25.45, max: 1024 },
            summary: "ZippyDB as modelled by Cao et al. (FAST 2020): 83 % reads, 14 % updates, 3 % \
                      scans of Pareto length, Pareto values (32 bytes at least), hot key ranges",
            ..BASE
        },
    ),
    (
        "twitter-cache",
        Profile {
            mix: &[(650, Kind::Read), (350, Kind::Update)],
            distribution: Distribution::Cache,
            value_sizes: ValueSizes::LogNormal { median: 230.0, sigma: 1.0, max: 16 << 10 },
            summary: "as a write-heavy cache cluster of Yang et al. (OSDI 2020): 65 % reads, 35 % \
                      updates, Zipf 1.2, values of 230 bytes in the median",
            ..BASE
        },
    ),
];

const REPLAY: Profile = Profile {
    shape: Shape::Replay,
    mix: &[],
    is_loaded: false,
    summary: "a recorded trace",
    ..BASE
};

impl Profile {
    /// How values vary in length, in words, if they do.
    pub fn varying_values(&self) -> Option<String> {
        if self.shape == Shape::Replay {
            return Some("recorded".to_owned());
        }
        match self.value_sizes {
            ValueSizes::Fixed => None,
            ValueSizes::Pareto { max, .. } => Some(format!("Pareto, up to {max} B")),
            ValueSizes::LogNormal { median, max, .. } => {
                Some(format!("log-normal, {median} B in the median, up to {max} B"))
            }
        }
    }
}

impl Workload {
    /// All but replays.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMED.iter().map(|(name, _)| Self::Named(name))
    }

    /// Its numbers.
    pub fn profile(&self) -> Profile {
        match self {
            Self::Named(name) => NAMED
                .iter()
                .find_map(|(known, profile)| (known == name).then_some(*profile))
                .unwrap_or(BASE),
            Self::Replay(_) => REPLAY,
        }
    }

    /// Whether it scans.
    pub fn scans(&self) -> bool {
        self.profile().mix.iter().any(|(_, kind)| *kind == Kind::Scan)
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(file) = text.strip_prefix("replay:") {
            return match file.is_empty() {
                true => Err("a replay needs a file: replay:trace.txt".to_owned()),
                false => Ok(Self::Replay(file.to_owned())),
            };
        }
        let known = NAMED.iter().map(|(name, _)| *name);
        known.clone().find(|name| *name == text).map(Self::Named).ok_or_else(|| {
            let names: Vec<&str> = known.collect();
            format!("no workload \"{text}\"; there are {}, replay:FILE", names.join(", "))
        })
    }
}

impl Serialize for Workload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Workload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.pad(name),
            Self::Replay(file) => write!(f, "replay:{file}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for workload in Workload::all() {
            assert_eq!(workload.to_string().parse(), Ok(workload.clone()));
            let total: u32 = workload.profile().mix.iter().map(|(share, _)| share).sum();
            assert!(total == 1000 || workload.profile().mix.is_empty(), "{workload}: {total}");
            assert!(!workload.profile().summary.is_empty());
        }
        assert_eq!("replay:x/y".parse(), Ok(Workload::Replay("x/y".to_owned())));
        for wrong in ["", "ycsb-g", "replay:"] {
            assert!(wrong.parse::<Workload>().is_err());
        }
    }
}
