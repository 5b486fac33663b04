//! [`Worker`]: one thread of the server.
//!
//! It has its own listening sockets on the shared port (the kernel spreads connections over them),
//! its own runtime, and, where files go through io_uring, its own ring, driven by that runtime: a
//! read that misses the cache is begun, completed and answered on one thread.

use std::net::TcpListener as StdListener;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ferrokit_redis::Tally;
use ferrokit_storage::ThreadIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::auth;
use crate::client::{Client, Ending, Ends, flag};
use crate::connection;
use crate::raw;
use crate::shared::Shared;
use crate::stats::WorkerStats;
use crate::turns::Turns;
use crate::workspace::WorkspacePool;

/// What a client beyond the limit is told.
const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";
/// What a client of another machine is told while there is no password.
const PROTECTED: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is \
    enabled and no password is set for the default user. Only this machine is served: set \
    requirepass, or, if nobody else can reach the port, protected-mode no.\r\n";
/// Pause after an accept that failed (as a rule for want of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After so many connections those that are there have their turn.
const ACCEPTS_PER_TURN: u64 = 4;
/// Probes of a silent connection before it is given up.
const KEEPALIVE_PROBES: u32 = 3;

/// Entries of each database that a step of the expiry cycle looks at.
const EXPIRY_BUDGET: usize = 500;

/// A worker's part of the server.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) workspaces: WorkspacePool,
    pub(crate) turns: Turns,
    /// Told when a connection has ended.
    left: Notify,
}

impl Worker {
    pub(crate) fn stats(&self) -> &WorkerStats {
        &self.shared.stats[self.index]
    }

    fn connections(&self) -> usize {
        self.shared.clients.count_of(self.index)
    }
}

/// Runs a worker on this thread until the server stops.
pub(crate) fn run(shared: Arc<Shared>, index: usize) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "a worker has no runtime; stopping");
            return shared.request_shutdown();
        }
    };
    let worker = Rc::new(Worker {
        shared: Arc::clone(&shared),
        index,
        workspaces: WorkspacePool::default(),
        turns: Turns::default(),
        left: Notify::new(),
    });
    let local = LocalSet::new();
    local.block_on(&runtime, serve(worker));
}

async fn serve(worker: Rc<Worker>) {
    match worker.shared.host.fs.register_thread() {
        Ok(Some(ring)) => {
            spawn_local(drive(ring));
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "a worker goes without a ring of its own"),
    }
    let housekeeping = spawn_local(keep_house(Rc::clone(&worker)));
    let expiring = spawn_local(expire(Rc::clone(&worker)));
    let calling = {
        let worker = Rc::clone(&worker);
        spawn_local(async move { worker.turns.call().await })
    };
    let mut accepting = Vec::new();
    loop {
        tokio::select! {
            () = worker.shared.stops[worker.index].notified() => break,
            listeners = worker.shared.listening.next(worker.index) => {
                accepting.iter().for_each(JoinHandle::abort);
                accepting = accept_from(listeners, &worker);
            }
        }
    }
    accepting.iter().for_each(JoinHandle::abort);
    let grace = Duration::from_secs(worker.shared.settings.shutdown_timeout.get_unsigned());
    worker.shared.clients.for_each_of(worker.index, |client| client.end(Ending::Finish));
    let gone = async {
        while worker.connections() > 0 {
            worker.left.notified().await;
        }
    };
    if tokio::time::timeout(grace, gone).await.is_err() {
        tracing::warn!(connections = worker.connections(), "cut off: they did not end in time");
    }
    housekeeping.abort();
    expiring.abort();
    calling.abort();
}

/// Accepts from now on from these.
fn accept_from(listeners: Vec<StdListener>, worker: &Rc<Worker>) -> Vec<JoinHandle<()>> {
    let mut accepting = Vec::new();
    for listener in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => accepting.push(spawn_local(accept(listener, Rc::clone(worker)))),
            Err(error) => {
                tracing::error!(%error, "a worker cannot listen; stopping");
                worker.shared.request_shutdown();
            }
        }
    }
    accepting
}

