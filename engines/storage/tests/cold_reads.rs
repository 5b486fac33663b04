//! Reads of bytes that were dropped from the page cache, wholly or in part.

mod common;

use std::os::fd::AsFd;

use common::TempDir;
use ferrokit_storage::testing::fs_suite::pattern;
use ferrokit_storage::{Fs, Host, IoBackend, OpenMode};
use rustix::fs::{Advice, fadvise};

const FILE_BYTES: usize = 4 << 20;

fn drop_from_cache(file: impl AsFd) {
    fadvise(file, 0, None, Advice::DontNeed).expect("advice");
}

fn cold_reads(fs: &dyn Fs) {
    let directory = TempDir::new(&format!("cold-{}", fs.backend()));
    let path = format!("{}/file", directory.path());
    let data = pattern(9, FILE_BYTES);
    let file = fs.open(&path, OpenMode::CreateNew).expect("a file");
    file.write_at(0, data.clone()).wait().expect("a write");
    file.sync_all().wait().expect("a sync");
    let raw = std::fs::OpenOptions::new().read(true).open(&path).expect("a file");
    let mut pending = 0;
    for round in 0..40 {
        drop_from_cache(&raw);
        // Warms a part, so that the long reads find their beginning in memory only.
        let warm = round * 100_000;
        assert_eq!(file.read_at(warm as u64, 10).wait().expect("a read"), data[warm..warm + 10]);
        let ranges =
            [(warm, 200_000), (FILE_BYTES - 4096, 4096), (FILE_BYTES / 2, 1 << 20), (1, 1)];
        let reads: Vec<_> =
            ranges.iter().map(|(offset, len)| file.read_at(*offset as u64, *len)).collect();
        for ((offset, len), op) in ranges.into_iter().zip(reads) {
            pending += usize::from(!op.is_ready());
            assert_eq!(op.wait().expect("a read"), data[offset..offset + len], "{offset} {len}");
        }
    }
    // At least the reads of 1 MiB, which no backend makes on the caller's thread.
    assert!(pending >= 40, "{pending} reads waited");
}

#[test]
fn threads() {
    cold_reads(&*Host::system(IoBackend::Threads).expect("threads").fs);
}

#[test]
fn auto() {
    cold_reads(&*Host::system(IoBackend::Auto).expect("a backend").fs);
}
