//! [`Server`]: starts the workers, stops them, closes the engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use ferrokit_engine::{Capabilities, Durability, Error, KvEngine, Result};
use ferrokit_storage::Host;

use crate::config::{AppendFsync, Config};
use crate::listening::{Listeners, Listening, listen};
use crate::metrics::{MetricsServer, MetricsSocket};
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
}

impl Server {
    /// Opens the engine of the configuration and serves it.
    ///
    /// # Errors
    /// Those of the engine's opening; `Unsupported` for a durability it cannot give; `Io` and
    /// `InvalidArgument` for an address that cannot be listened on, saying what to do.
    pub fn start(host: &Host, config: &Config) -> Result<Self> {
        let listeners = listen(&config.settings)?;
        let metrics = MetricsSocket::bind(&config.settings.metrics_addr.to_text())?;
        let engine = ferrokit_engines::open(host, &config.settings.engine.to_text())?;
        match Self::serve(host, config, Arc::clone(&engine), listeners, metrics) {
            Ok(server) => Ok(server),
            Err(error) => {
                // The first error is the one to tell.
                let _ = host.wait(engine.close());
                Err(error)
            }
        }
    }

    fn serve(
        host: &Host,
        config: &Config,
        engine: Arc<dyn KvEngine>,
        listeners: Listeners,
        metrics: Option<MetricsSocket>,
    ) -> Result<Self> {
        let workers = listeners.per_worker.len();
        let settings = &config.settings;
        let clients = usize::try_from(settings.maxclients.get()).unwrap_or(usize::MAX);
        let allowed = clients_within_descriptors(clients);
        if allowed < clients {
            tracing::warn!(
                clients = allowed,
                "fewer clients than asked: raise the limit of open files"
            );
        }
        // What was left open is settled now: CONFIG GET shows what holds.
        settings.settle("maxclients", &allowed.to_string())?;
        settings.settle("port", &listeners.port.to_string())?;
        settings.settle("io-threads", &workers.to_string())?;
        settle_durability(config, engine.capabilities())?;
        let shared = Arc::new(Shared::new(engine, host, config, Listening::new(listeners)));
        shared.apply_durability()?;
        shared.apply_string_limit();
        shared.apply_sketch_limit();
        shared.observe();
        let mut server = Self { shared, threads: Vec::new(), metrics: None };
        for index in 0..workers {
            let shared = Arc::clone(&server.shared);
            let body = Box::new(move || worker::run(shared, index));
            match host.env.spawner.spawn(&format!("ferrokit-worker-{index}"), body) {
                Ok(thread) => server.threads.push(thread),
                Err(error) => {
                    server.stop_workers();
                    return Err(Error::io("server.start", error));
                }
            }
        }
        // On failure the server is dropped, and its workers with it.
        server.metrics =
            metrics.map(|socket| socket.serve(Arc::clone(&server.shared))).transpose()?;
        Ok(server)
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

    /// Stops accepting, finishes the commands in flight, closes the engine.
    ///
    /// # Errors
    /// Those of [`KvEngine::close`].
    pub fn shutdown(mut self) -> Result<()> {
        self.stop_workers();
        self.shared.host.wait(self.shared.engine.close())
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
    }
}

/// An engine that keeps nothing logs nothing, unless that was demanded.
fn settle_durability(config: &Config, capabilities: &Capabilities) -> Result<()> {
    config.settings.appendfsync.get().durability_on(capabilities)?;
    if capabilities.strongest_durability == Durability::Memory && !config.demands_durability {
        config.settings.settle("appendonly", "no")?;
    }
    if !config.settings.appendonly.get() {
        let engine = capabilities.engine;
        tracing::warn!(engine, "data is not durable: writes are kept in memory only");
    }
    Ok(())
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
