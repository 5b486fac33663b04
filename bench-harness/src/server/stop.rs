//! [`Stop`]: whether a run is to end early, so that its servers and directories are put away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ferrokit_engine::{Env, Error, ErrorKind, Result, block_on};
use tokio::signal::unix::{SignalKind, signal};

/// Told by a signal or by a thread that failed; looked at by all loops that wait.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    own: Arc<AtomicBool>,
    /// That of the whole, for a part.
    above: Option<Arc<AtomicBool>>,
}

impl Stop {
    /// One that SIGINT and SIGTERM tell. A second signal ends the process at once; its servers are
    /// killed by the kernel then, its directories stay.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn on_signals(env: &Env) -> Result<Self> {
        let failed = |error| Error::io("bench.signals", error);
        let stop = Self::default();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::interrupt()).map_err(failed)?,
                signal(SignalKind::terminate()).map_err(failed)?,
            )
        };
        let told = stop.clone();
        let wait = move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if told.is_told() {
                        std::process::exit(130);
                    }
                    told.tell();
                }
            });
        };
        env.spawner.spawn("ferrokit-signals", Box::new(wait)).map_err(failed)?;
        Ok(stop)
    }

    /// That of a part: told when this one is, and able to end alone.
    #[must_use]
    pub fn nested(&self) -> Self {
        Self { own: Arc::default(), above: Some(Arc::clone(&self.own)) }
    }

    /// Ends the run.
    pub fn tell(&self) {
        self.own.store(true, Ordering::Relaxed);
    }

    /// Whether the run is to end.
    pub fn is_told(&self) -> bool {
        let is_set = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        is_set(&self.own) || self.above.as_ref().is_some_and(is_set)
    }

    /// # Errors
    /// `Closed` if the run is to end.
    pub fn check(&self) -> Result<()> {
        if self.is_told() { Err(interrupted()) } else { Ok(()) }
    }

    /// Waits, which a stop does not shorten: for short times.
    ///
    /// # Errors
    /// `Closed` if the run is to end.
    pub fn sleep(&self, env: &Env, duration: Duration) -> Result<()> {
        block_on(env.timer.sleep(duration));
        self.check()
    }
}

#[cold]
fn interrupted() -> Error {
    Error::new(ErrorKind::Closed, "bench.server", "stopped before the end")
}
