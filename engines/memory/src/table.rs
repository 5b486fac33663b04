//! [`Table`]: the records of one keyspace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrokit_engine::{Entry, Sequence, UnixMillis};

/// Keys and values are shared, so that copying a map for a snapshot copies no bytes.
pub(crate) type Key = Arc<[u8]>;

/// The records of a keyspace in key order.
pub(crate) type Records = BTreeMap<Key, Record>;

/// A stored value.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) value: Arc<[u8]>,
    pub(crate) expire_at: Option<UnixMillis>,
    pub(crate) sequence: Sequence,
}

impl Record {
    pub(crate) fn is_expired_at(&self, now: UnixMillis) -> bool {
        Entry::is_expired_at(self.expire_at, now)
    }

    pub(crate) fn entry(&self) -> Entry<'_> {
        Entry { value: &self.value, expire_at: self.expire_at, sequence: Some(self.sequence) }
    }
}

/// Records, and the order in which they expire.
///
/// Invariant: `expiries` holds exactly one pair for each record that has an expiry.
#[derive(Debug, Default)]
pub(crate) struct Table {
    records: Arc<Records>,
    expiries: BTreeSet<(UnixMillis, Key)>,
}

impl Table {
    pub(crate) fn records(&self) -> &Arc<Records> {
        &self.records
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Record> {
        self.records.get(key)
    }

    pub(crate) fn insert(&mut self, key: Key, record: Record) {
        if let Some(at) = record.expire_at {
            self.expiries.insert((at, Arc::clone(&key)));
        }
        let new_expiry = record.expire_at;
        let old = Arc::make_mut(&mut self.records).insert(Arc::clone(&key), record);
        if let Some(at) = old.and_then(|old| old.expire_at)
            && new_expiry != Some(at)
        {
            self.expiries.remove(&(at, key));
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Record> {
        let (key, record) = Arc::make_mut(&mut self.records).remove_entry(key)?;
        if let Some(at) = record.expire_at {
            self.expiries.remove(&(at, key));
        }
        Some(record)
    }

    /// The key that expired first, if any has at `now`.
    pub(crate) fn first_expired(&self, now: UnixMillis) -> Option<Key> {
        let (at, key) = self.expiries.first()?;
        (*at <= now).then(|| Arc::clone(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(expire_at: Option<u64>) -> Record {
        let expire_at = expire_at.map(UnixMillis);
        Record { value: Arc::from(&b"v"[..]), expire_at, sequence: Sequence(1) }
    }

    #[test]
    fn the_expiry_order_follows_every_write() {
        let mut table = Table::default();
        let key: Key = Arc::from(&b"k"[..]);
        table.insert(Arc::clone(&key), record(Some(10)));
        table.insert(Arc::clone(&key), record(Some(10)));
        assert_eq!(table.first_expired(UnixMillis(9)), None);
        assert_eq!(table.first_expired(UnixMillis(10)), Some(Arc::clone(&key)));
        table.insert(Arc::clone(&key), record(Some(20)));
        assert_eq!(table.first_expired(UnixMillis(10)), None);
        table.insert(Arc::clone(&key), record(None));
        assert_eq!(table.first_expired(UnixMillis(u64::MAX)), None);
        table.insert(Arc::clone(&key), record(Some(5)));
        table.remove(b"k");
        assert_eq!(table.first_expired(UnixMillis(u64::MAX)), None);
        assert!(table.expiries.is_empty() && table.records.is_empty());
    }
}
