//! Checkpoints: a directory with the tables linked (or copied, where the file system has no
//! links), and a manifest of its own. `CURRENT` comes last: a directory with tables and no
//! `CURRENT` is an unfinished checkpoint, and refused.
//!
//! A checkpoint has no log: everything that took effect before it was asked for is flushed first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ferrokit_engine::{Checkpoint, CheckpointInfo, Error, ErrorKind, Op, Result, Sequence};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::{Fs, OpenMode, Progress as JobProgress};

use crate::engine::LsmEngine;
use crate::tables;
use crate::tree::Tree;
use crate::version::Manifest;

/// Checkpoints that may be under way at a time.
const REQUESTS_MAX: usize = 64;
/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// A checkpoint that was asked for, and its answer.
struct Request {
    directory: String,
    answer: Mutex<Option<Result<CheckpointInfo>>>,
    _slot: Slot,
}

/// Counts one of the [`REQUESTS_MAX`] checkpoints, from before it seals a memtable until its answer
/// is there: neither memtables nor requests pile up, even of callers who went away.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The checkpoints that wait for the job.
#[derive(Default)]
pub(crate) struct CheckpointQueue {
    slots_taken: Arc<AtomicUsize>,
    requests: Mutex<VecDeque<Arc<Request>>>,
}

impl CheckpointQueue {
    fn reserve(&self) -> Result<Slot> {
        let slot = Slot(Arc::clone(&self.slots_taken));
        if self.slots_taken.fetch_add(1, Ordering::AcqRel) >= REQUESTS_MAX {
            return Err(Error::new(
                ErrorKind::Busy,
                "lsm.checkpoint",
                format!("{REQUESTS_MAX} checkpoints are under way"),
            ));
        }
        Ok(slot)
    }

    fn push(&self, request: Arc<Request>) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
    }

    fn pop(&self) -> Option<Arc<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Checkpoint for LsmEngine {
    fn checkpoint<'a>(&'a self, directory: &'a str) -> Op<'a, CheckpointInfo> {
        let tree = self.tree();
        Op::pending(async move {
            tree.check_open("lsm.checkpoint")?;
            let slot = tree.checkpoints.reserve()?;
            flush_all(tree).await?;
            let directory = directory.to_owned();
            let request = Arc::new(Request { directory, answer: Mutex::new(None), _slot: slot });
            tree.checkpoints.push(Arc::clone(&request));
            tree.jobs.wake_checkpoint();
            wait_for(tree, || request.answer.lock().unwrap_or_else(PoisonError::into_inner).take())
                .await?
        })
    }
}

/// Waits until `look` finds something; fails if the engine is closed or cannot go on.
async fn wait_for<T>(tree: &Tree, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    loop {
        let ticket = tree.progress.ticket();
        if let Some(found) = look() {
            return Ok(found);
        }
        tree.check_open("lsm.checkpoint")?;
        if let Some(poison) = tree.poison() {
            return Err(poison);
        }
        tree.progress.changed(ticket).await;
    }
}

/// Waits until everything that took effect by now is in tables.
async fn flush_all(tree: &Arc<Tree>) -> Result<()> {
    let target = {
        let manifest = tree.lock_manifest();
        let writer = tree.lock_writer();
        let view = tree.view.load_full();
        // Sequences count clears and swaps too: the manifest learns of them by a flush, be it one
        // of an empty memtable.
        let sealed_up_to = view
            .sealed
            .first()
            .map_or(manifest.state().progress.last_sequence, |sealed| sealed.last_sequence);
        let is_sealed = sealed_up_to == writer.last_sequence;
        if !is_sealed {
            tree.seal(&writer, tree.clock.now());
        }
        view.flushes + view.sealed.len() as u64 + u64::from(!is_sealed)
    };
    wait_for(tree, || {
        if tree.view.load().flushes >= target {
            return Some(Ok(()));
        }
        tree.background_error().map(Err)
    })
    .await?
}

/// One step of the checkpoint job: one checkpoint.
pub(crate) fn run(tree: &Arc<Tree>) -> JobProgress {
    let Some(request) = tree.checkpoints.pop() else { return JobProgress::Idle };
    let result = make(tree, &request.directory);
    *request.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    tree.progress.notify();
    JobProgress::More
}

fn make(tree: &Tree, directory: &str) -> Result<CheckpointInfo> {
    let fs = &tree.host.fs;
    if fs.exists(directory)? && !fs.list(directory)?.is_empty() {
        return Err(Error::invalid(
            "lsm.checkpoint",
            "the directory is in use; name an absent or empty one",
        )
        .with_file(directory));
    }
    fs.create_dir_all(directory)?;
    // One moment of manifest and tables. Holding the view keeps the tables' files.
    let (state, view) = {
        let manifest = tree.lock_manifest();
        (manifest.state().clone(), tree.view.load_full())
    };
    let mut bytes = 0;
    for (_, table) in view.version.tables() {
        let name = tables::file_name(table.id());
        bytes +=
            link_or_copy(&**fs, &join(&tree.config.directory, &name), &join(directory, &name))?;
        if tree.is_closed.load(Ordering::Acquire) {
            tree.check_open("lsm.checkpoint")?;
        }
    }
    fs.sync_dir(directory)?;
    let (files, sequence) = (state.tables.len(), state.progress.last_sequence);
    let mut state = state;
    state.log_absent = true;
    Manifest::create(fs, directory, 1, state)?;
    Ok(CheckpointInfo { sequence: Some(Sequence(sequence)), bytes, files: files + 2 })
}

fn link_or_copy(fs: &dyn Fs, from: &str, to: &str) -> Result<u64> {
    let source = fs.open(from, OpenMode::Read)?;
    let bytes = source.len()?;
    match fs.hard_link(from, to) {
        Ok(()) => return Ok(bytes),
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        // Other devices cannot be linked to; copying tells whether anything else is wrong.
        Err(error) if error.kind() == ErrorKind::Io => {}
        Err(error) => return Err(error),
    }
    let target = fs.open(to, OpenMode::CreateNew)?;
    let mut at = 0;
    while at < bytes {
        let len = usize::try_from(bytes - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let part = source.read_at(at, len).wait()?;
        target.write_at(at, part).wait()?;
        at += len as u64;
    }
    target.sync_all().wait()?;
    Ok(bytes)
}
