//! The command line. [`main`] takes the adapters of peers, so that a binary that has peers is the
//! same program with more engines.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ferrokit_engine::{EngineUrl, Error, Result};

use crate::compare::Comparison;
use crate::distribution::Distribution;
use crate::driver;
use crate::measurement::{Plan, Promise};
use crate::store::Adapter;
use crate::table::table;
use crate::workload::Workload;

/// Measures key-value engines: YCSB A to F, fill, read, scan, delete. Every answer is checked.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures one engine.
    Run {
        /// The engine's URL, without a path: `lsm:?compression=none`.
        #[arg(long)]
        engine: String,
        /// Rounds of each workload; the table has the medians.
        #[arg(long, default_value_t = 1)]
        rounds: usize,
        #[command(flatten)]
        options: Options,
    },
    /// Measures several engines in interleaved rounds, relative to the first.
    Compare {
        /// The engines' URLs, without paths, separated by commas; the first is the baseline.
        #[arg(long, value_delimiter = ',', required = true)]
        engines: Vec<String>,
        /// Rounds of each workload; the table has the medians.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[command(flatten)]
        options: Options,
    },
    /// Carries one plan out and prints its outcome: what the other commands call.
    #[command(hide = true)]
    Measure {
        /// The plan as JSON.
        plan: String,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// The workloads, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "a,b,c,d,e,f")]
    workloads: Vec<Workload>,
    /// Records loaded before a run, or written by a fill.
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// Operations of a run, all threads together. Fills and deletes have one for each record.
    #[arg(long, default_value_t = 100_000)]
    operations: u64,
    /// Bytes of a value. Keys have 16.
    #[arg(long, default_value_t = 100)]
    field_length: usize,
    /// Accesses over records, in the place of the workload's own.
    #[arg(long, value_enum)]
    distribution: Option<Distribution>,
    /// Threads, each of which begins an operation when its last one is done.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// What a measured write survives before it completes: nothing, the process, or the machine.
    #[arg(long, value_enum, default_value = "os")]
    durability: Promise,
    /// Memory for caches and write buffers, in bytes or as 256MiB; the data limit of an engine
    /// that keeps everything in memory.
    #[arg(long, default_value = "256MiB", value_parser = parse_bytes)]
    memory: u64,
    /// The seed of data and operations.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Where the runs' directories are made; they are removed after each run.
    #[arg(long, default_value_t = default_directory())]
    directory: String,
    /// A file for the results, one JSON object per line; replaced if it is there.
    #[arg(long)]
    json: Option<String>,
}

fn default_directory() -> String {
    std::env::temp_dir().join("ferrokit-bench").to_string_lossy().into_owned()
}

/// Sizes are written as in engine URLs.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let parse = || EngineUrl::parse(&format!("size:?size={text}"))?.take_bytes("size");
    match parse() {
        Ok(Some(bytes)) => Ok(bytes),
        _ => Err("a size is a number of bytes, or as 64MiB".to_owned()),
    }
}

/// Runs the program, with `adapters` beside the ferrokit engines.
pub fn main(adapters: &[Adapter]) -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run { engine, rounds, options } => compare(vec![engine], rounds, options),
        Command::Compare { engines, rounds, options } => compare(engines, rounds, options),
        Command::Measure { plan } => measure(adapters, &plan),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferrokit-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(adapters: &[Adapter], plan: &str) -> Result<()> {
    let plan: Plan = serde_json::from_str(plan)
        .map_err(|error| Error::invalid("bench.measure", "not a plan").with_source(error))?;
    let outcome = driver::measure(adapters, &plan)?;
    let text = serde_json::to_string(&outcome)
        .map_err(|error| Error::invalid("bench.measure", "no JSON").with_source(error))?;
    println!("{text}");
    Ok(())
}

fn compare(engines: Vec<String>, rounds: usize, options: Options) -> Result<()> {
    let mut json: Box<dyn Write> = match &options.json {
        None => Box::new(std::io::sink()),
        Some(path) => Box::new(
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)
                .map_err(|error| Error::io("bench.json", error).with_file(path))?,
        ),
    };
    let plan = Plan {
        engine: String::new(),
        workload: Workload::A,
        records: options.records,
        operations: options.operations,
        value_bytes: options.field_length,
        distribution: options.distribution,
        threads: options.threads,
        durability: options.durability,
        memory_bytes: options.memory,
        seed: options.seed,
        directory: format!("{}/{}", options.directory, std::process::id()),
    };
    let comparison = Comparison { engines, workloads: options.workloads, rounds, plan };
    comparison.run(&mut json, &mut |workload, series| {
        println!("{}", table(&comparison, workload, series));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn engines_workloads_and_sizes_are_read() {
        let line = "b compare --engines memory:,lsm:?cache=1MiB --workloads a,fill-random,scan-10 \
                    --durability synced --distribution latest --memory 1GiB";
        let Command::Compare { engines, rounds, options } =
            Cli::parse_from(line.split_whitespace()).command
        else {
            panic!("not a comparison");
        };
        assert_eq!(engines, ["memory:", "lsm:?cache=1MiB"]);
        assert_eq!(rounds, 5);
        let workloads = [Workload::A, Workload::FillRandom, Workload::Scan10];
        assert_eq!(options.workloads, workloads);
        assert_eq!((options.durability, options.memory), (Promise::Synced, 1 << 30));
        assert_eq!(options.distribution, Some(Distribution::Latest));
        for wrong in
            ["b run", "b run --engine memory: --workloads x", "b run --engine m: --memory x"]
        {
            assert!(Cli::try_parse_from(wrong.split_whitespace()).is_err(), "{wrong}");
        }
    }
}
