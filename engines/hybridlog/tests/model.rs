//! Any sequence of operations on tiny pages answers as a `HashMap` does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::time::Duration;

use common::{WRITE, get_many, open, sweep, tiny};
use ferrokit_engine::{
    Entry, KeyspaceId, KvEngine, KvRead, ReadOptions, UnixMillis, Update, WriteBatch,
};
use proptest::collection::vec;
use proptest::prelude::*;

const KEYSPACES: u32 = 3;
/// What is longer is not appended to.
const LONGEST: usize = 3000;

#[derive(Debug, Clone)]
enum Step {
    Put { keyspace: u32, key: u16, len: usize, ttl: Option<u64> },
    Delete { keyspace: u32, key: u16 },
    Append { keyspace: u32, key: u16, len: usize },
    Batch(Vec<(u32, u16, Option<usize>)>),
    Get { keyspace: u32, key: u16 },
    Clear { keyspace: u32 },
    Swap { a: u32, b: u32 },
    Wait { millis: u64 },
    Maintain,
    Sweep { keyspace: u32, budget: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let keyspace = 0..KEYSPACES;
    let key = prop_oneof![3 => 0..12_u16, 1 => 0..400_u16];
    // The longest are cut into pieces.
    let len = prop_oneof![12 => 0..40_usize, 4 => 0..500_usize, 1 => 1500..4000_usize];
    let ttl = prop_oneof![3 => Just(None), 1 => (0..50_u64).prop_map(Some)];
    prop_oneof![
        8 => (keyspace.clone(), key.clone(), len.clone(), ttl)
            .prop_map(|(keyspace, key, len, ttl)| Step::Put { keyspace, key, len, ttl }),
        3 => (keyspace.clone(), key.clone())
            .prop_map(|(keyspace, key)| Step::Delete { keyspace, key }),
        3 => (keyspace.clone(), key.clone(), 0..60_usize)
            .prop_map(|(keyspace, key, len)| Step::Append { keyspace, key, len }),
        2 => vec((keyspace.clone(), key.clone(), proptest::option::of(len)), 0..8)
            .prop_map(Step::Batch),
        4 => (keyspace.clone(), key).prop_map(|(keyspace, key)| Step::Get { keyspace, key }),
        1 => keyspace.clone().prop_map(|keyspace| Step::Clear { keyspace }),
        1 => (keyspace.clone(), keyspace.clone()).prop_map(|(a, b)| Step::Swap { a, b }),
        1 => (1..30_u64).prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Maintain),
        1 => (keyspace, 1..20_usize).prop_map(|(keyspace, budget)| Step::Sweep { keyspace, budget }),
    ]
}

type Model = Vec<HashMap<Vec<u8>, (Vec<u8>, Option<UnixMillis>)>>;

/// Keys of several lengths, the empty one among them.
fn key_bytes(key: u16) -> Vec<u8> {
    if key == 0 {
        return Vec::new();
    }
    let mut bytes = key.to_le_bytes().to_vec();
    bytes.resize(2 + usize::from(key % 20), b'k');
    bytes
}

fn value_bytes(step: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (step + at) as u8).collect()
}

