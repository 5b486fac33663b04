//! Workloads, drivers and comparisons for ferrokit engines and their peers.
//!
//! | module | subject |
//! |---|---|
//! | [`cli`] | the command line, to which other binaries add their adapters |
//! | [`subject`] | what is measured: an engine opened by URL, ferrokit's or an [`Adapter`]'s |
//! | [`peer`] | a foreign engine behind the contract |
//! | [`workload`] | what is done: YCSB A to F, fills, reads, scans, commits, production-like mixes |
//! | [`distribution`] | which record an operation is about |
//! | [`dataset`] | keys and values, made from a seed and recognised when they come back |
//! | [`stream`] | the operations of a run, generated before it |
//! | [`trace`] | recorded operations, to be replayed |
//! | [`plan`], [`driver`] | one run: what it is to do, and doing it, with every answer checked |
//! | [`compare`] | interleaved rounds of several engines, each in a process of its own |
//! | [`advise`] | which engine for a workload, on this machine |
//! | [`server`] | servers over sockets |
//! | [`measurement`], [`record`] | what came of a run; the lines of the JSON output |
//! | [`usage`], [`sampler`], [`cgroup`] | processor time, memory, bytes; from second to second; bounds |
//! | [`report`], [`diff`] | a page of one or more results; whether new results are slower than old |
//! | [`ratio`], [`table`], [`watch`] | medians and spreads; what a person reads, and meanwhile |
//!
//! A wrong answer ends a run with an error: a figure is only worth something if the engine did the
//! work. `unsafe` is confined to modules named `raw`.

#![deny(unsafe_code)]

pub mod advise;
pub mod cgroup;
pub mod cli;
pub mod compare;
pub mod dataset;
pub mod diff;
pub mod distribution;
pub mod driver;
pub mod measurement;
pub mod peer;
pub mod plan;
pub mod ratio;
mod raw;
pub mod record;
pub mod report;
pub mod sampler;
pub mod server;
pub mod stream;
pub mod subject;
pub mod table;
pub mod trace;
pub mod usage;
pub mod watch;
pub mod workload;

pub use measurement::{Measurement, Outcome};
pub use plan::Plan;
pub use subject::{Adapter, Subject, SubjectSettings};
pub use workload::Workload;
