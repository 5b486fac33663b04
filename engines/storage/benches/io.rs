//! Random 4 KiB reads, one at a time and 32 at once: `cached` on the caller's thread, `hop` of
//! cached bytes through the backend's threads or ring, `device` of bytes that are not cached.
//!
//! `cargo bench -p ferrokit-storage --bench io`. The file lies in cargo's target directory; before
//! each `device` iteration it is dropped from the page cache (`posix_fadvise`), unmeasured.

use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ferrokit_engine::Env;
use ferrokit_storage::{File, Fs, OpenMode, ThreadsFs, ThreadsOptions};

const FILE_BYTES: u64 = 64 << 20;
const BLOCK_BYTES: usize = 4096;

fn backends(reads_cached_inline: bool) -> Vec<Arc<dyn Fs>> {
    let env = Env::system();
    let threads =
        ThreadsFs::new(&env, ThreadsOptions { reads_cached_inline, ..Default::default() })
            .expect("threads");
    let mut backends: Vec<Arc<dyn Fs>> = vec![Arc::new(threads)];
    #[cfg(target_os = "linux")]
    match ferrokit_storage::UringFs::new(
        &env,
        ferrokit_storage::UringOptions { reads_cached_inline, ..Default::default() },
    ) {
        Ok(uring) => backends.push(Arc::new(uring)),
        Err(error) => eprintln!("left out: {error}"),
    }
    backends
}

/// Offsets of blocks, in an order no read-ahead guesses.
fn offsets() -> impl Iterator<Item = u64> {
    let mut state = 1_u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % (FILE_BYTES / BLOCK_BYTES as u64) * BLOCK_BYTES as u64
    })
}

fn read_batch(file: &dyn File, batch: &[u64]) {
    let ops: Vec<_> = batch.iter().map(|offset| file.read_at(*offset, BLOCK_BYTES)).collect();
    for op in ops {
        std::hint::black_box(op.wait().expect("a read"));
    }
}

fn random_reads(c: &mut Criterion) {
    let path = format!("{}/io-bench-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    for (fs, hop) in backends(true).into_iter().zip(backends(false)) {
        let file = fs.open(&path, OpenMode::OpenOrCreate).expect("a file");
        for block in 0..FILE_BYTES >> 20 {
            file.write_at(block << 20, vec![block as u8; 1 << 20]).wait().expect("a write");
        }
        file.sync_all().wait().expect("a sync");
        let raw = std::fs::OpenOptions::new().read(true).open(&path).expect("a file");
        let through_backend = hop.open(&path, OpenMode::Read).expect("a file");
        let mut offsets = offsets();
        for depth in [1_usize, 32] {
            let mut group = c.benchmark_group(format!("read_4KiB_depth_{depth}"));
            group.throughput(Throughput::Elements(depth as u64));
            let mut batch = vec![0; depth];
            for (name, file) in [("cached", &file), ("hop", &through_backend)] {
                group.bench_function(BenchmarkId::new(name, fs.backend()), |bencher| {
                    bencher.iter(|| {
                        let places = batch.iter_mut().zip(&mut offsets);
                        places.for_each(|(place, offset)| *place = offset);
                        read_batch(&**file, &batch);
                    });
                });
            }
            group.bench_function(BenchmarkId::new("device", fs.backend()), |bencher| {
                let mut cold_batch = || {
                    rustix::fs::fadvise(&raw, 0, None, rustix::fs::Advice::DontNeed)
                        .expect("advice");
                    (&mut offsets).take(depth).collect::<Vec<u64>>()
                };
                bencher.iter_batched(
                    &mut cold_batch,
                    |batch| read_batch(&*file, &batch),
                    BatchSize::PerIteration,
                );
            });
            group.finish();
        }
        fs.remove_file(&path).expect("removed");
    }
}

criterion_group!(benches, random_reads);
criterion_main!(benches);
