//! Workloads, drivers and comparisons for ferrokit engines and their peers.
//!
//! | module | subject |
//! |---|---|
//! | [`store`] | [`Store`]: what is measured, behind one small trait; [`Adapter`] opens one |
//! | [`engine_store`] | [`EngineStore`]: every ferrokit engine as a [`Store`] |
//! | [`workload`] | [`Workload`]: YCSB A to F, fill, read, scan, delete |
//! | [`distribution`] | which record an operation is about: uniform, scrambled zipfian, latest |
//! | [`dataset`] | keys and values, made from a seed and recognised when they come back |
//! | [`stream`] | the operations of a run, generated before it |
//! | [`driver`] | runs one workload on one store, and checks every answer |
//! | [`compare`] | interleaved rounds of several engines, each in a process of its own |
//! | [`ratio`], [`measurement`], [`table`] | medians and spreads; what is reported, and how |
//! | [`usage`] | processor time, resident memory, bytes on disk |
//! | [`cli`] | the command line, to which other binaries add their adapters |
//!
//! A wrong answer ends a run with an error: a figure is only worth something if the store did the
//! work. `unsafe` is confined to `raw`.

#![deny(unsafe_code)]

pub mod cli;
pub mod compare;
pub mod dataset;
pub mod distribution;
pub mod driver;
pub mod engine_store;
pub mod measurement;
pub mod ratio;
mod raw;
pub mod store;
pub mod stream;
pub mod table;
pub mod usage;
mod verify;
pub mod workload;

pub use engine_store::EngineStore;
pub use measurement::{Measurement, Outcome, Plan};
pub use store::{Adapter, Store, StoreSettings};
pub use workload::Workload;
