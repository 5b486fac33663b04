//! Many operations of many threads at once, some of them dropped, on both real backends.

mod common;

use std::collections::VecDeque;
use std::sync::Arc;

use common::TempDir;
use ferrokit_engine::{Env, Op};
use ferrokit_storage::testing::fs_suite::pattern;
use ferrokit_storage::{File, Fs, OpenMode, ThreadsFs, ThreadsOptions};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const BLOCK_BYTES: usize = 1024;
const BLOCKS: u64 = 64;
const STEPS: usize = 3000;
const IN_FLIGHT_MAX: usize = 40;

enum Pending {
    Read(u64, Op<'static, Vec<u8>>),
    Write(u64, u64, Op<'static, Vec<u8>>),
    Sync(Op<'static, ()>),
}

/// Works on blocks of its own in the shared file; a block is touched by one operation at a time,
/// so that each read has one right answer.
fn work(file: &dyn File, first_block: u64, seed: u64, wait: &dyn Fn()) {
    let mut rng = SmallRng::seed_from_u64(seed);
    // What each block holds; `None` after a dropped write, which happened or not.
    let mut content: Vec<Option<u64>> = vec![None; BLOCKS as usize];
    let mut busy = vec![false; BLOCKS as usize];
    let mut pending: VecDeque<Pending> = VecDeque::new();
    let settle =
        |pending: &mut VecDeque<Pending>, content: &mut Vec<Option<u64>>, busy: &mut Vec<bool>| {
            wait();
            match pending.pop_front() {
                None => {}
                Some(Pending::Sync(op)) => op.wait().expect("an answer"),
                Some(Pending::Read(block, op)) => {
                    let bytes = op.wait().expect("an answer");
                    if let Some(version) = content[block as usize] {
                        assert_eq!(bytes, pattern(version, BLOCK_BYTES), "block {block}");
                    }
                    busy[block as usize] = false;
                }
                Some(Pending::Write(block, version, op)) => {
                    assert_eq!(op.wait().expect("an answer"), pattern(version, BLOCK_BYTES));
                    content[block as usize] = Some(version);
                    busy[block as usize] = false;
                }
            }
        };
    let offset = |block: u64| (first_block + block) * BLOCK_BYTES as u64;
    for _ in 0..STEPS {
        let block = rng.random_range(0..BLOCKS);
        let is_free = !busy[block as usize];
        match rng.random_range(0..100) {
            0..45 if is_free => {
                busy[block as usize] = true;
                pending.push_back(Pending::Read(block, file.read_at(offset(block), BLOCK_BYTES)));
            }
            45..85 if is_free => {
                busy[block as usize] = true;
                let version = rng.random();
                let op = file.write_at(offset(block), pattern(version, BLOCK_BYTES));
                pending.push_back(Pending::Write(block, version, op));
            }
            85..88 => pending.push_back(Pending::Sync(file.sync_data())),
            88..94 => drop(file.read_at(offset(block), BLOCK_BYTES)),
            // A dropped write may come late: its block is left alone from then on.
            94..95 if is_free => {
                busy[block as usize] = true;
                drop(file.write_at(offset(block), pattern(1, BLOCK_BYTES)));
            }
            _ => settle(&mut pending, &mut content, &mut busy),
        }
        while pending.len() > IN_FLIGHT_MAX {
            settle(&mut pending, &mut content, &mut busy);
        }
    }
    while !pending.is_empty() {
        settle(&mut pending, &mut content, &mut busy);
    }
}

fn stress(fs: &(impl Fs + ?Sized), name: &str, with_rings: bool) {
    const THREADS: u64 = 4;
    let seed: u64 = std::env::var("FERROKIT_TEST_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |text| text.parse().expect("a seed"));
    eprintln!("{name}: FERROKIT_TEST_SEED={seed}");
    let directory = TempDir::new(name);
    let path = format!("{}/file", directory.path());
    let file: Arc<dyn File> = fs.open(&path, OpenMode::CreateNew).expect("a file");
    file.set_len(THREADS * BLOCKS * BLOCK_BYTES as u64).wait().expect("a length");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let file = &*file;
            scope.spawn(move || {
                // Every second thread has a ring of its own, and drives it now and then.
                let ring = (with_rings && thread % 2 == 0)
                    .then(|| fs.register_thread().expect("registered").expect("a ring"));
                let drive = || {
                    if let Some(ring) = &ring {
                        ring.drive();
                    }
                };
                work(file, thread * BLOCKS, seed ^ thread, &drive);
            });
        }
    });
}

#[test]
fn threads() {
    let options = ThreadsOptions { threads: 3, queue_len: 16, reads_cached_inline: false };
    stress(&ThreadsFs::new(&Env::system(), options).unwrap(), "stress-threads", false);
}

#[cfg(target_os = "linux")]
#[test]
fn uring() {
    use ferrokit_storage::{UringFs, UringOptions};
    let options = UringOptions {
        shared_entries: 16,
        thread_entries: 8,
        queue_len: 16,
        reads_cached_inline: false,
    };
    stress(&UringFs::new(&Env::system(), options).unwrap(), "stress-uring", false);
}

#[cfg(target_os = "linux")]
#[test]
fn uring_with_rings_of_threads() {
    use ferrokit_storage::{UringFs, UringOptions};
    let options = UringOptions {
        shared_entries: 16,
        thread_entries: 8,
        queue_len: 16,
        reads_cached_inline: false,
    };
    stress(&UringFs::new(&Env::system(), options).unwrap(), "stress-uring-rings", true);
}
