//! [`Results`]: the rounds of everything that a file of results has measured.

use ferrokit_engine::Result;

use crate::record::RunRecord;
use crate::report::input::{Input, ServerRecord};

/// What a row is about. Rows with the same name are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowName {
    /// The engine or server.
    pub subject: String,
    /// What it did.
    pub workload: String,
    /// With what: the same parameter at the same place, unless they are of another kind.
    pub parameters: Vec<String>,
}

impl RowName {
    /// In words, with those parameters in which rows of its workload among `all` differ.
    pub fn among<'a>(&self, all: impl Iterator<Item = &'a Self> + Clone) -> String {
        let mut words = format!("{} {}", self.subject, self.workload);
        for (at, own) in self.parameters.iter().enumerate() {
            let mut others = all.clone().filter(|other| other.workload == self.workload);
            if others.any(|other| other.parameters.get(at) != Some(own)) {
                words.push_str(&format!(", {own}"));
            }
        }
        words
    }
}

/// The figures of one row, one of each per round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rounds {
    /// Operations per second.
    pub ops_per_s: Vec<f64>,
    /// Nanoseconds of processor time per operation.
    pub cpu_ns: Vec<f64>,
    /// The median latency.
    pub p50_ns: Vec<f64>,
    /// The 99th percentile of latency.
    pub p99_ns: Vec<f64>,
    /// Why there are none.
    pub unsupported: Option<String>,
}

/// What a file of results has measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// What was measured, and its rounds.
    pub rows: Vec<(RowName, Rounds)>,
}

impl Results {
    /// Reads a file.
    ///
    /// # Errors
    /// As [`Input::read`].
    pub fn read(path: &str) -> Result<Self> {
        let input = Input::read(&[path.to_owned()])?;
        let mut results = Self::default();
        for (_, run) in &input.runs {
            results.add_run(run);
        }
        for (_, server) in &input.servers {
            results.add_server(server);
        }
        Ok(results)
    }

    /// The rounds of a row.
    pub fn get(&self, name: &RowName) -> Option<&Rounds> {
        self.rows.iter().find(|(other, _)| other == name).map(|(_, rounds)| rounds)
    }

    fn row(&mut self, name: RowName) -> &mut Rounds {
        let found = self.rows.iter().position(|(other, _)| *other == name);
        let place = found.unwrap_or(self.rows.len());
        if found.is_none() {
            self.rows.push((name, Rounds::default()));
        }
        &mut self.rows[place].1
    }

    fn add_run(&mut self, run: &RunRecord) {
        let rounds = self.row(run_name(run));
        rounds.unsupported.clone_from(&run.unsupported);
        let Some(measurement) = &run.measurement else { return };
        rounds.ops_per_s.push(measurement.ops_per_s);
        rounds.cpu_ns.push(measurement.cpu_us_per_operation() * 1e3);
        rounds.p50_ns.push(measurement.latency_ns.p50 as f64);
        rounds.p99_ns.push(measurement.latency_ns.p99 as f64);
    }

    fn add_server(&mut self, server: &ServerRecord) {
        let rounds = self.row(server_name(server));
        rounds.ops_per_s.push(server.ops_per_s);
        rounds.cpu_ns.push(server.cpu_s * 1e9 / server.operations.max(1) as f64);
        rounds.p50_ns.push(server.latency_ns.p50 as f64);
        rounds.p99_ns.push(server.latency_ns.p99 as f64);
    }
}

/// With every parameter: rows with different ones are not compared.
fn run_name(run: &RunRecord) -> RowName {
    let with = &run.parameters;
    let rate = with.rate_per_s.map_or(String::new(), |rate| format!("{rate}/s"));
    RowName {
        subject: run.engine.clone(),
        workload: run.workload.to_string(),
        parameters: vec![
            format!("{} records", with.records),
            format!("{} operations", with.operations),
            format!("{} B", with.value_bytes),
            format!("{} threads", with.threads),
            with.distribution.clone().unwrap_or_default(),
            with.durability.name().to_owned(),
            format!("{} B of memory", with.memory_bytes),
            rate,
            format!("{:?}", with.caller).to_lowercase(),
            format!("{} tasks", with.tasks),
            format!("{} before", with.warmup_operations),
        ],
    }
}

fn server_name(server: &ServerRecord) -> RowName {
    let with = &server.parameters;
    let rate = with.rate_per_s.map_or(String::new(), |rate| format!("{rate}/s"));
    RowName {
        subject: server.server.clone(),
        workload: server.workload.clone(),
        parameters: vec![
            format!("{} connections", with.connections),
            format!("{} in flight", with.pipeline),
            format!("{} B", with.value_bytes),
            format!("{} records", with.records),
            with.durability.clone(),
            with.distribution.clone().unwrap_or_default(),
            rate,
        ],
    }
}
