//! [`Conflicts`]: what was written since the open transactions began.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrokit_engine::{Change, KeyRange, KeyspaceId, Sequence};

use crate::read::bounds;
use crate::table::Key;

/// The last write of each key and keyspace written while transactions are open, so that each can
/// be validated at its commit: first committer wins (Kung and Robinson, "On Optimistic Methods for
/// Concurrency Control", 1981, backward validation).
///
/// Expiry is no write: a transaction evaluates it at its own opening time.
#[derive(Debug)]
pub(crate) struct Conflicts {
    /// The sequences at which open transactions began, with their number.
    open: BTreeMap<Sequence, usize>,
    keys: BTreeMap<KeyspaceId, BTreeMap<Key, Sequence>>,
    keyspaces: BTreeMap<KeyspaceId, Sequence>,
    tracked: usize,
    max_tracked: usize,
    /// Transactions that began before this are too old to be validated.
    floor: Sequence,
}

impl Conflicts {
    pub(crate) fn new(max_tracked: usize) -> Self {
        Self {
            open: BTreeMap::new(),
            keys: BTreeMap::new(),
            keyspaces: BTreeMap::new(),
            tracked: 0,
            max_tracked,
            floor: Sequence(0),
        }
    }

    pub(crate) fn begin(&mut self, at: Sequence) {
        *self.open.entry(at).or_insert(0) += 1;
    }

    pub(crate) fn end(&mut self, at: Sequence) {
        if let Some(number) = self.open.get_mut(&at) {
            *number -= 1;
            if *number == 0 {
                self.open.remove(&at);
            }
        }
        if self.open.is_empty() {
            self.forget();
        }
    }

    pub(crate) fn open_transactions(&self) -> usize {
        self.open.values().sum()
    }

    /// Notes a write that takes effect with `sequence`.
    pub(crate) fn note(&mut self, change: &Change<'_>, sequence: Sequence) {
        if self.open.is_empty() {
            return;
        }
        match *change {
            Change::Put { keyspace, key, .. } | Change::Delete { keyspace, key } => {
                if self.tracked >= self.max_tracked {
                    self.forget();
                    self.floor = sequence;
                }
                let old = self.keys.entry(keyspace).or_default().insert(Arc::from(key), sequence);
                self.tracked += usize::from(old.is_none());
            }
            Change::Clear { keyspace } => {
                self.keyspaces.insert(keyspace, sequence);
            }
            Change::Swap { a, b } => {
                self.keyspaces.insert(a, sequence);
                self.keyspaces.insert(b, sequence);
            }
            Change::Expired { .. } => {}
        }
    }

    /// Whether a transaction that began at `began` is too old to be judged.
    pub(crate) fn is_too_old(&self, began: Sequence) -> bool {
        began < self.floor
    }

    /// Whether `key` was written after `began`.
    pub(crate) fn key_changed(&self, keyspace: KeyspaceId, key: &[u8], began: Sequence) -> bool {
        let key_sequence = self.keys.get(&keyspace).and_then(|keys| keys.get(key));
        self.keyspace_changed(keyspace, began) || key_sequence.is_some_and(|last| *last > began)
    }

    /// Whether any key in `range` was written after `began`.
    pub(crate) fn range_changed(
        &self,
        keyspace: KeyspaceId,
        range: &KeyRange,
        began: Sequence,
    ) -> bool {
        let mut keys = self
            .keys
            .get(&keyspace)
            .into_iter()
            .flat_map(|keys| keys.range::<[u8], _>(bounds(range)));
        self.keyspace_changed(keyspace, began) || keys.any(|(_, last)| *last > began)
    }

    fn keyspace_changed(&self, keyspace: KeyspaceId, began: Sequence) -> bool {
        self.keyspaces.get(&keyspace).is_some_and(|last| *last > began)
    }

    fn forget(&mut self) {
        self.keys.clear();
        self.keyspaces.clear();
        self.tracked = 0;
    }
}
