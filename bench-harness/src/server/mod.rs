//! Servers, measured over sockets: ferrokit with any engine, Redis, Valkey, memcached.
//!
//! | module | subject |
//! |---|---|
//! | [`args`] | the command line |
//! | [`rounds`] | every plan on every server, interleaved |
//! | [`subject`], `engine`, `locate` | a server's program and command line, for a promise |
//! | [`running`], [`usage`] | its process, from start to end, and what that costs |
//! | [`mod@measure`] | load, settle, warm up, measure, verify |
//! | `client`, `connection` | closed and open loops over non-blocking sockets |
//! | `requests`, `check` | requests made beforehand; which replies are right |
//! | [`protocol`], `resp`, `memcached` | what goes over the wire |
//!
//! Client and server share the machine's cores, so operations per second depend on both. What a
//! server costs is told by operations per second *of its CPU time*, which does not count the client.
//! A wrong answer ends the run. No server and no directory is left behind, unless this process is
//! killed: then the kernel kills the server, and the directory stays. `unsafe` is confined to `raw`.

pub mod args;
mod check;
mod client;
pub mod command;
mod connection;
mod engine;
mod limits;
mod locate;
pub mod measure;
mod memcached;
pub mod output;
pub mod plan;
pub mod protocol;
mod raw;
mod requests;
mod resp;
pub mod rounds;
pub mod running;
pub mod stop;
pub mod subject;
pub mod usage;

pub use args::ServerArgs;
pub use command::ServerCommand;
pub use measure::{ServerMeasurement, Target, measure};
pub use plan::ServerPlan;
pub use stop::Stop;
pub use subject::{ServerKind, Subject};
pub use usage::ServerUsage;
