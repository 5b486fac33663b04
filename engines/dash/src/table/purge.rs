//! Collecting the dead: records whose expiry has passed, and those of cleared keyspaces.

use crossbeam_epoch::Guard;
use ferrokit_engine::Result;

use super::layout::NORMAL_BUCKETS;
use super::segment::{Identity, next_of};
use super::{Liveness, Table};
use crate::hash::KeyHash;

impl Table {
    /// Drops the dead of one home bucket; answers how many. Does nothing where a writer is busy.
    pub(crate) fn purge_home(
        &self,
        hash: KeyHash,
        liveness: &dyn Liveness,
        pinned: &Guard,
    ) -> Result<usize> {
        let segment = self.directory.segment(hash, pinned);
        let home = segment.bucket(hash.home());
        let latch = home.lock().lock();
        let next = segment.bucket(next_of(hash.home())).lock().try_lock();
        let (Some(next), true) = (next, Identity::from_word(home.identity()).holds(hash)) else {
            latch.release_unchanged();
            return Ok(0);
        };
        let mut entries = Vec::new();
        segment.entries_of(hash.home(), pinned, &mut entries);
        entries.retain(|(_, view)| liveness.is_dead(&view.header));
        if entries.is_empty() {
            latch.release_unchanged();
            next.release_unchanged();
            return Ok(0);
        }
        for (location, view) in &entries {
            segment.remove(view.header.hash, *location);
        }
        self.region.fence()?;
        for (_, view) in &entries {
            liveness.dropped(&view.header);
            self.retire(pinned, view);
        }
        Ok(entries.len())
    }

    /// Drops the dead of the segment that holds `hash`; answers how many, and the first hash of
    /// the segment after.
    pub(crate) fn purge_segment(
        &self,
        hash: KeyHash,
        liveness: &dyn Liveness,
        pinned: &Guard,
    ) -> Result<(usize, Option<KeyHash>)> {
        let segment = self.directory.segment(hash, pinned);
        let identity = Identity::from_word(segment.bucket(0).identity());
        let first = identity.first_hash();
        let mut dropped = 0;
        for home in 0..NORMAL_BUCKETS {
            dropped += self.purge_home(KeyHash(first.0 | home as u64), liveness, pinned)?;
        }
        Ok((dropped, identity.next_hash()))
    }
}
