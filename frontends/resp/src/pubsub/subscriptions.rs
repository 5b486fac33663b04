//! [`Subscriptions`]: what one client is subscribed to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::channel::Channel;
use super::{PubSub, reckoned_bytes};
use crate::client::{Client, flag};

/// A kind of subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    ShardChannel,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::ShardChannel];
}

/// A client's subscriptions; given up when dropped.
pub(crate) struct Subscriptions {
    table: Arc<PubSub>,
    client: Arc<Client>,
    by_kind: [HashMap<Arc<[u8]>, Arc<Channel>>; 3],
    bytes: usize,
}

impl Subscriptions {
    pub(crate) fn new(table: Arc<PubSub>, client: Arc<Client>) -> Self {
        Self { table, client, by_kind: Default::default(), bytes: 0 }
    }

    /// Subscribes; false if that is beyond the limit of the server.
    pub(crate) fn subscribe(&mut self, kind: Kind, name: &[u8]) -> bool {
        let set = &mut self.by_kind[kind as usize];
        if set.contains_key(name) {
            return true;
        }
        let Some(channel) = self.table.subscribe(kind, name, &self.client) else {
            return false;
        };
        set.insert(Arc::clone(channel.name()), channel);
        self.bytes += reckoned_bytes(name);
        self.tell_counts();
        true
    }

    /// Unsubscribes, if it was subscribed. No message of the channel is sent to the client after.
    pub(crate) fn unsubscribe(&mut self, kind: Kind, name: &[u8]) {
        if let Some(channel) = self.by_kind[kind as usize].remove(name) {
            self.table.unsubscribe(kind, &channel, &self.client);
            self.bytes -= reckoned_bytes(name);
            self.tell_counts();
        }
    }

    /// What they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The names of a kind.
    pub(crate) fn names(&self, kind: Kind) -> Vec<Vec<u8>> {
        self.by_kind[kind as usize].keys().map(|name| name.to_vec()).collect()
    }

    /// What a reply gives as the number of subscriptions left: channels and patterns together.
    pub(crate) fn count_with(&self, kind: Kind) -> usize {
        match kind {
            Kind::ShardChannel => self.len(Kind::ShardChannel),
            Kind::Channel | Kind::Pattern => self.len(Kind::Channel) + self.len(Kind::Pattern),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_kind.iter().all(HashMap::is_empty)
    }

    fn len(&self, kind: Kind) -> usize {
        self.by_kind[kind as usize].len()
    }

    /// Shows others how many there are.
    fn tell_counts(&self) {
        let counts = &self.client.subscriptions;
        let cells: [(&AtomicU32, Kind); 3] = [
            (&counts.channels, Kind::Channel),
            (&counts.patterns, Kind::Pattern),
            (&counts.shard_channels, Kind::ShardChannel),
        ];
        for (cell, kind) in cells {
            cell.store(u32::try_from(self.len(kind)).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
        self.client.set_flag(flag::PUBSUB, !self.is_empty());
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        for kind in Kind::ALL {
            for (_, channel) in self.by_kind[kind as usize].drain() {
                self.table.unsubscribe(kind, &channel, &self.client);
            }
        }
        self.tell_counts();
    }
}
