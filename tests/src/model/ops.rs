//! [`Step`], what a random sequence is made of, and how sequences are drawn.

use ferrokit_engine::Direction;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Union;

/// How many different keys and keyspaces sequences use: few, so that they meet again.
pub(crate) const KEYS: usize = 24;
pub(crate) const KEYSPACES: usize = 3;

/// What may occur in a sequence.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Features {
    pub(crate) reopen: bool,
    pub(crate) crash: bool,
    pub(crate) snapshots: bool,
    pub(crate) transactions: bool,
}

/// One write. `len` decides the length of the value, `ttl` the milliseconds it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put { key: usize, len: usize, ttl: Option<u64> },
    Delete { key: usize },
}

/// What an update does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpdateKind {
    Keep,
    Append,
    Shrink,
    Delete,
    Expire(u64),
}

/// One step of a sequence. Keys are numbers below [`KEYS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Write {
        keyspace: usize,
        change: Change,
        synced: bool,
    },
    Batch {
        changes: Vec<(usize, Change)>,
        synced: bool,
    },
    Update {
        keyspace: usize,
        key: usize,
        kind: UpdateKind,
    },
    Clear {
        keyspace: usize,
    },
    Swap {
        a: usize,
        b: usize,
    },
    Get {
        keyspace: usize,
        key: usize,
    },
    GetMany {
        keyspace: usize,
        keys: Vec<usize>,
    },
    Scan {
        keyspace: usize,
        from: usize,
        to: usize,
        direction: Direction,
        entries: usize,
    },
    Sweep {
        keyspace: usize,
        budget: usize,
    },
    Len {
        keyspace: usize,
    },
    PassMillis(u64),
    ClockBack(u64),
    Sync,
    Churn {
        keyspace: usize,
    },
    Reopen,
    Crash {
        mode: u8,
    },
    OpenSnapshot,
    ReadSnapshot {
        which: usize,
    },
    DropSnapshot {
        which: usize,
    },
    Transaction {
        changes: Vec<(usize, Change)>,
        reads: Vec<usize>,
        meddle: Option<Change>,
        commit: bool,
    },
}

fn keyspace() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0), 2 => Just(1), 1 => Just(2)]
}

fn change() -> impl Strategy<Value = Change> {
    let ttl = prop_oneof![4 => Just(None), 2 => (1..60u64).prop_map(Some), 1 => Just(Some(0))];
    prop_oneof![
        4 => (0..KEYS, 0..300usize, ttl).prop_map(|(key, len, ttl)| Change::Put { key, len, ttl }),
        2 => (0..KEYS).prop_map(|key| Change::Delete { key }),
    ]
}

fn update_kind() -> impl Strategy<Value = UpdateKind> {
    prop_oneof![
        Just(UpdateKind::Keep),
        Just(UpdateKind::Append),
        Just(UpdateKind::Shrink),
        Just(UpdateKind::Delete),
        (1..60u64).prop_map(UpdateKind::Expire),
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Forward), Just(Direction::Backward)]
}

fn common_step() -> Vec<(u32, BoxedStrategy<Step>)> {
    vec![
        (
            20,
            (keyspace(), change(), any::<bool>())
                .prop_map(|(keyspace, change, synced)| Step::Write { keyspace, change, synced })
                .boxed(),
        ),
        (
            6,
            (vec((keyspace(), change()), 0..12), any::<bool>())
                .prop_map(|(changes, synced)| Step::Batch { changes, synced })
                .boxed(),
        ),
        (
            6,
            (keyspace(), 0..KEYS, update_kind())
                .prop_map(|(keyspace, key, kind)| Step::Update { keyspace, key, kind })
                .boxed(),
        ),
        (1, keyspace().prop_map(|keyspace| Step::Clear { keyspace }).boxed()),
        (1, (keyspace(), keyspace()).prop_map(|(a, b)| Step::Swap { a, b }).boxed()),
        (10, (keyspace(), 0..KEYS).prop_map(|(keyspace, key)| Step::Get { keyspace, key }).boxed()),
        (
            4,
            (keyspace(), vec(0..KEYS, 0..10))
                .prop_map(|(keyspace, keys)| Step::GetMany { keyspace, keys })
                .boxed(),
        ),
        (
            5,
            (keyspace(), 0..KEYS, 0..KEYS, direction(), 1..9usize)
                .prop_map(|(keyspace, from, to, direction, entries)| Step::Scan {
                    keyspace,
                    from,
                    to,
                    direction,
                    entries,
                })
                .boxed(),
        ),
        (
            3,
            (keyspace(), 0..9usize)
                .prop_map(|(keyspace, budget)| Step::Sweep { keyspace, budget })
                .boxed(),
        ),
        (2, keyspace().prop_map(|keyspace| Step::Len { keyspace }).boxed()),
        (4, (0..40u64).prop_map(Step::PassMillis).boxed()),
        (1, (0..40u64).prop_map(Step::ClockBack).boxed()),
        (1, Just(Step::Sync).boxed()),
        (1, keyspace().prop_map(|keyspace| Step::Churn { keyspace }).boxed()),
    ]
}

/// Sequences of up to 150 steps.
pub(crate) fn sequences(features: Features) -> impl Strategy<Value = Vec<Step>> {
    let mut steps = common_step();
    if features.reopen {
        steps.push((2, Just(Step::Reopen).boxed()));
    }
    if features.crash {
        steps.push((2, any::<u8>().prop_map(|mode| Step::Crash { mode }).boxed()));
    }
    if features.snapshots {
        steps.push((4, Just(Step::OpenSnapshot).boxed()));
        steps.push((6, any::<usize>().prop_map(|which| Step::ReadSnapshot { which }).boxed()));
        steps.push((1, any::<usize>().prop_map(|which| Step::DropSnapshot { which }).boxed()));
    }
    if features.transactions {
        let transaction = (
            vec((keyspace(), change()), 0..6),
            vec(0..KEYS, 0..6),
            proptest::option::of(change()),
            any::<bool>(),
        );
        let step = transaction.prop_map(|(changes, reads, meddle, commit)| Step::Transaction {
            changes,
            reads,
            meddle,
            commit,
        });
        steps.push((8, step.boxed()));
    }
    vec(Union::new_weighted(steps), 1..150)
}
