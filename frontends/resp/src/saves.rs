//! [`Saves`]: checkpoints of the engine, in the place of Redis' dumps: SAVE, BGSAVE, points of time.
//!
//! A checkpoint is a directory that the engine can be opened from. A new one is written beside the
//! last one and takes its name when it is complete; the last one is removed then. One runs at a
//! time, on a thread of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrokit_engine::{Error, KvEngine, Result};
use ferrokit_storage::Host;
use tokio::sync::oneshot;

use crate::checkpoints::{Place, unmark};
use crate::settings::Settings;

/// Seconds before a checkpoint that failed is tried again by itself.
const RETRY_SECS: u64 = 5;

/// What a checkpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be kept.
    Save,
    /// To have the engine write what is in its log to its tables; it is thrown away.
    Rewrite,
}

/// The checkpoints of a server.
pub(crate) struct Saves {
    engine: Arc<dyn KvEngine>,
    /// Where the engine keeps its files, if it does.
    engine_directory: Option<PathBuf>,
    /// The engine's directory is known to be no checkpoint.
    is_unmarked: AtomicBool,
    host: Host,
    state: Mutex<State>,
    /// When the last one was complete, in seconds of Unix time.
    last_at: AtomicU64,
    /// Changes that the last one holds.
    saved_changes: AtomicU64,
    has_failed: AtomicBool,
    /// That points of time mean nothing to this engine was logged.
    is_told_unable: AtomicBool,
}

#[derive(Default)]
struct State {
    running: Option<Purpose>,
    /// Another one is to follow.
    is_scheduled: bool,
    failed_at: u64,
}

/// Completes with the outcome of a checkpoint.
pub(crate) type Outcome = oneshot::Receiver<Result<()>>;

impl Saves {
    pub(crate) fn new(
        engine: Arc<dyn KvEngine>,
        engine_directory: Option<PathBuf>,
        host: &Host,
    ) -> Self {
        let now = host.env.clock.now().0 / 1000;
        Self {
            engine,
            engine_directory,
            is_unmarked: AtomicBool::new(false),
            host: host.clone(),
            state: Mutex::default(),
            last_at: AtomicU64::new(now),
            saved_changes: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            is_told_unable: AtomicBool::new(false),
        }
    }

    /// When the last checkpoint was complete, or the server started.
    pub(crate) fn last_at(&self) -> u64 {
        self.last_at.load(Ordering::Relaxed)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// What is under way.
    pub(crate) fn running(&self) -> Option<Purpose> {
        self.state().running
    }

    /// How many of `changes` the last checkpoint does not hold.
    pub(crate) fn unsaved(&self, changes: u64) -> u64 {
        changes.saturating_sub(self.saved_changes.load(Ordering::Relaxed))
    }

    /// Begins one, unless one is under way: what that is.
    pub(crate) fn begin(
        self: &Arc<Self>,
        purpose: Purpose,
        settings: &Settings,
        changes: u64,
    ) -> std::result::Result<Outcome, Purpose> {
        let mut state = self.state();
        if let Some(running) = state.running {
            return Err(running);
        }
        let (sender, receiver) = oneshot::channel();
        state.running = Some(purpose);
        state.is_scheduled = false;
        let saves = Arc::clone(self);
        let place = Place::new(settings);
        let body = Box::new(move || {
            let outcome = saves.host.wait(saves.take(purpose, &place));
            saves.note(purpose, changes, outcome.as_ref().err());
            // Whoever asked may have gone.
            let _ = sender.send(outcome);
        });
        if let Err(error) = self.host.env.spawner.spawn("ferrokit-checkpoint", body) {
            tracing::error!(%error, "no thread for a checkpoint");
            state.running = None;
        }
        Ok(receiver)
    }

    /// Has one follow the one under way.
    pub(crate) fn schedule(&self) {
        self.state().is_scheduled = true;
    }

    /// For every second: begins what is scheduled or due by a point of time.
    pub(crate) fn tick(self: &Arc<Self>, settings: &Settings, changes: u64) {
        self.unmark_if_changed(changes);
        let now = self.host.env.clock.now().0 / 1000;
        let elapsed = now.saturating_sub(self.last_at());
        let unsaved = self.unsaved(changes);
        let points = settings.save.get();
        let point = points.0.iter().find(|it| elapsed >= it.secs && unsaved >= it.changes.max(1));
        if point.is_some() && self.engine.as_checkpoint().is_none() {
            // Were it tried, its failure would stop all writes.
            if !self.is_told_unable.swap(true, Ordering::Relaxed) {
                let engine = self.engine.capabilities().engine;
                tracing::warn!(engine, "save has no effect: the engine takes no checkpoints");
            }
            return;
        }
        let is_due = {
            let state = self.state();
            let may_retry = now.saturating_sub(state.failed_at) >= RETRY_SECS;
            state.running.is_none() && (state.is_scheduled || point.is_some() && may_retry)
        };
        if is_due && self.begin(Purpose::Save, settings, changes).is_ok() {
            tracing::info!(unsaved, elapsed, "a checkpoint begins");
        }
    }

    /// Refuses a place of checkpoints that touches the engine's own.
    pub(crate) fn check_place(&self, settings: &Settings) -> Result<()> {
        Place::new(settings).check_apart_from(self.engine_directory.as_deref())
    }

    /// Has a checkpoint that the engine was opened from, and that was written to, be none any more:
    /// no other server may replace it.
    pub(crate) fn unmark_if_changed(&self, changes: u64) {
        let directory = self.engine_directory.as_deref().and_then(|it| it.to_str());
        let (Some(directory), 1..) = (directory, changes) else { return };
        if self.is_unmarked.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = unmark(self.host.fs.as_ref(), directory) {
            tracing::warn!(%error, "the engine's directory still counts as a checkpoint");
        }
    }

    async fn take(&self, purpose: Purpose, place: &Place) -> Result<()> {
        let Some(checkpoint) = self.engine.as_checkpoint() else {
            return Err(Error::unsupported(
                "checkpoint",
                format!("the engine {} takes none", self.engine.capabilities().engine),
            ));
        };
        let fs = self.host.fs.as_ref();
        let engine_directory = self.engine_directory.as_deref();
        if purpose == Purpose::Rewrite {
            place.check_new_apart_from(engine_directory)?;
        } else {
            place.check_apart_from(engine_directory)?;
            place.put_back(fs, engine_directory)?;
            place.check_replaceable(fs)?;
        }
        let new = place.begin(fs).await?;
        checkpoint.checkpoint(&new).await?;
        match purpose {
            Purpose::Save => place.publish(fs).await,
            Purpose::Rewrite => place.discard(fs),
        }
    }

    fn note(&self, purpose: Purpose, changes: u64, error: Option<&Error>) {
        let now = self.host.env.clock.now().0 / 1000;
        let mut state = self.state();
        state.running = None;
        match error {
            Some(error) => {
                state.failed_at = now;
                tracing::error!(%error, ?purpose, "the checkpoint failed");
            }
            None if purpose == Purpose::Save => {
                self.last_at.store(now, Ordering::Relaxed);
                self.saved_changes.store(changes, Ordering::Relaxed);
                tracing::info!("the checkpoint is complete");
            }
            None => {}
        }
        if purpose == Purpose::Save {
            self.has_failed.store(error.is_some(), Ordering::Relaxed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
