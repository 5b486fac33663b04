//! [`Clients`]: the connections, as others see them (CLIENT LIST, housekeeping, shutdown).
//!
//! Lock order: a shard of the table, then one client's `identity` or `waker`; nothing under those.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// What is asked of a connection from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Ending {
    /// Nothing.
    Open = 0,
    /// To end once the replies under way are sent.
    Finish = 1,
    /// To end at once.
    Cut = 2,
}

/// How a client calls itself.
#[derive(Debug, Default, Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) library_name: String,
    pub(crate) library_version: String,
}

/// A connection, as others see it.
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// In seconds since the server started, as all times here.
    pub(crate) connected_at: u64,
    pub(crate) last_active_at: AtomicU64,
    /// Since when replies wait and none was taken; 0 if that is not so.
    pub(crate) stalled_since: AtomicU64,
    pub(crate) unsent_bytes: AtomicUsize,
    pub(crate) database: AtomicU32,
    pub(crate) protocol: AtomicU8,
    pub(crate) is_eviction_exempt: AtomicBool,
    /// The name of the last command run.
    last_command: Mutex<&'static str>,
    identity: Mutex<Option<Box<Identity>>>,
    ending: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Client {
    pub(crate) fn new(id: u64, peer: SocketAddr, local: SocketAddr, now: u64) -> Self {
        Self {
            id,
            peer,
            local,
            connected_at: now,
            last_active_at: AtomicU64::new(now),
            stalled_since: AtomicU64::new(0),
            unsent_bytes: AtomicUsize::new(0),
            database: AtomicU32::new(0),
            protocol: AtomicU8::new(2),
            is_eviction_exempt: AtomicBool::new(false),
            last_command: Mutex::new("NULL"),
            identity: Mutex::new(None),
            ending: AtomicU8::new(Ending::Open as u8),
            waker: Mutex::new(None),
        }
    }

    pub(crate) fn set_last_command(&self, name: &'static str) {
        *lock(&self.last_command) = name;
    }

    pub(crate) fn identity(&self) -> Identity {
        lock(&self.identity).as_deref().cloned().unwrap_or_default()
    }

    pub(crate) fn change_identity(&self, change: impl FnOnce(&mut Identity)) {
        change(lock(&self.identity).get_or_insert_default());
    }

    /// The task to wake when an ending is asked for.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
    }

    pub(crate) fn ending(&self) -> Ending {
        match self.ending.load(Ordering::Acquire) {
            0 => Ending::Open,
            1 => Ending::Finish,
            _ => Ending::Cut,
        }
    }

    pub(crate) fn end(&self, ending: Ending) {
        self.ending.fetch_max(ending as u8, Ordering::AcqRel);
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The client's line in CLIENT LIST.
    pub(crate) fn describe(&self, now: u64, line: &mut String) {
        let identity = self.identity();
        let flags = if self.is_eviction_exempt.load(Ordering::Relaxed) { "e" } else { "N" };
        // Writing to a string cannot fail.
        let _ = write!(
            line,
            "id={} addr={} laddr={} name={} age={} idle={} flags={flags} db={} omem={} cmd={} \
             user=default resp={} lib-name={} lib-ver={}",
            self.id,
            self.peer,
            self.local,
            identity.name,
            now.saturating_sub(self.connected_at),
            now.saturating_sub(self.last_active_at.load(Ordering::Relaxed)),
            self.database.load(Ordering::Relaxed),
            self.unsent_bytes.load(Ordering::Relaxed),
            *lock(&self.last_command),
            self.protocol.load(Ordering::Relaxed),
            identity.library_name,
            identity.library_version,
        );
    }
}

/// The connections of a worker, by their ids.
type Shard = Mutex<HashMap<u64, Arc<Client>>>;

/// All connections, in one shard per worker.
pub(crate) struct Clients {
    shards: Box<[Shard]>,
    count: AtomicUsize,
    last_id: AtomicU64,
    limit: AtomicUsize,
}

impl Clients {
    pub(crate) fn new(workers: usize, limit: usize) -> Self {
        Self {
            shards: (0..workers).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            last_id: AtomicU64::new(0),
            limit: AtomicUsize::new(limit),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Admits so many from now on; those that are there may stay.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Adds a connection of a worker; `None` if there are as many as may be.
    pub(crate) fn connect(
        &self,
        worker: usize,
        peer: SocketAddr,
        local: SocketAddr,
        now: u64,
    ) -> Option<Arc<Client>> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.limit() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client::new(id, peer, local, now));
        lock(&self.shards[worker]).insert(id, Arc::clone(&client));
        Some(client)
    }

    pub(crate) fn disconnect(&self, worker: usize, client: &Client) {
        lock(&self.shards[worker]).remove(&client.id);
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many connections one worker has.
    pub(crate) fn count_of(&self, worker: usize) -> usize {
        lock(&self.shards[worker]).len()
    }

    /// Visits the connections of one worker.
    pub(crate) fn for_each_of(&self, worker: usize, mut visit: impl FnMut(&Client)) {
        lock(&self.shards[worker]).values().for_each(|client| visit(client));
    }

    /// All connections, by age.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>())
            .collect();
        all.sort_unstable_by_key(|client| client.id);
        all
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
