//! [`ServerCommand`]: what the clients ask a server to do.

use serde::{Deserialize, Serialize};

/// Keys of one [`ServerCommand::Mset`].
pub const MSET_KEYS: usize = 10;

/// The command that the clients of a run send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ServerCommand {
    /// Overwrites a record that is there.
    Set,
    /// Reads a record that is there.
    Get,
    /// Adds one to a decimal number that is there.
    Incr,
    /// Overwrites [`MSET_KEYS`] records at once; counted as one operation.
    Mset,
}

impl ServerCommand {
    /// Its name on the command line and in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Get => "get",
            Self::Incr => "incr",
            Self::Mset => "mset",
        }
    }

    /// How many keys one request names.
    pub const fn keys(self) -> usize {
        match self {
            Self::Mset => MSET_KEYS,
            _ => 1,
        }
    }
}

impl std::fmt::Display for ServerCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
