//! The exclusive lock on an engine's directory: `flock` on its file `LOCK`.
//!
//! The lock belongs to the open file description, so a second open fails in the same process as
//! well as in another; the system releases it when the holder ends in whatever way. The file stays:
//! removing it would let two holders lock two files of that name. It holds the process id of its
//! last holder, for the message only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use ferrokit_engine::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::fs::DirLock;

/// The name of the lock file in a directory.
pub const LOCK_FILE_NAME: &str = "LOCK";

/// A held lock. Released when dropped.
#[derive(Debug)]
pub(crate) struct FlockDirLock {
    _file: File,
}

impl DirLock for FlockDirLock {}

impl FlockDirLock {
    /// Locks `directory`, which must exist; never waits.
    pub(crate) fn acquire(directory: &str) -> Result<Self> {
        let path = format!("{}/{LOCK_FILE_NAME}", directory.trim_end_matches('/'));
        let failed = |error: io::Error| Error::io("fs.lock_dir", error).with_file(&path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(locked(&path, holder(&file))),
            Err(errno) => return Err(failed(errno.into())),
        }
        // Best effort: the text is only for the message of those who come second.
        let _ = file.set_len(0);
        let _ = write!(file, "{}", std::process::id());
        Ok(Self { _file: file })
    }
}

/// The process id in a lock file, if it is one.
fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.parse().ok()
}

fn locked(path: &str, holder: Option<u32>) -> Error {
    let who = match holder {
        Some(pid) if pid == std::process::id() => "this process".to_owned(),
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    };
    Error::new(
        ErrorKind::Locked,
        "fs.lock_dir",
        format!("the directory is open in {who}; close it there, or use another directory"),
    )
    .with_file(path)
}
