//! [`Subject`]: a server that can be started, and the command line that does.

use std::path::{Path, PathBuf};

use ferrokit_engine::{Durability, Error, Result};
use ferrokit_storage::Host;

use super::engine::EngineTemplate;
use super::memcached::Memcached;
use super::plan::ServerPlan;
use super::protocol::Protocol;
use super::resp::Resp;
use crate::dataset::KEY_BYTES;
use crate::plan::Promise;

/// Connections beside those of the clients.
const SPARE_CONNECTIONS: usize = 100;
/// What memcached keeps of a record beside key and value, in bytes, generously.
const MEMCACHED_OVERHEAD_BYTES: u64 = 128;

/// The servers that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// `ferrokit-server`.
    Ferrokit,
    /// `redis-server`.
    Redis,
    /// `valkey-server`.
    Valkey,
    /// `memcached`.
    Memcached,
}

impl ServerKind {
    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Ferrokit, Self::Redis, Self::Valkey, Self::Memcached]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ferrokit => "ferrokit",
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Memcached => "memcached",
        }
    }

    /// The name of its program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Ferrokit => "ferrokit-server",
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
            Self::Memcached => "memcached",
        }
    }

    /// What it speaks.
    pub fn protocol(self) -> &'static dyn Protocol {
        match self {
            Self::Memcached => &Memcached,
            _ => &Resp,
        }
    }
}

/// A server with its engine, if it has a choice.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name in results: `redis`, `ferrokit:lsm`.
    pub name: String,
    /// Which server it is.
    pub kind: ServerKind,
    program: PathBuf,
    engine: Option<EngineTemplate>,
    extra_arguments: Vec<String>,
}

impl Subject {
    /// A server that keeps `promise`. `engine` is for ferrokit alone; `scratch` a directory that is
    /// not there, and is not there afterwards.
    ///
    /// # Errors
    /// `Unsupported` if it cannot keep the promise; `InvalidArgument` for a bad engine.
    pub fn new(
        host: &Host,
        kind: ServerKind,
        program: PathBuf,
        engine: Option<&str>,
        promise: Promise,
        scratch: &str,
    ) -> Result<Self> {
        let durability = promise.durability();
        if kind == ServerKind::Memcached && durability > Durability::Memory {
            return Err(Error::unsupported("bench.server", "memcached keeps nothing"));
        }
        let (name, engine) = match engine {
            None => (kind.name().to_owned(), None),
            Some(url) => (
                format!("{}:{}", kind.name(), url.strip_suffix(':').unwrap_or(url)),
                Some(EngineTemplate::find(host, url, durability, scratch)?),
            ),
        };
        Ok(Self { name, kind, program, engine, extra_arguments: Vec::new() })
    }

    /// Adds arguments to its command line.
    #[must_use]
    pub fn with_arguments(mut self, arguments: &[String]) -> Self {
        self.extra_arguments = arguments.to_vec();
        self
    }

    /// Its program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The arguments that start it on a port (0 for one that it chooses, as ferrokit can) with its
    /// data in `directory`.
    pub fn arguments(&self, plan: &ServerPlan, port: u16, directory: &str) -> Vec<String> {
        let mut words = match self.kind {
            ServerKind::Ferrokit => self.ferrokit_arguments(plan, port, directory),
            ServerKind::Redis | ServerKind::Valkey => redis_arguments(plan, port, directory),
            ServerKind::Memcached => memcached_arguments(plan, port),
        };
        words.extend_from_slice(&self.extra_arguments);
        words
    }

    /// The command line as it stands in results: without what differs from run to run.
    pub fn settings(&self, plan: &ServerPlan) -> String {
        let arguments = self.arguments(plan, 0, "DIRECTORY").into_iter();
        let quoted = arguments.map(|word| if word.is_empty() { "''".to_owned() } else { word });
        let words: Vec<String> = quoted.collect();
        format!("{} {}", self.kind.program(), words.join(" "))
    }

    fn ferrokit_arguments(&self, plan: &ServerPlan, port: u16, directory: &str) -> Vec<String> {
        let engine = self.engine.as_ref().map_or(String::new(), |engine| engine.url(directory));
        let sync = match plan.durability {
            Promise::Memory | Promise::Os => "no",
            Promise::Synced => "always",
        };
        words(&[
            ("--port", &port.to_string()),
            ("--engine", &engine),
            ("--appendfsync", sync),
            ("--maxclients", &connections(plan)),
            ("--loglevel", "notice"),
        ])
    }
}

fn redis_arguments(plan: &ServerPlan, port: u16, directory: &str) -> Vec<String> {
    let (append_only, sync) = match plan.durability {
        Promise::Memory => ("no", "no"),
        Promise::Os => ("yes", "no"),
        Promise::Synced => ("yes", "always"),
    };
    words(&[
        ("--port", &port.to_string()),
        ("--bind", "127.0.0.1"),
        ("--dir", directory),
        ("--save", ""),
        ("--appendonly", append_only),
        ("--appendfsync", sync),
        ("--maxclients", &connections(plan)),
        ("--daemonize", "no"),
    ])
}

fn memcached_arguments(plan: &ServerPlan, port: u16) -> Vec<String> {
    let record_bytes = (KEY_BYTES + plan.value_bytes) as u64 + MEMCACHED_OVERHEAD_BYTES;
    // Twice the data: items lie in slabs of fixed sizes, 25 % apart, each of whole pages.
    let memory_mib = ((2 * plan.records * record_bytes) >> 20) + 256;
    let item_mib = (record_bytes >> 20) + 1;
    let mut words = words(&[
        ("-p", &port.to_string()),
        ("-U", "0"),
        ("-l", "127.0.0.1"),
        ("-c", &connections(plan)),
        ("-m", &memory_mib.to_string()),
        ("-I", &format!("{item_mib}m")),
    ]);
    // Without room it refuses, and forgets nothing.
    words.push("-M".to_owned());
    if rustix::process::geteuid().is_root() {
        words.extend(["-u".to_owned(), "root".to_owned()]);
    }
    words
}

fn connections(plan: &ServerPlan) -> String {
    (plan.connections + SPARE_CONNECTIONS).to_string()
}

fn words(options: &[(&str, &str)]) -> Vec<String> {
    options.iter().flat_map(|(name, value)| [*name, *value]).map(str::to_owned).collect()
}
