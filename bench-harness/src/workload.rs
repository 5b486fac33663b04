//! [`Workload`]: what is done to a store.

use serde::{Deserialize, Serialize};

use crate::dataset::KeyOrder;
use crate::distribution::Distribution;

/// A workload. A to F are the core workloads of YCSB (Cooper et al., SoCC 2010).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Half reads, half updates.
    A,
    /// 95 % reads, 5 % updates.
    B,
    /// Reads.
    C,
    /// 95 % reads of what is newest, 5 % inserts.
    D,
    /// 95 % scans of 1 to 100 entries, 5 % inserts.
    E,
    /// Half reads, half read-modify-writes.
    F,
    /// Every record once, in key order, into an empty store.
    FillSequential,
    /// Every record once, in no order, into an empty store.
    FillRandom,
    /// Reads of keys that are there.
    Read,
    /// Reads of keys that are not.
    ReadMiss,
    /// Scans of 10 entries.
    #[value(name = "scan-10")]
    #[serde(rename = "scan-10")]
    Scan10,
    /// Scans of 100 entries.
    #[value(name = "scan-100")]
    #[serde(rename = "scan-100")]
    Scan100,
    /// Removes every record once, in no order.
    Delete,
}

/// What one operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reads a record that is there.
    Read,
    /// Reads a key that is not there.
    ReadMiss,
    /// Replaces the value of a record that is there.
    Update,
    /// Adds a record.
    Insert,
    /// Changes the value of a record that is there.
    ReadModifyWrite,
    /// Reads the records from a key on.
    Scan,
    /// Removes a record that is there.
    Delete,
}

impl Kind {
    /// Whether it changes the store.
    pub fn writes(self) -> bool {
        matches!(self, Self::Update | Self::Insert | Self::ReadModifyWrite | Self::Delete)
    }
}

/// A workload in numbers.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// Percent of the operations that are of the first kind, and the kind of the others.
    pub mix: (u32, Kind, Kind),
    /// Which records they are about, unless the run says otherwise.
    pub distribution: Distribution,
    /// Fewest and most entries of a scan.
    pub scan_entries: (u16, u16),
    /// Whether all records are loaded before the run.
    pub is_loaded: bool,
    /// The order of keys.
    pub order: KeyOrder,
    /// In words.
    pub summary: &'static str,
}

impl Workload {
    /// Its numbers.
    pub fn profile(self) -> Profile {
        let base = Profile {
            mix: (100, Kind::Read, Kind::Read),
            distribution: Distribution::Uniform,
            scan_entries: (0, 0),
            is_loaded: true,
            order: KeyOrder::Hashed,
            summary: "",
        };
        let ycsb = Profile { distribution: Distribution::Zipfian, ..base };
        let fill = Profile { mix: (100, Kind::Insert, Kind::Insert), is_loaded: false, ..base };
        let scan = Profile { mix: (100, Kind::Scan, Kind::Scan), ..base };
        match self {
            Self::A => Profile {
                mix: (50, Kind::Read, Kind::Update),
                summary: "50 % reads, 50 % updates",
                ..ycsb
            },
            Self::B => Profile {
                mix: (95, Kind::Read, Kind::Update),
                summary: "95 % reads, 5 % updates",
                ..ycsb
            },
            Self::C => Profile { summary: "reads", ..ycsb },
            Self::D => Profile {
                mix: (95, Kind::Read, Kind::Insert),
                distribution: Distribution::Latest,
                summary: "95 % reads, 5 % inserts",
                ..ycsb
            },
            Self::E => Profile {
                mix: (95, Kind::Scan, Kind::Insert),
                scan_entries: (1, 100),
                summary: "95 % scans of 1 to 100 entries, 5 % inserts",
                ..ycsb
            },
            Self::F => Profile {
                mix: (50, Kind::Read, Kind::ReadModifyWrite),
                summary: "50 % reads, 50 % read-modify-writes",
                ..ycsb
            },
            Self::FillSequential => Profile {
                order: KeyOrder::Sequential,
                summary: "inserts in key order into an empty store",
                ..fill
            },
            Self::FillRandom => {
                Profile { summary: "inserts in no order into an empty store", ..fill }
            }
            Self::Read => Profile { summary: "reads of keys that are there", ..base },
            Self::ReadMiss => Profile {
                mix: (100, Kind::ReadMiss, Kind::ReadMiss),
                summary: "reads of keys that are not there",
                ..base
            },
            Self::Scan10 => {
                Profile { scan_entries: (10, 10), summary: "scans of 10 entries", ..scan }
            }
            Self::Scan100 => {
                Profile { scan_entries: (100, 100), summary: "scans of 100 entries", ..scan }
            }
            Self::Delete => Profile {
                mix: (100, Kind::Delete, Kind::Delete),
                summary: "deletes of every record",
                ..base
            },
        }
    }

    /// Whether every record is the subject of exactly one operation, so that there are as many
    /// operations as records and no distribution.
    pub fn takes_every_record_once(self) -> bool {
        matches!(self, Self::FillSequential | Self::FillRandom | Self::Delete)
    }

    /// Whether it scans.
    pub fn scans(self) -> bool {
        self.profile().mix.1 == Kind::Scan
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match clap::ValueEnum::to_possible_value(self) {
            Some(value) => f.write_str(value.get_name()),
            None => write!(f, "{self:?}"),
        }
    }
}
