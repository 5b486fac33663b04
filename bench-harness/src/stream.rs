//! The operations of a run, generated before it: the same for the same plan, whatever the engine.

use std::collections::HashMap;

use ferrokit_engine::Result;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::Distribution as _;

use crate::dataset::{Dataset, Key, VALUE_BYTES_MIN, mix};
use crate::distribution::{Choice, Chooser};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::workload::{Kind, Profile, ScanEntries, Shape, ValueSizes, Workload};

/// Items from here on are never written: their keys are those of misses.
const ABSENT_ITEMS: u64 = 1 << 40;

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The key, made beforehand; see [`Stream::key`].
    pub key: Key,
    /// Its item. For a scan: the rank of the key among the loaded keys.
    pub item: u32,
    /// Bytes of the value it writes.
    pub value_bytes: u32,
    /// Entries to scan; for the first of a group (a multi-get, a batch), how many it has, and 0 for
    /// the others of it.
    pub count: u16,
    /// What to do.
    pub kind: Kind,
}

/// The data and the operations of a run.
pub struct Stream {
    /// Keys and values.
    pub dataset: Dataset,
    /// The operations of each thread, those of the warm-up first.
    pub threads: Vec<Vec<Operation>>,
    /// How many of each thread's operations are of the warm-up.
    pub warmup: Vec<usize>,
    /// Items loaded before the run: those below this.
    pub loaded: u64,
    /// Items loaded or inserted are below this.
    pub item_limit: u64,
    /// The loaded items in the order of their keys; empty unless there are scans to be checked.
    pub sorted: Vec<u32>,
    /// The keys of a trace, by item; empty unless one is replayed.
    names: Vec<Box<[u8]>>,
    items: HashMap<Box<[u8]>, u32>,
    sizes: Sizes,
}

impl Stream {
    /// The stream of a plan that was [checked](Plan::check) and [fixed](Plan::fixed).
    ///
    /// # Errors
    /// Those of reading a trace.
    pub fn generate(plan: &Plan) -> Result<Self> {
        let profile = plan.workload.profile();
        let sizes = Sizes::new(plan, &profile);
        let dataset = Dataset::new(plan.seed, profile.order, sizes.most());
        if let Workload::Replay(file) = &plan.workload {
            return Ok(Self::of_trace(Trace::read(file)?, plan, dataset, sizes));
        }
        let loaded = if profile.is_loaded { plan.records } else { 0 };
        let sorted = if plan.workload.scans() { sort(&dataset, loaded) } else { Vec::new() };
        let mut warmup = vec![0; plan.threads];
        let threads: Vec<Vec<Operation>> = match profile.shape {
            Shape::Mixed => {
                let distribution = plan.distribution.unwrap_or(profile.distribution);
                let chooser = Chooser::new(distribution, plan.records);
                let ranks = ranks(&sorted);
                let mixed = |thread: usize| {
                    let mut mixer = Mixer::new(plan, &profile, &dataset, &sizes, &chooser, &ranks);
                    let warm = mixer.draw(thread, plan.warmup);
                    let mut operations = warm.clone();
                    operations.extend(mixer.draw(thread, plan.operations));
                    (operations, warm.len())
                };
                let drawn: Vec<_> = (0..plan.threads).map(mixed).collect();
                warmup = drawn.iter().map(|(_, warm)| *warm).collect();
                drawn.into_iter().map(|(operations, _)| operations).collect()
            }
            Shape::DeleteRefill => {
                let both = |thread| {
                    let each = |kind| each_record(plan, &dataset, &sizes, kind, thread);
                    [each(Kind::Delete), each(Kind::ReadMiss), each(Kind::Insert)].concat()
                };
                (0..plan.threads).map(both).collect()
            }
            Shape::EachRecord => {
                let kind = profile.mix.first().map_or(Kind::Read, |(_, kind)| *kind);
                let each = |thread| each_record(plan, &dataset, &sizes, kind, thread);
                (0..plan.threads).map(each).collect()
            }
            Shape::Open { .. } | Shape::Replay => Vec::new(),
        };
        let item_limit = threads
            .iter()
            .flatten()
            .filter(|op| op.kind == Kind::Insert)
            .map(|op| u64::from(op.item) + 1)
            .fold(loaded, u64::max);
        let (names, items) = (Vec::new(), HashMap::new());
        Ok(Self { dataset, threads, warmup, loaded, item_limit, sorted, names, items, sizes })
    }

