//! Several keys at once.
//!
//! A batch latches the two buckets of each of its keys, in lock order, and holds all latches until
//! its last write is applied and persistent: a reader of any of its keys waits, or validates
//! against a version from before or after. What it replaced can be put back until then, so a batch
//! that finds a segment full takes its writes back, splits the segment, and starts again.

use crossbeam_epoch::Guard;
use ferrokit_engine::{Error, Result};

use super::bucket::SlotWord;
use super::lock::{self, Latch};
use super::segment::{Identity, Location, Segment, next_of};
use super::{Found, Liveness, Prepared, Table};
use crate::record::{Probe, RecordView};

/// One write of a batch; keys are distinct. Without a record it is a delete.
pub(crate) struct BatchWrite<'t, 'k> {
    pub(crate) probe: Probe<'k>,
    pub(crate) record: Option<Prepared<'t>>,
}

/// What a batch did to one slot.
struct Applied<'a, 'g> {
    index: usize,
    segment: Segment<'a>,
    location: Location,
    before: Option<RecordView<'g>>,
}

/// Why a batch was not applied.
enum Refused {
    /// There was no place; what it had done is taken back.
    TakenBack(Error),
    /// The region failed: nobody knows which of its slots are persistent.
    Torn(Error),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TakenBack(error) | Refused::Torn(error) => error,
        }
    }
}

impl Table {
    /// Applies a batch; answers how many more entries each write made (-1, 0, 1), by its index.
    ///
    /// # Errors
    /// `OutOfSpace`, `Poisoned`, `Io`; after the first nothing changed.
    pub(crate) fn apply_batch(
        &self,
        writes: Vec<BatchWrite<'_, '_>>,
        liveness: &dyn Liveness,
        pinned: &Guard,
    ) -> Result<Vec<i64>> {
        let result = self.apply_writes(&writes, liveness, pinned);
        for record in writes.into_iter().filter_map(|write| write.record) {
            match &result {
                Err(Refused::TakenBack(_)) => record.retire(pinned),
                // The slots own the records now, or may: then their space is lost.
                Ok(_) | Err(Refused::Torn(_)) => std::mem::forget(record),
            }
        }
        result.map_err(Error::from)
    }

    fn apply_writes(
        &self,
        writes: &[BatchWrite<'_, '_>],
        liveness: &dyn Liveness,
        pinned: &Guard,
    ) -> Result<Vec<i64>, Refused> {
        let probes: Vec<Probe<'_>> = writes.iter().map(|write| write.probe).collect();
        loop {
            let latches = self.latch_all(&probes, true, pinned);
            match self.try_batch(writes, pinned).map_err(Refused::Torn)? {
                Ok(applied) => {
                    self.region.fence().map_err(Refused::Torn)?;
                    let mut entries = vec![0; writes.len()];
                    for done in &applied {
                        let is_put = writes[done.index].record.is_some();
                        entries[done.index] = i64::from(is_put) - i64::from(done.before.is_some());
                        if let Some(before) = &done.before {
                            self.retire(pinned, before);
                        }
                    }
                    drop(latches);
                    return Ok(entries);
                }
                Err((hash, seen)) => {
                    drop(latches);
                    self.split(hash, seen, liveness, pinned).map_err(Refused::TakenBack)?;
                }
            }
        }
    }

    /// Reads keys together: no batch is seen half. For when validating failed too often.
    pub(crate) fn read_latched<'g>(
        &'g self,
        probes: &[Probe<'_>],
        pinned: &'g Guard,
        found: &mut Vec<Found<'g>>,
    ) {
        let latches = self.latch_all(probes, false, pinned);
        found.clear();
        for probe in probes {
            let segment = self.directory.segment(probe.hash, pinned);
            let lock = segment.bucket(probe.hash.home()).lock();
            let version = lock.version_held();
            let view = segment.find(probe, pinned).map(|(_, view)| view);
            found.push(Found { view, lock, version });
        }
        latches.into_iter().for_each(Latch::release_unchanged);
    }

    /// Latches the home buckets of all keys, and where entries come and go the next ones, too.
    fn latch_all<'a>(
        &'a self,
        probes: &[Probe<'_>],
        with_next: bool,
        pinned: &Guard,
    ) -> Vec<Latch<'a>> {
        let mut attempt = 0;
        loop {
            let homes: Vec<u64> = probes
                .iter()
                .map(|probe| self.directory.segment(probe.hash, pinned).at())
                .collect();
            let mut places = Vec::with_capacity(probes.len() * 2);
            for (probe, segment) in probes.iter().zip(homes.iter().copied()) {
                let home = probe.hash.home();
                places.push((segment, home));
                if with_next {
                    places.push((segment, next_of(home)));
                }
            }
            places.sort_unstable();
            places.dedup();
            let latches: Vec<Latch<'a>> = places
                .into_iter()
                .map(|(at, index)| self.segment_at(at).bucket(index).lock().lock())
                .collect();
            // Latched buckets keep their identity: a split needs all latches of its segment.
            let is_current = probes.iter().zip(&homes).all(|(probe, at)| {
                let home = self.segment_at(*at).bucket(probe.hash.home());
                Identity::from_word(home.identity()).holds(probe.hash)
            });
            if is_current {
                return latches;
            }
            // A segment was split meanwhile.
            latches.into_iter().for_each(Latch::release_unchanged);
            lock::pause(attempt);
            attempt = attempt.saturating_add(1);
        }
    }

    /// Applies all writes, or none and says which segment was full.
    fn try_batch<'a>(
        &'a self,
        writes: &[BatchWrite<'_, '_>],
        pinned: &'a Guard,
    ) -> Result<Result<Vec<Applied<'a, 'a>>, (crate::hash::KeyHash, Identity)>> {
        let mut applied = Vec::with_capacity(writes.len());
        // Deletes come last: they cannot fail, so nothing deleted is ever put back.
        let puts = writes.iter().enumerate().filter(|(_, write)| write.record.is_some());
        for (index, write) in puts {
            let Some(record) = &write.record else { continue };
            let hash = write.probe.hash;
            let segment = self.directory.segment(hash, pinned);
            let word = SlotWord::new(hash, record.at);
            let found = segment.find(&write.probe, pinned);
            let location = match &found {
                Some((location, _)) => {
                    segment.bucket(location.bucket).store_slot(location.slot, word);
                    Some(*location)
                }
                None => segment.insert(hash, word, false)?,
            };
            let before = found.map(|(_, view)| view);
            match location {
                Some(location) => applied.push(Applied { index, segment, location, before }),
                None => {
                    self.take_back(writes, &applied)?;
                    let identity = segment.bucket(hash.home()).identity();
                    return Ok(Err((hash, Identity::from_word(identity))));
                }
            }
        }
        for (index, write) in writes.iter().enumerate().filter(|(_, w)| w.record.is_none()) {
            let segment = self.directory.segment(write.probe.hash, pinned);
            if let Some((location, view)) = segment.find(&write.probe, pinned) {
                segment.remove(write.probe.hash, location);
                applied.push(Applied { index, segment, location, before: Some(view) });
            }
        }
        Ok(Ok(applied))
    }

    fn take_back(&self, writes: &[BatchWrite<'_, '_>], applied: &[Applied<'_, '_>]) -> Result<()> {
        for done in applied.iter().rev() {
            let hash = writes[done.index].probe.hash;
            match &done.before {
                Some(before) => {
                    let bucket = done.segment.bucket(done.location.bucket);
                    bucket.store_slot(done.location.slot, SlotWord::new(hash, before.at()));
                }
                None => done.segment.remove(hash, done.location),
            }
        }
        self.region.fence()
    }
}
