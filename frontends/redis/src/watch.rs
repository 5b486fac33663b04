//! [`WatchList`]: the keys a client watches until its EXEC.

use std::sync::Arc;

use ferrokit_engine::{Entry, KeyspaceId, UnixMillis};

use crate::db::Tally;
use crate::events::ClientId;
use crate::refusal::Result;
use crate::store::Store;
use crate::stripes::WatchFlag;
use crate::transaction::{KeySet, Transaction};

struct Watched {
    keyspace: KeyspaceId,
    key: Box<[u8]>,
    /// When the key was to expire, if it was there.
    expire_at: Option<UnixMillis>,
}

/// The keys a client watches. It must be emptied by [`Store::unwatch`] before it is dropped, or
/// the store goes on telling nobody.
#[derive(Default)]
pub struct WatchList {
    flag: Arc<WatchFlag>,
    keys: Vec<Watched>,
}

impl WatchList {
    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys are watched.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = (KeyspaceId, &[u8])> {
        self.keys.iter().map(|watched| (watched.keyspace, &*watched.key))
    }

    /// Whether one of the keys was changed since it is watched, or has expired.
    pub fn is_touched(&self, now: UnixMillis) -> bool {
        self.flag.is_touched() || self.keys.iter().any(|it| Entry::is_expired_at(it.expire_at, now))
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
        if list.keys.iter().any(|it| it.keyspace == keyspace && *it.key == *key) {
            return Ok(());
        }
        let locked = Transaction::begin(self, KeySet::of([(keyspace, key)])).await;
        let mut expire_at = None;
        let mut visit = |entry: Entry<'_>| expire_at = entry.expire_at;
        let mut db = self.db(keyspace, ClientId::default(), tally);
        db.peek(key, &mut visit).await?;
        self.stripes.watch(keyspace, key, &list.flag);
        list.keys.push(Watched { keyspace, key: key.into(), expire_at });
        drop(locked);
        Ok(())
    }

    /// Ends all watches of a list.
    pub fn unwatch(&self, list: &mut WatchList) {
        for watched in list.keys.drain(..) {
            self.stripes.unwatch(watched.keyspace, &watched.key, &list.flag);
        }
        list.flag = Arc::default();
    }
}
