//! The table by itself: against a model, at every crash point, and how full it gets.

use std::collections::HashMap;
use std::sync::Arc;

use ferrokit_engine::{Entry, UnixMillis};
use ferrokit_storage::PmemRegion;
use ferrokit_storage::pmem::{CrashState, EmulatedPmem, ShadowEvent, ShadowPmem, Survival};
use proptest::prelude::*;

use super::layout::{BUCKETS, NORMAL_BUCKETS, SLOTS};
use super::modify::{Action, may_fit_in_place};
use super::recovery::REGION_BYTES_MIN;
use super::{Liveness, Table};
use crate::core::Assign;
use crate::hash::KeyHash;
use crate::keyspaces::SpaceWord;
use crate::record::{Probe, RecordHeader};

const SPACE: SpaceWord = SpaceWord(1);
const SEED: u64 = 42;

type Model = HashMap<Vec<u8>, Vec<u8>>;

/// Nothing is ever dead.
struct Immortal;

impl Liveness for Immortal {
    fn is_dead(&self, _: &RecordHeader) -> bool {
        false
    }
    fn dropped(&self, _: &RecordHeader) {}
}

fn emulated(bytes: u64) -> Table {
    let region = PmemRegion::new(Arc::new(EmulatedPmem::new(bytes).unwrap()));
    Table::format(region, SEED).unwrap()
}

fn probe<'k>(table: &Table, key: &'k [u8]) -> Probe<'k> {
    Probe { hash: table.hash(SPACE, key), space: SPACE, key }
}

fn assign(table: &Table, key: &[u8], value: Option<&[u8]>) -> bool {
    let pinned = crossbeam_epoch::pin();
    let probe = probe(table, key);
    let prepared = value
        .filter(|value| !may_fit_in_place(value))
        .map(|value| table.prepare(&probe, value, None).unwrap());
    let action = value.map_or(Action::Remove, |_| Action::Put { expire_at: None });
    let value = value.unwrap_or_default();
    let mut change = Assign { action, value, now: UnixMillis(0), existed: false };
    table.modify(&probe, prepared, &mut change, &Immortal, &pinned).unwrap();
    change.existed
}

fn get(table: &Table, key: &[u8]) -> Option<Vec<u8>> {
    let pinned = crossbeam_epoch::pin();
    let found = table.read(&probe(table, key), &pinned);
    found.view.map(|view| view.value().to_vec())
}

/// Everything in the table, by the way of a sweep.
fn contents(table: &Table) -> Model {
    let pinned = crossbeam_epoch::pin();
    let (mut views, mut model) = (Vec::new(), Model::new());
    let mut next = Some(KeyHash(0));
    while let Some(hash) = next {
        for home in 0..NORMAL_BUCKETS {
            next = table.read_home(hash, home, &pinned, &mut views).next_hash();
            for view in &views {
                let Entry { value, .. } = view.entry();
                let before = model.insert(view.key().to_vec(), value.to_vec());
                assert!(before.is_none(), "{:?} is there twice", view.key());
            }
        }
    }
    model
}

fn key(number: u32) -> Vec<u8> {
    format!("key{number:05}").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_table_does_what_a_map_does(
        ops in prop::collection::vec(
            (0_u32..4000, prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 1_u32..40),
            1..200,
        ),
    ) {
        let table = emulated(16 << 20);
        let mut model = Model::new();
        // Each step writes a run of keys, so that segments fill up and split.
        for (first, value, count) in ops {
            for number in first..first + count {
                let key = key(number);
                prop_assert_eq!(get(&table, &key), model.get(&key).cloned());
                let existed = assign(&table, &key, value.as_deref());
                prop_assert_eq!(existed, model.contains_key(&key));
                match &value {
                    Some(value) => model.insert(key, value.clone()),
                    None => model.remove(&key),
                };
            }
        }
        prop_assert_eq!(contents(&table), model);
    }
}