    fn of_trace(trace: Trace, plan: &Plan, dataset: Dataset, sizes: Sizes) -> Self {
        let largest = trace.operations.iter().map(|op| op.value_bytes as usize).max();
        let dataset = match largest {
            Some(most) if most > sizes.most() => Dataset::new(
                plan.seed,
                plan.workload.profile().order,
                most.min(crate::trace::VALUE_BYTES_MAX),
            ),
            _ => dataset,
        };
        // What a key sees must not depend on how threads get on: each key has its thread.
        let mut threads = vec![Vec::new(); plan.threads];
        let thread_of = |item: u32| (mix(u64::from(item)) % plan.threads as u64) as usize;
        for op in trace.operations {
            if let Some(thread) = threads.get_mut(thread_of(op.item)) {
                thread.push(op);
            }
        }
        let items = trace
            .names
            .iter()
            .enumerate()
            .map(|(item, name)| (name.clone(), item as u32))
            .collect();
        Self {
            dataset,
            warmup: vec![0; plan.threads],
            threads,
            loaded: trace.loaded,
            item_limit: trace.names.len() as u64,
            sorted: Vec::new(),
            names: trace.names,
            items,
            sizes,
        }
    }

    /// The key of an operation.
    #[inline]
    pub fn key<'a>(&'a self, operation: &'a Operation) -> &'a [u8] {
        match self.names.get(operation.item as usize) {
            Some(name) if !self.names.is_empty() => name,
            _ => &operation.key,
        }
    }

    /// The key of an item, made in `room`.
    pub fn item_key<'a>(&'a self, item: u64, room: &'a mut Key) -> &'a [u8] {
        match self.names.get(item as usize) {
            Some(name) => name,
            None => {
                *room = self.dataset.key(item);
                room
            }
        }
    }

    /// The item of a key that was written at some time.
    pub fn item_of(&self, key: &[u8]) -> Option<u64> {
        if self.names.is_empty() {
            return self.dataset.item_of(key).filter(|item| *item < self.item_limit);
        }
        self.items.get(key).map(|item| u64::from(*item))
    }

    /// Bytes of the value that an item is loaded with.
    pub fn loaded_bytes(&self, item: u64) -> usize {
        self.sizes.of(item)
    }

    /// Whether there are writes of entries that expire.
    pub fn expires(&self) -> bool {
        self.threads.iter().flatten().any(|op| op.kind == Kind::PutExpiring)
    }

    /// How many operations are measured.
    pub fn operations(&self) -> u64 {
        self.measured().count() as u64
    }

    /// Bytes of the keys and values that the measured operations put.
    pub fn user_bytes(&self) -> u64 {
        self.measured()
            .filter(|op| op.kind.writes())
            .map(|op| match op.kind {
                Kind::Delete => self.key(op).len() as u64,
                _ => self.key(op).len() as u64 + u64::from(op.value_bytes),
            })
            .sum()
    }

    fn measured(&self) -> impl Iterator<Item = &Operation> {
        let threads = self.threads.iter().zip(&self.warmup);
        threads.flat_map(|(operations, warmup)| operations.iter().skip(*warmup))
    }
}

/// The sizes of values: each follows from a number alone.
struct Sizes {
    seed: u64,
    fixed: usize,
    sizes: ValueSizes,
}

impl Sizes {
    fn new(plan: &Plan, profile: &Profile) -> Self {
        Self { seed: mix(plan.seed ^ 11), fixed: plan.value_bytes, sizes: profile.value_sizes }
    }

    fn most(&self) -> usize {
        match self.sizes {
            ValueSizes::Fixed => self.fixed,
            ValueSizes::Pareto { max, .. } | ValueSizes::LogNormal { max, .. } => max,
        }
    }

    fn of(&self, number: u64) -> usize {
        let mut rng = match self.sizes {
            ValueSizes::Fixed => return self.fixed,
            _ => SmallRng::seed_from_u64(mix(number ^ self.seed)),
        };
        let drawn = match self.sizes {
            ValueSizes::Fixed => self.fixed as f64,
            ValueSizes::Pareto { k, sigma, .. } => pareto(&mut rng, k, sigma),
            ValueSizes::LogNormal { median, sigma, .. } => {
                let normal: f64 = rand_distr::StandardNormal.sample(&mut rng);
                median * (sigma * normal).exp()
            }
        };
        (drawn as usize).clamp(VALUE_BYTES_MIN, self.most())
    }
}

