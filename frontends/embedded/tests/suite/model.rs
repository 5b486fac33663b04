//! Random sequences of operations against a map.

use std::collections::BTreeMap;
use std::time::Duration;

use ferrokit::{Batch, Bytes, ErrorKind, Ferrokit, SetOptions, Swap, Ttl, UnixMillis, Update};
use proptest::prelude::*;

use crate::common::{Case, URLS};

/// One of a few keys, so that operations meet.
type Key = u8;

#[derive(Debug, Clone)]
enum Step {
    Set(Key, Vec<u8>, Option<u64>),
    SetIf {
        key: Key,
        value: Vec<u8>,
        is_absent: bool,
        keeps_ttl: bool,
    },
    Incr(Key, i64),
    Append(Key, Vec<u8>),
    SetRange(Key, usize, Vec<u8>),
    Swap {
        key: Key,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
    },
    Reverse(Key),
    Del(Vec<Key>),
    Rename(Key, Key),
    Copy(Key, Key),
    Expire(Key, u64),
    Persist(Key),
    Batch(Vec<(Key, Option<Vec<u8>>)>),
    /// What it does in order, and whether it commits.
    Transaction(Vec<(Key, i64)>, bool),
    Pass(u64),
    Flush,
    Check,
}

fn key(key: Key) -> String {
    format!("key:{key}")
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    value: Vec<u8>,
    expire_at: Option<UnixMillis>,
}

/// What the store should hold.
#[derive(Default, Clone)]
struct Model {
    entries: BTreeMap<Key, Entry>,
    now: UnixMillis,
}

impl Model {
    fn get(&self, key: Key) -> Option<&Entry> {
        self.entries.get(&key)
    }

    fn put(&mut self, key: Key, value: Vec<u8>, expire_at: Option<UnixMillis>) {
        self.entries.insert(key, Entry { value, expire_at });
        self.drop_expired();
    }

    /// A new value under the expiry the key has.
    fn edit(&mut self, key: Key, value: Vec<u8>) {
        let expire_at = self.get(key).and_then(|entry| entry.expire_at);
        self.put(key, value, expire_at);
    }

    fn value(&self, key: Key) -> Option<Vec<u8>> {
        self.get(key).map(|entry| entry.value.clone())
    }

    fn drop_expired(&mut self) {
        let now = self.now;
        self.entries.retain(|_, entry| entry.expire_at.is_none_or(|at| at > now));
    }

    fn add(&mut self, key: Key, delta: i64) -> Result<i64, ErrorKind> {
        let text = self.value(key).map_or(Ok("0".to_owned()), String::from_utf8);
        let number: Option<i64> = text.ok().and_then(|text| text.parse().ok());
        let number = number.filter(|number| {
            self.value(key).is_none_or(|value| value == number.to_string().into_bytes())
        });
        let sum = number.ok_or(ErrorKind::NotAnInteger)?.checked_add(delta);
        let sum = sum.ok_or(ErrorKind::Overflow)?;
        self.edit(key, sum.to_string().into_bytes());
        Ok(sum)
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..5_u8;
    let value = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..8),
            any::<i64>().prop_map(|number| number.to_string().into_bytes()),
            Just(b"7".to_vec()),
            Just(vec![0xFF; 3]),
        ]
    };
    let ttl = || prop_oneof![Just(0_u64), 1..50_u64, Just(10_000)];
    let step = prop_oneof![
        4 => (key(), value(), prop::option::of(ttl())).prop_map(|(k, v, t)| Step::Set(k, v, t)),
        2 => (key(), value(), any::<bool>(), any::<bool>()).prop_map(
            |(key, value, is_absent, keeps_ttl)| Step::SetIf { key, value, is_absent, keeps_ttl }
        ),
        2 => (key(), any::<i64>()).prop_map(|(k, delta)| Step::Incr(k, delta)),
        2 => (key(), -9..9_i64).prop_map(|(k, delta)| Step::Incr(k, delta)),
        2 => (key(), value()).prop_map(|(k, v)| Step::Append(k, v)),
        1 => (key(), 0..20_usize, value()).prop_map(|(k, at, v)| Step::SetRange(k, at, v)),
        2 => (key(), prop::option::of(value()), prop::option::of(value())).prop_map(
            |(key, expected, new)| Step::Swap { key, expected, new }
        ),
        1 => key().prop_map(Step::Reverse),
        2 => prop::collection::vec(key(), 0..3).prop_map(Step::Del),
        1 => (key(), key()).prop_map(|(a, b)| Step::Rename(a, b)),
        1 => (key(), key()).prop_map(|(a, b)| Step::Copy(a, b)),
        2 => (key(), ttl()).prop_map(|(k, t)| Step::Expire(k, t)),
        1 => key().prop_map(Step::Persist),
        1 => prop::collection::vec((key(), prop::option::of(value())), 0..4).prop_map(Step::Batch),
        1 => (prop::collection::vec((key(), -9..9_i64), 0..4), any::<bool>())
            .prop_map(|(adds, commits)| Step::Transaction(adds, commits)),
        2 => (0..60_u64).prop_map(Step::Pass),
        1 => Just(Step::Flush),
        3 => Just(Step::Check),
    ];
    prop::collection::vec(step, 1..40)
}

