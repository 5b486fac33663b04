//! The shared behaviour of file systems, on the real backends.

mod common;

use common::TempDir;
use ferrokit_engine::Env;
use ferrokit_storage::testing::fs_suite::{self, Blocking};
use ferrokit_storage::{Fs, ThreadsFs, ThreadsOptions};

#[test]
fn threads() {
    let directory = TempDir::new("fs-threads");
    let fs = ThreadsFs::new(&Env::system(), ThreadsOptions::default()).unwrap();
    fs_suite::run(&fs, &Blocking, directory.path());
}

#[test]
fn threads_with_the_smallest_pool() {
    let directory = TempDir::new("fs-threads-small");
    let options = ThreadsOptions { threads: 1, queue_len: 1, reads_cached_inline: false };
    let fs = ThreadsFs::new(&Env::system(), options).unwrap();
    fs_suite::run(&fs, &Blocking, directory.path());
}

#[test]
fn sim() {
    let machine = ferrokit_storage::sim::SimMachine::new(1);
    machine.fs().create_dir_all("d").unwrap();
    fs_suite::run(&machine.fs(), &Blocking, "d");
}

#[cfg(target_os = "linux")]
mod uring {
    use std::os::fd::BorrowedFd;
    use std::sync::Arc;

    use super::*;
    use ferrokit_engine::{Op, Result};
    use ferrokit_storage::testing::fs_suite::Waiter;
    use ferrokit_storage::{ThreadIo, UringFs, UringOptions};

    fn small() -> UringOptions {
        UringOptions {
            shared_entries: 2,
            thread_entries: 2,
            queue_len: 1,
            reads_cached_inline: false,
        }
    }

    #[test]
    fn shared_ring() {
        let directory = TempDir::new("fs-uring");
        let fs = UringFs::new(&Env::system(), UringOptions::default()).unwrap();
        fs_suite::run(&fs, &Blocking, directory.path());
    }

    #[test]
    fn the_smallest_shared_ring() {
        let directory = TempDir::new("fs-uring-small");
        let fs = UringFs::new(&Env::system(), small()).unwrap();
        fs_suite::run(&fs, &Blocking, directory.path());
    }

    /// Waits as a runtime does: polls the future, then the ring's descriptor, then drives.
    struct Driving(Box<dyn ThreadIo>);

    impl Waiter for Driving {
        fn wait<T>(&self, mut op: Op<'_, T>) -> Result<T> {
            use std::future::Future;
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            loop {
                if let std::task::Poll::Ready(result) = std::pin::Pin::new(&mut op).poll(&mut cx) {
                    return result;
                }
                // SAFETY: the descriptor belongs to the ring, which lives as long as `self`; were
                // it closed, another file could be polled under its number.
                let event = unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) };
                let mut polled =
                    [rustix::event::PollFd::from_borrowed_fd(event, rustix::event::PollFlags::IN)];
                let time = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
                rustix::event::poll(&mut polled, Some(&time)).expect("a poll");
                self.0.drive();
            }
        }
    }

    #[test]
    fn a_ring_of_the_threads_own() {
        for options in [UringOptions::default(), small()] {
            let directory = TempDir::new("fs-uring-thread");
            let fs = UringFs::new(&Env::system(), options).unwrap();
            let ring = fs.register_thread().unwrap().unwrap();
            assert!(fs.register_thread().is_err(), "one ring for a thread");
            fs_suite::run(&fs, &Driving(ring), directory.path());
            drop(fs.register_thread().unwrap().unwrap());
        }
    }

    #[test]
    fn a_thread_that_blocks_instead_of_driving_does_not_hang() {
        let directory = TempDir::new("fs-uring-blocked");
        let fs = UringFs::new(&Env::system(), UringOptions::default()).unwrap();
        let _ring = fs.register_thread().unwrap().unwrap();
        let file = fs
            .open(&format!("{}/file", directory.path()), ferrokit_storage::OpenMode::CreateNew)
            .unwrap();
        for _ in 0..3 {
            file.write_at(0, vec![1; 100]).wait().unwrap();
            file.sync_data().wait().unwrap();
        }
    }

    #[test]
    fn dropping_a_threads_ring_completes_what_is_under_way() {
        let directory = TempDir::new("fs-uring-dropped");
        let fs = UringFs::new(&Env::system(), UringOptions::default()).unwrap();
        let path = format!("{}/file", directory.path());
        let file = fs.open(&path, ferrokit_storage::OpenMode::CreateNew).unwrap();
        let of_thread = Arc::clone(&file);
        // Begun on a thread, never polled there; the thread and its ring end before the answers.
        let ops = std::thread::scope(|scope| {
            let fs = &fs;
            let begun = scope.spawn(move || {
                let _ring = fs.register_thread().unwrap().unwrap();
                (0..20)
                    .map(|block| of_thread.write_at(block * 100, vec![block as u8; 100]))
                    .collect::<Vec<_>>()
            });
            begun.join().unwrap()
        });
        for (block, op) in ops.into_iter().enumerate() {
            assert_eq!(op.wait().unwrap(), vec![block as u8; 100]);
        }
        assert_eq!(file.len().unwrap(), 2000);
    }

    #[test]
    fn bad_sizes_are_refused() {
        for (shared_entries, thread_entries, queue_len) in
            [(0, 2, 1), (3, 2, 1), (8192, 2, 1), (2, 1, 1), (2, 2, 0)]
        {
            let options =
                UringOptions { shared_entries, thread_entries, queue_len, ..Default::default() };
            assert!(UringFs::new(&Env::system(), options).is_err(), "{options:?}");
        }
    }
}
