//! Named maintenance jobs: log commits, flushes, compactions, expiry.
//!
//! A job is woken, runs until it is idle, and sleeps until it is woken again. On a real machine
//! each job has a thread of its own; a test steps the same jobs one at a time on its own thread.
//!
//! Rule: a job may wait for I/O, never for another job; a stepped machine runs one at a time.

mod primitive;
mod threads;
mod wake_signal;

use std::sync::Arc;

use ferrokit_engine::Result;

pub use self::threads::ThreadBackground;

/// What a job has left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more: run again.
    More,
    /// Nothing to do until the next wake.
    Idle,
    /// Done for good: never run again.
    Finished,
}

/// A unit of maintenance. Each `run` does one bounded step.
pub trait Job: Send {
    /// Does one step.
    fn run(&mut self) -> Progress;
}

impl<F: FnMut() -> Progress + Send> Job for F {
    fn run(&mut self) -> Progress {
        self()
    }
}

/// What the machine keeps of a registered job.
pub trait JobControl: Send + Sync {
    /// Makes the job run (again). Cheap when it is already awake.
    fn wake(&self);

    /// Makes the job run within some milliseconds, once for however many such calls: for what must
    /// happen, but that nobody waits for.
    fn wake_soon(&self) {
        self.wake();
    }

    /// Waits until a step under way has finished, and never runs the job again. Called by the job
    /// itself it does not wait: the step under way is the last.
    fn stop(&self);

    /// Whether the job panicked, which has stopped it.
    fn has_failed(&self) -> bool {
        false
    }
}

/// A registered job: wakes it; dropping the last handle stops it.
pub struct JobHandle {
    control: Arc<dyn JobControl>,
}

impl JobHandle {
    /// A handle for a job kept by `control`.
    pub fn new(control: Arc<dyn JobControl>) -> Self {
        Self { control }
    }

    /// Makes the job run (again).
    pub fn wake(&self) {
        self.control.wake();
    }

    /// Makes the job run within some milliseconds.
    pub fn wake_soon(&self) {
        self.control.wake_soon();
    }

    /// Stops the job: a step under way finishes, none follows.
    pub fn stop(&self) {
        self.control.stop();
    }

    /// Whether the job panicked, which has stopped it.
    pub fn has_failed(&self) -> bool {
        self.control.has_failed()
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        self.control.stop();
    }
}

/// Runs jobs.
pub trait Background: Send + Sync {
    /// Registers a job, asleep.
    ///
    /// # Errors
    /// `Io` if no thread is to be had.
    fn register(&self, name: &str, job: Box<dyn Job>) -> Result<JobHandle>;

    /// Whether jobs run only inside [`step`](Self::step).
    fn is_stepped(&self) -> bool;

    /// On a stepped machine, runs one step of one awake job on this thread; `false` if none is
    /// awake, and always where jobs have threads.
    fn step(&self) -> bool;
}
