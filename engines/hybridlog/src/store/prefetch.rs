//! Fetching what operations need into the processor's caches, ahead of them.

use ferrokit_engine::KeyspaceId;

use super::{Name, Store};
use crate::index::table::Access;
use crate::interrupt::Attempt;

/// Keys of a step: about as many misses as a processor has under way.
const KEYS_PER_STEP: usize = 16;

impl Store {
    /// Asks for the buckets of keys, then for the records they lead to, so that the misses of each
    /// kind overlap.
    pub(crate) fn prefetch(&self, keyspace: KeyspaceId, keys: &[&[u8]]) {
        for keys in keys.chunks(KEYS_PER_STEP) {
            // Whatever is in the way: they are prefetched, or not.
            let _ = self.prefetch_step(keyspace, keys);
        }
    }

    fn prefetch_step(&self, keyspace: KeyspaceId, keys: &[&[u8]]) -> Attempt<()> {
        let guard = self.epochs.enter();
        let space = self.keyspaces.load(&guard)?.of(keyspace)?.id();
        let table = &self.index.tables(&guard).current;
        let mut names: [Option<Name<'_>>; KEYS_PER_STEP] = [None; KEYS_PER_STEP];
        for (name, key) in names.iter_mut().zip(keys) {
            let known = self.name(space, key);
            table.prefetch(known.hash);
            *name = Some(known);
        }
        let head = self.log.head();
        for name in names.iter().flatten() {
            if let Ok(Some((_, entry))) = table.find(name.hash, Access::Mover)
                && entry.address() >= head
            {
                self.log.prefetch(entry.address());
            }
        }
        Ok(())
    }
}
