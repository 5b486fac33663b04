//! [`Server`]: starts the workers, stops them, closes the engine.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;

use ferrokit_engine::{Capabilities, Durability, Error, ErrorKind, KvEngine, Result};
use ferrokit_storage::Host;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{AppendFsync, Config};
use crate::settings::Settings;
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
}

impl Server {
    /// Opens the engine of the configuration and serves it.
    ///
    /// # Errors
    /// Those of the engine's opening; `Unsupported` for a durability it cannot give; `Io` and
    /// `InvalidArgument` for an address that cannot be listened on, saying what to do.
    pub fn start(host: &Host, config: &Config) -> Result<Self> {
        let listeners = listen(&config.settings)?;
        let engine = ferrokit_engines::open(host, &config.settings.engine.to_text())?;
        match Self::serve(host, config, Arc::clone(&engine), listeners) {
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
    ) -> Result<Self> {
        let Listeners { port, per_worker } = listeners;
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
        settings.settle("port", &port.to_string())?;
        settings.settle("io-threads", &per_worker.len().to_string())?;
        settle_durability(config, engine.capabilities())?;
        let shared = Arc::new(Shared::new(engine, host, config, per_worker.len()));
        shared.apply_durability()?;
        shared.apply_string_limit();
        shared.apply_sketch_limit();
        let mut server = Self { shared, threads: Vec::new() };
        for (index, listeners) in per_worker.into_iter().enumerate() {
            let shared = Arc::clone(&server.shared);
            let body = Box::new(move || worker::run(shared, index, listeners));
            match host.env.spawner.spawn(&format!("ferrokit-worker-{index}"), body) {
                Ok(thread) => server.threads.push(thread),
                Err(error) => {
                    server.stop_workers();
                    return Err(Error::io("server.start", error));
                }
            }
        }
        Ok(server)
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
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_workers();
    }
}

struct Listeners {
    port: u16,
    per_worker: Vec<Vec<TcpListener>>,
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

/// One listening socket per worker and address, all on one port.
fn listen(settings: &Settings) -> Result<Listeners> {
    let workers = match usize::try_from(settings.io_threads.get()) {
        Ok(0) | Err(_) => default_workers(),
        Ok(workers) => workers,
    };
    let mut port = u16::try_from(settings.port.get()).unwrap_or(0);
    let mut addresses = Vec::new();
    for bind_address in &settings.bind.get().0 {
        // SO_REUSEPORT would let a second server share the port in silence: a socket without it
        // finds out whether anyone listens. With port 0 the first also picks the port.
        let probe = match bind(bind_address.address, port, false) {
            Err(error) if bind_address.is_optional && error.kind() != ErrorKind::Locked => continue,
            probe => probe?,
        };
        addresses.push(bind_address.address);
        if let Some(bound) = probe.local_addr().ok().and_then(|address| address.as_socket()) {
            port = bound.port();
        }
    }
    if addresses.is_empty() {
        return Err(Error::invalid("server.listen", "no address to listen on; give --bind"));
    }
    let backlog = i32::try_from(settings.tcp_backlog.get()).unwrap_or(i32::MAX);
    let mut per_worker = Vec::with_capacity(workers);
    for _ in 0..workers {
        let mut listeners = Vec::with_capacity(addresses.len());
        for &address in &addresses {
            let socket = bind(address, port, true)?;
            let failed = |error| cannot_listen(address, port, error);
            socket.listen(backlog).map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            listeners.push(TcpListener::from(socket));
        }
        per_worker.push(listeners);
    }
    Ok(Listeners { port, per_worker })
}

fn bind(address: IpAddr, port: u16, shares_port: bool) -> Result<Socket> {
    let at = SocketAddr::new(address, port);
    let bound = || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shares_port)?;
        socket.bind(&at.into())?;
        Ok(socket)
    };
    bound().map_err(|error| cannot_listen(address, port, error))
}

fn cannot_listen(address: IpAddr, port: u16, error: std::io::Error) -> Error {
    let (kind, advice) = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            (ErrorKind::Locked, "another process listens there; choose another --port")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            (ErrorKind::InvalidArgument, "the machine has no such address; choose another --bind")
        }
        std::io::ErrorKind::PermissionDenied => {
            (ErrorKind::InvalidArgument, "the system does not allow it; choose a --port above 1023")
        }
        _ => (ErrorKind::Io, "choose another --bind or --port"),
    };
    let at = SocketAddr::new(address, port);
    Error::new(kind, "server.listen", format!("{at}: {advice}")).with_source(error)
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
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
