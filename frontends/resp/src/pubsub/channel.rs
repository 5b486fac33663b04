//! [`Channel`]: the subscribers of a channel or of a pattern.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::client::{Client, Ending, lock};
use crate::push::Push;

/// The subscribers of a channel, by their ids. Without any it is closed, for good: whoever found it
/// in the table before must look again.
pub(super) struct Channel {
    name: Arc<[u8]>,
    subscribers: Mutex<Vec<Arc<Client>>>,
    is_closed: AtomicBool,
}

impl Channel {
    pub(super) fn new(name: &[u8]) -> Self {
        Self { name: name.into(), subscribers: Mutex::default(), is_closed: AtomicBool::new(false) }
    }

    pub(super) fn name(&self) -> &Arc<[u8]> {
        &self.name
    }

    /// Whether its last subscriber has left.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// How many are subscribed, without those that were cut off and have not left yet.
    pub(super) fn len(&self) -> usize {
        lock(&self.subscribers).iter().filter(|client| is_heard(client)).count()
    }

    /// Adds a client; false if the channel is closed.
    pub(super) fn add(&self, client: &Arc<Client>) -> bool {
        let mut subscribers = lock(&self.subscribers);
        if self.is_closed() {
            return false;
        }
        if let Err(place) = subscribers.binary_search_by_key(&client.id, |it| it.id) {
            subscribers.insert(place, Arc::clone(client));
        }
        true
    }

    /// Strikes a client off; whether that closed the channel. No message is under way to it then.
    pub(super) fn remove(&self, client: &Client) -> bool {
        let mut subscribers = lock(&self.subscribers);
        if let Ok(place) = subscribers.binary_search_by_key(&client.id, |it| it.id) {
            subscribers.remove(place);
        }
        let is_last = subscribers.is_empty();
        self.is_closed.store(is_last, Ordering::Release);
        is_last
    }

    /// Sends a message to all; to how many.
    pub(super) fn send(&self, push: &Push) -> usize {
        let subscribers = lock(&self.subscribers);
        let receivers = subscribers.iter().filter(|client| is_heard(client));
        receivers.inspect(|client| client.push(push)).count()
    }
}

fn is_heard(client: &Client) -> bool {
    client.ending() != Ending::Cut
}
