//! [`Advice`]: which engine for a workload, on this machine.
//!
//! First what each engine promises: one that lacks something that is needed is left out, with the
//! reason. Those that are left are measured briefly, in interleaved rounds; the fastest over all
//! workloads (geometric mean of the ratios) is recommended, with what it costs beside the others.

use std::fmt::Write as _;
use std::io::Write;

use ferrokit_engine::{Capabilities, Durability, Error, Result, Tier};
use ferrokit_storage::{Host, IoBackend};

use crate::compare::{Comparison, Series};
use crate::dataset::KEY_BYTES;
use crate::measurement::Measurement;
use crate::plan::Promise;
use crate::ratio::median;
use crate::subject::{self, Adapter, SubjectSettings, url_of};
use crate::table::table;
use crate::watch::Watch;
use crate::workload::Workload;

/// Memory that an engine takes per key beyond key and value, about: to tell whether data fit.
const OVERHEAD_BYTES_PER_KEY: u64 = 64;
/// A figure counts as better than another if it is by this factor.
const CLEARLY: f64 = 1.2;
const MIB: f64 = (1 << 20) as f64;

/// Something an engine must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Need {
    /// Range scans.
    Scans,
    /// Consistent views of everything.
    Snapshots,
    /// Transactions over several keys.
    Transactions,
    /// Online backup.
    Backup,
    /// A feed of all changes.
    Changes,
    /// Data may outgrow memory.
    LargerThanMemory,
}

impl Need {
    /// What `capabilities` lack of it, in words.
    fn lack(self, capabilities: &Capabilities) -> Option<&'static str> {
        let is_on_disk =
            capabilities.tiers.iter().any(|tier| matches!(tier, Tier::Disk | Tier::Object));
        let (has, lack) = match self {
            Self::Scans => (capabilities.ordered, "keeps its keys in no order: no range scans"),
            Self::Snapshots => (capabilities.snapshots, "has no snapshots"),
            Self::Transactions => (capabilities.transactions.is_some(), "has no transactions"),
            Self::Backup => (capabilities.checkpoint, "has no online backup"),
            Self::Changes => (capabilities.changes, "has no change feed"),
            Self::LargerThanMemory => (is_on_disk, "keeps all data in memory"),
        };
        (!has).then_some(lack)
    }
}

/// An engine that was looked at.
struct Candidate {
    name: String,
    capabilities: Capabilities,
}

/// An engine that does not fit, and why.
type LeftOut = (String, String);

/// What is asked for: a comparison without engines, and what they must have.
pub struct Advice {
    /// Workloads, sizes, durability, memory. Its engines are replaced.
    pub comparison: Comparison,
    /// What the engine must have.
    pub needs: Vec<Need>,
}

impl Advice {
    /// Looks at every engine, measures those that fit, and writes the recommendation to `out`.
    ///
    /// # Errors
    /// Those of the comparison; `Unsupported` if no engine fits.
    pub fn give(self, adapters: &[Adapter], json: &mut dyn Write) -> Result<String> {
        self.comparison.check_work()?;
        let (fitting, left_out) = self.candidates(adapters)?;
        let mut out = String::new();
        for (name, reason) in &left_out {
            let _ = writeln!(out, "{name} is left out: it {reason}");
        }
        if fitting.is_empty() {
            let what = format!("no engine has what is needed\n{out}");
            return Err(Error::unsupported("bench.advise", what));
        }
        let engines: Vec<String> = fitting.iter().map(|candidate| candidate.name.clone()).collect();
        let comparison = Comparison { engines, baseline: 0, ..self.comparison };
        let runs = comparison.engines.len() * comparison.workloads.len() * comparison.rounds;
        let watch = Watch::new(runs);
        let mut all: Vec<(Workload, Vec<Series>)> = Vec::new();
        // What failed is in the tables, and such an engine is not recommended.
        let _ = comparison.run(adapters, json, &watch, &mut |workload, series| {
            let _ = writeln!(out, "{}", table(&comparison, workload, series));
            all.push((workload.clone(), series.to_vec()));
            Ok(())
        })?;
        drop(watch);
        out.push_str(&recommend(&fitting, &all));
        if comparison.plan.durability == Promise::Memory {
            let durable = |candidate: &&Candidate| {
                candidate.capabilities.strongest_durability > Durability::Memory
            };
            let names: Vec<&str> =
                fitting.iter().filter(durable).map(|candidate| candidate.name.as_str()).collect();
            let names = names.join(", ");
            let _ = writeln!(
                out,
                "Measured without durability. If writes must survive (--durability os, synced), \
                 choose among: {names}."
            );
        }
        Ok(out)
    }