fn run(steps: &[Step]) {
    let (machine, engine) = open(tiny(128));
    let clock = machine.host().env.clock;
    let mut model: Model = vec![HashMap::new(); KEYSPACES as usize];
    let reported = WRITE.reporting_existed();
    for (number, step) in steps.iter().enumerate() {
        let now = clock.now();
        for space in &mut model {
            space.retain(|_, (_, expire_at)| !Entry::is_expired_at(*expire_at, now));
        }
        match step {
            Step::Put { keyspace, key, len, ttl } => {
                let (key, value) = (key_bytes(*key), value_bytes(number, *len));
                let expire_at = ttl.map(|ttl| now.plus(ttl));
                let written = engine
                    .put(KeyspaceId(*keyspace), &key, &value, expire_at, &reported)
                    .wait()
                    .unwrap();
                let space = &mut model[*keyspace as usize];
                assert_eq!(written.existed, Some(space.contains_key(&key)));
                if *ttl == Some(0) {
                    space.remove(&key);
                } else {
                    space.insert(key, (value, expire_at));
                }
            }
            Step::Delete { keyspace, key } => {
                let key = key_bytes(*key);
                let written = engine.delete(KeyspaceId(*keyspace), &key, &reported).wait().unwrap();
                let removed = model[*keyspace as usize].remove(&key);
                assert_eq!(written.existed, Some(removed.is_some()));
            }
            Step::Append { keyspace, key, len } => {
                let (key, more) = (key_bytes(*key), value_bytes(number, *len));
                let mut change = |present: Option<Entry<'_>>, out: &mut Vec<u8>| {
                    if present.is_some_and(|entry| entry.value.len() > LONGEST) {
                        return Update::Delete;
                    }
                    out.extend_from_slice(present.map_or(&[], |entry| entry.value));
                    out.extend_from_slice(&more);
                    Update::Put { expire_at: present.and_then(|entry| entry.expire_at) }
                };
                let written =
                    engine.update(KeyspaceId(*keyspace), &key, &WRITE, &mut change).wait().unwrap();
                let space = &mut model[*keyspace as usize];
                assert_eq!(written.existed, Some(space.contains_key(&key)));
                if space.get(&key).is_some_and(|(value, _)| value.len() > LONGEST) {
                    space.remove(&key);
                } else {
                    space.entry(key).or_default().0.extend_from_slice(&more);
                }
            }
            Step::Batch(writes) => {
                let mut batch = WriteBatch::new();
                for (keyspace, key, len) in writes {
                    let (key, space) = (key_bytes(*key), &mut model[*keyspace as usize]);
                    match len {
                        Some(len) => {
                            let value = value_bytes(number, *len);
                            batch.put(KeyspaceId(*keyspace), &key, &value, None);
                            space.insert(key, (value, None));
                        }
                        None => {
                            batch.delete(KeyspaceId(*keyspace), &key);
                            space.remove(&key);
                        }
                    }
                }
                engine.write(&batch, &WRITE).wait().unwrap();
            }
            Step::Get { keyspace, key } => {
                let key = key_bytes(*key);
                let mut found = None;
                let mut visit =
                    |entry: Entry<'_>| found = Some((entry.value.to_vec(), entry.expire_at));
                engine
                    .get_with(KeyspaceId(*keyspace), &key, &ReadOptions::default(), &mut visit)
                    .wait()
                    .unwrap();
                assert_eq!(found.as_ref(), model[*keyspace as usize].get(&key));
            }
            Step::Clear { keyspace } => {
                engine.clear_keyspace(KeyspaceId(*keyspace), &WRITE).wait().unwrap();
                model[*keyspace as usize].clear();
            }
            Step::Swap { a, b } => {
                engine.swap_keyspaces(KeyspaceId(*a), KeyspaceId(*b), &WRITE).wait().unwrap();
                model.swap(*a as usize, *b as usize);
            }
            Step::Wait { millis } => machine.clock().advance(Duration::from_millis(*millis)),
            Step::Maintain => machine.host().settle(),
            Step::Sweep { keyspace, budget } => {
                let space = &model[*keyspace as usize];
                let values: HashMap<_, _> =
                    space.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
                assert_eq!(sweep(&engine, KeyspaceId(*keyspace), *budget), values);
                // The sweep has collected what expired: the count is exact.
                let len = engine.keyspace_len(KeyspaceId(*keyspace)).wait().unwrap();
                assert!(len.exact && len.entries >= values.len() as u64);
            }
        }
    }
    let now = clock.now();
    let keys: Vec<Vec<u8>> = (0..400).map(key_bytes).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    for (key, value) in keys.iter().zip(get_many(&engine, &keys)) {
        let expected = model[0].get(*key);
        let expected = expected.filter(|(_, at)| !Entry::is_expired_at(*at, now));
        assert_eq!(value.as_ref(), expected.map(|(value, _)| value));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_sequence_answers_as_a_map_does(steps in vec(step(), 1..300)) {
        run(&steps);
    }
}
