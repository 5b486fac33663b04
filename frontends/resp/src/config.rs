//! [`Config`]: how a server is started.

use std::sync::Arc;
use std::time::Duration;

use ferrokit_engine::{Capabilities, Durability, Error, Result};

use crate::logs::Logs;
use crate::settings::Settings;

/// When a write is durable, in the words of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFsync {
    /// Before its reply: on the device.
    Always,
    /// Before its reply with the operating system, within a second on the device.
    EverySecond,
    /// Before its reply with the operating system, which syncs when it likes.
    No,
}

impl AppendFsync {
    /// The setting of that name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Always, Self::EverySecond, Self::No]
            .into_iter()
            .find(|setting| name.eq_ignore_ascii_case(setting.name().as_bytes()))
    }

    /// The name of the setting.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
            Self::No => "no",
        }
    }

    /// The durability of a write under this setting, on an engine that can give it; on an engine
    /// that keeps nothing, [`Durability::Memory`] for all but [`Always`](Self::Always).
    ///
    /// # Errors
    /// `Unsupported` where the setting would be a promise the engine cannot hold.
    pub fn durability_on(self, capabilities: &Capabilities) -> Result<Durability> {
        let strongest = capabilities.strongest_durability;
        let needed = match self {
            Self::Always | Self::EverySecond => Durability::Synced,
            Self::No => Durability::Os,
        };
        if strongest == Durability::Memory && self != Self::Always {
            return Ok(Durability::Memory);
        }
        if strongest < needed {
            let weaker = if strongest == Durability::Memory { "everysec" } else { "no" };
            return Err(Error::unsupported(
                "appendfsync",
                format!(
                    "\"{}\" needs an engine that syncs, and {} gives at most {strongest:?}; use \
                     --appendfsync {weaker} or another --engine",
                    self.name(),
                    capabilities.engine
                ),
            ));
        }
        Ok(if self == Self::Always { Durability::Synced } else { Durability::Os })
    }
}

/// The bounds that are no parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Above so many unsent reply bytes a client's requests are no longer read.
    pub output_soft_bytes: usize,
    /// Above so many unsent reply bytes a client is disconnected.
    pub output_hard_bytes: usize,
    /// What all subscriptions to channels and patterns may take together.
    pub subscription_bytes: usize,
    /// A client that takes none of its replies for so long is disconnected.
    pub output_stall: Duration,
    /// A step of SCAN answers about so many bytes of keys at most, however many are asked for; a
    /// single longer key is a step of its own.
    pub scan_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            output_soft_bytes: 64 << 20,
            output_hard_bytes: 1 << 30,
            subscription_bytes: 256 << 20,
            output_stall: Duration::from_secs(60),
            scan_bytes: 1 << 20,
        }
    }
}

/// How a [`Server`](crate::Server) is started.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The parameters.
    pub settings: Arc<Settings>,
    /// The bounds that are no parameters.
    pub limits: Limits,
    /// Where the parameter `loglevel` acts; nowhere by default: the log is then that of the program
    /// the server is part of.
    pub logs: Logs,
    /// `appendonly yes` was asked for: an engine that keeps nothing is refused then.
    pub demands_durability: bool,
}

impl Config {
    /// Sets a parameter, written as for CONFIG SET.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is none, or a value the parameter cannot have.
    pub fn set(&mut self, name: &str, value: &str) -> Result<&mut Self> {
        self.settings.set(name, value)?;
        Ok(self)
    }
}
