//! Numbers of the tiers: for statistics alone.

use ferrokit_engine::Stats;

use crate::primitive::{AtomicU64, Ordering};

/// A number of events.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened below memory since the engine was opened.
#[derive(Default)]
pub(crate) struct TierCounts {
    pub(crate) mapped: Count,
    pub(crate) disk: Count,
    pub(crate) object: Count,
    pub(crate) segments_moved: Count,
    pub(crate) objects_deleted: Count,
    /// Requests of the object tier, and mappings, that failed and are tried again.
    pub(crate) failures: Count,
}

/// How much is in each tier below memory.
pub(crate) struct TierSizes {
    pub(crate) segments_mapped: u64,
    /// Those that are mapped among them.
    pub(crate) segments_on_disk: u64,
    pub(crate) segments_in_objects: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) object_bytes: u64,
    pub(crate) decoded_bytes: u64,
}

impl TierCounts {
    pub(crate) fn stats_into(&self, sizes: &TierSizes, stats: &mut Stats) {
        stats
            .push("reads_mapped", self.mapped.get())
            .push("reads_disk", self.disk.get())
            .push("reads_object", self.object.get())
            .push("segments_mapped", sizes.segments_mapped)
            .push("segments_disk", sizes.segments_on_disk)
            .push("segments_object", sizes.segments_in_objects)
            .push("segments_mapped_bytes", sizes.segments_mapped * sizes.segment_bytes)
            .push("segments_disk_bytes", sizes.segments_on_disk * sizes.segment_bytes)
            .push("segments_object_bytes", sizes.object_bytes)
            .push("object_cache_bytes", sizes.decoded_bytes)
            .push("segments_moved", self.segments_moved.get())
            .push("objects_deleted", self.objects_deleted.get())
            .push("tier_failures", self.failures.get());
    }
}