/// A draw from a generalized Pareto distribution with location 0.
fn pareto(rng: &mut SmallRng, k: f64, sigma: f64) -> f64 {
    let uniform: f64 = rng.random();
    sigma * ((1.0 - uniform).powf(-k) - 1.0) / k
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
fn each_record(
    plan: &Plan,
    dataset: &Dataset,
    sizes: &Sizes,
    kind: Kind,
    thread: usize,
) -> Vec<Operation> {
    (thread as u64..plan.records)
        .step_by(plan.threads)
        .map(|item| Operation {
            key: dataset.key(item),
            item: item as u32,
            value_bytes: sizes.of(item) as u32,
            count: 0,
            kind,
        })
        .collect()
}

/// Draws the operations of one thread.
struct Mixer<'a> {
    plan: &'a Plan,
    profile: &'a Profile,
    dataset: &'a Dataset,
    sizes: &'a Sizes,
    chooser: &'a Chooser,
    ranks: &'a [u32],
    rng: SmallRng,
    drawn: u64,
    inserted: u64,
}

impl<'a> Mixer<'a> {
    fn new(
        plan: &'a Plan,
        profile: &'a Profile,
        dataset: &'a Dataset,
        sizes: &'a Sizes,
        chooser: &'a Chooser,
        ranks: &'a [u32],
    ) -> Self {
        let rng = SmallRng::seed_from_u64(0);
        Self { plan, profile, dataset, sizes, chooser, ranks, rng, drawn: 0, inserted: 0 }
    }

    /// The next operations of `thread`: its share of `total`.
    fn draw(&mut self, thread: usize, total: u64) -> Vec<Operation> {
        if self.drawn == 0 {
            let seed = mix(self.plan.seed).wrapping_add(thread as u64 + 1);
            self.rng = SmallRng::seed_from_u64(seed);
        }
        let threads = self.plan.threads as u64;
        let share = total / threads + u64::from((thread as u64) < total % threads);
        let mut operations = Vec::with_capacity(share as usize);
        while (operations.len() as u64) < share {
            let kind = self.kind();
            let left = share - operations.len() as u64;
            let group = match kind {
                kind if kind.is_grouped() => u64::from(self.profile.group).min(left) as u16,
                _ => 1,
            };
            for member in 0..group {
                let count = if member == 0 { group } else { 0 };
                operations.push(self.operation(thread as u64, kind, count));
            }
        }
        operations
    }

    fn kind(&mut self) -> Kind {
        let mut at: u32 = self.rng.random_range(0..1000);
        for (share, kind) in self.profile.mix {
            match at.checked_sub(*share) {
                None => return *kind,
                Some(rest) => at = rest,
            }
        }
        Kind::Read
    }

