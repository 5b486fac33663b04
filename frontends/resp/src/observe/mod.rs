//! What a server knows of its commands: how often, how long, how badly.
//!
//! | module | subject |
//! |---|---|
//! | [`meter`] | what the commands of a session take |
//! | [`histogram`] | times, counted |
//! | [`slow_log`] | the last commands that took long |
//! | [`process`] | what the process takes |
//! | [`latency`] | events that took longer than a threshold |

mod histogram;
mod latency;
mod meter;
mod process;
pub(crate) mod slow_log;

pub(crate) use histogram::{Distribution, Histogram};
pub(crate) use latency::{LatencyMonitor, Sample, Series};
pub(crate) use meter::{Meter, Taken};
pub(crate) use process::{ProcessMemory, ProcessTime, system_memory_bytes};
pub(crate) use slow_log::{SlowCommand, SlowLog};
