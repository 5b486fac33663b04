//! Which record an operation is about.

use rand::Rng;
use rand::rngs::SmallRng;
use rand_distr::Distribution as _;
use serde::{Deserialize, Serialize};

use crate::dataset::mix;

/// The skew of YCSB's zipfian distributions.
pub const ZIPFIAN_THETA: f64 = 0.99;

/// Records of the hot set, in a hundred.
const HOT_RECORDS_PERCENT: u64 = 1;
/// Accesses that go to the hot set, in a hundred.
const HOT_ACCESSES_PERCENT: u64 = 90;

/// A distribution of accesses over records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Every record alike.
    Uniform,
    /// Zipfian with theta 0.99; the popular records lie anywhere.
    Zipfian,
    /// Zipfian with theta 0.99 over age: the newest record is the most popular.
    Latest,
    /// One record after the other, in the order they were loaded.
    Sequential,
    /// 90 % of the accesses go to 1 % of the records, which lie anywhere.
    Hot,
    /// Zipfian with an exponent of 1.2, within the 1 to 2.5 of the cache clusters studied by Yang et
    /// al. (OSDI 2020).
    Cache,
    /// 30 ranges of keys of unequal popularity, and a power law within them: the model that Cao et
    /// al. (FAST 2020) fitted to ZippyDB, with its published parameters.
    KeyRanges,
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match clap::ValueEnum::to_possible_value(self) {
            Some(value) => f.write_str(value.get_name()),
            None => write!(f, "{self:?}"),
        }
    }
}

/// A record that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// One of those loaded before the run.
    Loaded(u64),
    /// One that this thread inserted: the n-th insert, from 0.
    Inserted(u64),
}

/// Draws records from a distribution.
pub struct Chooser {
    records: u64,
    draw: Draw,
}

enum Draw {
    Uniform,
    Zipfian(Zipfian),
    Latest(Zipfian),
    Sequential,
    Hot(u64),
    Cache(rand_distr::Zipf<f64>),
    KeyRanges(KeyRanges),
}

impl Chooser {
    /// Over `records` loaded records, at least one.
    pub fn new(distribution: Distribution, records: u64) -> Self {
        let draw = match distribution {
            Distribution::Uniform => Draw::Uniform,
            Distribution::Zipfian => Draw::Zipfian(Zipfian::new(records, ZIPFIAN_THETA)),
            Distribution::Latest => Draw::Latest(Zipfian::new(records, ZIPFIAN_THETA)),
            Distribution::Sequential => Draw::Sequential,
            Distribution::Hot => Draw::Hot((records * HOT_RECORDS_PERCENT / 100).max(1)),
            Distribution::Cache => match rand_distr::Zipf::new(records as f64, CACHE_EXPONENT) {
                Ok(zipf) => Draw::Cache(zipf),
                // Neither a record nor the exponent is missing.
                Err(_) => Draw::Uniform,
            },
            Distribution::KeyRanges => Draw::KeyRanges(KeyRanges::new(records)),
        };
        Self { records, draw }
    }

    /// The record of the `number`-th operation on the loaded records, for a thread that inserted
    /// `inserted` so far.
    ///
    /// "Latest" ranks a thread's own inserts and the loaded records: what another thread inserts
    /// may not be there yet.
    pub fn choose(&self, rng: &mut SmallRng, number: u64, inserted: u64) -> Choice {
        let scattered = |rank: u64| Choice::Loaded(mix(rank) % self.records);
        match &self.draw {
            Draw::Uniform => Choice::Loaded(rng.random_range(0..self.records)),
            Draw::Zipfian(zipfian) => scattered(zipfian.rank(rng)),
            Draw::Latest(zipfian) => {
                let rank = zipfian.rank(rng);
                match inserted.checked_sub(rank + 1) {
                    Some(insert) => Choice::Inserted(insert),
                    None => Choice::Loaded(self.records - 1 - (rank - inserted)),
                }
            }
            Draw::Sequential => Choice::Loaded(number % self.records),
            Draw::Hot(hot) => {
                let is_hot = rng.random_range(0..100) < HOT_ACCESSES_PERCENT;
                scattered(rng.random_range(0..if is_hot { *hot } else { self.records }))
            }
            Draw::Cache(zipf) => scattered(zipf.sample(rng) as u64 - 1),
            Draw::KeyRanges(ranges) => Choice::Loaded(ranges.record(rng)),
        }
    }
}

/// The exponent of [`Distribution::Cache`].
const CACHE_EXPONENT: f64 = 1.2;

/// The popularity of ranges of keys, `a * exp(b * x) + c * exp(d * x)` for the x-th of 30, and the
/// power law `a * x^b` within a range: model and parameters of Cao et al., "Characterizing,
/// Modeling, and Benchmarking RocksDB Key-Value Workloads at Facebook" (FAST 2020), as `mixgraph` of
/// RocksDB's db_bench has them.
struct KeyRanges {
    records: u64,
    /// Where each range's share of the accesses ends, of 1; the most popular are not neighbours.
    ends: Vec<(f64, u64)>,
}

impl KeyRanges {
    const RANGES: u64 = 30;
    const RANGE: [f64; 4] = [14.18, -2.917, 0.0164, -0.08082];
    const KEY: [f64; 2] = [0.002312, 0.3467];

