//! The operations of a run, generated before it: the same for the same plan, whatever the store.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::dataset::{Dataset, Key, mix};
use crate::distribution::{Choice, Chooser};
use crate::measurement::Plan;
use crate::workload::Kind;

/// Items from here on are never written: their keys are those of misses.
const ABSENT_ITEMS: u64 = 1 << 40;

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The key, made beforehand.
    pub key: Key,
    /// Its item. For a scan: the rank of the key among the loaded keys.
    pub item: u32,
    /// Entries to scan.
    pub scan_entries: u16,
    /// What to do.
    pub kind: Kind,
}

/// The data and the operations of a run.
pub struct Stream {
    /// Keys and values.
    pub dataset: Dataset,
    /// The operations of each thread.
    pub threads: Vec<Vec<Operation>>,
    /// Items loaded before the run: those below this.
    pub loaded: u64,
    /// Items loaded or inserted are below this.
    pub item_limit: u64,
    /// The loaded items in the order of their keys; empty unless there are scans.
    pub sorted: Vec<u32>,
}

impl Stream {
    /// The stream of a plan that was [checked](Plan::check).
    pub fn generate(plan: &Plan) -> Self {
        let profile = plan.workload.profile();
        let dataset = Dataset::new(plan.seed, profile.order, plan.value_bytes);
        let loaded = if profile.is_loaded { plan.records } else { 0 };
        let sorted = if plan.workload.scans() { sort(&dataset, loaded) } else { Vec::new() };
        let threads: Vec<Vec<Operation>> = if plan.workload.takes_every_record_once() {
            let kind = profile.mix.1;
            (0..plan.threads).map(|thread| each_record(plan, &dataset, kind, thread)).collect()
        } else {
            let distribution = plan.distribution.unwrap_or(profile.distribution);
            let chooser = Chooser::new(distribution, plan.records);
            let ranks = ranks(&sorted);
            (0..plan.threads)
                .map(|thread| mixed(plan, &dataset, &chooser, &ranks, thread))
                .collect()
        };
        let item_limit = threads
            .iter()
            .flatten()
            .filter(|op| op.kind == Kind::Insert)
            .map(|op| u64::from(op.item) + 1)
            .fold(loaded, u64::max);
        Self { dataset, threads, loaded, item_limit, sorted }
    }

    /// How many operations there are.
    pub fn operations(&self) -> u64 {
        self.threads.iter().map(|operations| operations.len() as u64).sum()
    }
}

/// The loaded items in the order of their keys.
fn sort(dataset: &Dataset, loaded: u64) -> Vec<u32> {
    let mut sorted: Vec<u32> = (0..loaded as u32).collect();
    sorted.sort_by_cached_key(|&item| dataset.key(u64::from(item)));
    sorted
}

/// The inverse: the rank of each item.
fn ranks(sorted: &[u32]) -> Vec<u32> {
    let mut ranks = vec![0; sorted.len()];
    for (rank, &item) in sorted.iter().enumerate() {
        ranks[item as usize] = rank as u32;
    }
    ranks
}

/// Thread `thread`'s share of an operation on each record: every `plan.threads`-th, so that the
/// threads together go through the items in order.
fn each_record(plan: &Plan, dataset: &Dataset, kind: Kind, thread: usize) -> Vec<Operation> {
    (thread as u64..plan.records)
        .step_by(plan.threads)
        .map(|item| Operation { key: dataset.key(item), item: item as u32, scan_entries: 0, kind })
        .collect()
}

