//! [`PubSub`]: who listens to which channels and patterns, and the sending of messages.
//!
//! # Threads
//! Any worker subscribes its clients and publishes to all. A message takes the lock of a shard of
//! the table for a look-up, then the lock of its channel while it is appended to the outboxes: two
//! messages of one channel reach all its subscribers in the same order, and channels do not wait for
//! each other. Patterns are matched on a snapshot of their table.
//!
//! Lock order: none of the table's locks is held while a channel's is taken; under a channel's only
//! the leaves of its clients.
//!
//! # Bounds
//! All subscriptions together take at most [`subscription_bytes`](crate::Limits) by a reckoning of
//! [`SUBSCRIPTION_BYTES`] and the name each; beyond that, subscribing is refused.

mod channel;
mod subscriptions;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use channel::Channel;
pub(crate) use subscriptions::{Kind, Subscriptions};

use ferrokit_redis::glob;

use crate::client::{Client, lock};
use crate::push::Push;

/// What a subscription is reckoned to take besides its name, in both tables.
const SUBSCRIPTION_BYTES: usize = 200;

const fn reckoned_bytes(name: &[u8]) -> usize {
    SUBSCRIPTION_BYTES + name.len()
}

/// Shards of a table of channels; a power of two.
const SHARDS: usize = 64;

/// Channels, or patterns, by their names.
type ByName = HashMap<Arc<[u8]>, Arc<Channel>>;

/// The channels of a kind that have subscribers.
struct Channels {
    shards: Box<[Mutex<ByName>]>,
    hasher: RandomState,
}

impl Default for Channels {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new() }
    }
}

impl Channels {
    fn shard(&self, name: &[u8]) -> &Mutex<ByName> {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }

    fn get(&self, name: &[u8]) -> Option<Arc<Channel>> {
        lock(self.shard(name)).get(name).cloned()
    }

    /// Adds a subscriber, and the channel if need be.
    fn subscribe(&self, name: &[u8], client: &Arc<Client>) -> Arc<Channel> {
        loop {
            let channel = {
                let mut shard = lock(self.shard(name));
                match shard.get(name).filter(|channel| !channel.is_closed()) {
                    Some(channel) => Arc::clone(channel),
                    None => {
                        let channel = Arc::new(Channel::new(name));
                        shard.insert(Arc::clone(channel.name()), Arc::clone(&channel));
                        channel
                    }
                }
            };
            // It may have lost its last subscriber, and its place in the table, since.
            if channel.add(client) {
                return channel;
            }
        }
    }

    /// Strikes a subscriber off, and the channel with the last one.
    fn unsubscribe(&self, channel: &Arc<Channel>, client: &Client) {
        if !channel.remove(client) {
            return;
        }
        let mut shard = lock(self.shard(channel.name()));
        if shard.get(channel.name()).is_some_and(|known| Arc::ptr_eq(known, channel)) {
            shard.remove(channel.name());
        }
    }

    /// The names that match.
    fn names(&self, pattern: Option<&[u8]>) -> Vec<Arc<[u8]>> {
        let is_asked = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        let mut names = Vec::new();
        for shard in &self.shards {
            let open = lock(shard).values().filter(|it| it.len() > 0).cloned().collect::<Vec<_>>();
            names.extend(
                open.iter().filter(|it| is_asked(it.name())).map(|it| Arc::clone(it.name())),
            );
        }
        names
    }

    fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn subscribers(&self, name: &[u8]) -> usize {
        self.get(name).map_or(0, |channel| channel.len())
    }
}

/// The patterns that have subscribers, by their text.
type Patterns = BTreeMap<Arc<[u8]>, Arc<Channel>>;

/// The subscriptions of a server.
#[derive(Default)]
pub(crate) struct PubSub {
    channels: Channels,
    shard_channels: Channels,
    patterns: RwLock<Arc<Patterns>>,
    /// What all subscriptions are reckoned to take.
    bytes: AtomicUsize,
    limit_bytes: usize,
}

impl PubSub {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, ..Self::default() }
    }

    /// Sends a message to the subscribers of a channel and of the patterns it matches; how many.
    pub(crate) fn publish(&self, name: &[u8], message: &[u8]) -> usize {
        let mut receivers = self
            .channels
            .get(name)
            .map_or(0, |channel| channel.send(&Push::of(&[b"message", name, message])));
        let patterns = self.patterns();
        for (pattern, subscribers) in patterns.iter() {
            if glob::matches(pattern, name) {
                receivers += subscribers.send(&Push::of(&[b"pmessage", pattern, name, message]));
            }
        }
        receivers
    }

    /// Sends a message to the subscribers of a shard channel; how many.
    pub(crate) fn publish_to_shard(&self, name: &[u8], message: &[u8]) -> usize {
        self.shard_channels
            .get(name)
            .map_or(0, |channel| channel.send(&Push::of(&[b"smessage", name, message])))
    }

    /// The channels, or shard channels, that match and have subscribers.
    pub(crate) fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Arc<[u8]>> {
        self.table(kind).map(|table| table.names(pattern)).unwrap_or_default()
    }

    /// How many there are of a kind.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.table(kind).map_or_else(|| self.patterns().len(), Channels::count)
    }

    /// How many clients are subscribed to a channel or shard channel.
    pub(crate) fn subscribers(&self, kind: Kind, name: &[u8]) -> usize {
        self.table(kind).map_or(0, |table| table.subscribers(name))
    }

    fn table(&self, kind: Kind) -> Option<&Channels> {
        match kind {
            Kind::Channel => Some(&self.channels),
            Kind::ShardChannel => Some(&self.shard_channels),
            Kind::Pattern => None,
        }
    }

    fn patterns(&self) -> Arc<Patterns> {
        Arc::clone(&self.patterns.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a subscription; `None` beyond the limit.
    fn subscribe(&self, kind: Kind, name: &[u8], client: &Arc<Client>) -> Option<Arc<Channel>> {
        let bytes = reckoned_bytes(name);
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limit_bytes {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(match self.table(kind) {
            Some(table) => table.subscribe(name, client),
            None => self.subscribe_pattern(name, client),
        })
    }

    fn subscribe_pattern(&self, pattern: &[u8], client: &Arc<Client>) -> Arc<Channel> {
        let mut guard = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
        // Copied only while a message is matched against it.
        let patterns = Arc::make_mut(&mut guard);
        if let Some(known) = patterns.get(pattern)
            && known.add(client)
        {
            return Arc::clone(known);
        }
        let subscribers = Arc::new(Channel::new(pattern));
        subscribers.add(client);
        patterns.insert(Arc::clone(subscribers.name()), Arc::clone(&subscribers));
        subscribers
    }

    /// Takes a subscription back.
    fn unsubscribe(&self, kind: Kind, channel: &Arc<Channel>, client: &Client) {
        self.bytes.fetch_sub(reckoned_bytes(channel.name()), Ordering::Relaxed);
        if let Some(table) = self.table(kind) {
            return table.unsubscribe(channel, client);
        }
        if !channel.remove(client) {
            return;
        }
        let mut guard = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
        if guard.get(channel.name()).is_some_and(|known| Arc::ptr_eq(known, channel)) {
            Arc::make_mut(&mut guard).remove(channel.name());
        }
    }
}

#[cfg(test)]
mod tests;