fn kind<T>(outcome: ferrokit::Result<T>) -> Result<T, ErrorKind> {
    outcome.map_err(|error| error.kind())
}

async fn apply_value(kv: &Ferrokit, model: &mut Model, step: &Step) {
    match step {
        Step::Set(k, value, None) => {
            kv.set(key(*k), value).await.unwrap();
            model.put(*k, value.clone(), None);
        }
        Step::Set(k, value, Some(ttl)) => {
            kv.set_ex(key(*k), value, Duration::from_millis(*ttl)).await.unwrap();
            model.put(*k, value.clone(), Some(model.now.plus(*ttl)));
        }
        Step::SetIf { key: k, value, is_absent, keeps_ttl } => {
            let options = SetOptions::new().get();
            let options = if *is_absent { options.if_absent() } else { options.if_present() };
            let options = if *keeps_ttl { options.keep_ttl() } else { options };
            let outcome = kv.set_with(key(*k), value, options).await.unwrap();
            assert_eq!(outcome.previous.map(Vec::from), model.value(*k));
            let is_set = model.get(*k).is_none() == *is_absent;
            assert_eq!(outcome.is_set, is_set);
            match is_set {
                true if *keeps_ttl => model.edit(*k, value.clone()),
                true => model.put(*k, value.clone(), None),
                false => {}
            }
        }
        Step::Incr(k, delta) => {
            assert_eq!(kind(kv.incr_by(key(*k), *delta).await), model.add(*k, *delta));
        }
        Step::Append(k, suffix) => {
            let mut value = model.value(*k).unwrap_or_default();
            value.extend(suffix);
            assert_eq!(kv.append(key(*k), suffix).await.unwrap(), value.len());
            model.edit(*k, value);
        }
        Step::SetRange(k, at, bytes) => {
            let mut value = model.value(*k).unwrap_or_default();
            if !bytes.is_empty() {
                value.resize(value.len().max(at + bytes.len()), 0);
                value[*at..at + bytes.len()].copy_from_slice(bytes);
                model.edit(*k, value.clone());
            }
            assert_eq!(kv.set_range(key(*k), *at, bytes).await.unwrap(), value.len());
        }
        Step::Swap { key: k, expected, new } => {
            let (expected, new) = (expected.as_deref(), new.as_deref());
            let swap = kv.compare_and_swap(key(*k), expected, new).await.unwrap();
            let present = model.value(*k);
            if present.as_deref() != expected {
                assert_eq!(swap, Swap::Found(present.map(Bytes::from)));
                return;
            }
            assert_eq!(swap, Swap::Done);
            match new {
                Some(new) => model.edit(*k, new.to_vec()),
                None => drop(model.entries.remove(k)),
            }
        }
        Step::Reverse(k) => {
            let reversed = |value: &[u8]| value.iter().rev().copied().collect::<Vec<u8>>();
            let change = |value: Option<&[u8]>| match value {
                Some(value) => Update::set(reversed(value)),
                None => Update::Keep,
            };
            let after = kv.update(key(*k), change).await.unwrap();
            if let Some(value) = model.value(*k) {
                model.edit(*k, reversed(&value));
            }
            assert_eq!(after.map(Vec::from), model.value(*k));
        }
        _ => apply_keys(kv, model, step).await,
    }
}

