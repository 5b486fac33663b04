//! The directory lock, within a process and between two.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use common::TempDir;
use ferrokit_engine::ErrorKind;
use ferrokit_storage::{Host, IoBackend};

const DIRECTORY: &str = "FERROKIT_TEST_LOCK_DIRECTORY";

/// Not a case of its own: the second process of the one below. It holds the lock until its input
/// ends.
#[test]
fn holder() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let host = Host::system(IoBackend::Threads).unwrap();
    let _lock = host.fs.lock_dir(&directory).unwrap();
    println!("\nlocked");
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn a_directory_is_open_in_one_process() {
    let directory = TempDir::new("lock");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "locked"), "the other process has the lock");

    let host = Host::system(IoBackend::Threads).unwrap();
    let error = host.fs.lock_dir(directory.path()).err().expect("locked elsewhere");
    assert_eq!(error.kind(), ErrorKind::Locked);
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", holder.id())), "{text}");
    assert!(text.contains("close it there, or use another directory"), "{text}");

    // Killed, not closed: the system releases the lock.
    holder.kill().unwrap();
    holder.wait().unwrap();
    let lock = host.fs.lock_dir(directory.path()).unwrap();
    let again = host.fs.lock_dir(directory.path()).err().expect("locked by this process");
    assert!(again.to_string().contains("open in this process"), "{again}");
    drop(lock);
    drop(host.fs.lock_dir(directory.path()).unwrap());
}
