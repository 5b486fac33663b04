//! What checkpoints cost those who write meanwhile: operations of each tenth of a second, with a
//! checkpoint under way and without.
//!
//! `CHECKPOINTS_DIRECTORY=<new directory> cargo bench -p ferrokit-hybridlog --bench checkpoints`; as a
//! test it does nothing. `CHECKPOINTS_SECONDS`, `CHECKPOINTS_MEMORY_MIB`, `CHECKPOINTS_KEYS` and
//! `CHECKPOINTS_LOG_MIB` (bytes of the log from one to the next) are for other sizes.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]
#![allow(clippy::disallowed_methods, reason = "it measures the time that passes")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ferrokit_engine::{Durability, KeyspaceId, KvEngine, Op, WriteOptions};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::{Host, IoBackend};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const SLOT: Duration = Duration::from_millis(100);
const OS: WriteOptions = WriteOptions::with_durability(Durability::Os);

/// What was done in a tenth of a second.
struct Sample {
    operations: u64,
    is_checkpointing: bool,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn main() {
    let Ok(directory) = std::env::var("CHECKPOINTS_DIRECTORY") else { return };
    let (keys, seconds) =
        (setting("CHECKPOINTS_KEYS", 5_000_000), setting("CHECKPOINTS_SECONDS", 30));
    let host = Host::system(IoBackend::Auto).unwrap();
    let config = HybridLogConfig {
        directory,
        memory_bytes: setting("CHECKPOINTS_MEMORY_MIB", 256) << 20,
        checkpoint_bytes: setting("CHECKPOINTS_LOG_MIB", 256) << 20,
        ..HybridLogConfig::default()
    };
    let engine = HybridLogEngine::open(&host, config).unwrap();
    let put = |key: u64| {
        let key = key.to_le_bytes();
        match engine.put(KeyspaceId::DEFAULT, &key, &[7; 100], None, &OS) {
            Op::Ready(written) => written.map(drop).unwrap(),
            pending => host.wait(pending).map(drop).unwrap(),
        }
    };
    (0..keys).for_each(put);
    let stat = |name| engine.stats().get(name).unwrap();
    let (done, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let before = (stat("checkpoints"), stat("checkpoints_incremental"));
    let samples = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = SmallRng::seed_from_u64(1);
            while !is_over.load(Ordering::Relaxed) {
                put(random.random_range(0..keys));
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        let start = Instant::now();
        let (mut samples, mut counted) = (Vec::new(), 0);
        while start.elapsed() < Duration::from_secs(seconds) {
            let (mut is_checkpointing, slot) = (false, Instant::now());
            while slot.elapsed() < SLOT {
                is_checkpointing |= stat("checkpoint_running") != 0;
                std::thread::sleep(SLOT / 10);
            }
            let now = done.load(Ordering::Relaxed);
            samples.push(Sample { operations: now - counted, is_checkpointing });
            counted = now;
        }
        is_over.store(true, Ordering::Relaxed);
        samples
    });
    let taken = stat("checkpoints") - before.0;
    let incremental = stat("checkpoints_incremental") - before.1;
    println!("{taken} checkpoints, {incremental} of them incremental");
    report(&samples);
    host.wait(engine.close()).unwrap();
}

fn report(samples: &[Sample]) {
    let median = |is_checkpointing: Option<bool>| {
        let mut operations: Vec<u64> = samples
            .iter()
            .filter(|sample| is_checkpointing.is_none_or(|it| it == sample.is_checkpointing))
            .map(|sample| sample.operations)
            .collect();
        operations.sort_unstable();
        operations.get(operations.len() / 2).copied().unwrap_or(0)
    };
    let quiet = median(Some(false)).max(1);
    println!("median of a tenth of a second: {quiet} without, {} with one", median(Some(true)));
    let mut worst = u64::MAX;
    for (second, samples) in samples.chunks_exact(10).enumerate() {
        let operations: u64 = samples.iter().map(|sample| sample.operations).sum();
        let slowest = samples.iter().map(|sample| sample.operations).min().unwrap_or(0);
        let checkpointing = samples.iter().filter(|sample| sample.is_checkpointing).count();
        worst = worst.min(operations * 10 / quiet);
        println!("{second:3}: {operations:8}, slowest tenth {slowest:7}, with one {checkpointing}");
    }
    println!("the slowest second has {worst} % of the median without");
}