    /// The engines that have what is needed, and the others with what they lack.
    fn candidates(&self, adapters: &[Adapter]) -> Result<(Vec<Candidate>, Vec<LeftOut>)> {
        let host = Host::system(IoBackend::Auto)?;
        let wrapped = match self.needs.contains(&Need::Transactions) {
            true => &["mvcc+lsm", "mvcc+hybridlog", "mvcc+memory"][..],
            false => &[],
        };
        let own = ferrokit_engines::engines().map(|engine| engine.name);
        let own = own.filter(|name| *name != "mvcc").chain(wrapped.iter().copied());
        let names = own.chain(adapters.iter().map(|adapter| adapter.name));
        let (mut fitting, mut left_out) = (Vec::new(), Vec::new());
        for name in names {
            let looked = self.look_at(&host, adapters, name);
            let capabilities = match looked {
                Ok(capabilities) => capabilities,
                // One that cannot be opened here, such as for too little memory, is not the answer.
                Err(error) => {
                    left_out.push((name.to_owned(), format!("cannot be opened: {error}")));
                    continue;
                }
            };
            match self.lack(&capabilities) {
                None => fitting.push(Candidate { name: name.to_owned(), capabilities }),
                Some(reason) => left_out.push((name.to_owned(), reason)),
            }
        }
        host.fs.remove_dir_all(&self.comparison.plan.directory)?;
        Ok((fitting, left_out))
    }

    fn look_at(&self, host: &Host, adapters: &[Adapter], name: &str) -> Result<Capabilities> {
        let plan = &self.comparison.plan;
        let directory = format!("{}/look-{name}", plan.directory);
        host.fs.create_dir_all(&directory)?;
        let settings = SubjectSettings {
            directory: directory.clone(),
            memory_bytes: plan.memory_bytes,
            // What an engine can do may depend on what it is to promise.
            durability: plan.durability.durability(),
        };
        let subject = subject::open(host, adapters, &url_of(name), &settings)?;
        let capabilities = subject.engine.capabilities().clone();
        subject.engine.close().wait()?;
        drop(subject);
        host.fs.remove_dir_all(&directory)?;
        Ok(capabilities)
    }

    fn lack(&self, capabilities: &Capabilities) -> Option<String> {
        let plan = &self.comparison.plan;
        let lack = self.needs.iter().find_map(|need| need.lack(capabilities));
        if let Some(lack) = lack {
            return Some(lack.to_owned());
        }
        let durability = plan.durability.durability();
        if capabilities.strongest_durability < durability {
            let name = plan.durability.name();
            return Some(format!("cannot promise durability {name}"));
        }
        if self.comparison.workloads.iter().any(Workload::scans) && !capabilities.ordered {
            return Need::Scans.lack(capabilities).map(str::to_owned);
        }
        let needed = self.comparison.workloads.iter().map(|workload| {
            let plan = self.comparison.plan_of(workload, "");
            let per_key = (KEY_BYTES + plan.value_bytes) as u64 + OVERHEAD_BYTES_PER_KEY;
            plan.records.saturating_mul(per_key)
        });
        let needed = needed.max().unwrap_or(0);
        if Need::LargerThanMemory.lack(capabilities).is_some() && needed > plan.memory_bytes {
            let (needed, has) = (needed as f64 / MIB, plan.memory_bytes as f64 / MIB);
            return Some(format!(
                "keeps all data in memory: about {needed:.0} MiB of them, with a budget of {has:.0}"
            ));
        }
        None
    }
}

/// The figures of one engine over all workloads, relative to the best of all engines.
struct Figures {
    engine: usize,
    speed: f64,
    p99_ns: f64,
    memory_bytes: f64,
    disk_bytes: f64,
    cpu_us: f64,
}

