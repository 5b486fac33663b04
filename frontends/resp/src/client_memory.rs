//! [`ClientMemory`]: what clients have the server hold, and who goes when it is too much
//! (`maxmemory-clients`).
//!
//! A client that holds little counts as its connection alone. One that holds more, in half requests,
//! replies not taken, queued commands, watches, subscriptions, is *heavy*: its bytes are counted, to
//! the page, whenever its connection has run or waits. The heaviest goes first.
//!
//! Lock order: `heavy`, then the leaves of a client.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::client::{Client, Ending, flag, lock};
use crate::clients::Clients;
use crate::settings::Settings;
use crate::shared::Shared;

/// A connection that holds nothing, about: the README tells how that was measured.
const IDLE_BYTES: usize = 2 << 10;
/// From so much on a client is heavy.
const HEAVY_BYTES: usize = 16 << 10;
const PAGE_BYTES: usize = 4 << 10;
/// A limit below this would leave nobody to talk to the server.
const LIMIT_BYTES_MIN: usize = 128 << 10;

/// What clients hold together.
#[derive(Default)]
pub(crate) struct ClientMemory {
    heavy_bytes: AtomicUsize,
    heavy: Mutex<HashMap<u64, Arc<Client>>>,
    evicted: AtomicU64,
    /// The second in which it was found that nobody is left to go, plus one.
    in_vain_at: AtomicU64,
}

impl ClientMemory {
    /// Takes note of what a client holds now.
    #[inline]
    pub(crate) fn count(&self, client: &Arc<Client>) {
        let bytes = counted_bytes(client.held_bytes());
        if bytes != client.sizes.counted.load(Ordering::Relaxed) {
            self.recount(client, bytes);
        }
    }

    #[cold]
    fn recount(&self, client: &Arc<Client>, bytes: usize) {
        let mut heavy = lock(&self.heavy);
        if client.ending() == Ending::Cut {
            return;
        }
        let before = client.sizes.counted.swap(bytes, Ordering::Relaxed);
        self.heavy_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.heavy_bytes.fetch_sub(before, Ordering::Relaxed);
        if bytes == 0 {
            heavy.remove(&client.id);
        } else if before == 0 {
            heavy.insert(client.id, Arc::clone(client));
        }
    }

    /// Counts a client no longer.
    pub(crate) fn forget(&self, client: &Client) {
        let mut heavy = lock(&self.heavy);
        if heavy.remove(&client.id).is_some() {
            let before = client.sizes.counted.swap(0, Ordering::Relaxed);
            self.heavy_bytes.fetch_sub(before, Ordering::Relaxed);
        }
    }

    /// Clients that went because all together held too much.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn heaviest_first(&self) -> Vec<Arc<Client>> {
        let mut clients: Vec<Arc<Client>> = lock(&self.heavy).values().cloned().collect();
        clients.sort_by_key(|it| Reverse(it.sizes.counted.load(Ordering::Relaxed)));
        clients
    }
}

fn counted_bytes(held: usize) -> usize {
    if held < HEAVY_BYTES { 0 } else { held.next_multiple_of(PAGE_BYTES) }
}

impl Clients {
    /// What all connections take, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.heavy_bytes.load(Ordering::Relaxed) + self.count() * IDLE_BYTES
    }
}

impl Settings {
    /// What all clients may hold together, if there is a limit.
    pub(crate) fn client_memory_limit(&self) -> Option<usize> {
        let limit = self.maxmemory_clients.bytes_of(self.maxmemory.get())?;
        Some(usize::try_from(limit).unwrap_or(usize::MAX).max(LIMIT_BYTES_MIN))
    }
}

impl Shared {
    /// Takes note of what a client holds now; cuts off the heaviest if all together hold too much.
    #[inline]
    pub(crate) fn count_memory(&self, client: &Arc<Client>) {
        self.clients.memory.count(client);
        if self.settings.maxmemory_clients.is_set() {
            self.keep_client_limit();
        }
    }

    /// Cuts off the heaviest clients until all together are within their limit.
    pub(crate) fn keep_client_limit(&self) {
        let Some(limit) = self.settings.client_memory_limit() else { return };
        if self.clients.memory_bytes() >= limit {
            self.evict_clients(limit);
        }
    }

    #[cold]
    fn evict_clients(&self, limit: usize) {
        let (memory, second) = (&self.clients.memory, self.uptime() + 1);
        if memory.in_vain_at.load(Ordering::Relaxed) == second {
            return;
        }
        let may_go =
            |client: &Arc<Client>| !client.is(flag::NO_EVICT) && client.ending() != Ending::Cut;
        for client in memory.heaviest_first().iter().filter(|client| may_go(client)) {
            if self.clients.memory_bytes() < limit {
                return;
            }
            self.evict_client(client);
        }
        // No heavy one is left. The light ones are as good as equal; who is there longest goes first.
        let mut excess = self.clients.memory_bytes().saturating_sub(limit);
        for client in self.clients.all().iter().filter(|client| may_go(client)) {
            if excess < IDLE_BYTES {
                return;
            }
            excess -= IDLE_BYTES;
            self.evict_client(client);
        }
        memory.in_vain_at.store(second, Ordering::Relaxed);
        tracing::warn!("clients are beyond maxmemory-clients, and none may be cut off");
    }

    fn evict_client(&self, client: &Client) {
        let held = client.held_bytes();
        tracing::info!(client = %client.peer, held, "cut off: clients are beyond maxmemory-clients");
        self.clients.memory.forget(client);
        self.clients.memory.evicted.fetch_add(1, Ordering::Relaxed);
        client.end(Ending::Cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_counts_as_nothing_and_more_to_the_page() {
        assert_eq!(counted_bytes(HEAVY_BYTES - 1), 0);
        assert_eq!(counted_bytes(HEAVY_BYTES), HEAVY_BYTES);
        assert_eq!(counted_bytes(HEAVY_BYTES + 1), HEAVY_BYTES + PAGE_BYTES);
    }
}
