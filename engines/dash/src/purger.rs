//! Collecting dead records in the background, a bounded step at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ferrokit_storage::{JobHandle, Progress};

use crate::core::Core;
use crate::hash::KeyHash;

/// Hints kept; what is found beyond is found again.
const HINTS_MAX: usize = 1024;
/// Hints worked off per step.
const HINTS_PER_STEP: usize = 64;

/// What there is to collect.
#[derive(Default)]
pub(crate) struct PurgeQueue {
    work: Mutex<Work>,
    job: Mutex<Option<Arc<JobHandle>>>,
}

#[derive(Default)]
struct Work {
    hints: VecDeque<KeyHash>,
    /// Where the pass over all segments stands.
    pass: Option<KeyHash>,
}

impl PurgeQueue {
    /// Says which job to wake.
    pub(crate) fn attach(&self, job: JobHandle) {
        *locked(&self.job) = Some(Arc::new(job));
    }

    /// Stops the job, after a step under way.
    pub(crate) fn stop(&self) {
        let job = locked(&self.job).take();
        drop(job);
    }

    /// An expired record was seen in the home bucket of `hash`. Never waits: who is in the way
    /// will see it, too.
    pub(crate) fn hint(&self, hash: KeyHash) {
        let Ok(mut work) = self.work.try_lock() else { return };
        if work.hints.len() >= HINTS_MAX {
            return;
        }
        work.hints.push_back(hash);
        drop(work);
        self.wake();
    }

    /// A keyspace was cleared: the whole table is to be looked through.
    pub(crate) fn start_pass(&self) {
        locked(&self.work).pass = Some(KeyHash(0));
        self.wake();
    }

    fn wake(&self) {
        let job = locked(&self.job).clone();
        if let Some(job) = job {
            job.wake();
        }
    }
}

/// One step of the job. A failure is a poisoned region, which the next write reports.
pub(crate) fn step(core: &Weak<Core>) -> Progress {
    let Some(core) = core.upgrade() else { return Progress::Finished };
    let hints: Vec<KeyHash> = {
        let mut work = locked(&core.queue.work);
        let count = work.hints.len().min(HINTS_PER_STEP);
        work.hints.drain(..count).collect()
    };
    for hash in &hints {
        if core.purge_home(*hash).is_err() {
            return Progress::Idle;
        }
    }
    let pass = locked(&core.queue.work).pass;
    if let Some(hash) = pass {
        let Ok((_, next)) = core.purge_segment(hash) else { return Progress::Idle };
        let mut work = locked(&core.queue.work);
        // A clear in between started the pass anew.
        if work.pass == Some(hash) {
            work.pass = next;
        }
    }
    let work = locked(&core.queue.work);
    if work.hints.is_empty() && work.pass.is_none() { Progress::Idle } else { Progress::More }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
