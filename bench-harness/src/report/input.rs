//! [`Input`]: the lines of result files, of engines and of servers.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};

use ferrokit_engine::{Error, Result};
use serde::Deserialize;

use crate::measurement::Latency;
use crate::record::{Machine, RunRecord, SCHEMA};

/// What result files hold, in their order.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// Where and how it was measured, by file.
    pub machines: Vec<Machine>,
    /// Runs of engines, each with the number of the measuring process it belongs to.
    pub runs: Vec<(usize, RunRecord)>,
    /// Runs of servers, likewise.
    pub servers: Vec<(usize, ServerRecord)>,
    /// The first engine and the first server that others were relative to.
    pub baseline: Option<String>,
    /// The same of servers.
    pub server_baseline: Option<String>,
}

/// One server, driven in one way, in one round.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ServerRecord {
    /// Its name.
    pub server: String,
    /// Its command line.
    pub settings: String,
    /// The command that it was sent.
    pub workload: String,
    /// How it was driven.
    pub parameters: ServerParameters,
    /// The round, from 0.
    pub round: usize,
    /// Operations done.
    pub operations: u64,
    /// Operations per second.
    pub ops_per_s: f64,
    /// Latencies of all operations.
    pub latency_ns: Latency,
    /// Processor time of the server.
    pub cpu_s: f64,
    /// Operations per second of it.
    pub ops_per_cpu_s: f64,
    /// Resident memory of the server at the end.
    pub rss_bytes: u64,
}

/// How a server was driven.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ServerParameters {
    /// Connections at once.
    pub connections: usize,
    /// Requests under way on each.
    pub pipeline: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Records loaded before.
    pub records: u64,
    /// What writes survive.
    pub durability: String,
    /// The rate of an open loop.
    pub rate_per_s: Option<f64>,
    /// The distribution of accesses.
    pub distribution: Option<String>,
}

/// A line, as far as it is read here.
#[derive(Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
enum Line {
    Machine(Machine),
    Run(Box<RunRecord>),
    Server(Box<ServerRecord>),
    Ratio {
        baseline: String,
    },
    #[serde(other)]
    Other,
}

impl Input {
    /// Reads files, one behind the other.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument` for a line that is no record, with its number, and for another
    /// schema.
    pub fn read(paths: &[String]) -> Result<Self> {
        let mut input = Self::default();
        for path in paths {
            let failed = |error| Error::io("bench.report", error).with_file(path);
            let file = OpenOptions::new().read(true).open(path).map_err(failed)?;
            input.read_lines(&mut BufReader::new(file), path)?;
        }
        Ok(input)
    }

    /// Reads the lines of one file, which errors name as `path`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_lines(&mut self, lines: &mut dyn BufRead, path: &str) -> Result<()> {
        let mut process = self.next_process();
        for (number, line) in lines.lines().enumerate() {
            let line = line.map_err(|error| Error::io("bench.report", error).with_file(path))?;
            let wrong = |what: String| {
                let message = format!("line {}: {what}", number + 1);
                Error::invalid("bench.report", message).with_file(path)
            };
            if line.trim().is_empty() {
                continue;
            }
            let line: Line =
                serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
            match line {
                // Files may be the output of several processes, one behind the other.
                Line::Machine(machine) => {
                    if machine.schema != SCHEMA {
                        let schema = machine.schema;
                        return Err(wrong(format!("schema {schema}, and {SCHEMA} is read here")));
                    }
                    process = self.next_process();
                    self.machines.push(machine);
                }
                Line::Run(run) => self.runs.push((process, *run)),
                Line::Server(server) => self.servers.push((process, *server)),
                Line::Ratio { baseline } => self.note_baseline(baseline),
                Line::Other => {}
            }
        }
        Ok(())
    }

    /// Above all so far.
    fn next_process(&self) -> usize {
        let last = self.runs.iter().map(|(process, _)| *process);
        let last = last.chain(self.servers.iter().map(|(process, _)| *process)).max();
        last.map_or(0, |last| last + 1)
    }

    fn note_baseline(&mut self, name: String) {
        if self.runs.iter().any(|(_, run)| run.engine == name) {
            self.baseline.get_or_insert(name);
        } else if self.servers.iter().any(|(_, server)| server.server == name) {
            self.server_baseline.get_or_insert(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Input> {
        let mut input = Input::default();
        input.read_lines(&mut text.as_bytes(), "x.jsonl").map(|()| input)
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        for (text, part) in [
            ("{\"record\":\"new\"}\n\nnonsense\n", "line 3"),
            ("{\"record\":\"run\"}", "line 1"),
            ("{\"record\":\"ratio\"}", "baseline"),
            (
                "{\"record\":\"machine\",\"schema\":2,\"version\":\"\",\"command\":\"\",\
                 \"started_unix_ms\":0,\"cpu_model\":\"\",\"cores\":1,\"memory_bytes\":0,\
                 \"kernel\":\"\",\"file_system\":\"\",\"memory_cgroup\":false}",
                "schema 2",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(read("{\"record\":\"new\"}\n").unwrap().runs.is_empty());
    }
}
