//! Threads of this machine, against each other.

use std::thread::JoinHandle;

use ferrokit::{Builder, Durability, Env, Ferrokit, Swap, Update, block_on};

use crate::common::URLS;

const THREADS: usize = 4;
const ROUNDS: usize = 300;

fn spawn(body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    Env::system().spawner.spawn("race", Box::new(body)).unwrap()
}

/// Runs `body` on several threads, on each engine.
fn race(name: &str, body: fn(&Ferrokit), check: fn(&Ferrokit)) {
    for (engine, url) in URLS {
        let directory = format!("ferrokit-race-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let url = url.replace("lsm:data", &format!("lsm:{}", directory.display()));
        let builder = Builder::new(url).durability(Durability::Memory);
        let kv = builder.open_blocking().unwrap();
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let kv = kv.clone();
                spawn(move || body(&kv))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        check(&kv);
        block_on(kv.close()).unwrap();
        if *engine == "lsm" {
            std::fs::remove_dir_all(directory).unwrap();
        }
    }
}

fn number(kv: &Ferrokit, key: &str) -> i64 {
    block_on(kv.incr_by(key, 0)).unwrap()
}

#[test]
fn no_increment_is_lost_however_it_is_made() {
    race(
        "incr",
        |kv| {
            for _ in 0..ROUNDS {
                block_on(kv.incr("n")).unwrap();
                let add_one = |value: Option<&[u8]>| {
                    let number: i64 = value
                        .map_or(0, |value| std::str::from_utf8(value).unwrap().parse().unwrap());
                    Update::set((number + 1).to_string())
                };
                block_on(kv.update("n", add_one)).unwrap();
                swap_up(kv);
                let mut transaction = block_on(kv.transaction(["n", "other"]));
                block_on(transaction.incr_by("n", 1)).unwrap();
                block_on(transaction.incr_by("other", 1)).unwrap();
                block_on(transaction.commit()).unwrap();
            }
        },
        |kv| {
            assert_eq!(number(kv, "n"), (THREADS * ROUNDS * 4) as i64);
            assert_eq!(number(kv, "other"), (THREADS * ROUNDS) as i64);
        },
    );
}

/// Adds one by compare-and-swap.
fn swap_up(kv: &Ferrokit) {
    let mut present = block_on(kv.get("n")).unwrap();
    loop {
        let number: i64 = present
            .as_deref()
            .map_or(0, |value| std::str::from_utf8(value).unwrap().parse().unwrap());
        let next = (number + 1).to_string();
        let swapped = kv.compare_and_swap("n", present.as_deref(), Some(next.as_bytes()));
        match block_on(swapped).unwrap() {
            Swap::Done => return,
            Swap::Found(found) => present = found,
        }
    }
}

/// Only one of those who want a lock gets it, and what it guards is never written by two.
#[test]
fn a_lock_by_swap_has_one_holder() {
    race(
        "lock",
        |kv| {
            let mut taken = 0;
            while taken < ROUNDS / 10 {
                if !block_on(kv.compare_and_swap("lock", None, Some(b"held"))).unwrap().is_done() {
                    std::thread::yield_now();
                    continue;
                }
                let before = number(kv, "guarded");
                block_on(kv.set("guarded", (before + 1).to_string())).unwrap();
                assert!(block_on(kv.del("lock")).unwrap());
                taken += 1;
            }
        },
        |kv| assert_eq!(number(kv, "guarded"), (THREADS * (ROUNDS / 10)) as i64),
    );
}

/// Readers of several keys see a transfer as a whole.
#[test]
fn a_read_of_several_keys_is_of_one_moment() {
    race(
        "sum",
        |kv| {
            for round in 0..ROUNDS as i64 {
                let mut transfer = block_on(kv.transaction(["a", "b"]));
                block_on(transfer.incr_by("a", -round)).unwrap();
                block_on(transfer.incr_by("b", round)).unwrap();
                block_on(transfer.commit()).unwrap();
                let values = block_on(kv.mget(["a", "b"])).unwrap();
                let sum: i64 = values
                    .into_iter()
                    .flatten()
                    .map(|value| std::str::from_utf8(&value).unwrap().parse::<i64>().unwrap())
                    .sum();
                assert_eq!(sum, 0);
            }
        },
        |kv| assert_eq!(number(kv, "a") + number(kv, "b"), 0),
    );
}

/// A thing that is moved from key to key is always at one of them, and never at two.
#[test]
fn a_key_that_is_renamed_is_seen_once() {
    race(
        "rename",
        |kv| {
            for _ in 0..ROUNDS {
                let mut moving = block_on(kv.transaction(["a", "b"]));
                let (from, to) =
                    if block_on(moving.exists("a")).unwrap() { ("a", "b") } else { ("b", "a") };
                block_on(moving.del(from)).unwrap();
                block_on(moving.set(to, "it")).unwrap();
                block_on(moving.commit()).unwrap();
                let places = block_on(kv.mget(["a", "b"])).unwrap();
                assert_eq!(places.iter().flatten().count(), 1);
            }
        },
        |kv| {
            let mut keys = block_on(kv.keys().to_vec()).unwrap();
            keys.dedup();
            assert_eq!(keys.len(), 1);
        },
    );
}

/// A watcher on one thread sees the last of the writes on others; futures that are dropped half-way
/// hold nothing back.
#[test]
fn a_watcher_sees_the_last_state_and_dropped_futures_hold_nothing_back() {
    let kv = block_on(ferrokit::open("memory:")).unwrap();
    let mut watch = block_on(kv.watch("n")).unwrap();
    let watcher = spawn(move || {
        let last = (THREADS * ROUNDS).to_string();
        while block_on(watch.next()).unwrap().unwrap().unwrap() != last {}
    });
    let writers: Vec<_> = (0..THREADS)
        .map(|_| {
            let kv = kv.clone();
            spawn(move || {
                for _ in 0..ROUNDS {
                    // Polled once, and dropped: a transaction that waits, or holds its key.
                    let mut waiting = Box::pin(kv.transaction(["n"]));
                    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                    let polled = waiting.as_mut().poll(&mut cx);
                    drop(polled);
                    drop(waiting);
                    block_on(kv.incr("n")).unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    watcher.join().unwrap();
    assert_eq!(number(&kv, "n"), (THREADS * ROUNDS) as i64);
}
