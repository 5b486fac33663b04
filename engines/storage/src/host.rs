//! [`Host`]: the machine an engine is opened on.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use ferrokit_engine::{Env, Error, ErrorKind, Result, block_on};

use crate::background::{Background, ThreadBackground};
use crate::fs::Fs;
use crate::threads::{ThreadsFs, ThreadsOptions};

/// Environment, files and background jobs, injected into an engine when it is opened.
#[derive(Clone)]
pub struct Host {
    /// Clock, timer, randomness, threads.
    pub env: Env,
    /// Files.
    pub fs: Arc<dyn Fs>,
    /// Maintenance jobs.
    pub background: Arc<dyn Background>,
}

/// Overrides [`IoBackend::Auto`].
const IO_VARIABLE: &str = "FERROKIT_IO";

/// How files are reached on a real machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IoBackend {
    /// io_uring, or threads where it is refused. The environment variable `FERROKIT_IO`, set to
    /// `uring` or `threads`, decides instead.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// A pool of threads.
    Threads,
}

impl IoBackend {
    /// What the environment says in the place of [`Auto`](Self::Auto).
    fn from_environment() -> Result<Self> {
        match std::env::var(IO_VARIABLE).as_deref() {
            Err(std::env::VarError::NotPresent) | Ok("" | "auto") => Ok(Self::Auto),
            Ok("uring") => Ok(Self::Uring),
            Ok("threads") => Ok(Self::Threads),
            _ => Err(Error::invalid(
                "host.system",
                format!("the environment variable {IO_VARIABLE} must be uring, threads or auto"),
            )),
        }
    }

    fn open(self, env: &Env) -> Result<Arc<dyn Fs>> {
        match self {
            Self::Threads => Ok(Arc::new(ThreadsFs::new(env, ThreadsOptions::default())?)),
            Self::Uring => uring(env),
            Self::Auto => match uring(env) {
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    tracing::warn!(%error, "io_uring is refused; files go through threads");
                    Self::Threads.open(env)
                }
                answer => answer,
            },
        }
    }
}

#[cfg(target_os = "linux")]
fn uring(env: &Env) -> Result<Arc<dyn Fs>> {
    use crate::uring::{UringFs, UringOptions};
    Ok(Arc::new(UringFs::new(env, UringOptions::default())?))
}

#[cfg(not(target_os = "linux"))]
fn uring(_: &Env) -> Result<Arc<dyn Fs>> {
    Err(Error::unsupported("host.system", "io_uring is a facility of Linux"))
}

impl Host {
    /// This machine: its clock and threads, its files through `io`, a thread for each job.
    ///
    /// # Errors
    /// `Unsupported` if [`IoBackend::Uring`] is asked for and refused, `InvalidArgument` for a bad
    /// `FERROKIT_IO`, `Io` if no threads are to be had.
    pub fn system(io: IoBackend) -> Result<Self> {
        let env = Env::system();
        let io = if io == IoBackend::Auto { IoBackend::from_environment()? } else { io };
        let fs = io.open(&env)?;
        let background = Arc::new(ThreadBackground::new(&env));
        Ok(Self { env, fs, background })
    }

    /// Runs a future to its end on this thread. On a stepped machine the jobs run in between, one
    /// step whenever the future waits.
    ///
    /// # Panics
    /// On a stepped machine, if the future waits and no job is awake: it would wait forever.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        if !self.background.is_stepped() {
            return block_on(future);
        }
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            let stepped = self.background.step();
            let woken = woken.0.swap(false, Ordering::AcqRel);
            assert!(stepped || woken, "a stepped machine came to rest before its future ended");
        }
    }

    /// On a stepped machine, steps jobs until all are asleep.
    pub fn settle(&self) {
        while self.background.step() {}
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}
