//! What the simulated disk keeps and loses.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ferrokit_engine::{Clock, ErrorKind, UnixMillis};

use super::*;
use crate::background::{Background, Progress};
use crate::fs::{File, Fs, OpenMode};

fn file_with(machine: &SimMachine, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = machine.fs().open(path, OpenMode::OpenOrCreate).unwrap();
    file.write_at(0, bytes.to_vec()).wait().unwrap();
    file
}

fn content(machine: &SimMachine, path: &str) -> Option<Vec<u8>> {
    let fs = machine.fs();
    if !fs.exists(path).unwrap() {
        return None;
    }
    let file = fs.open(path, OpenMode::Read).unwrap();
    Some(file.read_at(0, file.len().unwrap() as usize).wait().unwrap())
}

/// A synced file of ones, overwritten with twos that are not synced.
fn ones_then_twos(bytes: usize) -> SimMachine {
    let machine = SimMachine::new(1);
    let file = file_with(&machine, "f", &vec![1; bytes]);
    file.sync_data().wait().unwrap();
    machine.fs().sync_dir("").unwrap();
    file.write_at(0, vec![2; bytes]).wait().unwrap();
    machine
}

#[test]
fn bytes_and_names_are_durable_apart() {
    let machine = SimMachine::new(1);
    let fs = machine.fs();
    fs.create_dir_all("d").unwrap();
    let synced_bytes = file_with(&machine, "d/bytes", b"x");
    synced_bytes.sync_all().wait().unwrap();
    assert_eq!(content(&machine.crash(CrashMode::DropUnsynced), "d/bytes"), None);
    assert_eq!(
        content(&machine.crash(CrashMode::KeepAll), "d/bytes").as_deref(),
        Some(b"x".as_slice())
    );

    let machine = SimMachine::new(1);
    machine.fs().create_dir_all("d").unwrap();
    file_with(&machine, "d/name", b"x");
    machine.fs().sync_dir("d").unwrap();
    let after = machine.crash(CrashMode::DropUnsynced);
    assert_eq!(content(&after, "d/name").as_deref(), Some(b"".as_slice()));
    let after = machine.crash(CrashMode::ProcessKill);
    assert_eq!(content(&after, "d/name").as_deref(), Some(b"x".as_slice()));
    // What a killed process wrote is still unsynced.
    let after = after.crash(CrashMode::DropUnsynced);
    assert_eq!(content(&after, "d/name").as_deref(), Some(b"".as_slice()));
}

#[test]
fn a_rename_is_atomic_and_durable_after_a_directory_sync() {
    let machine = SimMachine::new(3);
    let fs = machine.fs();
    for (path, bytes) in [("new", b"2"), ("current", b"1")] {
        file_with(&machine, path, bytes).sync_all().wait().unwrap();
    }
    fs.sync_dir("").unwrap();
    fs.rename("new", "current").unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..50 {
        let after = machine.crash(CrashMode::Random(seed));
        outcomes.insert((content(&after, "new"), content(&after, "current")));
    }
    let both = [(None, Some(b"2".to_vec())), (Some(b"2".to_vec()), Some(b"1".to_vec()))];
    assert_eq!(outcomes, BTreeSet::from(both));
}

#[test]
fn a_crash_tears_unsynced_writes_at_sectors_only() {
    let machine = ones_then_twos(2048);
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let bytes = content(&machine.crash(CrashMode::Random(seed)), "f").unwrap();
        for sector in bytes.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "torn inside a sector");
        }
        outcomes.insert(bytes);
    }
    assert_eq!(outcomes.len(), 16, "every subset of four sectors is to be seen");
    let images = |mode| content(&machine.crash(mode), "f").unwrap();
    assert_eq!(images(CrashMode::DropUnsynced), vec![1; 2048]);
    assert_eq!(images(CrashMode::KeepAll), vec![2; 2048]);
    assert_eq!(images(CrashMode::Random(9)), images(CrashMode::Random(9)));
}

#[test]
fn exactly_the_first_operations_take_effect() {
    let machine = SimMachine::new(1);
    let file = file_with(&machine, "f", b"a");
    let cut = machine.io_count() + 1;
    machine.crash_at(cut);
    file.write_at(1, b"b".to_vec()).wait().unwrap();
    assert_eq!(file.write_at(2, b"c".to_vec()).wait().unwrap_err().kind(), ErrorKind::Io);
    assert!(machine.is_frozen());
    assert!(file.read_at(0, 1).wait().is_err() && file.sync_data().wait().is_err());
    assert_eq!(machine.io_count(), cut);
    let after = machine.crash(CrashMode::KeepAll);
    assert_eq!(content(&after, "f").as_deref(), Some(b"ab".as_slice()));
}

