//! `/metrics` for Prometheus and `/health`, over HTTP at `metrics-addr`, on a thread of its own.
//!
//! What a scraper can take is bounded: connections at a time, and the time each has. Whoever comes
//! when there are too many takes the place of the one that has been there longest without being
//! answered now.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ferrokit_engine::{Error, KeyspaceId, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use crate::shared::Shared;
use crate::stats::{Counter, WorkerStats};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 32;
/// How long a connection may be open.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// How long a request's head may take.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening socket, before there is anything to tell.
pub(crate) struct MetricsSocket(StdListener);

impl MetricsSocket {
    /// Listens at `address`; nowhere if it is empty.
    pub(crate) fn bind(address: &str) -> Result<Option<Self>> {
        if address.is_empty() {
            return Ok(None);
        }
        let bound = || {
            let listener = StdListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        bound().map(|listener| Some(Self(listener))).map_err(|error: std::io::Error| {
            Error::invalid("--metrics-addr", format!("{address}: {error}; choose another"))
        })
    }

    /// Serves on a thread until [`MetricsServer::stop`].
    pub(crate) fn serve(self, shared: Arc<Shared>) -> Result<MetricsServer> {
        let failed = |error| Error::io("server.metrics", error);
        let address = self.0.local_addr().map_err(failed)?;
        let stop = Arc::new(Notify::new());
        let (stopped, spawner) = (Arc::clone(&stop), Arc::clone(&shared.host.env.spawner));
        let body = Box::new(move || run(self.0, shared, &stopped));
        let thread = spawner.spawn("ferrokit-metrics", body).map_err(failed)?;
        tracing::info!(%address, "metrics are served");
        Ok(MetricsServer { stop, thread, address })
    }
}

/// The running thread.
pub(crate) struct MetricsServer {
    stop: Arc<Notify>,
    thread: JoinHandle<()>,
    pub(crate) address: SocketAddr,
}

impl MetricsServer {
    pub(crate) fn stop(self) {
        self.stop.notify_one();
        if self.thread.join().is_err() {
            tracing::error!("the metrics' thread panicked");
        }
    }
}

fn run(listener: StdListener, shared: Arc<Shared>, stop: &Notify) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "there are no metrics: no runtime"),
    };
    LocalSet::new().block_on(&runtime, async {
        match TcpListener::from_std(listener) {
            Ok(listener) => tokio::select! {
                () = accept(listener, shared) => {}
                () = stop.notified() => {}
            },
            Err(error) => tracing::error!(%error, "there are no metrics: no listener"),
        }
    });
}

/// A connection.
struct Place {
    number: u64,
    /// Its request has come and is being answered.
    is_answered: Rc<Cell<bool>>,
    task: AbortHandle,
}

/// The connections there are, the oldest first.
#[derive(Default)]
struct Places {
    taken: RefCell<VecDeque<Place>>,
    freed: Notify,
}

impl Places {
    /// Waits until another connection has a place: that of the oldest one that is not answered now.
    async fn make_room(&self) {
        while self.taken.borrow().len() >= CONNECTIONS_MAX {
            match self.take_oldest() {
                Some(place) => place.task.abort(),
                None => self.freed.notified().await,
            }
        }
    }

    fn take_oldest(&self) -> Option<Place> {
        let mut taken = self.taken.borrow_mut();
        let oldest = taken.iter().position(|place| !place.is_answered.get())?;
        taken.remove(oldest)
    }
}