    fn new(records: u64) -> Self {
        let [a, b, c, d] = Self::RANGE;
        let weight = |x: f64| a * (b * x).exp() + c * (d * x).exp();
        let mut weights: Vec<(f64, u64)> =
            (0..Self::RANGES).map(|range| (weight(range as f64 + 1.0), range)).collect();
        weights.sort_by_key(|(_, range)| mix(*range));
        let total: f64 = weights.iter().map(|(weight, _)| weight).sum();
        let mut end = 0.0;
        let ends = weights.iter().enumerate().map(|(place, (weight, _))| {
            end += weight / total;
            (end, place as u64)
        });
        Self { records, ends: ends.collect() }
    }

    /// The record, as the rank of its key.
    fn record(&self, rng: &mut SmallRng) -> u64 {
        let at: f64 = rng.random();
        let range = self.ends.partition_point(|(end, _)| *end <= at);
        let place = self.ends.get(range).map_or(Self::RANGES - 1, |(_, place)| *place);
        let size = (self.records / Self::RANGES).max(1);
        let uniform: f64 = rng.random();
        let [a, b] = Self::KEY;
        let seed = (uniform / a).powf(1.0 / b).ceil() as u64;
        (place * size + mix(seed) % size).min(self.records - 1)
    }
}

/// Zipfian ranks: rank r, from 0, has a probability proportional to 1 / (r + 1)^theta. The
/// algorithm of Gray et al., "Quickly Generating Billion-Record Synthetic Databases" (SIGMOD
/// 1994), as in YCSB.
pub struct Zipfian {
    ranks: u64,
    theta: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipfian {
    /// Over `ranks` ranks, at least one; `theta` between 0 and 1.
    pub fn new(ranks: u64, theta: f64) -> Self {
        let zeta: f64 = (1..=ranks).map(|rank| (rank as f64).powf(-theta)).sum();
        let zeta_two = 1.0 + 0.5_f64.powf(theta);
        let eta = (1.0 - (2.0 / ranks as f64).powf(1.0 - theta)) / (1.0 - zeta_two / zeta);
        Self { ranks, theta, zeta, alpha: 1.0 / (1.0 - theta), eta }
    }

    /// The next rank.
    pub fn rank(&self, rng: &mut SmallRng) -> u64 {
        let uniform: f64 = rng.random();
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(self.theta) {
            return 1.min(self.ranks - 1);
        }
        let rank = self.ranks as f64 * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.ranks - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::SeedableRng;

    use super::*;

    const DRAWS: usize = 200_000;

    fn ranks(records: u64) -> Vec<u64> {
        let mut rng = SmallRng::seed_from_u64(1);
        let zipfian = Zipfian::new(records, ZIPFIAN_THETA);
        (0..DRAWS).map(|_| zipfian.rank(&mut rng)).collect()
    }

    #[test]
    fn zipfian_ranks_have_the_skew_that_theta_says() {
        let records = 10_000_u64;
        let drawn = ranks(records);
        let zeta = |n: u64| (1..=n).map(|rank| (rank as f64).powf(-ZIPFIAN_THETA)).sum::<f64>();
        for top in [1, 2, 10, 100, 1000] {
            let share = drawn.iter().filter(|&&rank| rank < top).count() as f64 / DRAWS as f64;
            let expected = zeta(top) / zeta(records);
            assert!((share - expected).abs() < 0.02, "top {top}: {share} for {expected}");
        }
        assert!(drawn.iter().all(|&rank| rank < records));
    }

    #[test]
    fn few_ranks_are_no_trouble() {
        for records in 1..5 {
            let drawn = ranks(records);
            for rank in 0..records {
                assert!(drawn.contains(&rank), "{rank} of {records}");
            }
            assert!(drawn.iter().all(|&rank| rank < records));
        }
    }

    #[test]
    fn scrambled_zipfian_spreads_its_popular_records() {
        let mut rng = SmallRng::seed_from_u64(2);
        let chooser = Chooser::new(Distribution::Zipfian, 1000);
        let mut counts: HashMap<u64, usize> = HashMap::new();
        for _ in 0..DRAWS {
            let Choice::Loaded(item) = chooser.choose(&mut rng, 0, 0) else { panic!("no inserts") };
            *counts.entry(item).or_default() += 1;
        }
        let mut popular: Vec<_> = counts.into_iter().collect();
        popular.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        assert!(popular[0].1 > DRAWS / 10, "the most popular record gets more than a tenth");
        let low = popular[..20].iter().filter(|&&(item, _)| item < 500).count();
        assert!((4..=16).contains(&low), "{low} of the 20 most popular are in the lower half");
    }

    #[test]
    fn uniform_is_even() {
        let mut rng = SmallRng::seed_from_u64(3);
        let chooser = Chooser::new(Distribution::Uniform, 100);
        let mut counts = [0_usize; 100];
        for _ in 0..DRAWS {
            let Choice::Loaded(item) = chooser.choose(&mut rng, 0, 0) else { panic!("no inserts") };
            counts[item as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (1700..2300).contains(&count)), "{counts:?}");
    }

    #[test]
    fn latest_follows_the_inserts() {
        let mut rng = SmallRng::seed_from_u64(4);
        let chooser = Chooser::new(Distribution::Latest, 1000);
        let mut newest = 0;
        for _ in 0..10_000 {
            match chooser.choose(&mut rng, 0, 50) {
                Choice::Inserted(insert) => {
                    assert!(insert < 50);
                    newest += usize::from(insert == 49);
                }
                Choice::Loaded(item) => assert!(item < 1000),
            }
        }
        assert!((1000..2000).contains(&newest), "{newest}");
        let oldest_first =
            (0..10_000).filter(|_| chooser.choose(&mut rng, 0, 0) == Choice::Loaded(999)).count();
        assert!((1000..2000).contains(&oldest_first), "{oldest_first}");
    }
}
