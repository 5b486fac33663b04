//! [`SteppedBackground`]: maintenance jobs that run only when they are stepped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrokit_engine::{Error, ErrorKind, Result};

use super::rng::Rng;
use crate::background::{Background, Job, JobControl, JobHandle, Progress};

/// The most jobs that may be registered at once.
const JOBS_MAX: usize = 4096;

/// In which order awake jobs are stepped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOrder {
    /// One after the other.
    RoundRobin,
    /// As the seed decides.
    Seeded(u64),
}

/// The stepping double of a [`Background`]: each [`step`](Background::step) runs one step of one
/// awake job on the calling thread. A handle: clones share the jobs.
///
/// A job may itself wait through [`Host::wait`](crate::Host::wait), which steps the *other* jobs;
/// a job is never entered twice.
#[derive(Clone)]
pub struct SteppedBackground(Arc<Mutex<State>>);

struct State {
    /// The next in turn is in front.
    slots: VecDeque<Arc<Slot>>,
    rng: Option<Rng>,
    /// Steps under way, nested ones included.
    depth: usize,
}

struct Slot {
    name: String,
    is_awake: AtomicBool,
    is_stopped: AtomicBool,
    /// Absent while it runs, and after it finished.
    job: Mutex<Option<Box<dyn Job>>>,
}

impl SteppedBackground {
    /// No jobs yet.
    pub fn new(order: StepOrder) -> Self {
        let rng = match order {
            StepOrder::RoundRobin => None,
            StepOrder::Seeded(seed) => Some(Rng::new(seed)),
        };
        Self(Arc::new(Mutex::new(State { slots: VecDeque::new(), rng, depth: 0 })))
    }

    /// The names of the awake jobs, for messages.
    pub fn awake(&self) -> Vec<String> {
        let state = self.state();
        let awake = state.slots.iter().filter(|slot| slot.is_awake.load(Ordering::Acquire));
        awake.map(|slot| slot.name.clone()).collect()
    }

    /// Whether a step would run something that is not already waiting for the caller.
    pub(super) fn could_step(&self) -> bool {
        let state = self.state();
        state.depth == 0 && state.slots.iter().any(|slot| slot.can_run())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next awake job out of its slot.
    fn take_next(&self) -> Option<(Arc<Slot>, Box<dyn Job>)> {
        let mut state = self.state();
        state.slots.retain(|slot| !slot.is_stopped.load(Ordering::Acquire));
        let runnable: Vec<usize> =
            (0..state.slots.len()).filter(|index| state.slots[*index].can_run()).collect();
        let choice = match &mut state.rng {
            Some(rng) => rng.below(runnable.len() as u64) as usize,
            None => 0,
        };
        let index = *runnable.get(choice)?;
        let slot = Arc::clone(&state.slots[index]);
        state.slots.rotate_left(index + 1);
        let job = slot.job().take()?;
        slot.is_awake.store(false, Ordering::Release);
        state.depth += 1;
        Some((slot, job))
    }
}

impl Background for SteppedBackground {
    fn register(&self, name: &str, job: Box<dyn Job>) -> Result<JobHandle> {
        let mut state = self.state();
        if state.slots.len() >= JOBS_MAX {
            return Err(Error::new(ErrorKind::Io, "background.register", "too many jobs"));
        }
        let slot = Arc::new(Slot {
            name: name.to_owned(),
            is_awake: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            job: Mutex::new(Some(job)),
        });
        state.slots.push_back(Arc::clone(&slot));
        Ok(JobHandle::new(slot))
    }

    fn is_stepped(&self) -> bool {
        true
    }

    fn step(&self) -> bool {
        let Some((slot, mut job)) = self.take_next() else { return false };
        let running = Running(self);
        let progress = job.run();
        drop(running);
        match progress {
            Progress::Finished => slot.is_stopped.store(true, Ordering::Release),
            Progress::More => slot.is_awake.store(true, Ordering::Release),
            Progress::Idle => {}
        }
        // A job dropped here may drop the handle of its own slot: no lock is held then.
        if !slot.is_stopped.load(Ordering::Acquire) {
            *slot.job() = Some(job);
        }
        true
    }
}

/// Counts a step out again, if it panics too.
struct Running<'a>(&'a SteppedBackground);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().depth -= 1;
    }
}

impl Slot {
    fn job(&self) -> MutexGuard<'_, Option<Box<dyn Job>>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn can_run(&self) -> bool {
        self.is_awake.load(Ordering::Acquire)
            && !self.is_stopped.load(Ordering::Acquire)
            && self.job().is_some()
    }
}

impl JobControl for Slot {
    fn wake(&self) {
        self.is_awake.store(true, Ordering::Release);
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        let job = self.job().take();
        drop(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(limit: usize, log: &Arc<Mutex<Vec<usize>>>, id: usize) -> Box<dyn Job> {
        let log = Arc::clone(log);
        let mut runs = 0;
        Box::new(move || {
            runs += 1;
            log.lock().unwrap().push(id);
            if runs < limit { Progress::More } else { Progress::Idle }
        })
    }

    fn run_order(order: StepOrder) -> Vec<usize> {
        let log: Arc<Mutex<Vec<usize>>> = Arc::default();
        let background = SteppedBackground::new(order);
        let handles: Vec<_> =
            (0..3).map(|id| background.register("job", counter(2, &log, id)).unwrap()).collect();
        assert!(!background.step(), "jobs are registered asleep");
        handles.iter().for_each(JobHandle::wake);
        while background.step() {}
        drop((handles, background));
        Arc::into_inner(log).map(|log| log.into_inner().unwrap()).unwrap_or_default()
    }

    #[test]
    fn steps_take_turns_or_follow_the_seed() {
        assert_eq!(run_order(StepOrder::RoundRobin), [0, 1, 2, 0, 1, 2]);
        assert_eq!(run_order(StepOrder::Seeded(5)), run_order(StepOrder::Seeded(5)));
        assert!((0..20).any(|seed| run_order(StepOrder::Seeded(seed)) != [0, 1, 2, 0, 1, 2]));
    }

    #[test]
    fn a_stopped_or_finished_job_never_runs_again() {
        let log = Arc::default();
        let background = SteppedBackground::new(StepOrder::RoundRobin);
        let stopped = background.register("stopped", counter(9, &log, 0)).unwrap();
        let finished = background.register("finished", Box::new(|| Progress::Finished)).unwrap();
        stopped.wake();
        finished.wake();
        drop(stopped);
        assert!(background.step());
        finished.wake();
        assert!(!background.step());
        assert!(log.lock().unwrap().is_empty());
    }

    #[test]
    fn a_wake_during_a_step_is_not_lost() {
        let background = SteppedBackground::new(StepOrder::RoundRobin);
        let shared: Arc<Mutex<Option<JobHandle>>> = Arc::default();
        let inner = Arc::clone(&shared);
        let mut runs = 0;
        let job = move || {
            runs += 1;
            if runs == 1 {
                inner.lock().unwrap().as_ref().unwrap().wake();
            }
            Progress::Idle
        };
        let handle = background.register("job", Box::new(job)).unwrap();
        handle.wake();
        *shared.lock().unwrap() = Some(handle);
        assert!(background.step() && background.step() && !background.step());
    }
}
