//! The engine is opened on a thread of its own, while the workers listen already.
//!
//! Until it is open an empty one in memory stands in its place, and commands that Redis refuses
//! while it loads are refused with `-LOADING`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrokit_engine::{Durability, EngineUrl, Error, KvEngine, Result};
use ferrokit_redis::Store;
use tokio::sync::oneshot;

use crate::checkpoints::{Place, canonical};
use crate::config::Config;
use crate::saves::Saves;
use crate::shared::{Shared, special};

/// The engine that stands in the place of the one that is being opened.
pub(crate) const IN_ITS_PLACE: &str = "memory:";

/// Begins to open the engine; the receiver is told how it ended.
pub(crate) fn begin(
    shared: &Arc<Shared>,
    config: &Config,
) -> Result<oneshot::Receiver<Result<()>>> {
    let (sender, receiver) = oneshot::channel();
    let (shared, demands_durability) = (Arc::clone(shared), config.demands_durability);
    let spawner = Arc::clone(&shared.host.env.spawner);
    let body = Box::new(move || {
        let outcome = open(&shared, demands_durability);
        // The server may have gone.
        let _ = sender.send(outcome);
    });
    let spawned = spawner.spawn("ferrokit-open", body);
    spawned.map_err(|error| Error::io("server.start", error))?;
    Ok(receiver)
}

/// Opens the engine, and serves it from then on.
pub(crate) fn open(shared: &Shared, demands_durability: bool) -> Result<()> {
    let (fs, url) = (shared.host.fs.as_ref(), shared.settings.engine.to_text());
    // It may be what is to be opened.
    let directory = directory_of(&url);
    if let Err(error) = Place::new(&shared.settings).put_back(fs, directory.as_deref()) {
        tracing::warn!(%error, "the last checkpoint does not get its name back");
    }
    let engine = ferrokit_engines::open(&shared.host, &url)?;
    let installed = shared.install(&engine, demands_durability);
    if installed.is_err() {
        // The first error is the one to tell.
        let _ = shared.host.wait(engine.close());
    } else if shared.is_stopped.load(Ordering::SeqCst) {
        return shared.close_engine();
    }
    installed
}

/// The directory that an engine's URL names.
fn directory_of(url: &str) -> Option<PathBuf> {
    let url = EngineUrl::parse(url).ok()?;
    (!url.path().is_empty()).then(|| canonical(url.path()))
}

impl Shared {
    /// Whether the engine is not open yet.
    #[inline]
    pub(crate) fn is_loading(&self) -> bool {
        self.special() & special::LOADING != 0
    }

    /// Serves this engine from now on.
    fn install(&self, engine: &Arc<dyn KvEngine>, demands_durability: bool) -> Result<()> {
        self.settings.while_unchanged(|| {
            self.settle_durability(engine, demands_durability)?;
            let databases = u32::try_from(self.settings.databases.get()).unwrap_or(1);
            self.store.set(Store::new(Arc::clone(engine), &self.host.env).limited_to(databases));
            self.saves.set(Arc::new(self.saves_of(engine)));
            self.engine.set(Arc::clone(engine));
            self.apply_durability()?;
            self.apply_string_limit();
            self.apply_sketch_limit();
            self.apply_data_limit().map_err(|why| Error::invalid("--maxmemory-policy", why))?;
            self.observe();
            self.set_special(special::LOADING, false);
            Ok(())
        })
    }

    /// The checkpoints of an engine.
    fn saves_of(&self, engine: &Arc<dyn KvEngine>) -> Saves {
        // One in memory has read what is there, and writes nothing to it.
        let has_files = engine.capabilities().strongest_durability > Durability::Memory;
        let directory = directory_of(&self.settings.engine.to_text()).filter(|_| has_files);
        let saves = Saves::new(Arc::clone(engine), directory, &self.host);
        if engine.as_checkpoint().is_some()
            && let Err(error) = saves.check_place(&self.settings)
        {
            tracing::warn!(%error, "no checkpoint can be saved");
        }
        saves
    }

    /// An engine that keeps nothing logs nothing, unless that was demanded.
    fn settle_durability(&self, engine: &Arc<dyn KvEngine>, is_demanded: bool) -> Result<()> {
        let capabilities = engine.capabilities();
        self.settings.appendfsync.get().durability_on(capabilities)?;
        if capabilities.strongest_durability == Durability::Memory && !is_demanded {
            self.settings.settle("appendonly", "no")?;
        }
        if !self.settings.appendonly.get() {
            let engine = capabilities.engine;
            tracing::warn!(engine, "data is not durable: writes are kept in memory only");
        }
        Ok(())
    }

    /// The server has stopped: closes the engine, or has it closed as soon as it is open.
    pub(crate) fn close_engine(&self) -> Result<()> {
        self.is_stopped.store(true, Ordering::SeqCst);
        if self.is_loading() || self.is_closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.saves.unmark_if_changed(self.changes());
        self.host.wait(self.engine.close())
    }
}