    fn operation(&mut self, thread: u64, kind: Kind, group: u16) -> Operation {
        let threads = self.plan.threads as u64;
        let inserted_item = |insert: u64| self.plan.records + insert * threads + thread;
        let number = self.drawn * threads + thread;
        self.drawn += 1;
        let item = match kind {
            Kind::Insert => {
                self.inserted += 1;
                inserted_item(self.inserted - 1)
            }
            Kind::ReadMiss => ABSENT_ITEMS + self.rng.random_range(0..self.plan.records),
            _ => {
                let inserted = if kind == Kind::Scan { 0 } else { self.inserted };
                match self.chooser.choose(&mut self.rng, number, inserted) {
                    Choice::Loaded(item) => item,
                    Choice::Inserted(insert) => inserted_item(insert),
                }
            }
        };
        let count = match (kind, self.profile.scan_entries) {
            (Kind::Scan, ScanEntries::Between(least, most)) => self.rng.random_range(least..=most),
            (Kind::Scan, ScanEntries::Pareto { k, sigma, max }) => {
                (pareto(&mut self.rng, k, sigma) as u64).clamp(1, u64::from(max)) as u16
            }
            _ => group,
        };
        let subject = match kind {
            Kind::Scan => self.ranks.get(item as usize).copied().unwrap_or(0),
            _ => item as u32,
        };
        let value_bytes = match kind {
            // It keeps its length.
            Kind::ReadModifyWrite => self.sizes.of(item),
            _ => self.sizes.of(item ^ (number + 1) << 32),
        };
        let key = self.dataset.key(item);
        Operation { key, item: subject, value_bytes: value_bytes as u32, count, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;
    use crate::plan::tests::plan;

    fn stream(plan: &Plan) -> Stream {
        Stream::generate(plan).unwrap()
    }

    #[test]
    fn a_seed_makes_a_stream_and_another_seed_another() {
        for workload in ["ycsb-a", "ycsb-d", "ycsb-e", "ycsb-f", "mixgraph", "twitter-cache"] {
            let one = stream(&plan(workload));
            let same = stream(&plan(workload));
            assert_eq!(one.threads, same.threads);
            assert_ne!(one.threads[0], one.threads[1], "threads do different things");
            let other = stream(&Plan { seed: 8, ..plan(workload) });
            assert_ne!(one.threads, other.threads);
        }
    }

    #[test]
    fn the_mix_is_as_the_profile_says() {
        let plan = Plan { operations: 20_000, ..plan("ycsb-b") };
        let stream = stream(&plan);
        let updates = stream.threads.iter().flatten().filter(|op| op.kind == Kind::Update).count();
        assert_eq!(stream.operations(), 20_000);
        assert!((850..1150).contains(&updates), "{updates}");
    }

    #[test]
    fn a_warm_up_comes_before_and_does_not_count() {
        let plan = Plan { warmup: 500, ..plan("ycsb-a") };
        let stream = stream(&plan);
        assert_eq!(stream.operations(), 2000);
        assert_eq!(stream.threads.iter().map(Vec::len).sum::<usize>(), 2500);
        let updates: usize = stream
            .threads
            .iter()
            .map(|ops| ops[250..].iter().filter(|op| op.kind == Kind::Update).count())
            .sum();
        assert_eq!(stream.user_bytes(), updates as u64 * 116);
    }

    #[test]
    fn a_fill_takes_every_record_once() {
        let stream = stream(&Plan { threads: 3, ..plan("fill-seq") });
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
        let stream = stream(&plan("ycsb-d"));
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
        assert!(of_inserted > 40, "{of_inserted}");
    }

    #[test]
    fn groups_are_whole() {
        let stream = stream(&Plan { operations: 1000, threads: 1, ..plan("multiget-32") });
        let counts: Vec<u16> = stream.threads[0].iter().map(|op| op.count).collect();
        let leaders: Vec<_> = counts.iter().copied().filter(|count| *count > 0).collect();
        assert_eq!(leaders.iter().map(|count| u64::from(*count)).sum::<u64>(), 1000);
        assert_eq!(leaders[0], 32);
        assert_eq!(counts[32], 32);
    }

    #[test]
    fn a_distribution_can_be_chosen() {
        let uniform = Plan { distribution: Some(Distribution::Uniform), ..plan("ycsb-c") };
        let stream = stream(&uniform);
        let mut items: Vec<_> = stream.threads.iter().flatten().map(|op| op.item).collect();
        items.sort_unstable();
        items.dedup();
        assert!(items.len() > 800, "{} records of 1000 are read", items.len());
    }

    #[test]
    fn misses_are_no_records() {
        let stream = stream(&plan("read-missing"));
        for op in stream.threads.iter().flatten() {
            assert!(stream.dataset.item_of(&op.key).unwrap() >= ABSENT_ITEMS);
        }
    }

    #[test]
    fn sizes_follow_their_distributions() {
        let mean = |workload: &str| {
            let stream = stream(&Plan { operations: 20_000, ..plan(workload) });
            let sizes: Vec<u32> = stream
                .threads
                .iter()
                .flatten()
                .filter(|op| op.kind == Kind::Update)
                .map(|op| op.value_bytes)
                .collect();
            assert!(sizes.iter().all(|bytes| *bytes >= VALUE_BYTES_MIN as u32));
            let mut sorted = sizes.clone();
            sorted.sort_unstable();
            (sizes.iter().sum::<u32>() as usize / sizes.len(), sorted[sorted.len() / 2])
        };
        // Pareto (k 0.2615, sigma 25.45) has a mean of 34.5; raised to 32 at least it is about 47.
        let (average, _) = mean("mixgraph");
        assert!((42..54).contains(&average), "{average}");
        let (average, median) = mean("twitter-cache");
        assert!((215..245).contains(&median), "{median}");
        assert!((330..430).contains(&average), "{average}");
    }
}