async fn apply_keys(kv: &Ferrokit, model: &mut Model, step: &Step) {
    match step {
        Step::Del(keys) => {
            let deleted = kv.del_many(keys.iter().map(|k| key(*k))).await.unwrap();
            let expected = keys.iter().filter(|k| model.entries.remove(k).is_some()).count();
            assert_eq!(deleted, expected);
        }
        Step::Rename(from, to) => {
            let outcome = kind(kv.rename(key(*from), key(*to)).await);
            match model.entries.remove(from) {
                None => assert_eq!(outcome, Err(ErrorKind::NoSuchKey)),
                Some(entry) => {
                    assert_eq!(outcome, Ok(()));
                    model.entries.insert(*to, entry);
                }
            }
        }
        Step::Copy(from, to) => {
            let source = model.get(*from).cloned().filter(|_| model.get(*to).is_none());
            assert_eq!(kv.copy(key(*from), key(*to)).await.unwrap(), source.is_some());
            if let Some(entry) = source {
                model.entries.insert(*to, entry);
            }
        }
        Step::Expire(k, ttl) => {
            let is_there = kv.expire(key(*k), Duration::from_millis(*ttl)).await.unwrap();
            assert_eq!(is_there, model.get(*k).is_some());
            if let Some(value) = model.value(*k) {
                model.put(*k, value, Some(model.now.plus(*ttl)));
            }
        }
        Step::Persist(k) => {
            let had_expiry = model.get(*k).is_some_and(|entry| entry.expire_at.is_some());
            assert_eq!(kv.persist(key(*k)).await.unwrap(), had_expiry);
            if let Some(value) = model.value(*k) {
                model.put(*k, value, None);
            }
        }
        Step::Batch(writes) => {
            let mut batch = Batch::new();
            for (k, value) in writes {
                match value {
                    Some(value) => {
                        batch.set(key(*k), value.clone());
                        model.put(*k, value.clone(), None);
                    }
                    None => {
                        batch.del(key(*k));
                        model.entries.remove(k);
                    }
                }
            }
            kv.write(&batch).await.unwrap();
        }
        Step::Transaction(adds, commits) => {
            let mut inside = model.clone();
            let mut transaction = kv.transaction(adds.iter().map(|(k, _)| key(*k))).await;
            for (k, delta) in adds {
                let sum = kind(transaction.incr_by(key(*k), *delta).await);
                assert_eq!(sum, inside.add(*k, *delta));
                let value = transaction.get(key(*k)).await.unwrap();
                assert_eq!(value.map(Vec::from), inside.value(*k));
            }
            if *commits {
                transaction.commit().await.unwrap();
                *model = inside;
            } else {
                transaction.rollback();
            }
        }
        Step::Flush => {
            kv.flush().await.unwrap();
            model.entries.clear();
        }
        _ => check(kv, model).await,
    }
}

/// Compares all of the store with the model, by every way to read it.
async fn check(kv: &Ferrokit, model: &Model) {
    let values = kv.mget((0..5).map(key)).await.unwrap();
    for (k, value) in (0..5).zip(values) {
        assert_eq!(value.clone().map(Vec::from), model.value(k), "{k}");
        assert_eq!(kv.get(key(k)).await.unwrap(), value);
        assert_eq!(kv.exists(key(k)).await.unwrap(), value.is_some());
        let ttl = match model.get(k) {
            None => Ttl::Absent,
            Some(Entry { expire_at: None, .. }) => Ttl::Forever,
            Some(Entry { expire_at: Some(at), .. }) => {
                Ttl::Left(Duration::from_millis(at.0 - model.now.0))
            }
        };
        assert_eq!(kv.ttl(key(k)).await.unwrap(), ttl);
    }
    let expected: Vec<String> = model.entries.keys().map(|k| key(*k)).collect();
    let mut keys = kv.keys().to_vec().await.unwrap();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys, expected);
    if kv.capabilities().ordered {
        let scanned = kv.scan_prefix("key:").unwrap().to_vec().await.unwrap();
        let entries: Vec<_> = scanned.into_iter().map(|(k, v)| (k, v.to_vec())).collect();
        let expected: Vec<_> = model
            .entries
            .iter()
            .map(|(k, entry)| (Bytes::from(key(*k)), entry.value.clone()))
            .collect();
        assert_eq!(entries, expected);
    }
}

fn run(url: &str, steps: &[Step]) {
    let case = Case::open(url, ferrokit_storage::sim::SimMachine::new(3));
    let mut model = Model { now: case.kv.now(), ..Model::default() };
    case.wait(async {
        for step in steps {
            if let Step::Pass(millis) = step {
                case.machine.clock().advance(Duration::from_millis(*millis));
            }
            // Jobs of the engine may have slept.
            model.now = case.kv.now();
            model.drop_expired();
            match step {
                Step::Pass(_) => {}
                _ => apply_value(&case.kv, &mut model, step).await,
            }
        }
        model.now = case.kv.now();
        model.drop_expired();
        check(&case.kv, &model).await;
    });
    case.close();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// proptest prints the steps of a find, as few of them as it can do with.
    #[test]
    fn every_engine_does_what_a_map_does(steps in steps()) {
        for (_, url) in URLS {
            run(url, &steps);
        }
    }
}
