//! [`Case`]: a named check, what it needs, and how it is run.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use ferrokit_engine::{Capabilities, Durability, Isolation};

use crate::factory::EngineFactory;
use crate::lab::{Lab, Machine};

/// A named check.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name within the group.
    pub name: &'static str,
    /// What an engine or machine must have for it to make sense.
    pub needs: &'static [Need],
    /// Panics if the engine fails it.
    pub run: fn(&Lab),
}

/// A group of cases.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// Its cases.
    pub cases: &'static [Case],
}

/// What a case needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Batches of writes.
    Batches,
    /// Range scans.
    Ordered,
    /// Consistent views.
    Snapshots,
    /// Online backup.
    Checkpoint,
    /// A change feed.
    Changes,
    /// Transactions of any isolation.
    Transactions,
    /// Serializable transactions.
    Serializable,
    /// Sequence numbers.
    SequenceNumbers,
    /// An exact `keyspace_len`.
    ExactLen,
    /// Three keyspaces.
    Keyspaces,
    /// Data that survive reopening.
    Durable,
    /// Writes at `Synced`.
    Synced,
    /// A simulated machine.
    Simulated,
    /// The absence of a capability: shows that it is cleanly refused.
    No(&'static Need),
}

impl Need {
    /// Why the case cannot run here; `None` if it can.
    fn missing(
        self,
        factory: &dyn EngineFactory,
        machine: Machine,
        facts: &Capabilities,
    ) -> Option<String> {
        let is_there = match self {
            Self::Batches => facts.max_batch_ops > 0,
            Self::Ordered => facts.ordered,
            Self::Snapshots => facts.snapshots,
            Self::Checkpoint => facts.checkpoint,
            Self::Changes => facts.changes,
            Self::Transactions => facts.transactions.is_some(),
            Self::Serializable => facts.transactions == Some(Isolation::Serializable),
            Self::SequenceNumbers => facts.sequence_numbers,
            Self::ExactLen => facts.exact_len,
            Self::Keyspaces => facts.max_keyspaces >= 3,
            Self::Durable => factory.durable(),
            Self::Synced => factory.durable() && facts.strongest_durability == Durability::Synced,
            Self::Simulated => machine == Machine::Sim,
            Self::No(need) => {
                return match need.missing(factory, machine, facts) {
                    None => Some(format!("it has {need:?}, other cases use it")),
                    Some(_) => None,
                };
            }
        };
        let reason = match self {
            Self::Simulated => "needs a simulated machine",
            _ => "the engine does not have it",
        };
        (!is_there).then(|| format!("{self:?}: {reason}"))
    }
}

/// Why a case does not run: a need that is missing, or an exclusion of the factory's.
fn obstacle(lab: &Lab, group: &Group, case: &Case, facts: &Capabilities) -> Option<String> {
    let (factory, machine) = (lab.factory(), lab.machine());
    let missing = case.needs.iter().find_map(|need| need.missing(factory, machine, facts));
    missing.or_else(|| {
        let is_excluded = |name: &str| name.split_once("::") == Some((group.name, case.name));
        let exclusion = factory.exclusions().iter().find(|(name, _)| is_excluded(name));
        exclusion.map(|(_, reason)| (*reason).to_owned())
    })
}

/// Runs one case: what a generated `#[test]` does.
///
/// # Panics
/// If the case fails, or takes longer than `FERROKIT_CASE_SECONDS` (600 unless set).
pub fn run_case<F: EngineFactory>(factory: F, machine: Machine, group: &'static Group, name: &str) {
    let case = group
        .cases
        .iter()
        .find(|case| case.name == name)
        .unwrap_or_else(|| panic!("group {} has no case {name}", group.name));
    let lab = Lab::new(Arc::new(factory), machine, format!("{}::{name}", group.name));
    if lab.check_machine().is_err() {
        // The summary says so, once for all cases.
        return;
    }
    let facts = lab.capabilities();
    if let Some(reason) = obstacle(&lab, group, case, &facts) {
        println!("skipped: {}: {reason}", lab.title());
        return;
    }
    within_time_limit(lab, case.run);
}

