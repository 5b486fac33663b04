//! The engine's maintenance jobs and how they are woken and stopped.
//!
//! The engine handle owns the [`JobHandle`]s; the tree, which the jobs share, holds weak ones to
//! wake them, so that dropping the engine ends its jobs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use ferrokit_engine::Result;
use ferrokit_storage::{JobHandle, Progress};

use crate::tree::Tree;
use crate::{checkpoint, compaction, expiry, flush};

#[derive(Default)]
pub(crate) struct Jobs {
    flush: OnceLock<Weak<JobHandle>>,
    compact: OnceLock<Weak<JobHandle>>,
    expire: OnceLock<Weak<JobHandle>>,
    checkpoint: OnceLock<Weak<JobHandle>>,
    /// Jobs that have not finished yet.
    pub(crate) running: AtomicUsize,
}

impl Jobs {
    pub(crate) fn wake_flush(&self) {
        wake(&self.flush);
    }
    pub(crate) fn wake_compact(&self) {
        wake(&self.compact);
    }
    pub(crate) fn wake_expire(&self) {
        wake(&self.expire);
    }
    pub(crate) fn wake_checkpoint(&self) {
        wake(&self.checkpoint);
    }
    pub(crate) fn wake_all(&self) {
        for job in [&self.flush, &self.compact, &self.expire, &self.checkpoint] {
            wake(job);
        }
    }
}

/// A job's name, where its handle goes, and its step.
type JobRow<'a> = (&'a str, &'a OnceLock<Weak<JobHandle>>, fn(&Arc<Tree>) -> Progress);

fn wake(job: &OnceLock<Weak<JobHandle>>) {
    if let Some(job) = job.get().and_then(Weak::upgrade) {
        job.wake();
    }
}

/// Registers the jobs; they run until the engine is closed or the handles are dropped.
pub(crate) fn start(tree: &Arc<Tree>) -> Result<Vec<Arc<JobHandle>>> {
    let jobs = &tree.jobs;
    let table: [JobRow<'_>; 4] = [
        ("lsm-flush", &jobs.flush, flush::run),
        ("lsm-compact", &jobs.compact, compaction::run),
        ("lsm-expire", &jobs.expire, expiry::run),
        ("lsm-checkpoint", &jobs.checkpoint, checkpoint::run),
    ];
    let mut handles = Vec::with_capacity(table.len());
    for (name, slot, step) in table {
        let shared = Arc::clone(tree);
        let body = move || {
            if shared.is_closed.load(Ordering::Acquire) {
                shared.jobs.running.fetch_sub(1, Ordering::AcqRel);
                shared.progress.notify();
                return Progress::Finished;
            }
            step(&shared)
        };
        let handle = Arc::new(tree.host.background.register(name, Box::new(body))?);
        jobs.running.fetch_add(1, Ordering::AcqRel);
        // The slot is empty: jobs are started once.
        let _ = slot.set(Arc::downgrade(&handle));
        handles.push(handle);
    }
    Ok(handles)
}
