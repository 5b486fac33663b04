//! A Redis-compatible server over any ferrokit engine.
//!
//! | module | subject |
//! |---|---|
//! | [`config`] | [`Config`], [`Limits`], [`AppendFsync`] |
//! | [`server`] | [`Server`]: starts the workers, stops them, closes the engine |
//! | `worker` | one thread: its accept loops, its runtime, its ring, its housekeeping |
//! | `connection` | one client: bytes in, commands run, replies out |
//! | `batch` | the requests of an input, run; GETs in a row are one batched read |
//! | `exchange` | what is unsent goes out, what is there comes in |
//! | [`resp`] | the wire: parser and replies |
//! | `commands` | the one command table and a file per command group |
//! | `shared` | what all workers share: the engine, settings, counters |
//! | `allocator`, `data_limit` | what is allocated; `maxmemory` |
//! | `auth` | who may use the server |
//! | `client`, `clients` | the clients, as others see and reach them |
//! | `key_events`, `tracking` | what happens to keys, told to subscribers and to caches |
//! | `monitor`, `pause` | MONITOR and CLIENT PAUSE |
//! | `pubsub` | channels, patterns and their subscribers |
//! | `output_limits` | how much output may wait, by class of client |
//! | `observe` | how often, how long and how badly commands ran |
//! | `raw` | the one unsafe step: a ring's descriptor in the runtime's poll |
//! | `settings` | [`Settings`]: every parameter, from one table |
//! | [`cli`] | the command line, and its description |
//! | [`start_up`] | from a command line to a [`Config`] |
//! | [`logs`] | where the log goes, and how much of it |
//! | `listening` | the sockets that clients connect to |
//! | `metrics` | `/metrics` and `/health` over HTTP |
//! | [`supervisor`] | what systemd is told |
//! | `saves` | checkpoints of the engine, in the place of Redis' dumps |
//! | `checkpoints` | where they lie, and what there may be replaced |
//! | `space` | whether the device of the data is full |
//! | `shutdown` | how the server ends |
//! | `scan_cursors` | integer cursors of SCAN over the engine's opaque ones |
//!
//! # Threads
//! A worker owns its connections, its ring and its buffers; keys belong to no worker. Workers share
//! the engine and, off the path of a command, the table of clients and the table of cursors.
//!
//! # What a reply promises
//! A reply leaves when the log is durable through everything the command saw or did, at the level
//! the `appendfsync` setting asks for: operations run with
//! [`Completion::Applied`](ferrokit_engine::Completion::Applied), their tickets are joined, and one
//! wait per pipelined batch precedes its one write.

#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "the allocator of the process")]
mod allocator;
mod auth;
mod batch;
mod checkpoints;
pub mod cli;
mod client;
mod client_line;
mod client_memory;
mod clients;
mod commands;
pub mod config;
mod connection;
mod data_limit;
mod exchange;
pub mod fuzzing;
mod gather;
mod input;
mod key_events;
mod late;
mod listening;
pub mod logs;
mod metrics;
mod monitor;
mod observe;
mod opening;
mod output_limits;
mod pause;
mod pubsub;
mod push;
#[expect(unsafe_code, reason = "the descriptor of a ring is polled by the runtime")]
mod raw;
pub mod resp;
mod saves;
mod scan_cursors;
pub mod server;
mod session;
mod settings;
mod shared;
mod shutdown;
mod space;
pub mod start_up;
mod stats;
pub mod supervisor;
mod tracking;
mod turns;
mod worker;
mod workspace;

/// Counts what the process allocates, for INFO and `maxmemory`.
#[global_allocator]
static ALLOCATOR: allocator::CountingAllocator = allocator::CountingAllocator;

pub use config::{AppendFsync, Config, Limits};
pub use server::{Server, StopSignal};
pub use settings::Settings;