#[test]
fn faults_are_acted_out() {
    let machine = ones_then_twos(4);
    let file = machine.fs().open("f", OpenMode::ReadWrite).unwrap();
    machine.set_faults(FaultPlan::new().at_io(machine.io_count(), FaultKind::NoSpace));
    assert_eq!(file.sync_data().wait().unwrap_err().kind(), ErrorKind::OutOfSpace);
    file.sync_data().wait().unwrap();

    let short = FaultKind::ShortWrite { bytes: 2 };
    machine.set_faults(FaultPlan::new().on(OpKind::Write, "f", short, 1));
    assert!(file.write_at(0, vec![7; 4]).wait().is_err());
    assert_eq!(file.read_at(0, 4).wait().unwrap(), [7, 7, 2, 2]);

    let flip = FaultKind::FlipBit { byte: Some(3), bit: 0 };
    machine.set_faults(FaultPlan::new().at_read(machine.read_count(), flip));
    assert_eq!(file.read_at(0, 4).wait().unwrap(), [7, 7, 2, 3]);
    assert_eq!(file.read_at(0, 4).wait().unwrap(), [7, 7, 2, 2]);

    let eof = file.read_at(2, 3).wait().unwrap_err();
    assert_eq!((eof.kind(), eof.offset()), (ErrorKind::Io, Some(2)));
    assert_eq!(file.read_at(u64::MAX, 1).wait().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_failed_sync_can_lose_writes_for_good() {
    let machine = ones_then_twos(4);
    let file = machine.fs().open("f", OpenMode::ReadWrite).unwrap();
    machine.set_faults(FaultPlan::new().on(OpKind::Sync, "", FaultKind::SyncLosesWrites, 1));
    assert!(file.sync_data().wait().is_err());
    file.sync_data().wait().unwrap();
    assert_eq!(file.read_at(0, 4).wait().unwrap(), [2; 4]);
    assert_eq!(content(&machine.crash(CrashMode::KeepAll), "f").unwrap(), [1; 4]);
}

#[test]
fn a_disk_has_a_size() {
    let machine = SimMachine::new(1);
    machine.set_capacity_bytes(3 * 4096);
    let file = file_with(&machine, "f", &[1; 8192]);
    assert_eq!(file.allocate(8192, 8192).wait().unwrap_err().kind(), ErrorKind::OutOfSpace);
    assert_eq!(
        file.write_at(8192, vec![1; 4097]).wait().unwrap_err().kind(),
        ErrorKind::OutOfSpace
    );
    assert_eq!(file.allocate(0, u64::MAX / 4).wait().unwrap_err().kind(), ErrorKind::OutOfSpace);
    file.write_at(8192, vec![1; 4096]).wait().unwrap();
    file.punch_hole(0, 4096).wait().unwrap();
    assert_eq!(machine.used_bytes(), 8192);
    machine.fs().remove_file("f").unwrap();
    assert_eq!(file.read_at(4096, 1).wait().unwrap(), [1], "an open file lives on");
    drop(file);
    assert_eq!(machine.used_bytes(), 0);
}

#[test]
fn a_slow_operation_happens_at_its_end_or_when_dropped_perhaps() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..20 {
        let machine = SimMachine::new(seed);
        let file = file_with(&machine, "f", b"a");
        let slow = FaultKind::Slow { polls: 2 };
        machine.set_faults(FaultPlan::new().on(OpKind::Write, "", slow, 2));
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut op = pin!(file.write_at(0, b"b".to_vec()));
            assert!(op.as_mut().poll(&mut cx).is_pending());
            assert_eq!(file.read_at(0, 1).wait().unwrap(), b"a");
        }
        outcomes.insert(file.read_at(0, 1).wait().unwrap());
        file.write_at(0, b"c".to_vec()).wait().unwrap();
        let mut op = pin!(file.write_at(0, b"d".to_vec()));
        drop(file);
        assert!(matches!(op.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
    }
    assert_eq!(outcomes, BTreeSet::from([b"a".to_vec(), b"b".to_vec()]));
}

#[test]
fn a_slow_sync_covers_what_was_written_before_it_began() {
    let machine = ones_then_twos(4);
    let file = machine.fs().open("f", OpenMode::ReadWrite).unwrap();
    machine.set_faults(FaultPlan::new().on(OpKind::Sync, "", FaultKind::Slow { polls: 1 }, 1));
    let sync = file.sync_data();
    file.write_at(0, vec![3; 4]).wait().unwrap();
    sync.wait().unwrap();
    assert_eq!(content(&machine.crash(CrashMode::DropUnsynced), "f").unwrap(), [2; 4]);
}

#[test]
fn a_directory_lock_ends_with_its_holder_or_the_machine() {
    let machine = SimMachine::new(1);
    machine.fs().create_dir_all("d").unwrap();
    let lock = machine.fs().lock_dir("d").unwrap();
    let locked = machine.fs().lock_dir("/d/").err().unwrap();
    assert_eq!(locked.kind(), ErrorKind::Locked);
    assert!(machine.crash(CrashMode::ProcessKill).fs().lock_dir("d").is_ok());
    drop(lock);
    let machine = machine.crash(CrashMode::KeepAll);
    drop(machine.fs().lock_dir("d").unwrap());
    assert!(machine.fs().lock_dir("d").is_ok());
}

#[test]
fn directories_come_and_go() {
    let machine = SimMachine::new(1);
    let fs = machine.fs();
    fs.create_dir_all("a/b").unwrap();
    file_with(&machine, "a/b/f", b"x").sync_all().wait().unwrap();
    file_with(&machine, "a/f", b"xy");
    let names: Vec<_> = fs.list("a").unwrap().into_iter().map(|e| (e.name, e.bytes)).collect();
    assert_eq!(names, [("b".to_owned(), 0), ("f".to_owned(), 2)]);
    fs.hard_link("a/f", "a/g").unwrap();
    assert!(fs.hard_link("a/f", "a/g").is_err());
    fs.sync_dir("a").unwrap();
    fs.sync_dir("a/b").unwrap();
    fs.remove_dir_all("a").unwrap();
    fs.remove_dir_all("a").unwrap();
    assert_eq!(fs.list("a").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs.open("a/f", OpenMode::OpenOrCreate).err().unwrap().kind(), ErrorKind::NotFound);
    let lost = machine.crash(CrashMode::DropUnsynced);
    assert_eq!(content(&lost, "a/b/f").as_deref(), Some(b"x".as_slice()));
    let kept = machine.crash(CrashMode::KeepAll);
    assert!(!kept.fs().exists("a").unwrap());
    kept.fs().create_dir_all("a/b").unwrap();
    assert!(kept.fs().list("a/b").unwrap().is_empty());
}

#[test]
fn a_mapping_and_an_open_mode_keep_their_word() {
    let machine = ones_then_twos(4);
    let file = machine.fs().open("f", OpenMode::Read).unwrap();
    assert_eq!(&**file.map(1, 3).unwrap(), [2; 3].as_slice());
    assert_eq!(file.map(2, 3).err().unwrap().kind(), ErrorKind::InvalidArgument);
    assert_eq!(file.write_at(0, vec![1]).wait().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(machine.fs().open("f", OpenMode::CreateNew).err().unwrap().kind(), ErrorKind::Io);
    assert_eq!(
        machine.fs().open("../f", OpenMode::Read).err().unwrap().kind(),
        ErrorKind::InvalidArgument
    );
}

#[test]
fn time_moves_when_nothing_else_can() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let mut steps = 0;
    let (sender, receiver) = std::sync::mpsc::channel();
    let clock = machine.clock().clone();
    let job = move || {
        steps += 1;
        sender.send(clock.monotonic()).unwrap();
        if steps < 3 { Progress::More } else { Progress::Idle }
    };
    let handle = host.background.register("job", Box::new(job)).unwrap();
    handle.wake();
    let before = host.env.clock.now();
    host.wait(host.env.timer.sleep(Duration::from_secs(5)));
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [Duration::ZERO; 3]);
    assert_eq!(host.env.clock.now().0 - before.0, 5000);
    machine.clock().set_wall(UnixMillis(17));
    assert_eq!(host.env.clock.now(), UnixMillis(17));
    assert_eq!(host.env.clock.monotonic(), Duration::from_secs(5));
    machine.clock().advance(Duration::from_millis(3));
    assert_eq!(host.env.clock.now(), UnixMillis(20));
    assert!(host.env.spawner.spawn("t", Box::new(|| ())).is_err());
}

#[test]
fn a_sleep_inside_a_job_does_not_wait_for_other_jobs() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let other = host.background.register("other", Box::new(|| Progress::More)).unwrap();
    other.wake();
    let inner = host.clone();
    let job = move || {
        ferrokit_engine::block_on(inner.env.timer.sleep(Duration::from_secs(1)));
        Progress::Idle
    };
    let job = host.background.register("sleeper", Box::new(job)).unwrap();
    job.wake();
    while host.env.clock.monotonic() < Duration::from_secs(1) {
        assert!(machine.background().step());
    }
}
