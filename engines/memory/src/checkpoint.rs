//! Writing a checkpoint: a background job that writes one block per step.
//!
//! The file gets its name only when all of it is on the device; before that `open` refuses the
//! directory.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use ferrokit_engine::{CheckpointInfo, Error, KeyspaceId, Result, Sequence};
use ferrokit_storage::{File, Fs, Host, Job, OpenMode, Progress};

use crate::format::{
    BLOCK_TARGET_BYTES, FILE_NAME, Header, UNFINISHED_NAME, encode_block, encode_record,
};
use crate::state::View;
use crate::table::{Key, Records};

/// The answer of the job, and who waits for it.
#[derive(Default)]
struct Outcome {
    result: Option<Result<CheckpointInfo>>,
    waker: Option<Waker>,
}

/// Starts a checkpoint. Dropping the future stops it after the step under way and leaves it
/// unfinished.
pub(crate) fn start(
    host: &Host,
    view: View,
    directory: &str,
) -> Result<impl Future<Output = Result<CheckpointInfo>> + Send + use<>> {
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let job = CheckpointJob {
        fs: Arc::clone(&host.fs),
        directory: directory.to_owned(),
        sequence: view.sequence,
        header: Header { sequence: view.sequence, clock: view.opened_at },
        keyspaces: view.keyspaces.into_iter().collect(),
        output: None,
        outcome: Arc::clone(&outcome),
    };
    let handle = host.background.register("memory-checkpoint", Box::new(job))?;
    handle.wake();
    Ok(async move {
        let _running = handle;
        poll_fn(move |cx| {
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    outcome.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    })
}

struct CheckpointJob {
    fs: Arc<dyn Fs>,
    directory: String,
    sequence: Sequence,
    header: Header,
    /// What is still to be written.
    keyspaces: VecDeque<(KeyspaceId, Arc<Records>)>,
    output: Option<Output>,
    outcome: Arc<Mutex<Outcome>>,
}

/// The file being written.
struct Output {
    file: Arc<dyn File>,
    offset: u64,
    next_block: u64,
    /// The last key written of the first keyspace.
    last: Option<Key>,
}

impl Output {
    fn append(&mut self, bytes: Vec<u8>) -> Result<()> {
        let len = bytes.len() as u64;
        self.file.write_at(self.offset, bytes).wait()?;
        self.offset += len;
        Ok(())
    }

    fn append_block(&mut self, payload: &[u8]) -> Result<()> {
        let block = encode_block(self.next_block, payload)?;
        self.next_block += 1;
        self.append(block)
    }
}

impl CheckpointJob {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    /// Opens the file and writes its header.
    fn begin(&self) -> Result<Output> {
        if self.fs.exists(&self.directory)? && !self.fs.list(&self.directory)?.is_empty() {
            return Err(Error::invalid("checkpoint", "the directory is not empty")
                .with_file(&self.directory));
        }
        self.fs.create_dir_all(&self.directory)?;
        let file = self.fs.open(&self.path(UNFINISHED_NAME), OpenMode::CreateNew)?;
        let mut output = Output { file, offset: 0, next_block: 0, last: None };
        output.append(self.header.encode())?;
        Ok(output)
    }

    /// One step: the header, a block, or the end. `Some` once complete.
    fn step(&mut self) -> Result<Option<CheckpointInfo>> {
        let Some(mut output) = self.output.take() else {
            self.output = Some(self.begin()?);
            return Ok(None);
        };
        if self.keyspaces.is_empty() {
            return self.finish(output).map(Some);
        }
        let payload = self.next_payload(&mut output)?;
        if !payload.is_empty() {
            output.append_block(&payload)?;
        }
        self.output = Some(output);
        Ok(None)
    }

    /// The payload of the next block, possibly empty.
    fn next_payload(&mut self, output: &mut Output) -> Result<Vec<u8>> {
        let mut payload = Vec::new();
        while let Some((keyspace, records)) = self.keyspaces.front() {
            let start = output.last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut last = None;
            for (key, record) in records.range::<[u8], _>((start, Bound::Unbounded)) {
                if payload.len() >= BLOCK_TARGET_BYTES {
                    break;
                }
                encode_record(&mut payload, *keyspace, key, record)?;
                last = Some(Arc::clone(key));
            }
            if payload.len() >= BLOCK_TARGET_BYTES {
                output.last = last.or(output.last.take());
                break;
            }
            output.last = None;
            self.keyspaces.pop_front();
        }
        Ok(payload)
    }

    fn finish(&self, mut output: Output) -> Result<CheckpointInfo> {
        output.append_block(&[])?;
        output.file.sync_all().wait()?;
        self.fs.rename(&self.path(UNFINISHED_NAME), &self.path(FILE_NAME))?;
        self.fs.sync_dir(&self.directory)?;
        Ok(CheckpointInfo { sequence: Some(self.sequence), bytes: output.offset, files: 1 })
    }
}

impl Job for CheckpointJob {
    fn run(&mut self) -> Progress {
        let result = match self.step() {
            Ok(None) => return Progress::More,
            Ok(Some(info)) => Ok(info),
            Err(error) => Err(error),
        };
        let waker = {
            let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            outcome.result = Some(result);
            outcome.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Progress::Finished
    }
}
