//! [`History`]: what several threads called and what was returned, when, and the model it is
//! checked against.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation, check_operations_timeout};

/// How long the checker may search.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What an operation on one key did and answered. Values are numbers, each written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observed {
    Get { saw: Option<u64> },
    Put { number: u64, existed: Option<bool> },
    Delete { existed: Option<bool> },
    Update { saw: Option<u64>, number: u64 },
}

/// A register: the number stored under a key, or nothing.
#[derive(Debug, Clone)]
struct Register;

impl Model for Register {
    type State = Option<u64>;
    type Op = Observed;
    type Metadata = ();

    fn init() -> Option<u64> {
        None
    }

    fn step(state: &Option<u64>, op: &Observed) -> (bool, Option<u64>) {
        let agrees = |existed: Option<bool>| existed.is_none_or(|e| e == state.is_some());
        match *op {
            Observed::Get { saw } => (saw == *state, *state),
            Observed::Put { number, existed } => (agrees(existed), Some(number)),
            Observed::Delete { existed } => (agrees(existed), None),
            Observed::Update { saw, number } => (saw == *state, Some(number)),
        }
    }
}

/// What the checker found.
#[derive(Debug)]
pub enum Verdict {
    /// Some order of the operations explains every answer.
    Linearizable,
    /// No order explains the answers for a key.
    NotLinearizable {
        /// The number of the key.
        key: usize,
        /// The end of its history, in the order of the calls.
        operations: String,
    },
    /// The time limit was reached.
    Undecided,
}

/// A recorded history.
#[derive(Debug, Default)]
pub struct History {
    /// Time: it ticks at every call and return, so that no two are at once.
    clock: AtomicI64,
    numbers: AtomicU64,
    operations: Mutex<BTreeMap<usize, Vec<Operation<Register>>>>,
}

/// Records the operations of one thread.
pub struct Recorder<'h> {
    history: &'h History,
    thread: u32,
    operations: Vec<(usize, Operation<Register>)>,
}

/// When an operation was called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call(i64);

impl History {
    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A recorder for a thread; what it recorded counts once it is dropped.
    pub fn recorder(&self, thread: usize) -> Recorder<'_> {
        Recorder { history: self, thread: thread as u32, operations: Vec::new() }
    }

    /// Checks each key's history.
    pub fn check(&self) -> Verdict {
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, operations) in &*operations {
            match check_operations_timeout(operations, TIME_LIMIT) {
                CheckResult::Ok => {}
                CheckResult::Unknown => return Verdict::Undecided,
                CheckResult::Illegal => {
                    return Verdict::NotLinearizable { key: *key, operations: show(operations) };
                }
            }
        }
        Verdict::Linearizable
    }
}

/// The shortest failing beginning of a history, its last operations.
fn show(operations: &[Operation<Register>]) -> String {
    let mut operations = operations.to_vec();
    operations.sort_by_key(|op| op.return_time);
    // A prefix by return time is a history of its own, so the first failing one can be searched.
    let (mut good, mut bad) = (0, operations.len());
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        match check_operations_timeout(&operations[..middle], TIME_LIMIT) {
            CheckResult::Illegal => bad = middle,
            _ => good = middle,
        }
    }
    let mut text = String::new();
    for op in &operations[bad.saturating_sub(12)..bad] {
        let _ = writeln!(
            text,
            "  thread {:?}, {}..{}: {:?}",
            op.client_id.unwrap_or_default(),
            op.call_time,
            op.return_time,
            op.op
        );
    }
    text
}

impl Recorder<'_> {
    /// A number that no other write uses.
    pub(crate) fn next_number(&self) -> u64 {
        self.history.numbers.fetch_add(1, Ordering::SeqCst) + 1_000_000
    }

    /// An operation is called now.
    pub(crate) fn call(&self) -> Call {
        Call(self.history.clock.fetch_add(1, Ordering::SeqCst))
    }

    /// It has returned.
    pub(crate) fn returned(&mut self, call: Call, key: usize, op: Observed) {
        let return_time = self.history.clock.fetch_add(1, Ordering::SeqCst);
        let client_id = Some(self.thread);
        let operation = Operation { client_id, call_time: call.0, return_time, op, metadata: None };
        self.operations.push((key, operation));
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        let mut all = self.history.operations.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, operation) in self.operations.drain(..) {
            all.entry(key).or_default().push(operation);
        }
    }
}