fn mixed(
    plan: &Plan,
    dataset: &Dataset,
    chooser: &Chooser,
    ranks: &[u32],
    thread: usize,
) -> Vec<Operation> {
    let profile = plan.workload.profile();
    let (percent, first, second) = profile.mix;
    let mut rng = SmallRng::seed_from_u64(mix(plan.seed).wrapping_add(thread as u64 + 1));
    let threads = plan.threads as u64;
    let inserted_item = |insert: u64| plan.records + insert * threads + thread as u64;
    let share = plan.operations / threads + u64::from((thread as u64) < plan.operations % threads);
    let mut inserted = 0;
    (0..share)
        .map(|_| {
            let kind = if rng.random_range(0..100) < percent { first } else { second };
            let item = match kind {
                Kind::Insert => {
                    inserted += 1;
                    inserted_item(inserted - 1)
                }
                Kind::ReadMiss => ABSENT_ITEMS + rng.random_range(0..plan.records),
                _ => {
                    match chooser.choose(&mut rng, if kind == Kind::Scan { 0 } else { inserted }) {
                        Choice::Loaded(item) => item,
                        Choice::Inserted(insert) => inserted_item(insert),
                    }
                }
            };
            let (least, most) = profile.scan_entries;
            let scan_entries = if kind == Kind::Scan { rng.random_range(least..=most) } else { 0 };
            let subject = match kind {
                Kind::Scan => ranks[item as usize],
                _ => item as u32,
            };
            Operation { key: dataset.key(item), item: subject, scan_entries, kind }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;
    use crate::measurement::tests::plan;
    use crate::workload::Workload;

    #[test]
    fn a_seed_makes_a_stream_and_another_seed_another() {
        for workload in [Workload::A, Workload::D, Workload::E, Workload::F] {
            let one = Stream::generate(&plan(workload));
            let same = Stream::generate(&plan(workload));
            assert_eq!(one.threads, same.threads);
            assert_ne!(one.threads[0], one.threads[1], "threads do different things");
            let other = Stream::generate(&Plan { seed: 8, ..plan(workload) });
            assert_ne!(one.threads, other.threads);
        }
    }

    #[test]
    fn the_mix_is_as_the_profile_says() {
        let plan = Plan { operations: 20_000, ..plan(Workload::B) };
        let stream = Stream::generate(&plan);
        let updates = stream.threads.iter().flatten().filter(|op| op.kind == Kind::Update).count();
        assert_eq!(stream.operations(), 20_000);
        assert!((850..1150).contains(&updates), "{updates}");
    }

    #[test]
    fn a_fill_takes_every_record_once() {
        let stream = Stream::generate(&Plan { threads: 3, ..plan(Workload::FillSequential) });
        let mut items: Vec<_> = stream.threads.iter().flatten().map(|op| op.item).collect();
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
        for thread in &stream.threads {
            assert!(thread.is_sorted_by_key(|op| op.key), "in key order");
        }
        assert_eq!((stream.loaded, stream.item_limit), (0, 1000));
    }

    #[test]
    fn reads_of_the_latest_find_what_was_inserted_before() {
        let stream = Stream::generate(&plan(Workload::D));
        let mut of_inserted = 0;
        for thread in &stream.threads {
            let mut present = std::collections::HashSet::new();
            for op in thread {
                match op.kind {
                    Kind::Insert => assert!(present.insert(op.item), "inserted twice"),
                    _ if op.item >= 1000 => {
                        of_inserted += 1;
                        assert!(present.contains(&op.item), "read before its insert");
                    }
                    _ => {}
                }
            }
        }
        assert!(of_inserted > 100, "{of_inserted}");
    }

    #[test]
    fn a_distribution_can_be_chosen() {
        let uniform = Plan { distribution: Some(Distribution::Uniform), ..plan(Workload::C) };
        let stream = Stream::generate(&uniform);
        let mut items: Vec<_> = stream.threads.iter().flatten().map(|op| op.item).collect();
        items.sort_unstable();
        items.dedup();
        assert!(items.len() > 800, "{} records of 1000 are read", items.len());
    }

    #[test]
    fn misses_are_no_records() {
        let stream = Stream::generate(&plan(Workload::ReadMiss));
        for op in stream.threads.iter().flatten() {
            assert!(stream.dataset.item_of(&op.key).unwrap() >= ABSENT_ITEMS);
        }
    }
}