async fn accept(listener: TcpListener, worker: Rc<Worker>) {
    for count in 1_u64.. {
        if count.is_multiple_of(ACCEPTS_PER_TURN) {
            tokio::task::yield_now().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => connect(stream, &worker),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn connect(stream: TcpStream, worker: &Rc<Worker>) {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    let shared = &worker.shared;
    if auth::is_out_of_bounds(&shared.settings, peer.ip()) {
        tracing::warn!(%peer, "refused: protected mode");
        worker.stats().rejected_connections.add(1);
        return turn_away(stream, PROTECTED);
    }
    let ends = Ends { peer, local, descriptor: stream.as_raw_fd() };
    let Some(client) = shared.clients.connect(worker.index, ends, shared.uptime()) else {
        worker.stats().rejected_connections.add(1);
        return turn_away(stream, TOO_MANY_CLIENTS);
    };
    worker.stats().connections.add(1);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "replies may be delayed");
    }
    let keepalive_secs = shared.settings.tcp_keepalive.get_unsigned();
    if keepalive_secs > 0
        && let Err(error) = keep_alive(&stream, Duration::from_secs(keepalive_secs))
    {
        tracing::debug!(%error, "a silent connection is not probed");
    }
    let leaving = Leaving { worker: Rc::clone(worker), client: Arc::clone(&client) };
    spawn_local(async move {
        let worker = Rc::clone(&leaving.worker);
        connection::serve(stream, worker, client).await;
        drop(leaving);
    });
}

/// Says why, and closes.
fn turn_away(stream: TcpStream, why: &'static [u8]) {
    // A new socket has room for it; if not, the client sees the end without the reason.
    spawn_local(async move {
        if stream.writable().await.is_ok() {
            let _ = stream.try_write(why);
        }
    });
}

/// Has the system probe a silent connection, three times before it is given up.
fn keep_alive(stream: &TcpStream, after: Duration) -> std::io::Result<()> {
    let interval = (after / KEEPALIVE_PROBES).max(Duration::from_secs(1));
    let probes = TcpKeepalive::new().with_time(after).with_interval(interval);
    SockRef::from(stream).set_tcp_keepalive(&probes.with_retries(KEEPALIVE_PROBES))
}

/// Strikes a connection off the table however its task ends.
struct Leaving {
    worker: Rc<Worker>,
    client: Arc<Client>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.worker.shared.remove_monitor(&self.client);
        self.worker.shared.clients.disconnect(self.worker.index, &self.client);
        self.worker.left.notify_one();
    }
}

/// Once a second: time, rates, clients that are too quiet or do not take their replies; on one
/// worker, the sync of `appendfsync everysec`.
async fn keep_house(worker: Rc<Worker>) {
    let shared = &worker.shared;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let stats = worker.stats();
    let rates = [
        (&stats.commands, &stats.commands_per_second),
        (&stats.input_bytes, &stats.input_bytes_per_second),
        (&stats.output_bytes, &stats.output_bytes_per_second),
    ];
    let mut before = rates.map(|(count, _)| count.get());
    let start = shared.host.env.clock.monotonic();
    loop {
        ticks.tick().await;
        for ((count, rate), before) in rates.iter().zip(&mut before) {
            let now = count.get();
            rate.set(now.saturating_sub(*before));
            *before = now;
        }
        let now = (shared.host.env.clock.monotonic() - start).as_secs();
        shared.uptime_secs.fetch_max(now, Ordering::Relaxed);
        let is_paused = shared.pauses_jobs.load(Ordering::Relaxed);
        if !is_paused {
            cut_off(&worker, shared.uptime());
        }
        if worker.index == 0 {
            shared.store.tick();
            shared.sync_if_due().await;
            shared.look_for_space().await;
            if !is_paused && !shared.is_loading() {
                shared.saves.tick(&shared.settings, shared.changes());
            }
        }
    }
}

/// Ten times a second, on one worker: the expiry cycle, the size of the data, and what it is beyond
/// its limit.
async fn expire(worker: Rc<Worker>) {
    if worker.index != 0 {
        return;
    }
    let shared = &worker.shared;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let is_active = shared.expires_actively.load(Ordering::Relaxed)
            && !shared.pauses_jobs.load(Ordering::Relaxed)
            && !shared.is_loading();
        if is_active && let Err(refusal) = shared.store.run_expiry_cycle(EXPIRY_BUDGET).await {
            tracing::debug!(%refusal, "a step of the expiry cycle failed");
        }
        if !shared.is_loading() {
            shared.measure_data();
            let mut tally = Tally::default();
            shared.evict_surplus(&mut tally).await;
            worker.stats().add(&tally);
        }
    }
}

fn cut_off(worker: &Worker, now: u64) {
    let limits = &worker.shared.limits;
    let idle_secs_max = worker.shared.settings.timeout.get_unsigned();
    worker.shared.clients.for_each_of(worker.index, |client| {
        let stalled_since = client.stalled_since.load(Ordering::Relaxed);
        let stalled = if stalled_since == 0 { 0 } else { now.saturating_sub(stalled_since) };
        if stalled > limits.output_stall.as_secs() {
            tracing::warn!(client = %client.peer, "disconnected: it does not take its replies");
            worker.stats().output_disconnections.add(1);
            client.end(Ending::Cut);
        }
        if client.is_over_soft_limit(now) {
            client.end_over_limit();
        }
        let is_exempt = client.is(flag::PUBSUB | flag::MONITOR | flag::BLOCKED);
        let idle = now.saturating_sub(client.last_active_at.load(Ordering::Relaxed));
        if !is_exempt && idle_secs_max > 0 && idle > idle_secs_max {
            client.end(Ending::Finish);
        }
    });
}

/// Completes what the worker began on its ring.
async fn drive(ring: Box<dyn ThreadIo>) {
    let ring = match raw::poll_ring(ring) {
        Ok(ring) => ring,
        Err(error) => {
            tracing::warn!(%error, "a worker goes without a ring of its own");
            return;
        }
    };
    loop {
        match ring.readable().await {
            Ok(mut ready) => {
                // First cleared, then driven: what completes in between is announced again.
                ready.clear_ready();
                ring.get_ref().drive();
            }
            Err(error) => {
                tracing::error!(%error, "a worker's ring is no longer polled");
                return;
            }
        }
    }
}
