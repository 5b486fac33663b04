//! What the log costs on a real file: an append alone, and a synced commit by 1, 8 and 32 writers.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails is to stop")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ferrokit_engine::Durability;
use ferrokit_storage::{Host, IoBackend, Log, LogConfig, LogPosition};

const RECORD: [u8; 128] = [7; 128];

/// A log in a directory that is removed in the end.
struct Place {
    host: Host,
    directory: String,
    log: Arc<Log>,
}

impl Place {
    fn new(name: &str) -> Self {
        let host = Host::system(IoBackend::Auto).unwrap();
        let directory =
            std::env::temp_dir().join(format!("ferrokit-{name}-{}", std::process::id()));
        let directory = directory.to_str().unwrap().to_owned();
        host.fs.remove_dir_all(&directory).unwrap();
        let config = LogConfig::default();
        let log = Log::open(&host, &directory, config, LogPosition(0), &mut |_, _| Ok(())).unwrap();
        Self { host, directory, log }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.host.fs.remove_dir_all(&self.directory).unwrap();
    }
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for (name, durability) in [("memory", Durability::Memory), ("os", Durability::Os)] {
        let place = Place::new("append");
        let mut count = 0u64;
        group.bench_function(name, |b| {
            b.iter(|| {
                place.log.room().wait().unwrap();
                count += 1;
                if count.is_multiple_of(1 << 18) {
                    place.log.trim(place.log.durable(Durability::Os)).unwrap();
                }
                black_box(place.log.append(&[&RECORD], durability).unwrap())
            });
        });
    }
    group.finish();
}

fn synced_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("synced_commit");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for writers in [1u64, 8, 32] {
        const EACH: u64 = 20;
        let place = Place::new("commit");
        group.throughput(Throughput::Elements(writers * EACH));
        group.bench_function(BenchmarkId::from_parameter(writers), |b| {
            b.iter(|| {
                std::thread::scope(|scope| {
                    for _ in 0..writers {
                        scope.spawn(|| {
                            for _ in 0..EACH {
                                let log = &place.log;
                                let appended = log.append(&[&RECORD], Durability::Synced).unwrap();
                                log.committed(appended.ticket(Durability::Synced)).wait().unwrap();
                            }
                        });
                    }
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, synced_commit);
criterion_main!(benches);
