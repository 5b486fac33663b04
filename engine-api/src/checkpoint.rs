//! Online backup.

use crate::entry::Sequence;
use crate::op::Op;

/// What a checkpoint contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// The last write in it, where the engine numbers writes.
    pub sequence: Option<Sequence>,
    /// Bytes of its files, shared (linked) ones included.
    pub bytes: u64,
    /// The number of its files.
    pub files: usize,
}

/// Online backup to a directory of the engine's file system.
///
/// A checkpoint is restored by opening it: its directory is one that the engine's `open` accepts.
pub trait Checkpoint: Send + Sync {
    /// Writes a consistent, complete copy of the engine into `directory`, which must not exist or
    /// be empty, without stopping writers. Everything in it is on the device on completion.
    ///
    /// # Errors
    /// `InvalidArgument` if the directory is in use, `OutOfSpace`, `Io`, `Poisoned`. An unfinished
    /// checkpoint is one that `open` refuses.
    fn checkpoint<'a>(&'a self, directory: &'a str) -> Op<'a, CheckpointInfo>;
}
