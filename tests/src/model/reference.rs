//! [`Reference`]: what an engine is, in thirty lines.

use std::collections::BTreeMap;

use ferrokit_engine::{Entry, UnixMillis};

use super::ops::KEYSPACES;

/// A value and its expiry.
pub(crate) type Stored = (Vec<u8>, Option<UnixMillis>);

/// The contents of the keyspaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reference {
    keyspaces: [BTreeMap<Vec<u8>, Stored>; KEYSPACES],
}

impl Reference {
    pub(crate) fn get(&self, keyspace: usize, key: &[u8], now: UnixMillis) -> Option<&Stored> {
        self.keyspaces[keyspace].get(key).filter(|(_, at)| !Entry::is_expired_at(*at, now))
    }

    pub(crate) fn put(&mut self, keyspace: usize, key: Vec<u8>, stored: Stored) {
        self.keyspaces[keyspace].insert(key, stored);
    }

    pub(crate) fn delete(&mut self, keyspace: usize, key: &[u8]) {
        self.keyspaces[keyspace].remove(key);
    }

    pub(crate) fn clear(&mut self, keyspace: usize) {
        self.keyspaces[keyspace].clear();
    }

    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        self.keyspaces.swap(a, b);
    }

    /// What is present at `now`.
    pub(crate) fn contents(&self, keyspace: usize, now: UnixMillis) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.keyspaces[keyspace]
            .iter()
            .filter(|(_, (_, at))| !Entry::is_expired_at(*at, now))
            .map(|(key, (value, _))| (key.clone(), value.clone()))
            .collect()
    }

    /// What is present at `now`, with its expiry.
    pub(crate) fn present(&self, keyspace: usize, now: UnixMillis) -> BTreeMap<Vec<u8>, Stored> {
        let mut entries = self.keyspaces[keyspace].clone();
        entries.retain(|_, (_, at)| !Entry::is_expired_at(*at, now));
        entries
    }

    /// How many entries are stored, the expired included.
    pub(crate) fn stored(&self, keyspace: usize) -> usize {
        self.keyspaces[keyspace].len()
    }

    /// Forgets what has expired at `now` for good.
    pub(crate) fn expire(&mut self, now: UnixMillis) {
        for entries in &mut self.keyspaces {
            entries.retain(|_, (_, at)| !Entry::is_expired_at(*at, now));
        }
    }
}
