//! The model of an engine, what checks an engine against it, and sizes by chance.

use std::collections::{BTreeMap, BTreeSet};

use ferrokit_engine::{Change, ChangeBatch, UnixMillis};
use ferrokit_hybridlog::HybridLogConfig;
use ferrokit_storage::Compression;

const PAGE: u64 = 4 << 10;
pub(super) const SPACES: u64 = 3;

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A value and its expiry.
pub(super) type Stored = (Vec<u8>, Option<UnixMillis>);
pub(super) type Space = BTreeMap<Vec<u8>, Stored>;

/// What one write does.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// One or more keys at once; `None` removes.
    Keys(Vec<(usize, Vec<u8>, Option<Stored>)>),
    Clear(usize),
    Swap(usize, usize),
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Model(pub(super) [Space; SPACES as usize]);

impl Model {
    pub(super) fn apply(&mut self, deed: &Deed) {
        match deed {
            Deed::Keys(changes) => {
                for (space, key, stored) in changes {
                    match stored {
                        Some(stored) => self.0[*space].insert(key.clone(), stored.clone()),
                        None => self.0[*space].remove(key),
                    };
                }
            }
            Deed::Clear(space) => self.0[*space].clear(),
            Deed::Swap(a, b) => self.0.swap(*a, *b),
        }
    }

    pub(super) fn live(&self, now: UnixMillis) -> Self {
        let mut live = self.clone();
        for space in &mut live.0 {
            space.retain(|_, (_, expire_at)| expire_at.is_none_or(|at| at > now));
        }
        live
    }

    pub(super) fn get(&self, space: usize, key: &[u8], now: UnixMillis) -> Option<Stored> {
        let found = self.0[space].get(key);
        found.filter(|(_, expire_at)| expire_at.is_none_or(|at| at > now)).cloned()
    }
}

pub(super) fn codec(random: &mut Random) -> Compression {
    random.of(&[Compression::None, Compression::Lz4, Compression::Zstd(1)])
}

pub(super) fn first_config(random: &mut Random) -> HybridLogConfig {
    HybridLogConfig {
        directory: "data".to_owned(),
        memory_bytes: PAGE * random.of(&[16, 24, 32, 64]),
        page_bytes: PAGE,
        index_bytes: random.of(&[64, 256, 1 << 10]),
        segment_bytes: PAGE * random.of(&[1, 3, 4, 8]),
        log_segment_bytes: random.of(&[4 << 10, 64 << 10]),
        keyspaces: SPACES as u32,
        object: random.of(&["", "objects"]).to_owned(),
        ..HybridLogConfig::default()
    }
}

/// What may be another at each opening.
pub(super) fn vary(config: &mut HybridLogConfig, random: &mut Random) {
    config.memory_bytes = PAGE * random.of(&[16, 17, 24, 32, 64]);
    config.page_bytes = random.of(&[PAGE, 0]);
    if config.page_bytes == 0 && config.memory_bytes < 1 << 20 {
        // Only a directory that has pages tells their size.
        config.page_bytes = PAGE;
    }
    config.index_bytes_max = random.of(&[1 << 10, 4 << 10, 16 << 10, 1 << 20]);
    config.index_bytes = config.index_bytes.min(config.index_bytes_max);
    config.read_cache_percent = random.of(&[0, 1, 10, 25, 50]);
    config.mapped_bytes = random.of(&[0, config.segment_bytes, 4 * config.segment_bytes, 1 << 30]);
    config.checkpoint_bytes = random.of(&[4 << 10, 32 << 10, 1 << 30]);
    config.garbage_percent = random.of(&[1, 10, 30, 50]);
    config.slack_percent = random.of(&[0, 25]);
    if !config.object.is_empty() {
        config.disk_bytes = random.of(&[0, 3, 8, 1000]) * config.segment_bytes;
        config.object_codec = codec(random);
    }
}

pub(super) fn key(n: u64) -> Vec<u8> {
    format!("key:{n:04}").into_bytes()
}

pub(super) fn replay(
    replica: &mut Model,
    batch: &ChangeBatch<'_>,
    now: UnixMillis,
    is_vague: bool,
) {
    for change in batch.changes {
        match *change {
            Change::Put { keyspace, key, value, expire_at } => {
                let stored = (value.to_vec(), expire_at);
                replica.0[keyspace.0 as usize].insert(key.to_vec(), stored);
            }
            Change::Delete { keyspace, key } => {
                replica.0[keyspace.0 as usize].remove(key);
            }
            Change::Expired { keyspace, key } => {
                let gone = replica.0[keyspace.0 as usize].remove(key);
                let had_expired = gone.map(|(_, at)| at.is_some_and(|at| at <= now));
                // Told of once, of what was there.
                assert!(had_expired.unwrap_or(is_vague), "{}", key.escape_ascii());
            }
            Change::Clear { keyspace } => replica.0[keyspace.0 as usize].clear(),
            Change::Swap { a, b } => replica.0.swap(a.0 as usize, b.0 as usize),
        }
    }
}

pub(super) fn check_same(found: &Model, expected: &Model, what: &str) {
    for (n, (found, expected)) in found.0.iter().zip(&expected.0).enumerate() {
        let names: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
        for name in names {
            let (got, wanted) = (found.get(name), expected.get(name));
            assert_eq!(got, wanted, "{what}: keyspace {n}, {}", name.escape_ascii());
        }
    }
}

/// What was found was there once: of which writes it is the outcome nobody promised.
pub(super) fn check_plausible(found: &Model, synced: &Model, deeds: &[Deed], now: UnixMillis) {
    let mut ever: BTreeSet<(&[u8], &Stored)> = BTreeSet::new();
    for space in &synced.0 {
        ever.extend(space.iter().map(|(key, stored)| (key.as_slice(), stored)));
    }
    for deed in deeds {
        if let Deed::Keys(changes) = deed {
            let put = changes
                .iter()
                .filter_map(|(_, key, stored)| Some((key.as_slice(), stored.as_ref()?)));
            ever.extend(put);
        }
    }
    for (key, stored) in found.0.iter().flatten() {
        assert!(ever.contains(&(key.as_slice(), stored)), "nobody wrote {}", key.escape_ascii());
        assert!(stored.1.is_none_or(|at| at > now));
    }
    // A key that nobody touched is as it was.
    let exchanged = deeds.iter().any(|deed| !matches!(deed, Deed::Keys(_)));
    if exchanged {
        return;
    }
    let touched: BTreeSet<(usize, &[u8])> = deeds
        .iter()
        .filter_map(|deed| match deed {
            Deed::Keys(changes) => Some(changes.iter().map(|(space, key, _)| (*space, &key[..]))),
            _ => None,
        })
        .flatten()
        .collect();
    for (n, (found, old)) in found.0.iter().zip(&synced.live(now).0).enumerate() {
        for (key, stored) in old {
            if !touched.contains(&(n, key)) {
                assert_eq!(found.get(key), Some(stored), "keyspace {n}, {}", key.escape_ascii());
            }
        }
    }
}
