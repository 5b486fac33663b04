//! [`WriteBatch`]: writes that take effect together.

use std::ops::Range;

use crate::entry::{KeyspaceId, UnixMillis};

/// One write of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchOp<'a> {
    /// Store a value.
    Put {
        /// Where.
        keyspace: KeyspaceId,
        /// Under this key.
        key: &'a [u8],
        /// These bytes.
        value: &'a [u8],
        /// Until then.
        expire_at: Option<UnixMillis>,
    },
    /// Remove a key.
    Delete {
        /// Where.
        keyspace: KeyspaceId,
        /// This key.
        key: &'a [u8],
    },
}

impl<'a> BatchOp<'a> {
    /// The keyspace written to.
    #[inline]
    pub const fn keyspace(&self) -> KeyspaceId {
        match self {
            Self::Put { keyspace, .. } | Self::Delete { keyspace, .. } => *keyspace,
        }
    }

    /// The key written.
    #[inline]
    pub const fn key(&self) -> &'a [u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

#[derive(Debug, Clone)]
struct Slot {
    keyspace: KeyspaceId,
    key: Range<usize>,
    /// `None` deletes.
    value: Option<Range<usize>>,
    expire_at: Option<UnixMillis>,
}

/// Writes to any keys of any keyspaces that become visible at once and, after a crash, are all
/// there or none. Of two writes to one key the later wins.
///
/// Keys and values lie in one buffer; [`clear`](Self::clear) keeps it for the next batch.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    data: Vec<u8>,
    slots: Vec<Slot>,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put.
    pub fn put(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
        expire_at: Option<UnixMillis>,
    ) -> &mut Self {
        let key = self.push(key);
        let value = Some(self.push(value));
        self.slots.push(Slot { keyspace, key, value, expire_at });
        self
    }

    /// Adds a delete.
    pub fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) -> &mut Self {
        let key = self.push(key);
        self.slots.push(Slot { keyspace, key, value: None, expire_at: None });
        self
    }

    /// The number of writes.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Forgets the writes, keeps the buffers.
    pub fn clear(&mut self) {
        self.data.clear();
        self.slots.clear();
    }

    /// The writes, in the order they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = BatchOp<'_>> + Clone {
        self.slots.iter().map(|slot| {
            let key = &self.data[slot.key.clone()];
            let keyspace = slot.keyspace;
            match &slot.value {
                Some(value) => BatchOp::Put {
                    keyspace,
                    key,
                    value: &self.data[value.clone()],
                    expire_at: slot.expire_at,
                },
                None => BatchOp::Delete { keyspace, key },
            }
        })
    }

    fn push(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        start..self.data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_added_in_order() {
        let mut batch = WriteBatch::new();
        batch.put(KeyspaceId(1), b"k", b"v", Some(UnixMillis(9))).delete(KeyspaceId(2), b"gone");
        let ops: Vec<_> = batch.iter().collect();
        assert_eq!(
            ops,
            [
                BatchOp::Put {
                    keyspace: KeyspaceId(1),
                    key: b"k",
                    value: b"v",
                    expire_at: Some(UnixMillis(9))
                },
                BatchOp::Delete { keyspace: KeyspaceId(2), key: b"gone" },
            ]
        );
        assert_eq!(batch.bytes(), 6);
        batch.clear();
        assert!(batch.is_empty());
    }
}
