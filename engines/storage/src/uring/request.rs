//! [`Request`]: an operation on its way through a ring, with all that it needs to stay alive.

use std::io;
use std::sync::Arc;

use ferrokit_engine::{Error, Result};
use rustix::io::Errno;

use crate::completion::Completer;
use crate::posix::Descriptor;

/// How often an operation that the kernel gave up without a reason of the file's is begun again.
const ATTEMPTS_MAX: u32 = 64;

/// What is to be done.
pub(super) enum Action {
    /// Fill the buffer from byte `done` on.
    Read { offset: u64, buffer: Vec<u8>, done: usize, completer: Completer<Vec<u8>> },
    /// Write the buffer from byte `done` on.
    Write { offset: u64, buffer: Vec<u8>, done: usize, completer: Completer<Vec<u8>> },
    /// `fdatasync` or `fsync`.
    Sync { data_only: bool, completer: Completer<()> },
}

/// An action, its file, kept open, and how often it was begun again.
pub(super) struct Request {
    pub(super) descriptor: Arc<Descriptor>,
    pub(super) action: Action,
    attempts: u32,
}

/// An answer on its way to a future.
pub(super) enum Finished {
    Bytes(Completer<Vec<u8>>, Result<Vec<u8>>),
    Unit(Completer<()>, Result<()>),
}

impl Finished {
    /// Hands the answer over. Wakes the future: not to be called under a lock.
    pub(super) fn complete(self) {
        match self {
            Self::Bytes(completer, result) => completer.complete(result),
            Self::Unit(completer, result) => completer.complete(result),
        }
    }
}

/// What a completion means.
pub(super) enum Outcome {
    /// There is more to do: push it again.
    Again(Request),
    /// The answer.
    Finished(Finished),
}

impl Request {
    pub(super) fn new(descriptor: &Arc<Descriptor>, action: Action) -> Self {
        Self { descriptor: Arc::clone(descriptor), action, attempts: 0 }
    }

    /// Whether an error says nothing about the file. `ECANCELED`: the kernel cancels what a thread
    /// has begun when that thread ends; nothing here ever asks for it, so the operation is begun
    /// again by the thread that finds it. A sync that was interrupted under way is not repeated: it
    /// may have been told of a failure that a second one would not be told of.
    fn is_passing(&self, error: &io::Error) -> bool {
        let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
        let is_sync = matches!(self.action, Action::Sync { .. });
        is(Errno::AGAIN) || is(Errno::CANCELED) || (is(Errno::INTR) && !is_sync)
    }

    /// The request after the kernel answered `result`: a count, or a negative error number.
    pub(super) fn completed(mut self, result: i32) -> Outcome {
        let result = usize::try_from(result)
            .map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()));
        if let Err(error) = &result
            && self.is_passing(error)
            && self.attempts < ATTEMPTS_MAX
        {
            self.attempts += 1;
            return Outcome::Again(self);
        }
        let Self { descriptor, action, attempts } = self;
        match action {
            Action::Read { offset, buffer, done, completer } => {
                let len = buffer.len();
                let done = match result {
                    Err(error) => {
                        let error = descriptor.error("file.read", offset, error);
                        return Outcome::Finished(Finished::Bytes(completer, Err(error)));
                    }
                    Ok(0) => {
                        let error = descriptor.end_of_file(offset, len);
                        return Outcome::Finished(Finished::Bytes(completer, Err(error)));
                    }
                    Ok(count) => done + count,
                };
                if done >= len {
                    return Outcome::Finished(Finished::Bytes(completer, Ok(buffer)));
                }
                let action = Action::Read { offset, buffer, done, completer };
                Outcome::Again(Self { descriptor, action, attempts })
            }
            Action::Write { offset, buffer, done, completer } => {
                let count = match result {
                    Ok(0) => Err(io::Error::from(io::ErrorKind::WriteZero)),
                    other => other,
                };
                let done = match count {
                    Err(error) => {
                        let error = descriptor.error("file.write", offset, error);
                        return Outcome::Finished(Finished::Bytes(completer, Err(error)));
                    }
                    Ok(count) => done + count,
                };
                if done >= buffer.len() {
                    return Outcome::Finished(Finished::Bytes(completer, Ok(buffer)));
                }
                let action = Action::Write { offset, buffer, done, completer };
                Outcome::Again(Self { descriptor, action, attempts })
            }
            Action::Sync { completer, .. } => {
                let result = result
                    .map(drop)
                    .map_err(|error| Error::io("file.sync", error).with_file(descriptor.path()));
                Outcome::Finished(Finished::Unit(completer, result))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::{Completion, completion};
    use crate::fs::OpenMode;
    use ferrokit_engine::{ErrorKind, block_on};

    fn read(len: usize) -> (Request, Completion<Vec<u8>>) {
        let descriptor =
            crate::posix::namespace::open("/dev/null", OpenMode::ReadWrite, true).unwrap();
        let (completer, completion) = completion();
        let action = Action::Read { offset: 0, buffer: vec![0; len], done: 0, completer };
        (Request::new(&Arc::new(descriptor), action), completion)
    }

    fn again(outcome: Outcome) -> Request {
        match outcome {
            Outcome::Again(request) => request,
            Outcome::Finished(_) => panic!("finished too early"),
        }
    }

    fn finish(outcome: Outcome) {
        match outcome {
            Outcome::Again(_) => panic!("not finished"),
            Outcome::Finished(finished) => finished.complete(),
        }
    }

    #[test]
    fn short_reads_go_on_and_interruptions_are_begun_again() {
        let (request, completion) = read(10);
        let request = again(request.completed(4));
        assert!(matches!(request.action, Action::Read { done: 4, .. }));
        let request = again(request.completed(-Errno::INTR.raw_os_error()));
        let request = again(request.completed(-Errno::CANCELED.raw_os_error()));
        finish(request.completed(6));
        assert_eq!(block_on(completion).unwrap().len(), 10);
    }

    #[test]
    fn an_interrupted_sync_is_not_repeated() {
        let descriptor =
            crate::posix::namespace::open("/dev/null", OpenMode::ReadWrite, true).unwrap();
        let (completer, completion) = completion();
        let action = Action::Sync { data_only: true, completer };
        let request = Request::new(&Arc::new(descriptor), action);
        let request = again(request.completed(-Errno::CANCELED.raw_os_error()));
        finish(request.completed(-Errno::INTR.raw_os_error()));
        assert_eq!(block_on(completion).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn an_end_an_error_and_endless_interruptions_are_answered() {
        let (request, completion) = read(10);
        finish(request.completed(0));
        assert!(block_on(completion).unwrap_err().to_string().contains("ends before"));
        let (request, completion) = read(10);
        finish(request.completed(-Errno::NOSPC.raw_os_error()));
        assert_eq!(block_on(completion).unwrap_err().kind(), ErrorKind::OutOfSpace);
        let (mut request, completion) = read(10);
        for _ in 0..ATTEMPTS_MAX {
            request = again(request.completed(-Errno::CANCELED.raw_os_error()));
        }
        finish(request.completed(-Errno::CANCELED.raw_os_error()));
        assert_eq!(block_on(completion).unwrap_err().kind(), ErrorKind::Io);
    }
}
