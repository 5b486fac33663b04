//! `kill -9` under a full-speed load of synced writes, over and over, with recovery each time.
//!
//! A child process writes with several threads; each prints what the engine has acknowledged. The
//! parent kills it at a random moment, or while it still recovers, opens the engine itself and
//! compares. The operations of a thread are a function of its number, so that what a stream must
//! hold after `n` operations is known: after a kill it holds exactly that for the acknowledged `n`,
//! or for one more, which was under way. So no acknowledged write may be missing, no batch half
//! there, and no value there that nobody wrote. What was read after one recovery must outlive
//! every later kill.
//!
//! `FERROKIT_KILL9_ROUNDS` says how often (3), `FERROKIT_KILL9_SEED` repeats the moments of a run.
//!
//! An engine's crate calls [`run`] from the `main` of a test without harness: that program starts
//! itself again as the process to be killed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use ferrokit_engine::{
    Entry, KeyspaceId, KvEngine, ReadOptions, SweepCursor, WriteBatch, WriteOptions, block_on,
};
use ferrokit_storage::{Host, IoBackend};

const ROUNDS_VARIABLE: &str = "FERROKIT_KILL9_ROUNDS";
const SEED_VARIABLE: &str = "FERROKIT_KILL9_SEED";
/// Set for the child: the directory, and the round, or none if it is only to recover.
const CHILD_VARIABLES: [&str; 2] = ["FERROKIT_KILL9_DIRECTORY", "FERROKIT_KILL9_ROUND"];

const ROUNDS: u64 = 3;
const THREADS: u64 = 4;
const BATCH_KEYS: u64 = 6;
const KEYSPACE: KeyspaceId = KeyspaceId(0);
/// A child that acknowledges nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const SIGKILL: i32 = 9;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// Opens the engine in a directory, with parts so small that a round meets all its mechanisms.
pub type Open = fn(&Host, directory: &str) -> ferrokit_engine::Result<Arc<dyn KvEngine>>;

/// The operations of one thread in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    round: u64,
    thread: u64,
}

enum Operation {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>),
}

impl Stream {
    fn prefix(self) -> Vec<u8> {
        format!("{:04}/{}/", self.round, self.thread).into_bytes()
    }

    fn key(self, name: &str) -> Vec<u8> {
        [self.prefix(), name.as_bytes().to_vec()].concat()
    }

    /// The operation of a number: puts, overwrites, deletes and batches of all of them.
    fn operation(self, number: u64) -> Operation {
        let value = |part: u64| self.value(number, part);
        match number % 8 {
            3 => Operation::Delete(self.key(&format!("put/{:08}", number - 2))),
            5 => Operation::Put(self.key("overwritten"), value(0)),
            4 | 7 => {
                let mut changes: Vec<_> = (0..BATCH_KEYS)
                    .map(|part| {
                        let key = self.key(&format!("batch/{number:08}/{part}"));
                        (key, Some(value(part)))
                    })
                    .collect();
                changes.push((self.key("overwritten"), Some(value(BATCH_KEYS))));
                if let Some(earlier) = number.checked_sub(8) {
                    changes.push((self.key(&format!("batch/{earlier:08}/0")), None));
                }
                Operation::Batch(changes)
            }
            _ => Operation::Put(self.key(&format!("put/{number:08}")), value(0)),
        }
    }

    /// 16 to about 1000 bytes that only this part of this operation writes; now and then 8000.
    fn value(self, number: u64, part: u64) -> Vec<u8> {
        let mut random = Random(number << 16 | self.round << 8 | self.thread << 4 | part);
        let words = 2 + random.below(match number {
            _ if number.is_multiple_of(40) => 1000,
            _ if number.is_multiple_of(5) => 125,
            _ => 20,
        });
        let mut value = number.to_le_bytes().to_vec();
        value.extend((1..words).flat_map(|_| random.next().to_le_bytes()));
        value
    }

    fn apply(self, number: u64, state: &mut State) {
        match self.operation(number) {
            Operation::Put(key, value) => drop(state.insert(key, value)),
            Operation::Delete(key) => drop(state.remove(&key)),
            Operation::Batch(changes) => {
                for (key, value) in changes {
                    match value {
                        Some(value) => drop(state.insert(key, value)),
                        None => drop(state.remove(&key)),
                    }
                }
            }
        }
    }

