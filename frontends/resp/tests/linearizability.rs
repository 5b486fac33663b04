//! Recorded histories of commands on several keys, through a linearizability checker (porcupine-rs:
//! the algorithm of Wing and Gong with Lowe's improvements). The model is the whole database: a
//! command of several keys, and a transaction, is one step.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation, check_operations_timeout};
use support::{Client, ENGINES, TestServer, Value};

const KEYS: usize = 3;
const CLIENTS: usize = 6;
/// Commands of one client in a history: short ones are searched fast, many find more.
const COMMANDS: usize = 12;
const HISTORIES: usize = 40;
const TIME_LIMIT: Duration = Duration::from_secs(30);

type State = [Option<i64>; KEYS];

/// A command, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Observed {
    Get {
        key: usize,
        saw: Option<i64>,
    },
    Set {
        key: usize,
        value: i64,
    },
    SetNx {
        key: usize,
        value: i64,
        is_set: bool,
    },
    IncrBy {
        key: usize,
        delta: i64,
        sum: i64,
    },
    MGet {
        saw: Vec<Option<i64>>,
    },
    MSet {
        value: i64,
    },
    MSetNx {
        value: i64,
        is_set: bool,
    },
    Del {
        deleted: i64,
    },
    Rename {
        from: usize,
        to: usize,
        is_there: bool,
    },
    /// GET of each key, then SET of all to the value: `None` if a watched key had changed.
    Exec {
        saw: Option<Vec<Option<i64>>>,
        value: i64,
    },
}

#[derive(Debug, Clone)]
struct Database;

impl Model for Database {
    type State = State;
    type Op = Observed;
    type Metadata = ();

    fn init() -> State {
        [None; KEYS]
    }

    fn step(before: &State, op: &Observed) -> (bool, State) {
        let mut after = *before;
        let is_right = match op {
            Observed::Get { key, saw } => before[*key] == *saw,
            Observed::Set { key, value } => {
                after[*key] = Some(*value);
                true
            }
            Observed::SetNx { key, value, is_set } => {
                after[*key] = before[*key].or(Some(*value));
                *is_set == before[*key].is_none()
            }
            Observed::IncrBy { key, delta, sum } => {
                after[*key] = Some(*sum);
                before[*key].unwrap_or(0) + delta == *sum
            }
            Observed::MGet { saw } => saw.as_slice() == before,
            Observed::MSet { value } => {
                after = [Some(*value); KEYS];
                true
            }
            Observed::MSetNx { value, is_set } => {
                let is_free = before.iter().all(Option::is_none);
                if is_free {
                    after = [Some(*value); KEYS];
                }
                *is_set == is_free
            }
            Observed::Del { deleted } => {
                after = [None; KEYS];
                before.iter().flatten().count() as i64 == *deleted
            }
            Observed::Rename { from, to, is_there } => {
                if before[*from].is_some() {
                    after[*to] = after[*from].take();
                }
                *is_there == before[*from].is_some()
            }
            Observed::Exec { saw: None, .. } => true,
            Observed::Exec { saw: Some(saw), value } => {
                after = [Some(*value); KEYS];
                saw.as_slice() == before
            }
        };
        (is_right, after)
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        other => panic!("{other:?} is no integer"),
    }
}

/// How MSETNX is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MSetNx {
    ByTheServer,
    /// By two commands, with no lock around them.
    WithoutALock,
}

/// One random command, and what it answered.
fn command(client: &mut Client, dice: u64, value: i64, mset_nx: MSetNx) -> Observed {
    let key = (dice >> 8) as usize % KEYS;
    let all = |value: i64| format!("k0 {value} k1 {value} k2 {value}");
    match dice % 11 {
        0 => Observed::Get { key, saw: number(&client.ask(&format!("GET k{key}"))) },
        1 => {
            client.ask(&format!("SET k{key} {value}"));
            Observed::Set { key, value }
        }
        2 => {
            let is_set = integer(&client.ask(&format!("SETNX k{key} {value}"))) == 1;
            Observed::SetNx { key, value, is_set }
        }
        3 => {
            let sum = integer(&client.ask(&format!("INCRBY k{key} {value}")));
            Observed::IncrBy { key, delta: value, sum }
        }
        4 | 5 => {
            let reply = client.ask("MGET k0 k1 k2");
            Observed::MGet { saw: reply.array().iter().map(number).collect() }
        }
        6 => {
            client.ask(&format!("MSET {}", all(value)));
            Observed::MSet { value }
        }
        7 if mset_nx == MSetNx::WithoutALock => {
            let is_free = integer(&client.ask("EXISTS k0 k1 k2")) == 0;
            if is_free {
                client.ask(&format!("MSET {}", all(value)));
            }
            Observed::MSetNx { value, is_set: is_free }
        }
        7 => {
            let is_set = integer(&client.ask(&format!("MSETNX {}", all(value)))) == 1;
            Observed::MSetNx { value, is_set }
        }
        8 => Observed::Del { deleted: integer(&client.ask("DEL k0 k1 k2")) },
        9 => {
            let to = (key + 1) % KEYS;
            let reply = client.ask(&format!("RENAME k{key} k{to}"));
            Observed::Rename { from: key, to, is_there: !matches!(reply, Value::Error(_)) }
        }
        _ => {
            client.ask("WATCH k0");
            client.ask("MULTI");
            for key in 0..KEYS {
                client.ask(&format!("GET k{key}"));
            }
            client.ask(&format!("MSET {}", all(value)));
            let reply = client.ask("EXEC");
            let saw = match &reply {
                Value::Null => None,
                reply => Some(reply.array().iter().take(KEYS).map(number).collect()),
            };
            Observed::Exec { saw, value }
        }
    }
}

/// Records a history of several clients; whether some order of its commands explains its answers.
fn is_linearizable(port: u16, seed: u64, mset_nx: MSetNx) -> bool {
    Client::connect(port).ask("FLUSHALL");
    let clock = AtomicI64::new(0);
    let history: Mutex<Vec<Operation<Database>>> = Mutex::default();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (clock, history) = (&clock, &history);
            scope.spawn(move || {
                let mut client = Client::connect(port);
                let mut random = seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let mut own = Vec::new();
                for round in 0..COMMANDS {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let value = (number * COMMANDS + round + 1) as i64 * 1000;
                    let call_time = clock.fetch_add(1, Ordering::SeqCst);
                    let op = command(&mut client, random >> 33, value, mset_nx);
                    let return_time = clock.fetch_add(1, Ordering::SeqCst);
                    let client_id = Some(number as u32);
                    own.push(Operation { client_id, call_time, return_time, op, metadata: None });
                }
                history.lock().unwrap().append(&mut own);
            });
        }
    });
    let history = history.into_inner().unwrap();
    match check_operations_timeout(&history, TIME_LIMIT) {
        CheckResult::Ok => true,
        CheckResult::Illegal => false,
        CheckResult::Unknown => panic!("seed {seed}: the checker ran out of time"),
    }
}

#[test]
fn commands_of_several_keys_are_linearizable() {
    for engine in ENGINES {
        let server = TestServer::on(engine);
        for seed in 0..HISTORIES as u64 {
            let is_right = is_linearizable(server.server.port(), seed, MSetNx::ByTheServer);
            assert!(is_right, "{engine}, seed {seed}: no order explains the answers");
        }
    }
}

#[test]
fn the_checker_finds_a_missing_lock() {
    let server = TestServer::on("memory:");
    let found =
        (0..2000).any(|seed| !is_linearizable(server.server.port(), seed, MSetNx::WithoutALock));
    assert!(found, "MSETNX without a lock went unnoticed");
}
