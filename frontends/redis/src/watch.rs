//! [`WatchList`]: the keys a client watches until its EXEC.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::Arc;

use ferrokit_engine::{Entry, KeyspaceId, UnixMillis};

use crate::db::Tally;
use crate::events::ClientId;
use crate::refusal::Result;
use crate::store::Store;
use crate::stripes::WatchFlag;
use crate::transaction::{KeySet, Transaction};

/// The keys a client watches. It must be emptied by [`Store::unwatch`] before it is dropped, or
/// the store goes on telling nobody.
#[derive(Default)]
pub struct WatchList {
    flag: Arc<WatchFlag>,
    /// When each was to expire, if it was there.
    keys: HashMap<(KeyspaceId, Box<[u8]>), Option<UnixMillis>>,
    bytes: usize,
}

/// What a watched key takes beside its name, about.
const WATCH_BYTES: usize = 128;

impl WatchList {
    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys are watched.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The memory that the watches take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = (KeyspaceId, &[u8])> {
        self.keys.keys().map(|(keyspace, key)| (*keyspace, &**key))
    }

    /// Whether one of the keys was changed since it is watched, or has expired.
    pub fn is_touched(&self, now: UnixMillis) -> bool {
        self.flag.is_touched() || self.keys.values().any(|at| Entry::is_expired_at(*at, now))
    }
}

impl Store {
    /// Watches a key: a change from now on shows in [`WatchList::is_touched`].
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn watch(
        &self,
        list: &mut WatchList,
        keyspace: KeyspaceId,
        key: &[u8],
        tally: &mut Tally,
    ) -> Result<()> {
        let Place::Vacant(place) = list.keys.entry((keyspace, key.into())) else { return Ok(()) };
        let locked = Transaction::begin(self, KeySet::of([(keyspace, key)])).await;
        let mut expire_at = None;
        let mut visit = |entry: Entry<'_>| expire_at = entry.expire_at;
        let mut db = self.db(keyspace, ClientId::default(), tally);
        db.peek(key, &mut visit).await?;
        self.stripes.watch(keyspace, key, &list.flag);
        place.insert(expire_at);
        list.bytes += key.len() * 2 + WATCH_BYTES;
        drop(locked);
        Ok(())
    }

    /// Ends all watches of a list.
    pub fn unwatch(&self, list: &mut WatchList) {
        for ((keyspace, key), _) in list.keys.drain() {
            self.stripes.unwatch(keyspace, &key, &list.flag);
        }
        *list = WatchList::default();
    }
}
