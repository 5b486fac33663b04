//! [`ThreadBackground`]: each job on a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

use ferrokit_engine::{Env, Error, Result, Spawner};

use super::wake_signal::{Call, WakeSignal};
use super::{Background, Job, JobControl, JobHandle, Progress};

/// Runs each job on a thread named after it, asleep while there is nothing to do.
///
/// A job that panics is logged, dropped (so that whoever waits for what it owned gets an error)
/// and never run again; [`JobHandle::has_failed`] says so.
pub struct ThreadBackground {
    spawner: Arc<dyn Spawner>,
}

impl ThreadBackground {
    /// Jobs on threads of `env`.
    pub fn new(env: &Env) -> Self {
        Self { spawner: Arc::clone(&env.spawner) }
    }
}

impl Background for ThreadBackground {
    fn register(&self, name: &str, job: Box<dyn Job>) -> Result<JobHandle> {
        let shared = Arc::new(Shared { signal: WakeSignal::new(), failed: AtomicBool::new(false) });
        let of_thread = Arc::clone(&shared);
        let job_name = name.to_owned();
        let join = self
            .spawner
            .spawn(name, Box::new(move || of_thread.run(&job_name, job)))
            .map_err(|error| Error::io("background.register", error))?;
        let thread = join.thread().clone();
        Ok(JobHandle::new(Arc::new(ThreadControl { shared, thread, join: Mutex::new(Some(join)) })))
    }

    fn is_stepped(&self) -> bool {
        false
    }

    fn step(&self) -> bool {
        false
    }
}

struct Shared {
    signal: WakeSignal,
    failed: AtomicBool,
}

impl Shared {
    /// The life of a job's thread.
    fn run(&self, name: &str, mut job: Box<dyn Job>) {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            while self.signal.wait() == Call::Run {
                loop {
                    match job.run() {
                        Progress::Idle => break,
                        Progress::Finished => return,
                        Progress::More if self.signal.is_stopped() => return,
                        Progress::More => {}
                    }
                }
            }
        }));
        if let Err(panic) = ended {
            self.failed.store(true, Ordering::Release);
            let text = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            tracing::error!(job = name, panic = text, "a background job panicked and was stopped");
        }
        // The job is dropped here, on its own thread; a panic there must not go unheard either.
        if catch_unwind(AssertUnwindSafe(|| drop(job))).is_err() {
            self.failed.store(true, Ordering::Release);
            tracing::error!(job = name, "a background job panicked while it was dropped");
        }
    }
}

/// Lock order: `join` is held while a thread is joined; a job's own thread never takes its own.
struct ThreadControl {
    shared: Arc<Shared>,
    thread: Thread,
    join: Mutex<Option<JoinHandle<()>>>,
}

impl JobControl for ThreadControl {
    fn wake(&self) {
        self.shared.signal.wake(&self.thread);
    }

    fn wake_soon(&self) {
        self.shared.signal.wake_soon(&self.thread);
    }

    fn stop(&self) {
        if std::thread::current().id() == self.thread.id() {
            // A thread cannot wait for its own end: the step under way is the last one.
            self.shared.signal.stop_self();
            return;
        }
        self.shared.signal.stop(&self.thread);
        let mut join = self.join.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(join) = join.take() {
            // `run` catches panics of the job.
            let _ = join.join();
        }
    }

    fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    fn background() -> ThreadBackground {
        ThreadBackground::new(&Env::system())
    }

    #[test]
    fn a_job_sleeps_until_woken_and_runs_until_idle() {
        let (steps, seen) = mpsc::channel();
        let mut left = 0;
        let job = move || {
            if left == 0 {
                left = 3;
            }
            left -= 1;
            steps.send(left).unwrap();
            if left == 0 { Progress::Idle } else { Progress::More }
        };
        let handle = background().register("steps", Box::new(job)).unwrap();
        assert!(seen.try_recv().is_err(), "a job is registered asleep");
        for _ in 0..100 {
            handle.wake();
            assert_eq!([(); 3].map(|()| seen.recv().unwrap()), [2, 1, 0]);
        }
        drop(handle);
        // The job, and its end of the channel, are gone with the handle.
        assert!(seen.recv().is_err());
    }

    #[test]
    fn stop_lets_the_step_under_way_finish_and_none_follow() {
        let (entered, has_entered) = mpsc::channel();
        let finished = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&finished);
        let job = move || {
            entered.send(()).unwrap();
            for _ in 0..200 {
                std::thread::yield_now();
            }
            count.fetch_add(1, Ordering::SeqCst);
            Progress::More
        };
        let handle = background().register("endless", Box::new(job)).unwrap();
        handle.wake();
        has_entered.recv().unwrap();
        handle.stop();
        let after = finished.load(Ordering::SeqCst);
        assert!(after >= 1);
        assert_eq!(1 + has_entered.try_iter().count(), after);
        handle.wake();
        handle.stop();
        assert_eq!(finished.load(Ordering::SeqCst), after);
    }

    #[test]
    fn a_job_may_stop_itself() {
        let own: Arc<OnceLock<JobHandle>> = Arc::new(OnceLock::new());
        let handle = Arc::clone(&own);
        let (steps, seen) = mpsc::channel();
        let job = move || {
            handle.wait().stop();
            steps.send(()).unwrap();
            Progress::More
        };
        let registered = background().register("suicide", Box::new(job)).unwrap();
        assert!(own.set(registered).is_ok());
        own.wait().wake();
        assert_eq!(seen.iter().count(), 1, "the step that stopped it was the last");
        own.wait().stop();
    }

    #[test]
    fn a_panic_ends_the_job_and_is_told() {
        let (owned, dropped) = mpsc::channel::<()>();
        let job = move || -> Progress {
            let _owned = &owned;
            panic!("planted");
        };
        let handle = background().register("panics", Box::new(job)).unwrap();
        assert!(!handle.has_failed());
        handle.wake();
        assert!(dropped.recv().is_err(), "what the job owned is dropped");
        handle.stop();
        assert!(handle.has_failed());
    }

    #[test]
    fn a_finished_job_is_not_run_again() {
        let (steps, seen) = mpsc::channel();
        let job = move || {
            steps.send(()).unwrap();
            Progress::Finished
        };
        let handle = background().register("once", Box::new(job)).unwrap();
        handle.wake();
        handle.wake();
        assert_eq!(seen.iter().count(), 1);
        handle.wake();
        assert!(!handle.has_failed());
    }
}