/// Prints how many cases of `groups` run and which do not, with the reasons. Part of every suite,
/// so that none shrinks in silence.
pub fn summarize<F: EngineFactory>(factory: F, machine: Machine, groups: &[&'static Group]) {
    let lab = Lab::new(Arc::new(factory), machine, "summary".to_owned());
    if let Err(reason) = lab.check_machine() {
        let cases: usize = groups.iter().map(|group| group.cases.len()).sum();
        return say(&format!("{}: all {cases} cases skipped: {reason}", lab.title()));
    }
    let facts = lab.capabilities();
    let mut skipped = Vec::new();
    let mut total = 0;
    for group in groups {
        for case in group.cases {
            total += 1;
            if let Some(reason) = obstacle(&lab, group, case, &facts) {
                skipped.push(format!("  {}::{}: {reason}", group.name, case.name));
            }
        }
    }
    say(&format!(
        "{} on {machine:?}: {} of {total} cases apply, {} skipped{}{}",
        facts.engine,
        total - skipped.len(),
        skipped.len(),
        if skipped.is_empty() { "" } else { ":\n" },
        skipped.join("\n")
    ));
    assert!(total > skipped.len(), "no case applies");
    for (name, _) in lab.factory().exclusions() {
        let is_there = groups.iter().any(|group| {
            group.cases.iter().any(|case| name.split_once("::") == Some((group.name, case.name)))
        });
        assert!(is_there, "{name} is excluded, but no case of these groups");
    }
}

/// Runs a case on a thread of its own, so that a hang becomes a failure.
fn within_time_limit(lab: Lab, run: fn(&Lab)) {
    match run_on_thread(lab, run) {
        Ok(()) => {}
        Err(panic) => resume_unwind(panic),
    }
}

fn run_on_thread(lab: Lab, run: fn(&Lab)) -> std::thread::Result<()> {
    let seconds = std::env::var("FERROKIT_CASE_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(600);
    let title = lab.title();
    let (sender, receiver) = channel();
    let body = move || {
        let result = catch_unwind(AssertUnwindSafe(|| run(&lab)));
        // A lab's directory is removed before the test ends.
        drop(lab);
        let _ = sender.send(result);
    };
    let running = std::thread::Builder::new().name(title.clone()).spawn(body);
    running.unwrap_or_else(|error| panic!("no thread for {title}: {error}"));
    match receiver.recv_timeout(Duration::from_secs(seconds)) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(Box::new(format!("{title} hangs: no end after {seconds} s")))
        }
    }
}

/// Runs one case and answers how it ended: for tests of the suite itself, which run it on engines
/// that are broken on purpose. A case whose needs are missing does not count as passed.
///
/// # Errors
/// What the case says.
pub fn check_case<F: EngineFactory>(
    factory: F,
    machine: Machine,
    group: &'static Group,
    name: &str,
) -> Result<(), String> {
    let case = group.cases.iter().find(|case| case.name == name).ok_or("no such case")?;
    let lab = Lab::new(Arc::new(factory), machine, format!("{}::{name}", group.name));
    lab.check_machine()?;
    let facts = lab.capabilities();
    match obstacle(&lab, group, case, &facts) {
        Some(reason) => Err(format!("skipped: {reason}")),
        None => run_on_thread(lab, case.run).map_err(|panic| match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => (*panic.downcast::<&str>().unwrap_or(Box::new("a panic"))).to_owned(),
        }),
    }
}

/// Prints a line even where the test harness captures output.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Declares the cases of a group: `name` or `name: Need + Need`.
macro_rules! group {
    ($group:ident, $export:ident: $($case:ident $(: $($need:ident)|+)?),* $(,)?) => {
        $crate::case::export_group! { ($) $group $export $($case)* }

        /// The group.
        pub static GROUP: $crate::case::Group = $crate::case::Group {
            name: stringify!($group),
            cases: &[$($crate::case::Case {
                name: stringify!($case),
                needs: &[$($($crate::case::needs::$need),+)?],
                run: $case,
            }),*],
        };
    };
}
pub(crate) use group;

/// Makes the macro that [`suite!`](crate::suite) expands a group's tests with.
macro_rules! export_group {
    (($dollar:tt) $group:ident $export:ident $($case:ident)*) => {
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $export {
            ($dollar factory:expr, $dollar machine:expr) => {
                $(
                    #[test]
                    fn $case() {
                        $crate::run_case(
                            $dollar factory,
                            $dollar machine,
                            &$crate::cases::$group::GROUP,
                            stringify!($case),
                        );
                    }
                )*
            };
        }
    };
}
pub(crate) use export_group;

/// The needs by the names used in `group!`.
#[expect(non_upper_case_globals, reason = "named like the variants they stand for")]
pub(crate) mod needs {
    use super::Need;

    pub(crate) const Batches: Need = Need::Batches;
    pub(crate) const Ordered: Need = Need::Ordered;
    pub(crate) const Snapshots: Need = Need::Snapshots;
    pub(crate) const Checkpoint: Need = Need::Checkpoint;
    pub(crate) const Changes: Need = Need::Changes;
    pub(crate) const Transactions: Need = Need::Transactions;
    pub(crate) const Serializable: Need = Need::Serializable;
    pub(crate) const SequenceNumbers: Need = Need::SequenceNumbers;
    pub(crate) const ExactLen: Need = Need::ExactLen;
    pub(crate) const Keyspaces: Need = Need::Keyspaces;
    pub(crate) const Durable: Need = Need::Durable;
    pub(crate) const Synced: Need = Need::Synced;
    pub(crate) const Simulated: Need = Need::Simulated;
    pub(crate) const NotOrdered: Need = Need::No(&Need::Ordered);
    pub(crate) const NotSnapshots: Need = Need::No(&Need::Snapshots);
    pub(crate) const NotCheckpoint: Need = Need::No(&Need::Checkpoint);
    pub(crate) const NotChanges: Need = Need::No(&Need::Changes);
    pub(crate) const NotTransactions: Need = Need::No(&Need::Transactions);
    pub(crate) const NotSerializable: Need = Need::No(&Need::Serializable);
    pub(crate) const NotSequenceNumbers: Need = Need::No(&Need::SequenceNumbers);
    pub(crate) const NotExactLen: Need = Need::No(&Need::ExactLen);
    pub(crate) const NotSynced: Need = Need::No(&Need::Synced);
}
