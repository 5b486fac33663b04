//! [`ServerArgs`]: the command line of `ferrokit-bench server`.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use ferrokit_engine::{Error, ErrorKind, Result};
use ferrokit_storage::{Host, IoBackend};

use super::command::ServerCommand;
use super::limits::raise_descriptors;
use super::locate::locate;
use super::plan::ServerPlan;
use super::rounds::Rounds;
use super::stop::Stop;
use super::subject::{ServerKind, Subject};
use crate::distribution::Distribution;
use crate::plan::Promise;
use crate::record::{Machine, Record, write_record};

/// Descriptors beside those of connections.
const SPARE_DESCRIPTORS: u64 = 256;
const ROUNDS_MAX: usize = 1000;

/// What `ferrokit-bench server` is told.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The servers, separated by commas: ferrokit (with each --engine), ferrokit:ENGINE, redis,
    /// valkey, memcached. One that is not installed is left out.
    #[arg(long, value_delimiter = ',', default_value = "ferrokit,redis,valkey,memcached")]
    servers: Vec<String>,
    /// The engines of ferrokit, by name or URL without a path, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "memory,lsm")]
    engine: Vec<String>,
    /// What the clients send.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "set,get")]
    commands: Vec<ServerCommand>,
    /// Connections, all client threads together.
    #[arg(long, value_delimiter = ',', default_value = "50")]
    connections: Vec<usize>,
    /// Requests in flight on each connection.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    pipeline: Vec<usize>,
    /// Operations that are measured in each run.
    #[arg(long, default_value_t = 500_000)]
    operations: u64,
    /// Records loaded before each run.
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// Bytes of a value. Keys have 16.
    #[arg(long, default_value_t = 100)]
    value_size: usize,
    /// Which records are named how often.
    #[arg(long, value_enum, default_value = "uniform")]
    distribution: Distribution,
    /// What a write survives before it is answered: nothing, the process, or the machine.
    #[arg(long, value_enum, default_value = "memory")]
    durability: Promise,
    /// Rounds of each command; the table has the medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The seed of data and requests.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Operations per second, begun at fixed times; "none" for as many as the server answers.
    #[arg(long, value_delimiter = ',', default_value = "none", value_parser = parse_rate)]
    rate: Vec<Rate>,
    /// The server that the others are compared with [default: redis if it is there, or the first].
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    client_threads: usize,
    /// The program of ferrokit's server [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    ferrokit_server: Option<PathBuf>,
    /// Adds to a server's command line; may be given several times: redis="--io-threads 2".
    #[arg(long, value_name = "SERVER=ARGUMENTS", value_parser = parse_arguments)]
    server_args: Vec<(String, Vec<String>)>,
    /// A file for the results, one JSON object per line; replaced if it is there.
    #[arg(long)]
    json: Option<String>,
    /// Where the runs' directories are made; they are removed after each run.
    #[arg(long, default_value_t = default_directory())]
    directory: String,
}

/// Operations per second, if they are bounded.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate(Option<f64>);

fn parse_rate(text: &str) -> Result<Rate, String> {
    match text {
        "none" => Ok(Rate(None)),
        _ => match text.parse() {
            Ok(rate) if rate > 0.0 => Ok(Rate(Some(rate))),
            _ => Err("a rate is a number of operations per second, or none".to_owned()),
        },
    }
}

fn parse_arguments(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, words) = text.split_once('=').ok_or("as in redis=\"--io-threads 2\"")?;
    Ok((name.to_owned(), words.split_whitespace().map(str::to_owned).collect()))
}

fn default_directory() -> String {
    std::env::temp_dir().join("ferrokit-bench").to_string_lossy().into_owned()
}

impl ServerArgs {
    /// Does what it is told.
    ///
    /// # Errors
    /// `InvalidArgument` for what makes no sense, `NotFound` if no server is there; the error of the
    /// first run that fails.
    pub fn run(&self) -> Result<()> {
        if !(1..=ROUNDS_MAX).contains(&self.rounds) {
            let message = format!("--rounds {} is not in 1 to {ROUNDS_MAX}", self.rounds);
            return Err(Error::invalid("bench.server", message));
        }
        let plans = self.plans();
        plans.iter().try_for_each(ServerPlan::check)?;
        let connections = plans.iter().map(|plan| plan.connections).max().unwrap_or(0) as u64;
        raise_descriptors(connections + SPARE_DESCRIPTORS)?;
        let host = Host::system(IoBackend::Auto)?;
        let parent = std::path::absolute(&self.directory)
            .map_err(|error| Error::io("bench.server", error).with_file(&self.directory))?;
        let directory = parent.join(format!("server-{}", std::process::id()));
        let subjects = self.subjects(&host, &directory.join("engine").display().to_string())?;
        let baseline = self.baseline(&subjects)?;
        let mut json = self.json_file()?;
        let machine = Machine::here(&host.env, &parent.display().to_string(), false);
        write_record(&mut json, &Record::Machine(machine))?;
        let stop = Stop::on_signals(&host.env)?;
        let rounds = Rounds { subjects, baseline, plans, rounds: self.rounds, directory };
        let figures = if self.rounds == 1 { "one round" } else { "medians of the rounds" };
        println!("{figures}; the servers:");
        if let Some(plan) = rounds.plans.first() {
            for subject in &rounds.subjects {
                println!("  {}: {}", subject.name, subject.settings(plan));
            }
        }
        let done =
            rounds.run(&host.env, &stop, &mut json, &mut |table| println!("{}", table.trim_end()));
        remove_if_empty(&rounds.directory);
        remove_if_empty(&parent);
        done
    }

