//! The command line. [`main`] takes the adapters of peers, so that a binary that has peers is the
//! same program with more engines.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ferrokit_engine::{EngineUrl, Error, ErrorKind, Result};

use crate::advise::{Advice, Need};
use crate::compare::Comparison;
use crate::diff::{self, DiffOptions};
use crate::distribution::Distribution;
use crate::driver;
use crate::plan::{Caller, Plan, Promise};
use crate::record::json_error;
use crate::report::{self, ReportOptions};
use crate::subject::Adapter;
use crate::table::table;
use crate::watch::Watch;
use crate::workload::{NAMED, Workload};

/// Measures key-value engines, each on the same work. Every answer is checked.
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
        /// The engine: a name, or a URL without a path, as `lsm:?compression=none`.
        #[arg(long)]
        engine: String,
        /// Rounds of each workload; the table has the medians.
        #[arg(long, default_value_t = 1)]
        rounds: usize,
        #[command(flatten)]
        pages: Pages,
        #[command(flatten)]
        options: Options,
    },
    /// Measures several engines in interleaved rounds, relative to one of them.
    Compare {
        /// The engines: names, or URLs without paths, separated by commas; all for every one.
        #[arg(long, value_delimiter = ',', required = true)]
        engines: Vec<String>,
        /// The engine that the others are relative to; the first one unless given.
        #[arg(long)]
        baseline: Option<String>,
        /// Rounds of each workload; the table has the medians.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[command(flatten)]
        pages: Pages,
        #[command(flatten)]
        options: Options,
    },
    /// Recommends an engine for a workload: looks at what each can do, measures those that fit.
    Advise {
        /// What the engine must have, separated by commas.
        #[arg(long, value_enum, value_delimiter = ',')]
        needs: Vec<Need>,
        /// Rounds of each workload.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        #[command(flatten)]
        options: Options,
    },
    /// Measures servers over sockets, relative to one of them.
    Server(crate::server::ServerArgs),
    /// Makes a page with plots, or Markdown, of the results that `--json` wrote.
    Report(ReportOptions),
    /// Tells whether engines or servers have become slower. The exit code is 1 if one has, and 2
    /// if it cannot be told.
    Diff(DiffOptions),
    /// Lists engines and workloads.
    List,
    /// Carries one plan out and prints its outcome: what the other commands call.
    #[command(hide = true)]
    Measure {
        /// The plan as JSON.
        plan: String,
    },
    /// Loads what a plan says, and closes it or waits to be killed: what `open-clean` and `open-crash`
    /// call.
    #[command(hide = true)]
    Load {
        /// The plan as JSON.
        plan: String,
    },
}

/// Whether engines are confined to a memory cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Confine {
    /// Where that is possible.
    Auto,
    /// In no case.
    Never,
}

/// What is made of the results, beside the lines of `--json`.
#[derive(Debug, Default, Args)]
struct Pages {
    /// A page with plots of the results, as `report` makes it.
    #[arg(long)]
    html: Option<String>,
    /// The same in Markdown, without plots.
    #[arg(long)]
    markdown: Option<String>,
}

#[derive(Debug, Args)]
struct Options {
    /// The workloads, separated by commas; `list` shows them, and all is every one of those.
    /// `replay:FILE` replays a trace, with its own records, operations and sizes.
    #[arg(long, value_delimiter = ',', default_value = "ycsb-a,ycsb-b,ycsb-c,ycsb-d,ycsb-f",
          value_parser = parse_workloads)]
    workloads: Vec<Workloads>,
    /// Records loaded before a run, or written by a fill.
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// Operations of a run, all threads together. Fills and deletes have one for each record.
    #[arg(long, default_value_t = 100_000)]
    operations: u64,
    /// Operations of a run whose writes are synced (commit and its like), which take so much longer;
    /// as many as --operations unless given.
    #[arg(long)]
    commits: Option<u64>,
    /// Operations before those that are measured; a tenth of them unless given.
    #[arg(long)]
    warmup: Option<u64>,
    /// Bytes of a value (YCSB's field length). Keys have 16.
    #[arg(long, default_value_t = 100, alias = "field-length")]
    value_size: usize,
    /// Accesses over records, in the place of the workload's own.
    #[arg(long, value_enum)]
    distribution: Option<Distribution>,
    /// Threads that call the engine.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Whether threads wait for each answer, or run tasks that await them.
    #[arg(long, value_enum, default_value = "sync")]
    caller: Caller,
    /// Tasks of each thread, with --caller async; 16 unless given.
    #[arg(long)]
    tasks: Option<usize>,
    /// Operations per second that are begun, whatever becomes of those before (an open loop, for
    /// latencies). Without it each thread begins an operation when its last one is done.
    #[arg(long)]
    rate: Option<f64>,
    /// What a measured write survives before it completes: nothing, the process, or the machine;
    /// os unless given, but memory for advise.
    #[arg(long, value_enum)]
    durability: Option<Promise>,
    /// Memory for caches and write buffers, in bytes or as 256MiB; the data limit of an engine
    /// that keeps everything in memory.
    #[arg(long, default_value = "256MiB", value_parser = parse_bytes)]
    memory: u64,
    /// Whether each engine runs in a memory cgroup of a quarter more than --memory and 64 MiB.
    #[arg(long, value_enum, default_value = "auto")]
    confine: Confine,
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

