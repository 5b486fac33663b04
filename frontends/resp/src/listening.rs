//! [`Listening`]: the sockets that clients connect to: one per worker and address, all on one port.
//!
//! The kernel spreads connections over the workers. They can be exchanged while the server runs:
//! the new ones listen before the old ones are closed.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferrokit_engine::{Error, ErrorKind, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Notify;

use crate::settings::Settings;

/// Sockets that listen, not yet served.
pub(crate) struct Listeners {
    pub(crate) port: u16,
    pub(crate) per_worker: Vec<Vec<TcpListener>>,
    endpoints: Vec<SocketAddr>,
}

/// The sockets of a running server.
pub(crate) struct Listening {
    endpoints: Mutex<Vec<SocketAddr>>,
    hands: Box<[Hand]>,
}

/// What a worker is to serve from now on.
#[derive(Default)]
struct Hand {
    listeners: Mutex<Option<Vec<TcpListener>>>,
    told: Notify,
}

impl Listening {
    /// Hands every worker its sockets.
    pub(crate) fn new(listeners: Listeners) -> Self {
        let hands = listeners.per_worker.iter().map(|_| Hand::default()).collect();
        let listening = Self { endpoints: Mutex::default(), hands };
        listening.hand_out(listeners);
        listening
    }

    /// Sockets for so many workers, to come.
    pub(crate) fn nowhere(workers: usize) -> Self {
        let hands = (0..workers).map(|_| Hand::default()).collect();
        Self { endpoints: Mutex::default(), hands }
    }

    pub(crate) fn workers(&self) -> usize {
        self.hands.len()
    }

    /// Waits for sockets that a worker is to serve instead of those it has.
    pub(crate) async fn next(&self, worker: usize) -> Vec<TcpListener> {
        let hand = &self.hands[worker];
        loop {
            hand.told.notified().await;
            if let Some(listeners) = lock(&hand.listeners).take() {
                return listeners;
            }
        }
    }

    /// Listens where the parameters say now; the port, if that is another place.
    ///
    /// # Errors
    /// As [`listen`]; nothing has changed then.
    pub(crate) fn change(&self, settings: &Settings) -> Result<Option<u16>> {
        let held = lock(&self.endpoints).clone();
        let (port, endpoints) = endpoints(settings, &held)?;
        if endpoints == held {
            return Ok(None);
        }
        let workers = self.hands.len();
        self.hand_out(sockets(settings, port, endpoints, workers)?);
        Ok(Some(port))
    }

    fn hand_out(&self, listeners: Listeners) {
        *lock(&self.endpoints) = listeners.endpoints;
        for (hand, listeners) in self.hands.iter().zip(listeners.per_worker) {
            *lock(&hand.listeners) = Some(listeners);
            hand.told.notify_one();
        }
    }
}

/// Listens where the parameters say.
///
/// # Errors
/// `Locked`, `InvalidArgument` or `Io` for an address that cannot be listened on, saying what to do.
pub(crate) fn listen(settings: &Settings) -> Result<Listeners> {
    let workers = match usize::try_from(settings.io_threads.get()) {
        Ok(0) | Err(_) => default_workers(),
        Ok(workers) => workers,
    };
    let (port, endpoints) = endpoints(settings, &[])?;
    sockets(settings, port, endpoints, workers)
}

/// The port and the addresses that can be listened on; those that are `held` already can.
fn endpoints(settings: &Settings, held: &[SocketAddr]) -> Result<(u16, Vec<SocketAddr>)> {
    let mut port = u16::try_from(settings.port.get()).unwrap_or(0);
    let mut addresses = Vec::new();
    for bind_address in &settings.bind.get().0 {
        let address = bind_address.address;
        if held.contains(&SocketAddr::new(address, port)) {
            addresses.push(address);
            continue;
        }
        // SO_REUSEPORT would let a second server share the port in silence: a socket without it
        // finds out whether anyone listens. With port 0 the first also picks the port.
        let probe = match bind(address, port, false) {
            Err(error) if bind_address.is_optional && error.kind() != ErrorKind::Locked => continue,
            probe => probe?,
        };
        addresses.push(address);
        if let Some(bound) = probe.local_addr().ok().and_then(|address| address.as_socket()) {
            port = bound.port();
        }
    }
    if addresses.is_empty() {
        return Err(Error::invalid("server.listen", "no address to listen on; give --bind"));
    }
    Ok((port, addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()))
}

fn sockets(
    settings: &Settings,
    port: u16,
    endpoints: Vec<SocketAddr>,
    workers: usize,
) -> Result<Listeners> {
    let backlog = i32::try_from(settings.tcp_backlog.get()).unwrap_or(i32::MAX);
    let mut per_worker = Vec::with_capacity(workers);
    for _ in 0..workers {
        let mut listeners = Vec::with_capacity(endpoints.len());
        for at in &endpoints {
            let socket = bind(at.ip(), port, true)?;
            let failed = |error| cannot_listen(at.ip(), port, error);
            socket.listen(backlog).map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            listeners.push(TcpListener::from(socket));
        }
        per_worker.push(listeners);
    }
    Ok(Listeners { port, per_worker, endpoints })
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
