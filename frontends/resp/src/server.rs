//! [`Server`]: starts the workers, stops them, closes the engine.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ferrokit_engine::{Error, KvEngine, Result};
use ferrokit_storage::Host;
use tokio::sync::oneshot;

use crate::config::{AppendFsync, Config};
use crate::listening::{Listening, listen};
use crate::metrics::{MetricsServer, MetricsSocket};
use crate::opening;
use crate::shared::Shared;
use crate::worker;

/// Descriptors for other things than clients.
const SPARE_DESCRIPTORS: u64 = 256;

/// A signal that ends the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM
    Terminate,
    /// SIGINT
    Interrupt,
}

impl StopSignal {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    metrics: Option<MetricsServer>,
    /// Told how the opening of the engine ended.
    opened: Mutex<Option<oneshot::Receiver<Result<()>>>>,
}

impl Server {
    /// Opens the engine of the configuration and serves it.
    ///
    /// # Errors
    /// Those of [`begin`](Self::begin) and [`opened`](Self::opened).
    pub fn start(host: &Host, config: &Config) -> Result<Self> {
        let server = Self::begin(host, config)?;
        host.wait(server.opened())?;
        Ok(server)
    }

    /// Listens, and begins to open the engine: until it is open, clients are told `-LOADING`.
    ///
    /// # Errors
    /// `Io` and `InvalidArgument` for an address that cannot be listened on, saying what to do.
    pub fn begin(host: &Host, config: &Config) -> Result<Self> {
        let settings = &config.settings;
        let listeners = listen(settings)?;
        let metrics = MetricsSocket::bind(&settings.metrics_addr.to_text())?;
        let workers = listeners.per_worker.len();
        // What was left open is settled now: CONFIG GET shows what holds.
        settle_clients(config)?;
        settings.settle("port", &listeners.port.to_string())?;
        settings.settle("io-threads", &workers.to_string())?;
        let shared = Arc::new(Shared::new(host, config, Listening::new(listeners))?);
        let mut server =
            Self { shared, threads: Vec::new(), metrics: None, opened: Mutex::default() };
        // On failure the server is dropped, and its workers with it.
        for index in 0..workers {
            let shared = Arc::clone(&server.shared);
            let body = Box::new(move || worker::run(shared, index));
            let spawned = host.env.spawner.spawn(&format!("ferrokit-worker-{index}"), body);
            server.threads.push(spawned.map_err(|error| Error::io("server.start", error))?);
        }
        server.metrics =
            metrics.map(|socket| socket.serve(Arc::clone(&server.shared))).transpose()?;
        server.opened = Mutex::new(Some(opening::begin(&server.shared, config)?));
        Ok(server)
    }

    /// Completes when the engine is open; at once for whoever asks again.
    ///
    /// # Errors
    /// Those of the engine's opening; `Unsupported` for a durability it cannot give.
    pub async fn opened(&self) -> Result<()> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(opened) = opened else { return Ok(()) };
        opened.await.unwrap_or_else(|_| {
            let why = std::io::Error::other("the thread that opens the engine panicked");
            Err(Error::io("server.start", why))
        })
    }

    /// Where metrics are served, if they are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|metrics| metrics.address)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        u16::try_from(self.shared.settings.port.get()).unwrap_or(0)
    }

    /// What the engine is and where it came from.
    pub fn engine(&self) -> &Arc<dyn KvEngine> {
        &self.shared.engine
    }

    /// When writes are durable.
    pub fn appendfsync(&self) -> AppendFsync {
        self.shared.settings.appendfsync.get()
    }

    /// The number of worker threads.
    pub fn workers(&self) -> usize {
        self.threads.len()
    }

    /// Completes when a client has asked for the server to stop (SHUTDOWN), or a worker cannot go
    /// on.
    pub async fn shutdown_requested(&self) {
        self.shared.shutdown_requested.notified().await;
    }

    /// Takes the checkpoint that a signal to stop asks for; whether the server may end.
    pub fn prepare_shutdown(&self, signal: StopSignal) -> bool {
        let settings = &self.shared.settings;
        let flags = match signal {
            StopSignal::Terminate => settings.shutdown_on_sigterm.get(),
            StopSignal::Interrupt => settings.shutdown_on_sigint.get(),
        };
        self.shared.host.wait(self.shared.prepare_shutdown(*flags))
    }

    /// Stops accepting, finishes the commands in flight, closes the engine. One that is still being
    /// opened is closed as soon as it is open, by the thread that opens it.
    ///
    /// # Errors
    /// Those of [`KvEngine::close`].
    pub fn shutdown(mut self) -> Result<()> {
        self.stop_workers();
        self.shared.close_engine()
    }

    fn stop_workers(&mut self) {
        self.shared.stops.iter().for_each(tokio::sync::Notify::notify_one);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
        if let Some(metrics) = self.metrics.take() {
            metrics.stop();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_workers();
        // One that is dropped is not closed, as ever; but one that is not open yet must not stay.
        self.shared.is_stopped.store(true, Ordering::SeqCst);
    }
}

/// As many clients as are asked for, or as there are descriptors for.
fn settle_clients(config: &Config) -> Result<()> {
    let clients = usize::try_from(config.settings.maxclients.get()).unwrap_or(usize::MAX);
    let allowed = clients_within_descriptors(clients);
    if allowed < clients {
        tracing::warn!(
            clients = allowed,
            "fewer clients than asked: raise the limit of open files"
        );
    }
    config.settings.settle("maxclients", &allowed.to_string())
}

/// Raises the limit of open descriptors for so many clients; how many it allows.
pub(crate) fn clients_within_descriptors(clients: usize) -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let wanted = (clients as u64).saturating_add(SPARE_DESCRIPTORS);
    let mut limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|current| *current < wanted) else { return clients };
    let reachable = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    limit.current = Some(reachable);
    let allowed = if setrlimit(Resource::Nofile, limit).is_ok() { reachable } else { current };
    let allowed = usize::try_from(allowed.saturating_sub(SPARE_DESCRIPTORS)).unwrap_or(clients);
    allowed.clamp(1, clients)
}