fn recommend(candidates: &[Candidate], all: &[(Workload, Vec<Series>)]) -> String {
    let mut figures: Vec<Figures> = (0..candidates.len())
        .filter_map(|engine| {
            let own: Vec<&Series> =
                all.iter().filter_map(|(_, series)| series.get(engine)).collect();
            let mean = |figure: &dyn Fn(&Measurement) -> f64| geometric_mean(&own, figure);
            Some(Figures {
                engine,
                speed: mean(&|m| m.ops_per_s)?,
                p99_ns: mean(&|m| m.latency_ns.p99 as f64)?,
                memory_bytes: mean(&|m| m.rss_bytes as f64)?,
                disk_bytes: mean(&|m| m.disk_bytes as f64)?,
                cpu_us: mean(&Measurement::cpu_us_per_operation)?,
            })
        })
        .collect();
    figures.sort_by(|a, b| b.speed.total_cmp(&a.speed));
    let Some((best, others)) = figures.split_first() else {
        return "No engine could do all of the workloads.\n".to_owned();
    };
    let name = |figures: &Figures| {
        candidates.get(figures.engine).map_or("", |candidate| candidate.name.as_str())
    };
    let mut out = format!("Use {}: {:.0} operations/s over all workloads", name(best), best.speed);
    match others.first() {
        Some(next) => {
            let _ = writeln!(out, ", {:.2}x {}.", best.speed / next.speed, name(next));
        }
        None => out.push_str("; no other engine fits.\n"),
    }
    if let Some(candidate) = candidates.get(best.engine) {
        let _ = writeln!(out, "  It {}.", promises(&candidate.capabilities));
    }
    for other in others {
        let better: Vec<String> = [
            ("99th percentile", other.p99_ns / 1e3, best.p99_ns / 1e3, "us"),
            ("memory", other.memory_bytes / MIB, best.memory_bytes / MIB, "MiB"),
            ("disk", other.disk_bytes / MIB, best.disk_bytes / MIB, "MiB"),
            ("processor time", other.cpu_us, best.cpu_us, "us/op"),
        ]
        .into_iter()
        .filter(|(_, own, of_best, _)| *own * CLEARLY < *of_best)
        .map(|(what, own, of_best, unit)| format!("{what} {own:.1} for {of_best:.1} {unit}"))
        .collect();
        let has = candidates
            .get(other.engine)
            .zip(candidates.get(best.engine))
            .map_or_else(Vec::new, |(other, best)| {
                advantages(&other.capabilities, &best.capabilities)
            });
        let advantages = [better, has].concat();
        let relation = other.speed / best.speed;
        let _ = match advantages.is_empty() {
            true => writeln!(out, "{} has {relation:.2}x its speed.", name(other)),
            false => writeln!(
                out,
                "{} has {relation:.2}x its speed, but {}.",
                name(other),
                advantages.join(", ")
            ),
        };
    }
    out
}

/// The geometric mean of medians; `None` if one of the workloads was not possible.
fn geometric_mean(series: &[&Series], figure: &dyn Fn(&Measurement) -> f64) -> Option<f64> {
    let mut sum = 0.0;
    for series in series {
        sum += median(&series.figures(figure))?.max(1e-9).ln();
    }
    (!series.is_empty()).then(|| (sum / series.len() as f64).exp())
}

/// What an engine can do, in words.
fn promises(capabilities: &Capabilities) -> String {
    let durability = match capabilities.strongest_durability {
        Durability::Memory => "keeps nothing beyond the process",
        Durability::Os => "survives the end of the process",
        Durability::Synced => "survives the loss of power",
    };
    let mut words = vec![durability];
    for need in [Need::Scans, Need::Snapshots, Need::Backup, Need::LargerThanMemory] {
        words.extend(need.lack(capabilities));
    }
    words.join(", ")
}

