//! The conformance suite that every ferrokit engine instantiates in one line:
//!
//! ```text
//! ferrokit_conformance::suite!(lsm, LsmFactory);
//! ferrokit_conformance::suite!(lsm_threads, LsmFactory, on: Threads);
//! ferrokit_conformance::suite!(dash, DashFactory, groups: [point, batch, update, sweep]);
//! ```
//!
//! Each line expands to a module with one named `#[test]` per case (`lsm::point::put_then_get`)
//! and a `summary` that prints which cases do not apply, and why.
//!
//! | module | subject |
//! |---|---|
//! | [`factory`] | [`EngineFactory`], what an engine's crate provides |
//! | [`lab`] | the machine a case runs on, with its engine: reopen, crash, move the clock |
//! | [`case`](mod@case) | what a case is and needs |
//! | [`cases`] | the groups of single cases |
//! | [`model`] | random sequences against a reference |
//! | [`crash`], [`faults`] | a crash or a fault at every I/O of a workload |
//! | [`linearizability`] | recorded concurrent histories through a checker |
//! | [`kill9`] | a process that writes at full speed, killed over and over |
//! | [`metamorphic`] | other options, other machines, the same answers |
//!
//! # Environment
//! - `FERROKIT_CASES`: how many random sequences the model cases run (24 unless set).
//! - `FERROKIT_SEED`: the seed of random choices; every failure prints the one it used.
//! - `FERROKIT_SOAK=1`: crash and fault cases visit every I/O instead of an even sample.
//! - `FERROKIT_CASE_SECONDS`: when a case counts as hanging (600 unless set).

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]
#![allow(clippy::missing_panics_doc, reason = "a case fails by panicking")]

pub mod case;
pub mod cases;
pub mod crash;
pub mod factory;
pub mod faults;
pub mod kill9;
pub mod lab;
pub mod linearizability;
pub mod metamorphic;
pub mod model;
mod random;
pub mod world;

pub use case::{Case, Group, Need, check_case, run_case, summarize};
pub use factory::{EngineFactory, Options, Size};
pub use lab::{Lab, Machine};
pub use random::Rng;
pub use world::World;

/// Expands to one `#[test]` per case for the engine of a factory: see the crate's documentation.
///
/// `suite!(name, factory)`, then optionally `on: Sim | Threads | Uring` (the machine, `Sim` unless
/// given) and `groups: [..]` (all unless given), in this order. `factory` is an expression.
#[macro_export]
macro_rules! suite {
    ($name:ident, $factory:expr) => {
        $crate::suite!($name, $factory, on: Sim);
    };
    ($name:ident, $factory:expr, groups: [$($group:ident),* $(,)?]) => {
        $crate::suite!($name, $factory, on: Sim, groups: [$($group),*]);
    };
    ($name:ident, $factory:expr, on: $machine:ident) => {
        $crate::suite!($name, $factory, on: $machine, groups: [
            point, batch, update, sweep, keyspace, scan, snapshot, ttl, durability, checkpoint,
            changes, transactions, limits, errors, cancellation, concurrency, lifecycle,
            model, crash, faults, linearizability, metamorphic,
        ]);
    };
    ($name:ident, $factory:expr, on: $machine:ident, groups: [$($group:ident),* $(,)?]) => {
        mod $name {
            #[allow(unused_imports, reason = "the factory may be a path")]
            use super::*;

            $($crate::suite!(@group $group, $factory, $crate::Machine::$machine);)*

            #[test]
            fn summary() {
                $crate::summarize(
                    $factory,
                    $crate::Machine::$machine,
                    &[$(&$crate::cases::$group::GROUP),*],
                );
            }
        }
    };
    (@group point, $factory:expr, $machine:expr) => {
        mod point { use super::*; $crate::__suite_point!($factory, $machine); }
    };
    (@group batch, $factory:expr, $machine:expr) => {
        mod batch { use super::*; $crate::__suite_batch!($factory, $machine); }
    };
    (@group update, $factory:expr, $machine:expr) => {
        mod update { use super::*; $crate::__suite_update!($factory, $machine); }
    };
    (@group sweep, $factory:expr, $machine:expr) => {
        mod sweep { use super::*; $crate::__suite_sweep!($factory, $machine); }
    };
    (@group keyspace, $factory:expr, $machine:expr) => {
        mod keyspace { use super::*; $crate::__suite_keyspace!($factory, $machine); }
    };
    (@group scan, $factory:expr, $machine:expr) => {
        mod scan { use super::*; $crate::__suite_scan!($factory, $machine); }
    };
    (@group snapshot, $factory:expr, $machine:expr) => {
        mod snapshot { use super::*; $crate::__suite_snapshot!($factory, $machine); }
    };
    (@group ttl, $factory:expr, $machine:expr) => {
        mod ttl { use super::*; $crate::__suite_ttl!($factory, $machine); }
    };
    (@group durability, $factory:expr, $machine:expr) => {
        mod durability { use super::*; $crate::__suite_durability!($factory, $machine); }
    };
    (@group checkpoint, $factory:expr, $machine:expr) => {
        mod checkpoint { use super::*; $crate::__suite_checkpoint!($factory, $machine); }
    };
    (@group changes, $factory:expr, $machine:expr) => {
        mod changes { use super::*; $crate::__suite_changes!($factory, $machine); }
    };
    (@group transactions, $factory:expr, $machine:expr) => {
        mod transactions { use super::*; $crate::__suite_transactions!($factory, $machine); }
    };
    (@group limits, $factory:expr, $machine:expr) => {
        mod limits { use super::*; $crate::__suite_limits!($factory, $machine); }
    };
    (@group errors, $factory:expr, $machine:expr) => {
        mod errors { use super::*; $crate::__suite_errors!($factory, $machine); }
    };
    (@group cancellation, $factory:expr, $machine:expr) => {
        mod cancellation { use super::*; $crate::__suite_cancellation!($factory, $machine); }
    };
    (@group concurrency, $factory:expr, $machine:expr) => {
        mod concurrency { use super::*; $crate::__suite_concurrency!($factory, $machine); }
    };
    (@group lifecycle, $factory:expr, $machine:expr) => {
        mod lifecycle { use super::*; $crate::__suite_lifecycle!($factory, $machine); }
    };
    (@group model, $factory:expr, $machine:expr) => {
        mod model { use super::*; $crate::__suite_model!($factory, $machine); }
    };
    (@group crash, $factory:expr, $machine:expr) => {
        mod crash { use super::*; $crate::__suite_crash!($factory, $machine); }
    };
    (@group faults, $factory:expr, $machine:expr) => {
        mod faults { use super::*; $crate::__suite_faults!($factory, $machine); }
    };
    (@group linearizability, $factory:expr, $machine:expr) => {
        mod linearizability { use super::*; $crate::__suite_linearizability!($factory, $machine); }
    };
    (@group metamorphic, $factory:expr, $machine:expr) => {
        mod metamorphic { use super::*; $crate::__suite_metamorphic!($factory, $machine); }
    };
}