    /// What the stream holds after its first `count` operations.
    fn state_after(self, count: u64) -> State {
        let mut state = State::new();
        (0..count).for_each(|number| self.apply(number, &mut state));
        state
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn opened(open: Open, directory: &str) -> Arc<dyn KvEngine> {
    let host = Host::system(IoBackend::Auto).expect("a host");
    open(&host, directory).expect("the engine opens")
}

/// The process to be killed: recovers, and writes until then.
fn work_until_killed(open: Open, directory: &str, round: Option<u64>) {
    let engine = opened(open, directory);
    acknowledge("open");
    let Some(round) = round else {
        loop {
            std::thread::park();
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let engine = &*engine;
            scope.spawn(move || {
                let stream = Stream { round, thread };
                for number in 0.. {
                    perform(engine, stream.operation(number));
                    acknowledge(&format!("{thread} {number}"));
                }
            });
        }
    });
}

fn perform(engine: &dyn KvEngine, operation: Operation) {
    // The default is durable: synced when the future is ready.
    let options = WriteOptions::default();
    let written = match operation {
        Operation::Put(key, value) => block_on(engine.put(KEYSPACE, &key, &value, None, &options)),
        Operation::Delete(key) => block_on(engine.delete(KEYSPACE, &key, &options)),
        Operation::Batch(changes) => {
            let mut batch = WriteBatch::new();
            for (key, value) in &changes {
                match value {
                    Some(value) => batch.put(KEYSPACE, key, value, None),
                    None => batch.delete(KEYSPACE, key),
                };
            }
            block_on(engine.write(&batch, &options))
        }
    };
    written.expect("a write");
}

/// One line, written at once; a process whose parent is gone ends here.
fn acknowledge(what: &str) {
    let line = format!("{what}\n");
    let mut out = std::io::stdout().lock();
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// What a child acknowledged: "open", then a thread and the number of its operation.
enum Acknowledged {
    Open,
    Operation { thread: u64, number: u64 },
}

fn parse_acknowledged(line: &str) -> Acknowledged {
    if line == "open" {
        return Acknowledged::Open;
    }
    let (thread, number) = line.split_once(' ').expect("thread and number");
    Acknowledged::Operation {
        thread: thread.parse().expect("a thread"),
        number: number.parse().expect("a number"),
    }
}

fn start_child(directory: &str, round: Option<u64>) -> (Child, Receiver<Acknowledged>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .env(CHILD_VARIABLES[0], directory)
        .env(CHILD_VARIABLES[1], round.map_or(String::new(), |round| round.to_string()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child process");
    let out = BufReader::new(child.stdout.take().expect("its output"));
    let (sender, receiver) = channel();
    let reader = move || {
        for line in out.lines().map_while(Result::ok) {
            if sender.send(parse_acknowledged(&line)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().spawn(reader).expect("a thread");
    (child, receiver)
}

/// Kills the child; fails if it had ended by itself.
fn kill(mut child: Child) {
    child.kill().expect("a kill");
    let status = child.wait().expect("its end");
    assert_eq!(status.signal(), Some(SIGKILL), "the child ended by itself: {status}");
}

/// Lets time pass; no clock is read.
fn pause(duration: Duration) {
    let (_sender, receiver) = channel::<()>();
    assert_eq!(receiver.recv_timeout(duration), Err(RecvTimeoutError::Timeout));
}

/// Runs a child, kills it after some time at work, and counts what it acknowledged by thread.
fn kill_at_work(directory: &str, round: u64, work: Duration) -> BTreeMap<Stream, u64> {
    let (child, acknowledged) = start_child(directory, Some(round));
    let mut counts: BTreeMap<Stream, u64> =
        (0..THREADS).map(|thread| (Stream { round, thread }, 0)).collect();
    let mut count = |what: Acknowledged| {
        if let Acknowledged::Operation { thread, number } = what {
            let count = counts.get_mut(&Stream { round, thread }).expect("a known thread");
            assert_eq!(*count, number, "a thread acknowledges in order");
            *count += 1;
        }
    };
    for _ in 0..=THREADS {
        count(acknowledged.recv_timeout(PATIENCE).expect("the child opens and writes"));
    }
    pause(work);
    kill(child);
    acknowledged.iter().for_each(&mut count);
    counts
}

/// All that the engine holds.
fn contents(engine: &dyn KvEngine) -> State {
    let (mut state, mut cursor) = (State::new(), SweepCursor::start());
    loop {
        let mut visit = |key: &[u8], entry: Entry<'_>| {
            state.insert(key.to_vec(), entry.value.to_vec());
        };
        let options = ReadOptions::default();
        let swept = block_on(engine.sweep(KEYSPACE, &cursor, 1000, &options, &mut visit));
        match swept.expect("a sweep").next {
            Some(next) => cursor = next,
            None => return state,
        }
    }
}

/// Opens the engine and checks all streams. `counts` says what each must hold at least, and
/// afterwards what it does hold. Only streams of this round may hold one operation more.
fn check(open: Open, directory: &str, round: u64, counts: &mut BTreeMap<Stream, u64>) -> usize {
    let engine = opened(open, directory);
    let all = contents(&*engine);
    let mut entries = 0;
    for (stream, count) in counts {
        let prefix = stream.prefix();
        let of_stream = all.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        let found: State = of_stream.map(|(key, value)| (key.clone(), value.clone())).collect();
        entries += found.len();
        let mut expected = stream.state_after(*count);
        if found != expected && stream.round == round {
            stream.apply(*count, &mut expected);
            *count += 1;
        }
        if found != expected {
            let missing = expected.keys().filter(|key| !found.contains_key(*key));
            let extra = found.keys().filter(|key| !expected.contains_key(*key));
            let changed =
                found.iter().filter(|(key, value)| expected.get(*key).is_some_and(|e| e != *value));
            panic!(
                "{stream:?} after {count} operations: missing {:?}, extra {:?}, changed {:?}",
                missing.map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>(),
                extra.map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>(),
                changed.map(|(key, _)| key.escape_ascii().to_string()).collect::<Vec<_>>(),
            );
        }
    }
    assert_eq!(all.len(), entries, "keys that belong to no stream");
    block_on(engine.close()).expect("an orderly end");
    entries
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

/// Whether the arguments of `cargo test` choose this test.
fn is_chosen() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut names = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    let is_listing = arguments.iter().any(|argument| argument == "--list");
    !is_listing && (names.peek().is_none() || names.any(|name| "kill9".contains(name.as_str())))
}

/// Runs the test, or as its child until that is killed; `directory` is for the test's files.
pub fn run(open: Open, directory: &str) {
    let [child, round] = CHILD_VARIABLES.map(|variable| std::env::var(variable).ok());
    if let (Some(directory), Some(round)) = (child, round) {
        let round = (!round.is_empty()).then(|| round.parse().expect("a round"));
        return work_until_killed(open, &directory, round);
    }
    if !is_chosen() {
        return;
    }
    let rounds = number_from(ROUNDS_VARIABLE).unwrap_or(ROUNDS);
    let seed = number_from(SEED_VARIABLE).unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("kill9: {rounds} rounds, {SEED_VARIABLE}={seed}");
    let mut random = Random(seed);
    let name = format!("kill9-{}", std::process::id());
    let directory = Path::new(directory).join(name);
    let path = directory.to_str().expect("a path in UTF-8");
    let mut counts = BTreeMap::new();
    for round in 0..rounds {
        let work = Duration::from_micros(random.below(800_000));
        let acknowledged = kill_at_work(path, round, work);
        let total: u64 = acknowledged.values().sum();
        counts.extend(acknowledged);
        if round % 2 == 1 {
            // Also in the middle of the recovery, which must leave nothing half done.
            let (child, _) = start_child(path, None);
            pause(Duration::from_micros(random.below(30_000)));
            kill(child);
        }
        let entries = check(open, path, round, &mut counts);
        println!(
            "round {round}: killed after {total} acknowledged operations ({} ms of work); \
             recovered, all {entries} entries are as they must be",
            work.as_millis(),
        );
    }
    println!("kill9: {rounds} kills; nothing acknowledged was lost, nothing was half there");
    std::fs::remove_dir_all(&directory).expect("the directory is removed");
}