/// What one engine can do and another cannot.
fn advantages(own: &Capabilities, of_best: &Capabilities) -> Vec<String> {
    let all = [
        (Need::Scans, "has range scans"),
        (Need::Snapshots, "has snapshots"),
        (Need::Transactions, "has transactions"),
        (Need::Backup, "has online backup"),
        (Need::LargerThanMemory, "lets data outgrow memory"),
    ];
    let mut words: Vec<String> = all
        .into_iter()
        .filter(|(need, _)| need.lack(own).is_none() && need.lack(of_best).is_some())
        .map(|(_, words)| words.to_owned())
        .collect();
    if own.strongest_durability > of_best.strongest_durability {
        words.push("is durable".to_owned());
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::plan::tests::plan;

    fn advice(workload: &str, needs: Vec<Need>) -> Advice {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ferrokit-advise-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let mut plan = plan(workload);
        plan.directory = directory.to_string_lossy().into_owned();
        let comparison = Comparison {
            engines: Vec::new(),
            baseline: 0,
            workloads: vec![plan.workload.clone()],
            rounds: 1,
            commits: None,
            traces: HashMap::new(),
            is_confined: false,
            plan,
        };
        Advice { comparison, needs }
    }

    fn candidates(advice: &Advice) -> Vec<Candidate> {
        let (fitting, left_out) = advice.candidates(&[]).unwrap();
        assert!(left_out.iter().all(|(_, reason)| !reason.is_empty()));
        let directory = &advice.comparison.plan.directory;
        assert!(!std::path::Path::new(directory).exists(), "{directory} is left over");
        fitting
    }

    fn fitting(advice: &Advice) -> Vec<String> {
        candidates(advice).into_iter().map(|candidate| candidate.name).collect()
    }

    #[test]
    fn an_engine_that_lacks_what_is_needed_is_left_out() {
        assert_eq!(
            fitting(&advice("ycsb-a", vec![])),
            ["dash", "hybridlog", "lsm", "memory"],
            "without needs all fit"
        );
        assert_eq!(fitting(&advice("scan-10", vec![])), ["lsm", "memory"]);
        assert_eq!(fitting(&advice("ycsb-a", vec![Need::LargerThanMemory])), ["lsm"]);
        let transactions = fitting(&advice("ycsb-a", vec![Need::Transactions]));
        assert_eq!(transactions, ["memory", "mvcc+lsm", "mvcc+hybridlog", "mvcc+memory"]);
        let mut durable = advice("ycsb-a", vec![]);
        durable.comparison.plan.durability = Promise::Synced;
        assert_eq!(fitting(&durable), ["hybridlog", "lsm"]);
        let mut large = advice("ycsb-a", vec![]);
        large.comparison.plan.records = 10_000_000;
        assert_eq!(fitting(&large), ["lsm"]);
    }

    #[test]
    fn an_engine_that_cannot_be_opened_is_left_out_with_the_reason() {
        let open = |_: &ferrokit_engine::EngineUrl, _: &SubjectSettings| {
            Err(Error::invalid("broken.open", "no such luck"))
        };
        let broken = Adapter { name: "broken", description: "", skips: "", open };
        let (fitting, left_out) = advice("ycsb-a", vec![]).candidates(&[broken]).unwrap();
        assert_eq!(fitting.len(), 4);
        let (name, reason) = left_out.first().unwrap();
        assert!(name == "broken" && reason.contains("no such luck"), "{name} {reason}");
    }

    #[test]
    fn data_are_weighed_as_the_workload_makes_them() {
        // 2000 records of 64 KiB, in the place of the 200,000 small ones that are asked for.
        let mut large = advice("large-values", vec![]);
        large.comparison.plan.records = 200_000;
        assert_eq!(fitting(&large), ["lsm"]);
    }

    #[test]
    fn the_fastest_is_recommended_with_what_the_others_have() {
        let candidate = |name: &str| {
            let fitting = candidates(&advice("ycsb-a", vec![]));
            fitting.into_iter().find(|candidate| candidate.name == name).unwrap()
        };
        let measured = |workload: &str, ops_per_s: f64| {
            let measurement = Measurement { ops_per_s, ..crate::measurement::tests::measurement() };
            let series = Series { measurements: vec![measurement], unsupported: None };
            (workload.parse::<Workload>().unwrap(), series)
        };
        let candidates = [candidate("hybridlog"), candidate("lsm")];
        let all: Vec<_> = [("ycsb-a", 400.0, 100.0), ("ycsb-c", 900.0, 1600.0)]
            .map(|(workload, one, other)| {
                let (name, first) = measured(workload, one);
                (name, vec![first, measured(workload, other).1])
            })
            .to_vec();
        let text = recommend(&candidates, &all);
        assert!(text.starts_with("Use hybridlog: 600 operations/s"), "{text}");
        assert!(text.contains("1.50x lsm"), "{text}");
        assert!(text.contains("lsm has 0.67x its speed, but has range scans"), "{text}");
        let impossible = Series { measurements: vec![], unsupported: Some("no".to_owned()) };
        let all = [("ycsb-e".parse().unwrap(), vec![impossible, measured("ycsb-e", 5.0).1])];
        assert!(recommend(&candidates, &all).starts_with("Use lsm"));
    }
}
