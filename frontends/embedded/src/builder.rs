//! [`Builder`]: opens a store.

use std::sync::Arc;

use ferrokit_engine::{Durability, EngineUrl, Env, Error as EngineError, KvEngine};
use ferrokit_redis::Store;
use ferrokit_storage::{Host, IoBackend};

use crate::backup;
use crate::error::Result;
use crate::handle::Ferrokit;
use crate::handoff::handoff;

enum Engine {
    Url(String),
    Opened(Arc<dyn KvEngine>),
}

/// Opens a store: which engine, and how it is used.
///
/// ```
/// use ferrokit::{Builder, Durability};
///
/// # ferrokit::block_on(async {
/// let kv = Builder::new("memory:")
///     .durability(Durability::Memory)
///     .string_bytes_max(1 << 20)
///     .open()
///     .await?;
/// kv.set("greeting", "hello").await?;
/// # kv.close().await
/// # }).unwrap();
/// ```
#[must_use = "a builder does nothing until it opens"]
pub struct Builder {
    engine: Engine,
    durability: Option<Durability>,
    io: Option<IoBackend>,
    host: Option<Host>,
    env: Option<Env>,
    string_bytes_max: Option<usize>,
    checkpoint: Option<String>,
}

impl Builder {
    /// A store over the engine that a URL names: `lsm:./data?cache=1GiB`, `memory:`,
    /// `mvcc+hybridlog:?memory=1GiB`. [`engines`](crate::engines) lists those compiled in.
    pub fn new(url: impl Into<String>) -> Self {
        Self::over(Engine::Url(url.into()))
    }

    /// A store over an engine that is open already. Give the environment it was opened with by
    /// [`env`](Self::env), unless that is the system's: both must go by the same clock.
    pub fn with_engine(engine: Arc<dyn KvEngine>) -> Self {
        Self::over(Engine::Opened(engine))
    }

    fn over(engine: Engine) -> Self {
        Self {
            engine,
            durability: None,
            io: None,
            host: None,
            env: None,
            string_bytes_max: None,
            checkpoint: None,
        }
    }

    /// How durable writes are, unless a handle says otherwise
    /// ([`with_durability`](Ferrokit::with_durability)). By default [`Durability::Synced`] where
    /// the engine can give that, else the strongest it can; a level asked for here is given or
    /// refused.
    pub fn durability(mut self, level: Durability) -> Self {
        self.durability = Some(level);
        self
    }

    /// How files are reached: by default through io_uring where the system allows it, else through
    /// threads.
    pub fn io(mut self, backend: IoBackend) -> Self {
        self.io = Some(backend);
        self
    }

    /// The machine the engine is opened on, instead of the system's; a simulated one, for tests.
    pub fn host(mut self, host: Host) -> Self {
        self.host = Some(host);
        self
    }

    /// Clock, timer, randomness and threads, instead of the system's or the
    /// [`host`](Self::host)'s.
    pub fn env(mut self, env: Env) -> Self {
        self.env = Some(env);
        self
    }

    /// The longest string that [`append`](Ferrokit::append) and
    /// [`set_range`](Ferrokit::set_range) may make; by default what the engine allows, at most
    /// 512 MiB.
    pub fn string_bytes_max(mut self, bytes: usize) -> Self {
        self.string_bytes_max = Some(bytes);
        self
    }

    /// Fills the engine's directory, which must be absent or empty, from a
    /// [checkpoint](Ferrokit::checkpoint) before it is opened. The checkpoint stays as it is.
    pub fn restore(mut self, checkpoint: impl Into<String>) -> Self {
        self.checkpoint = Some(checkpoint.into());
        self
    }

    /// Opens the store. Files are read, and a log recovered, on a thread of its own: no executor is
    /// blocked.
    ///
    /// # Errors
    /// `InvalidArgument` for a URL that is none, an engine that is not compiled in, an option
    /// nobody knows or that does not go with the engine; `Unsupported` for a durability it cannot
    /// give; `Locked` if its directory is open elsewhere; those of the engine.
    pub async fn open(self) -> Result<Ferrokit> {
        let is_stepped = self.host.as_ref().is_some_and(|host| host.background.is_stepped());
        if is_stepped || matches!(self.engine, Engine::Opened(_)) {
            return self.open_blocking();
        }
        let given = self.env.as_ref().or(self.host.as_ref().map(|host| &host.env));
        let env = given.map_or_else(Env::system, Env::clone);
        let (sender, receiver) = handoff();
        let open = move || sender.send(self.open_blocking());
        env.spawner
            .spawn("ferrokit-open", Box::new(open))
            .map_err(|error| EngineError::io("open", error))?;
        let failed = || EngineError::io("open", std::io::Error::other("the thread panicked"));
        receiver.await.ok_or_else(failed)?
    }

    /// [`open`](Self::open), on this thread.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_blocking(self) -> Result<Ferrokit> {
        let (engine, env) = match self.engine {
            Engine::Opened(engine) => {
                if self.io.is_some() || self.host.is_some() || self.checkpoint.is_some() {
                    return Err(EngineError::invalid(
                        "open",
                        "the engine is open already: I/O backend, host and checkpoint are for URLs",
                    )
                    .into());
                }
                (engine, self.env.unwrap_or_else(Env::system))
            }
            Engine::Url(url) => {
                let mut host = match (self.host, self.io) {
                    (Some(_), Some(_)) => {
                        return Err(EngineError::invalid(
                            "open",
                            "a host has its files already: give it, or an I/O backend",
                        )
                        .into());
                    }
                    (Some(host), None) => host,
                    (None, io) => Host::system(io.unwrap_or_default())?,
                };
                host.env = self.env.unwrap_or(host.env);
                let directory = EngineUrl::parse(&url)?.path().to_owned();
                backup::prepare(&host, &directory, self.checkpoint.as_deref())?;
                (ferrokit_engines::open(&host, &url)?, host.env)
            }
        };
        let store = Store::new(engine, &env);
        if let Some(level) = self.durability {
            store.set_durability(level)?;
        }
        if let Some(bytes) = self.string_bytes_max {
            store.set_string_bytes_max(bytes);
        }
        Ok(Ferrokit::over(store))
    }
}