/// Tasks of a thread unless they are given.
const TASKS: usize = 16;

/// One workload, or all that have a name.
#[derive(Debug, Clone)]
struct Workloads(Vec<Workload>);

fn parse_workloads(text: &str) -> Result<Workloads, String> {
    match text {
        "all" => Ok(Workloads(Workload::all().collect())),
        _ => text.parse().map(|workload| Workloads(vec![workload])),
    }
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
        Command::Run { engine, rounds, pages, options } => {
            compare(adapters, vec![engine], None, rounds, &pages, options)
        }
        Command::Compare { engines, baseline, rounds, pages, options } => {
            compare(adapters, all_of(&engines, adapters), baseline, rounds, &pages, options)
        }
        Command::Advise { needs, rounds, options } => advise(adapters, needs, rounds, options),
        Command::Server(arguments) => arguments.run(),
        Command::Report(options) => report::write(&options),
        Command::Diff(options) => return diff_results(&options),
        Command::List => {
            list(adapters);
            Ok(())
        }
        Command::Measure { plan } => measure(adapters, &plan),
        Command::Load { plan } => {
            parse_plan(&plan).and_then(|plan| driver::load_and_wait(adapters, &plan))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferrokit-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn diff_results(options: &DiffOptions) -> ExitCode {
    match diff::run(options) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ferrokit-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn list(adapters: &[Adapter]) {
    println!("engines");
    for engine in ferrokit_engines::engines() {
        println!("  {:14} {}", engine.name, engine.description);
    }
    for adapter in adapters {
        println!("  {:14} {}", adapter.name, adapter.description);
    }
    println!("workloads");
    for (name, profile) in NAMED {
        println!("  {name:14} {}", profile.summary);
    }
    println!("  replay:FILE    the operations of a trace");
}

fn parse_plan(plan: &str) -> Result<Plan> {
    serde_json::from_str(plan)
        .map_err(|error| Error::invalid("bench.measure", "not a plan").with_source(error))
}

fn measure(adapters: &[Adapter], plan: &str) -> Result<()> {
    let outcome = driver::measure(adapters, &parse_plan(plan)?)?;
    println!("{}", serde_json::to_string(&outcome).map_err(json_error)?);
    Ok(())
}

/// The names with `all` replaced by those of all engines, the adapters' first. `mvcc` is none: it
/// wraps another.
fn all_of(names: &[String], adapters: &[Adapter]) -> Vec<String> {
    let own = ferrokit_engines::engines().map(|engine| engine.name);
    let own = own.filter(|name| *name != "mvcc");
    let all: Vec<&str> = adapters.iter().map(|adapter| adapter.name).chain(own).collect();
    let mut engines: Vec<String> = Vec::new();
    for name in names {
        match name.as_str() {
            "all" => engines.extend(all.iter().map(|name| (*name).to_owned())),
            _ => engines.push(name.clone()),
        }
    }
    engines
}

/// Opens a file that is replaced; what is in it stays until something is written.
fn open_output(path: &str) -> Result<File> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|error| Error::io("bench.output", error).with_file(path))
}

/// The lines of a comparison: into a file, and kept for pages.
struct Lines {
    file: Option<File>,
    kept: Option<Vec<u8>>,
}

impl Lines {
    /// Empties the file: call it when nothing can be refused any more.
    fn open(json: Option<&str>, is_kept: bool) -> Result<Self> {
        let file = json.map(open_output).transpose()?;
        if let Some(file) = &file {
            file.set_len(0).map_err(|error| Error::io("bench.json", error))?;
        }
        Ok(Self { file, kept: is_kept.then(Vec::new) })
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}

fn compare(
    adapters: &[Adapter],
    engines: Vec<String>,
    baseline: Option<String>,
    rounds: usize,
    pages: &Pages,
    options: Options,
) -> Result<()> {
    let json = options.json.clone();
    let baseline_at = match &baseline {
        None => 0,
        Some(name) => engines.iter().position(|engine| engine == name).ok_or_else(|| {
            Error::invalid("bench", format!("--baseline {name} is none of the engines"))
        })?,
    };
    let comparison = options.comparison(rounds, Promise::Os)?;
    let comparison = Comparison { engines, baseline: baseline_at, ..comparison };
    comparison.check()?;
    [&pages.html, &pages.markdown]
        .into_iter()
        .flatten()
        .try_for_each(|path| open_output(path).map(drop))?;
    let mut lines = Lines::open(json.as_deref(), pages.html.is_some() || pages.markdown.is_some())?;
    let runs = comparison.engines.len() * comparison.workloads.len() * comparison.rounds;
    let watch = Watch::new(runs);
    let ran = comparison.run(adapters, &mut lines, &watch, &mut |workload, series| {
        watch.print(&table(&comparison, workload, series));
        Ok(())
    });
    drop(watch);
    // Also of what was measured before a wrong answer.
    if let Some(lines) = &lines.kept {
        report::write_of(lines, baseline.as_deref(), &pages.html, &pages.markdown)?;
    }
    match ran? {
        failures if failures.is_empty() => Ok(()),
        failures => {
            let (number, failures) = (failures.len(), failures.join("\n  "));
            let what = format!("{number} runs failed:\n  {failures}");
            Err(Error::new(ErrorKind::Io, "bench.compare", what))
        }
    }
}

fn advise(adapters: &[Adapter], needs: Vec<Need>, rounds: usize, options: Options) -> Result<()> {
    let json = options.json.clone();
    let comparison = options.comparison(rounds, Promise::Memory)?;
    let advice = Advice { comparison, needs };
    let mut lines = Lines::open(json.as_deref(), false)?;
    println!("{}", advice.give(adapters, &mut lines)?);
    Ok(())
}

impl Options {
    /// What is asked for, without engines.
    fn comparison(self, rounds: usize, durability: Promise) -> Result<Comparison> {
        if self.tasks.is_some() && self.caller == Caller::Sync {
            return Err(Error::invalid("bench", "--tasks is for --caller async"));
        }
        let plan = Plan {
            engine: String::new(),
            workload: Workload::Named("ycsb-a"),
            records: self.records,
            operations: self.operations,
            warmup: self.warmup.unwrap_or(self.operations / 10),
            value_bytes: self.value_size,
            distribution: self.distribution,
            threads: self.threads,
            caller: self.caller,
            tasks: self.tasks.unwrap_or(TASKS),
            rate_per_s: self.rate,
            durability: self.durability.unwrap_or(durability),
            memory_bytes: self.memory,
            memory_group: None,
            seed: self.seed,
            directory: format!("{}/{}", self.directory, std::process::id()),
        };
        let mut comparison = Comparison {
            engines: Vec::new(),
            baseline: 0,
            workloads: self.workloads.into_iter().flat_map(|Workloads(named)| named).collect(),
            rounds,
            commits: self.commits,
            traces: HashMap::new(),
            is_confined: self.confine == Confine::Auto,
            plan,
        };
        comparison.read_traces()?;
        Ok(comparison)
    }
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
        let line = "b compare --engines memory,lsm:?cache=1MiB --workloads ycsb-a,replay:t,scan-10 \
                    --durability synced --distribution latest --memory 1GiB --baseline memory";
        let Command::Compare { engines, rounds, options, baseline, .. } =
            Cli::parse_from(line.split_whitespace()).command
        else {
            panic!("not a comparison");
        };
        assert_eq!(engines, ["memory", "lsm:?cache=1MiB"]);
        assert_eq!((rounds, baseline.as_deref()), (5, Some("memory")));
        let named = options.workloads.iter().flat_map(|Workloads(named)| named);
        let workloads: Vec<_> = named.map(ToString::to_string).collect();
        assert_eq!(workloads, ["ycsb-a", "replay:t", "scan-10"]);
        assert_eq!((options.durability, options.memory), (Some(Promise::Synced), 1 << 30));
        assert_eq!(options.distribution, Some(Distribution::Latest));
        for wrong in ["b run", "b run --engine memory --workloads x", "b run --engine m --memory x"]
        {
            assert!(Cli::try_parse_from(wrong.split_whitespace()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_is_every_engine_and_every_workload() {
        let Ok(Workloads(workloads)) = parse_workloads("all") else { panic!("it is not known") };
        assert_eq!(workloads.len(), NAMED.len());
        let open = |_: &EngineUrl, _: &crate::SubjectSettings| -> Result<crate::Subject> {
            panic!("nothing is to be opened")
        };
        let adapter = Adapter { name: "foreign", description: "", skips: "", open };
        let engines = all_of(&["lsm:?cache=1MiB".to_owned(), "all".to_owned()], &[adapter]);
        assert_eq!(engines, ["lsm:?cache=1MiB", "foreign", "dash", "hybridlog", "lsm", "memory"]);
    }

    #[test]
    fn commits_have_a_number_of_their_own() {
        let line = "b run --engine lsm --workloads commit,ycsb-a --operations 5000 --commits 200";
        let Command::Run { options, .. } = Cli::parse_from(line.split_whitespace()).command else {
            panic!("not a run");
        };
        let comparison = options.comparison(1, Promise::Os).unwrap();
        let plans: Vec<Plan> =
            comparison.workloads.iter().map(|workload| comparison.plan_of(workload, "")).collect();
        let numbers: Vec<_> = plans.iter().map(|plan| (plan.operations, plan.warmup)).collect();
        assert_eq!(numbers, [(200, 20), (5000, 500)]);
    }
}