/// Gives a place up when the connection has ended.
struct Leaving(Rc<Places>, u64);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.taken.borrow_mut().retain(|place| place.number != self.1);
        self.0.freed.notify_one();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Rc::new(Places::default());
    for number in 0.. {
        match listener.accept().await {
            Ok((stream, _)) => {
                places.make_room().await;
                let (shared, is_answered) = (Arc::clone(&shared), Rc::new(Cell::new(false)));
                let (leaving, answered) =
                    (Leaving(Rc::clone(&places), number), Rc::clone(&is_answered));
                let task = spawn_local(async move {
                    let _leaving = leaving;
                    let serving = serve(stream, shared, &answered);
                    let _ = tokio::time::timeout(CONNECTION_TIME, serving).await;
                });
                let place = Place { number, is_answered, task: task.abort_handle() };
                places.taken.borrow_mut().push_back(place);
            }
            Err(error) => {
                tracing::warn!(%error, "a scraper was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, is_answered: &Cell<bool>) {
    let service = service_fn(async |request| {
        is_answered.set(true);
        let response = answer(request, &shared).await;
        is_answered.set(false);
        response
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.max_buf_size(HEAD_BYTES_MAX).timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a scraper's connection ended");
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, metrics(shared).await),
        (&Method::GET | &Method::HEAD, "/health") => match health(shared) {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        (_, "/metrics" | "/health") => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
        _ => (StatusCode::NOT_FOUND, "there are /metrics and /health\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}

/// Why the server is of no use now, if so.
fn health(shared: &Shared) -> std::result::Result<(), &'static str> {
    if shared.is_loading() {
        Err("the engine is not open yet")
    } else if shared.is_sync_failing() {
        Err("the log is not synced: writes are not durable")
    } else if shared.space.is_lacking() {
        Err("the device of the data is full: writes are refused")
    } else {
        Ok(())
    }
}

/// A counter of the workers: its name and what it counts.
type Total = (&'static str, &'static str, fn(&WorkerStats) -> &Counter);

const TOTALS: &[Total] = &[
    ("connections", "Connections accepted", |it| &it.connections),
    ("rejected_connections", "Connections refused", |it| &it.rejected_connections),
    ("commands", "Commands run", |it| &it.commands),
    ("error_replies", "Errors answered", |it| &it.errors),
    ("net_input_bytes", "Bytes received", |it| &it.input_bytes),
    ("net_output_bytes", "Bytes sent", |it| &it.output_bytes),
    ("keyspace_hits", "Keys read that were there", |it| &it.keyspace_hits),
    ("keyspace_misses", "Keys read that were not there", |it| &it.keyspace_misses),
    ("key_changes", "Keys changed", |it| &it.changes),
    ("output_limit_disconnections", "Clients disconnected for what they left untaken", |it| {
        &it.output_disconnections
    }),
];

async fn metrics(shared: &Shared) -> String {
    let mut out = String::new();
    for (name, help, counter) in TOTALS {
        let sum: u64 = shared.stats.iter().map(|stats| counter(stats).get()).sum();
        metric(&mut out, &format!("{name}_total"), "counter", help, sum);
    }
    let saves = &shared.saves;
    for (name, help, value) in [
        ("connected_clients", "Connections now", shared.clients.count() as u64),
        ("maxclients", "Connections there may be", shared.clients.limit() as u64),
        ("uptime_seconds", "Seconds since the start", shared.uptime()),
        (
            "unsaved_changes",
            "Keys changed since the last checkpoint",
            saves.unsaved(shared.changes()),
        ),
        ("last_save_timestamp_seconds", "Time of the last checkpoint", saves.last_at()),
        ("last_save_failed", "Whether the last checkpoint failed", saves.has_failed().into()),
        ("sync_failing", "Whether the log is not synced", shared.is_sync_failing().into()),
        ("loading", "Whether the engine is not open yet", shared.is_loading().into()),
    ] {
        metric(&mut out, name, "gauge", help, value);
    }
    if shared.is_loading() {
        return out;
    }
    head(&mut out, "keys", "gauge", "Keys of a database");
    for id in 0..shared.store.databases() {
        if let Ok(len) = shared.engine.keyspace_len(KeyspaceId(id)).await {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "ferrokit_keys{{db=\"{id}\"}} {}", len.entries);
        }
    }
    let engine = shared.engine.capabilities().engine;
    for stat in shared.engine.stats().iter() {
        // An engine does not say which of its figures only grow.
        let name = format!("engine_{}", stat.name);
        head(&mut out, &name, "untyped", "A figure of the engine");
        let _ = writeln!(out, "ferrokit_{name}{{engine=\"{engine}\"}} {}", stat.value);
    }
    out
}

fn metric(out: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    head(out, name, kind, help);
    // Writing to a string cannot fail.
    let _ = writeln!(out, "ferrokit_{name} {value}");
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP ferrokit_{name} {help}.\n# TYPE ferrokit_{name} {kind}");
}
