//! [`Clients`]: the table of the connections (CLIENT LIST, housekeeping, shutdown).
//!
//! Lock order: a shard of the table, then the leaves of one client.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::client::{Client, Ending, Ends, flag, lock};
use crate::client_memory::ClientMemory;
use crate::settings::Settings;

/// The connections of a worker, by their ids.
type Shard = Mutex<HashMap<u64, Arc<Client>>>;

/// All connections, in one shard per worker.
pub(crate) struct Clients {
    shards: Box<[Shard]>,
    count: AtomicUsize,
    last_id: AtomicU64,
    limit: AtomicUsize,
    pub(crate) memory: ClientMemory,
    settings: Arc<Settings>,
    /// Output beyond this may never wait.
    output_bound: usize,
}

impl Clients {
    pub(crate) fn new(workers: usize, settings: Arc<Settings>, output_bound: usize) -> Self {
        let limit = usize::try_from(settings.maxclients.get()).unwrap_or(usize::MAX);
        Self {
            shards: (0..workers).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            last_id: AtomicU64::new(0),
            limit: AtomicUsize::new(limit),
            memory: ClientMemory::default(),
            settings,
            output_bound,
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
    pub(crate) fn connect(&self, worker: usize, ends: Ends, now: u64) -> Option<Arc<Client>> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.limit() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client =
            Arc::new(Client::new(id, ends, now, Arc::clone(&self.settings), self.output_bound));
        lock(&self.shards[worker]).insert(id, Arc::clone(&client));
        Some(client)
    }

    pub(crate) fn disconnect(&self, worker: usize, client: &Client) {
        lock(&self.shards[worker]).remove(&client.id);
        self.memory.forget(client);
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many connections have a flag.
    pub(crate) fn count_with(&self, flag: u32) -> usize {
        let count = |shard: &Shard| lock(shard).values().filter(|it| it.is(flag)).count();
        self.shards.iter().map(count).sum()
    }

    /// How many connections one worker has.
    pub(crate) fn count_of(&self, worker: usize) -> usize {
        lock(&self.shards[worker]).len()
    }

    /// Visits the connections of one worker.
    pub(crate) fn for_each_of(&self, worker: usize, mut visit: impl FnMut(&Client)) {
        lock(&self.shards[worker]).values().for_each(|client| visit(client));
    }

    /// The connection of that id.
    pub(crate) fn by_id(&self, id: u64) -> Option<Arc<Client>> {
        let found = self.shards.iter().find_map(|shard| lock(shard).get(&id).cloned());
        found.filter(|client| client.ending() != Ending::Cut && !client.is(flag::CLOSING))
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
