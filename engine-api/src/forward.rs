//! `Arc<E>` is an engine where `E` is one.

#![deny(clippy::missing_trait_methods)]

use std::sync::Arc;

use crate::*;

impl<E: KvRead + ?Sized> KvRead for Arc<E> {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        (**self).get_with(keyspace, key, options, visit)
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        (**self).get_many_with(keyspace, keys, options, visit)
    }

    fn prefetch(&self, keyspace: KeyspaceId, keys: &[&[u8]]) -> bool {
        (**self).prefetch(keyspace, keys)
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        (**self).sweep(keyspace, cursor, budget, options, visit)
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        (**self).as_ordered()
    }
}

impl<E: KvEngine + ?Sized> KvEngine for Arc<E> {
    fn put<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        value: &'a [u8],
        expire_at: Option<UnixMillis>,
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        (**self).put(keyspace, key, value, expire_at, options)
    }

    fn delete<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        (**self).delete(keyspace, key, options)
    }

    fn update<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written> {
        (**self).update(keyspace, key, options, change)
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch, options: &WriteOptions) -> Op<'a, Written> {
        (**self).write(batch, options)
    }

    fn committed(&self, ticket: CommitTicket) -> Op<'_, ()> {
        (**self).committed(ticket)
    }

    fn sync(&self, level: Durability) -> Op<'_, ()> {
        (**self).sync(level)
    }

    fn clear_keyspace(&self, keyspace: KeyspaceId, options: &WriteOptions) -> Op<'_, Written> {
        (**self).clear_keyspace(keyspace, options)
    }

    fn swap_keyspaces(
        &self,
        a: KeyspaceId,
        b: KeyspaceId,
        options: &WriteOptions,
    ) -> Op<'_, Written> {
        (**self).swap_keyspaces(a, b, options)
    }

    fn keyspace_len(&self, keyspace: KeyspaceId) -> Op<'_, KeyspaceLen> {
        (**self).keyspace_len(keyspace)
    }

    fn capabilities(&self) -> &Capabilities {
        (**self).capabilities()
    }

    fn stats(&self) -> Stats {
        (**self).stats()
    }

    fn close(&self) -> Op<'_, ()> {
        (**self).close()
    }

    fn as_snapshots(&self) -> Option<&dyn Snapshots> {
        (**self).as_snapshots()
    }

    fn as_checkpoint(&self) -> Option<&dyn Checkpoint> {
        (**self).as_checkpoint()
    }

    fn as_changes(&self) -> Option<&dyn Changes> {
        (**self).as_changes()
    }

    fn as_transactions(&self) -> Option<&dyn Transactions> {
        (**self).as_transactions()
    }
}
