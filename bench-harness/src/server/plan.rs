//! [`ServerPlan`]: what is measured on a server.

use ferrokit_engine::{Error, Result};

use super::command::ServerCommand;
use crate::dataset::VALUE_BYTES_MIN;
use crate::distribution::Distribution;
use crate::plan::Promise;

const CONNECTIONS_MAX: u64 = 10_000;
const PIPELINE_MAX: u64 = 1024;
const VALUE_BYTES_MAX: u64 = 16 << 20;
const THREADS_MAX: u64 = 256;
const RECORDS_MAX: u64 = 1 << 31;
const OPERATIONS_MAX: u64 = 1 << 40;
const RATE_MAX: f64 = 1e9;
/// Unfinished replies of all connections together, in bytes.
const PARTIAL_BYTES_MAX: u64 = 2 << 30;

/// One command, driven in one way. Equal plans send the same requests to every server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerPlan {
    /// What the clients send.
    pub command: ServerCommand,
    /// How many connections there are, of all client threads together.
    pub connections: usize,
    /// Requests in flight on each connection: always (closed loop), or at most (open loop).
    pub pipeline: usize,
    /// Operations per second over all connections, begun at even distances; `None`: each as soon as
    /// there is room for it.
    pub rate_per_s: Option<f64>,
    /// Operations that are measured.
    pub operations: u64,
    /// Client threads.
    pub threads: usize,
    /// Records loaded before.
    pub records: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Which records are named how often.
    pub distribution: Distribution,
    /// What a write survives before it is answered.
    pub durability: Promise,
    /// The seed of data and requests.
    pub seed: u64,
}

impl ServerPlan {
    /// Refuses sizes out of range.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub fn check(&self) -> Result<()> {
        range("connections", self.connections as u64, 1, CONNECTIONS_MAX)?;
        range("pipeline", self.pipeline as u64, 1, PIPELINE_MAX)?;
        range("client-threads", self.threads as u64, 1, THREADS_MAX)?;
        range("operations", self.operations, 1, OPERATIONS_MAX)?;
        range("records", self.records, 1, RECORDS_MAX)?;
        let value_bytes = self.value_bytes as u64;
        range("value-size", value_bytes, VALUE_BYTES_MIN as u64, VALUE_BYTES_MAX)?;
        if self.connections as u64 * value_bytes > PARTIAL_BYTES_MAX {
            return Err(Error::invalid(
                "bench.server",
                format!(
                    "--connections {} of --value-size {value_bytes} may take more than {} GiB",
                    self.connections,
                    PARTIAL_BYTES_MAX >> 30
                ),
            ));
        }
        match self.rate_per_s {
            Some(rate) if !(rate > 0.0 && rate <= RATE_MAX) => {
                Err(Error::invalid("bench.server", format!("--rate {rate} is no rate")))
            }
            _ => Ok(()),
        }
    }

    /// How the clients drive the server, in a few words.
    pub fn driving(&self) -> String {
        let rate = match self.rate_per_s {
            None => "closed loop".to_owned(),
            Some(rate) => format!("{rate}/s"),
        };
        format!("{} connections, pipeline {}, {rate}", self.connections, self.pipeline)
    }
}

fn range(option: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid("bench.server", format!("--{option} {value} is not in {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_out_of_range_are_refused_by_name() {
        let plan = ServerPlan {
            command: ServerCommand::Get,
            connections: 1,
            pipeline: 1,
            rate_per_s: None,
            operations: 1,
            threads: 1,
            records: 1,
            value_bytes: 100,
            distribution: Distribution::Uniform,
            durability: Promise::Memory,
            seed: 1,
        };
        plan.check().unwrap();
        let plan = || plan.clone();
        for (wrong, name) in [
            (ServerPlan { connections: 0, ..plan() }, "connections"),
            (ServerPlan { connections: 10_001, ..plan() }, "connections"),
            (ServerPlan { pipeline: 1025, ..plan() }, "pipeline"),
            (ServerPlan { threads: 0, ..plan() }, "client-threads"),
            (ServerPlan { operations: 0, ..plan() }, "operations"),
            (ServerPlan { records: 1 << 32, ..plan() }, "records"),
            (ServerPlan { value_bytes: 31, ..plan() }, "value-size"),
            (ServerPlan { value_bytes: (16 << 20) + 1, ..plan() }, "value-size"),
            (ServerPlan { value_bytes: 16 << 20, connections: 129, ..plan() }, "GiB"),
            (ServerPlan { rate_per_s: Some(0.0), ..plan() }, "rate"),
            (ServerPlan { rate_per_s: Some(f64::NAN), ..plan() }, "rate"),
        ] {
            let error = wrong.check().unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
    }
}