#[test]
fn a_large_table_splits_and_doubles_and_loses_nothing() {
    let table = emulated(64 << 20);
    for number in 0..60_000 {
        assign(&table, &key(number), Some(&number.to_le_bytes()));
    }
    assert!(table.segments() >= 37, "{} segments", table.segments());
    assert!(table.directory_depth() >= 6);
    for number in 0..60_000 {
        assert_eq!(get(&table, &key(number)).as_deref(), Some(&number.to_le_bytes()[..]));
    }
    assert_eq!(contents(&table).len(), 60_000);
}

#[test]
fn a_segment_is_at_least_nine_tenths_full_when_it_splits() {
    for seed in 0..20 {
        let region = PmemRegion::new(Arc::new(EmulatedPmem::new(4 << 20).unwrap()));
        let table = Table::format(region, seed).unwrap();
        let mut entries = 0;
        while table.segments() == 1 {
            assign(&table, &key(entries), Some(b"v"));
            entries += 1;
        }
        let load = f64::from(entries - 1) / (BUCKETS * SLOTS) as f64;
        assert!(load >= 0.9, "seed {seed}: split at a load of {load:.3}");
    }
}

/// Fills a shadow table with so many keys, or until it has split, and gives the image.
fn filled(keys: u32) -> (Vec<u64>, u32) {
    let shadow = Arc::new(ShadowPmem::new(REGION_BYTES_MIN));
    let table = Table::format(PmemRegion::new(Arc::clone(&shadow) as _), SEED).unwrap();
    let mut count = 0;
    while count < keys && table.segments() == 1 {
        assign(&table, &key(count), Some(b"0123456789"));
        count += 1;
    }
    (shadow.crash_state().image(Survival::Everything), count)
}

/// How many keys fit before one more splits the segment.
fn keys_before_split() -> u32 {
    filled(u32::MAX).1 - 1
}

fn recovered(image: Vec<u64>) -> (Arc<ShadowPmem>, Table) {
    let shadow = Arc::new(ShadowPmem::from_image(image).recording());
    let table = Table::recover(PmemRegion::new(Arc::clone(&shadow) as _)).unwrap();
    (shadow, table)
}

/// Images that a crash in that state may leave.
fn images(state: &CrashState, cut: usize, seeds: u64) -> impl Iterator<Item = Vec<u64>> {
    let seeded = (0..seeds).map(move |seed| Survival::Seeded(seed << 32 | cut as u64));
    let ways = [Survival::Fenced, Survival::Everything].into_iter().chain(seeded);
    ways.map(|survival| state.image(survival))
}

/// Runs single-key writes on a shadow, cuts at every event, and checks that what is recovered is
/// the state after the writes that returned, or with the one under way as well.
fn check_every_cut(script: &[(u32, Option<&[u8]>)]) {
    // Each size class takes a chunk.
    let shadow = Arc::new(ShadowPmem::new(3 * REGION_BYTES_MIN));
    drop(Table::format(PmemRegion::new(Arc::clone(&shadow) as _), SEED).unwrap());
    let (shadow, table) = recovered(shadow.crash_state().image(Survival::Fenced));
    let mut models = vec![Model::new()];
    let mut ends = vec![shadow.event_count()];
    for (number, value) in script {
        assign(&table, &key(*number), *value);
        let mut model = models.last().unwrap().clone();
        match value {
            Some(value) => model.insert(key(*number), value.to_vec()),
            None => model.remove(&key(*number)),
        };
        models.push(model);
        ends.push(shadow.event_count());
    }
    let mut checked = 0;
    shadow.trace().unwrap().for_each_cut(|cut, state| {
        let done = ends.iter().rposition(|end| *end <= cut as u64).unwrap_or(0);
        for image in images(state, cut, 4) {
            let (_, table) = recovered(image);
            let found = contents(&table);
            let next = models.get(done + 1);
            assert!(
                found == models[done] || Some(&found) == next,
                "cut {cut} after {done} writes: {found:?}"
            );
            checked += 1;
        }
    });
    assert!(checked > script.len() * 6);
}

