//! [`KeyEvents`]: what happens to keys, told to subscribers and to clients that cache.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use ferrokit_engine::KeyspaceId;
use ferrokit_redis::{ClientId, Event, EventClass, Interest, Observer, Store};

use crate::client::lock;
use crate::pubsub::PubSub;
use crate::settings::Settings;
use crate::settings::list::ListValue;
use crate::tracking::Tracking;

/// `K`: to channels named after keys.
const BY_KEY: u8 = 1;
/// `E`: to channels named after events.
const BY_EVENT: u8 = 2;

/// Is told by the store what happens to keys, and tells on.
pub(crate) struct KeyEvents {
    pubsub: Arc<PubSub>,
    tracking: Arc<Tracking>,
    /// To which channels events go.
    channels: AtomicU8,
    changing: Mutex<()>,
}

impl KeyEvents {
    pub(crate) fn new(pubsub: Arc<PubSub>, tracking: Arc<Tracking>) -> Self {
        Self { pubsub, tracking, channels: AtomicU8::new(0), changing: Mutex::default() }
    }

    /// Has the store tell what somebody wants to know: to be called when that changes.
    pub(crate) fn refresh_interest(&self, settings: &Settings, store: &Store) {
        let _one_at_a_time = lock(&self.changing);
        let (mut channels, mut interest) = (0, Interest::NONE);
        for letter in settings.notify_keyspace_events.get().show().bytes() {
            match letter {
                b'K' => channels |= BY_KEY,
                b'E' => channels |= BY_EVENT,
                _ => interest = interest.and(interest_of(letter)),
            }
        }
        if channels == 0 {
            interest = Interest::NONE;
        }
        if self.tracking.clients() > 0 {
            interest = interest.and(Interest::MODIFICATIONS);
        }
        self.channels.store(channels, Ordering::Relaxed);
        store.set_interest(interest);
    }
}

/// The classes a letter of `notify-keyspace-events` stands for. `A` is all but misses and new keys.
fn interest_of(letter: u8) -> Interest {
    let is_meant = |known: u8| known == letter || letter == b'A' && !matches!(known, b'm' | b'n');
    let classes = EventClass::LETTERS.iter().filter(|(known, _)| is_meant(*known));
    classes.fold(Interest::NONE, |all, (_, class)| all.and(Interest::in_events(*class)))
}

impl Observer for KeyEvents {
    fn event(&self, event: Event, database: KeyspaceId, key: &[u8]) {
        let channels = self.channels.load(Ordering::Relaxed);
        let (database, name) = (database.0, event.name.as_bytes());
        if channels & BY_KEY != 0 {
            let prefix = format!("__keyspace@{database}__:");
            self.pubsub.publish(&[prefix.as_bytes(), key].concat(), name);
        }
        if channels & BY_EVENT != 0 {
            let prefix = format!("__keyevent@{database}__:");
            self.pubsub.publish(&[prefix.as_bytes(), name].concat(), key);
        }
    }

    fn modified(&self, _: KeyspaceId, key: &[u8], client: ClientId) {
        self.tracking.modified(key, client.0);
    }

    fn flushed(&self, _: Option<KeyspaceId>, _: ClientId) {
        self.tracking.flushed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_stands_for_a_class_and_one_for_most_of_them() {
        let (string, miss) = (EventClass::STRING, EventClass::KEY_MISS);
        assert!(interest_of(b'$') == Interest::in_events(string));
        let most = interest_of(b'A');
        assert!(most.includes(Interest::in_events(EventClass::EXPIRED)));
        assert!(most.includes(interest_of(b'$')) && !most.includes(Interest::in_events(miss)));
        assert!(!most.includes(interest_of(b'n')) && !interest_of(b'n').is_none());
        assert!(interest_of(b'?').is_none());
    }
}
