//! The shared behaviour of file systems, on the real backends.

mod common;

use common::TempDir;
use ferrokit_engine::Env;
use ferrokit_storage::testing::fs_suite::{self, Blocking};
use ferrokit_storage::{ThreadsFs, ThreadsOptions};

#[test]
fn threads() {
    let directory = TempDir::new("fs-threads");
    let fs = ThreadsFs::new(&Env::system(), ThreadsOptions::default()).unwrap();
    fs_suite::run(&fs, &Blocking, directory.path());
}

#[test]
fn threads_with_the_smallest_pool() {
    let directory = TempDir::new("fs-threads-small");
    let options = ThreadsOptions { threads: 1, queue_len: 1 };
    let fs = ThreadsFs::new(&Env::system(), options).unwrap();
    fs_suite::run(&fs, &Blocking, directory.path());
}