    fn plans(&self) -> Vec<ServerPlan> {
        let mut plans = Vec::new();
        for &command in &self.commands {
            for &connections in &self.connections {
                for &pipeline in &self.pipeline {
                    plans.extend(self.rate.iter().map(|rate| ServerPlan {
                        command,
                        connections,
                        pipeline,
                        rate_per_s: rate.0,
                        operations: self.operations,
                        threads: self.client_threads,
                        records: self.records,
                        value_bytes: self.value_size,
                        distribution: self.distribution,
                        durability: self.durability,
                        seed: self.seed,
                    }));
                }
            }
        }
        plans
    }

    /// The servers that are there and can keep the promise; it is said of the others.
    fn subjects(&self, host: &Host, scratch: &str) -> Result<Vec<Subject>> {
        let extra = self.extra_arguments()?;
        let mut subjects: Vec<Subject> = Vec::new();
        for name in &self.servers {
            let (kind_name, engine) = match name.split_once(':') {
                Some((kind_name, engine)) => (kind_name, Some(engine)),
                None => (name.as_str(), None),
            };
            let kind = ServerKind::from_name(kind_name)
                .filter(|kind| engine.is_none() || *kind == ServerKind::Ferrokit)
                .ok_or_else(|| unknown(name))?;
            let Some(program) = self.program(kind)? else {
                println!("{name}: absent ({} is not installed)", kind.program());
                continue;
            };
            let engines: Vec<Option<&str>> = match (kind, engine) {
                (_, Some(engine)) => vec![Some(engine)],
                (ServerKind::Ferrokit, None) => {
                    self.engine.iter().map(|engine| Some(engine.as_str())).collect()
                }
                _ => vec![None],
            };
            let arguments = extra.get(kind_name).copied().unwrap_or_default();
            for engine in engines {
                let program = program.clone();
                match Subject::new(host, kind, program, engine, self.durability, scratch) {
                    Ok(subject) if subjects.iter().any(|other| other.name == subject.name) => {
                        let message = format!("{} is named twice", subject.name);
                        return Err(Error::invalid("bench.server", message));
                    }
                    Ok(subject) => subjects.push(subject.with_arguments(arguments)),
                    Err(error) if error.kind() == ErrorKind::Unsupported => {
                        let engine = engine.map_or(String::new(), |engine| format!(":{engine}"));
                        let promise = self.durability.name();
                        println!("{kind_name}{engine}: cannot keep durability {promise}: {error}");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(subjects)
    }

    /// The additions to command lines, each of a server that is named.
    fn extra_arguments(&self) -> Result<HashMap<&str, &[String]>> {
        let mut extra = HashMap::new();
        for (name, words) in &self.server_args {
            let is_named = |server: &String| server.split(':').next() == Some(name);
            if !self.servers.iter().any(is_named) || extra.insert(&name[..], &words[..]).is_some() {
                let message = format!("--server-args {name}=: once, for one of the --servers");
                return Err(Error::invalid("bench.server", message));
            }
        }
        Ok(extra)
    }

    fn program(&self, kind: ServerKind) -> Result<Option<PathBuf>> {
        match &self.ferrokit_server {
            Some(path) if kind == ServerKind::Ferrokit => {
                let path = std::path::absolute(path).map_err(|error| {
                    Error::io("bench.server", error).with_file(&path.display().to_string())
                })?;
                Ok(Some(path))
            }
            _ => Ok(locate(kind)),
        }
    }

    fn baseline(&self, subjects: &[Subject]) -> Result<usize> {
        if subjects.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "bench.server",
                "none of the servers is there; build ferrokit's with `cargo build --release -p \
                 ferrokit-server`",
            ));
        }
        let index_of = |name: &str| subjects.iter().position(|subject| subject.name == name);
        match &self.baseline {
            None => Ok(index_of("redis").unwrap_or(0)),
            Some(name) => index_of(name).ok_or_else(|| {
                let names: Vec<&str> = subjects.iter().map(|subject| &subject.name[..]).collect();
                let message = format!("--baseline {name} is none of {}", names.join(", "));
                Error::invalid("bench.server", message)
            }),
        }
    }

    fn json_file(&self) -> Result<Box<dyn Write>> {
        let Some(path) = &self.json else { return Ok(Box::new(std::io::sink())) };
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let file = file.map_err(|error| Error::io("bench.json", error).with_file(path))?;
        Ok(Box::new(file))
    }
}

fn unknown(name: &str) -> Error {
    let message = format!(
        "\"{name}\" is no server; there are ferrokit, ferrokit:ENGINE, redis, valkey, memcached"
    );
    Error::invalid("bench.server", message)
}

fn remove_if_empty(directory: &Path) {
    // Another run may have its directories there.
    let _ = std::fs::remove_dir(directory);
}