#[test]
fn every_crash_point_of_single_writes_leaves_each_whole_or_not_at_all() {
    check_every_cut(&[
        (1, Some(b"a value of more than a word")),
        (2, Some(b"short")),
        (2, Some(b"other")),
        (1, Some(b"another value, longer than the one before it")),
        (3, Some(&[7; 1500])),
        (2, None),
        (4, Some(b"takes the place of key 2")),
        (3, Some(b"")),
        (1, None),
        (9, None),
    ]);
}

#[test]
fn every_fence_of_displacement_and_stash_loses_nothing() {
    // The last keys before a split find their buckets full: they displace and stash.
    let count = keys_before_split();
    let first = count - 100;
    let (shadow, table) = recovered(filled(first).0);
    let begin = shadow.event_count();
    let mut ends = Vec::new();
    for number in first..count {
        assign(&table, &key(number), Some(b"0123456789"));
        ends.push(shadow.event_count());
    }
    let trace = shadow.trace().unwrap();
    let is_fence = |cut: usize| {
        let event = cut.checked_sub(1).and_then(|last| trace.events().get(last));
        matches!(event, Some(ShadowEvent::Fence { .. }))
    };
    trace.for_each_cut(|cut, state| {
        if (cut as u64) < begin || !is_fence(cut) {
            return;
        }
        let done = ends.iter().filter(|end| **end <= cut as u64).count() as u32;
        let found = contents(&recovered(state.image(Survival::Fenced)).1);
        let expected = first + done;
        assert!((expected..=expected + 1).contains(&(found.len() as u32)), "cut {cut}");
        for number in 0..expected {
            assert!(found.contains_key(&key(number)), "cut {cut}: key {number} is lost");
        }
    });
}

#[test]
fn every_crash_point_of_a_split_loses_nothing() {
    let count = keys_before_split();
    let (shadow, table) = recovered(filled(count).0);
    let before = contents(&table);
    let begin = shadow.event_count();
    assign(&table, &key(count), Some(b"0123456789"));
    assert_eq!((table.segments(), table.directory_depth()), (2, 1));
    let after = contents(&table);
    assert_eq!(after.len(), before.len() + 1);
    let trace = shadow.trace().unwrap();
    let last = trace.events().len();
    trace.for_each_cut(|cut, state| {
        // The copying is thousands of alike events; the ends, where all is decided, are cut at
        // every event.
        let is_decisive = cut + 120 > last || state.image_count() < 64;
        if (cut as u64) < begin || !(is_decisive || cut.is_multiple_of(61)) {
            return;
        }
        for image in images(state, cut, 1) {
            let (_, table) = recovered(image);
            let found = contents(&table);
            assert!(found == before || found == after, "cut {cut} of {last}");
            // Space given back by recovery belongs to nobody: writing on harms nothing.
            assign(&table, b"one more", Some(b"0123456789"));
            assert_eq!(contents(&table).len(), found.len() + 1, "cut {cut}");
        }
    });
}

#[test]
fn damage_is_an_error_and_never_followed() {
    let shadow = Arc::new(ShadowPmem::new(REGION_BYTES_MIN));
    let region = PmemRegion::new(Arc::clone(&shadow) as _);
    assert!(Table::recover(region.clone()).is_err());
    let table = Table::format(region, SEED).unwrap();
    for number in 0..50 {
        assign(&table, &key(number), Some(b"0123456789"));
    }
    let image = shadow.crash_state().image(Survival::Fenced);
    let recover = |image: Vec<u64>| {
        Table::recover(PmemRegion::new(Arc::new(ShadowPmem::from_image(image)))).map(|_| ())
    };
    recover(image.clone()).unwrap();
    // Every word that leads somewhere, led astray.
    let mut refused = 0;
    for word in (0..image.len()).filter(|word| image[*word] != 0) {
        for bits in [1 << 63 | 1, 1 << 45, 1] {
            let mut damaged = image.clone();
            damaged[word] ^= bits;
            refused += usize::from(recover(damaged).is_err());
        }
    }
    assert!(refused > 50, "{refused} damages refused");
}
