//! Changing one key, under the latch of its home bucket.
//!
//! The order that makes a crash harmless: the record is persistent before a slot publishes it; the
//! slot is one 8-byte store, persistent before the latch is released; the record it replaced is
//! retired after that.

use crossbeam_epoch::Guard;
use ferrokit_engine::{Result, UnixMillis};

use super::lock;
use super::segment::{Identity, Location, Segment, next_of};
use super::{Liveness, Prepared, Table};
use crate::record::{INLINE_VALUE_BYTES, Probe, RecordView};

/// What to do with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Keep,
    Remove,
    /// Store [`Change::value`].
    Put {
        expire_at: Option<UnixMillis>,
    },
}

/// A change of one key. It may be asked several times; the last answer counts.
pub(crate) trait Change {
    /// Decides by the record that is there, dead or alive.
    fn decide(&mut self, current: Option<&RecordView<'_>>) -> Action;

    /// The value decided upon.
    fn value(&self) -> &[u8];
}

enum Outcome {
    /// Done, with so many more entries.
    Done(i64),
    /// Another writer was in the way.
    Again,
    /// The segment of this identity has no place.
    Full(Identity),
}

impl Table {
    /// Applies a change; answers how many more entries there are (-1, 0, 1). `prepared` is the
    /// record of a put whose value is known.
    pub(crate) fn modify<'t>(
        &'t self,
        probe: &Probe<'_>,
        mut prepared: Option<Prepared<'t>>,
        change: &mut dyn Change,
        liveness: &dyn Liveness,
        pinned: &Guard,
    ) -> Result<i64> {
        let value_is_known = prepared.is_some();
        let mut attempt = 0;
        loop {
            match self.try_modify(probe, &mut prepared, change, pinned)? {
                Outcome::Done(entries) => return Ok(entries),
                Outcome::Again => {
                    lock::pause(attempt);
                    attempt = attempt.saturating_add(1);
                }
                Outcome::Full(seen) => self.split(probe.hash, seen, liveness, pinned)?,
            }
            if !value_is_known {
                // The next decision may be another.
                prepared = None;
            }
        }
    }

    fn try_modify<'t>(
        &'t self,
        probe: &Probe<'_>,
        prepared: &mut Option<Prepared<'t>>,
        change: &mut dyn Change,
        pinned: &Guard,
    ) -> Result<Outcome> {
        let segment = self.directory.segment(probe.hash, pinned);
        let home = segment.bucket(probe.hash.home());
        let latch = home.lock().lock();
        let identity = Identity::from_word(home.identity());
        if !identity.holds(probe.hash) {
            latch.release_unchanged();
            return Ok(Outcome::Again);
        }
        let found = segment.find(probe, pinned);
        let action = change.decide(found.as_ref().map(|(_, view)| view));
        let outcome = match (action, found) {
            (Action::Keep, _) | (Action::Remove, None) => {
                latch.release_unchanged();
                return Ok(Outcome::Done(0));
            }
            (Action::Remove, Some((location, view))) => {
                self.remove(&segment, probe, location, &view, pinned)
            }
            (Action::Put { expire_at }, found) => {
                let value = change.value();
                if let Some((_, view)) = &found
                    && let Some(stored) = view.try_update_in_place(value, expire_at)
                {
                    return stored.map(|()| Outcome::Done(0));
                }
                let record = match prepared.take() {
                    Some(record) => record,
                    None => self.prepare(probe, value, expire_at)?,
                };
                match found {
                    Some((location, view)) => {
                        self.replace(&segment, probe, location, &view, record, pinned)
                    }
                    None => self.insert(&segment, identity, probe, record, prepared),
                }
            }
        };
        if let Ok(Outcome::Again) = &outcome {
            latch.release_unchanged();
        }
        outcome
    }

    fn remove(
        &self,
        segment: &Segment<'_>,
        probe: &Probe<'_>,
        location: Location,
        view: &RecordView<'_>,
        pinned: &Guard,
    ) -> Result<Outcome> {
        let is_guest = !location.is_stashed() && location.bucket != probe.hash.home();
        let next = if is_guest {
            // Waiting would break the lock order at the segment's end.
            let Some(latch) = segment.bucket(location.bucket).lock().try_lock() else {
                return Ok(Outcome::Again);
            };
            Some(latch)
        } else {
            None
        };
        segment.remove(probe.hash, location);
        self.region.fence()?;
        self.retire(pinned, view);
        drop(next);
        Ok(Outcome::Done(-1))
    }

    fn replace(
        &self,
        segment: &Segment<'_>,
        probe: &Probe<'_>,
        location: Location,
        view: &RecordView<'_>,
        record: Prepared<'_>,
        pinned: &Guard,
    ) -> Result<Outcome> {
        let word = record.publish(probe.hash);
        segment.bucket(location.bucket).store_slot(location.slot, word);
        self.region.fence()?;
        self.retire(pinned, view);
        Ok(Outcome::Done(0))
    }

    /// Inserts a record; one that found no place goes back to `prepared`.
    fn insert<'t>(
        &'t self,
        segment: &Segment<'_>,
        identity: Identity,
        probe: &Probe<'_>,
        record: Prepared<'t>,
        prepared: &mut Option<Prepared<'t>>,
    ) -> Result<Outcome> {
        let next = segment.bucket(next_of(probe.hash.home()));
        let Some(next) = next.lock().try_lock() else {
            *prepared = Some(record);
            return Ok(Outcome::Again);
        };
        let word = super::SlotWord::new(probe.hash, record.at);
        match segment.insert(probe.hash, word, true)? {
            Some(_) => {
                std::mem::forget(record);
                self.region.fence()?;
                drop(next);
                Ok(Outcome::Done(1))
            }
            None => {
                next.release_unchanged();
                *prepared = Some(record);
                Ok(Outcome::Full(identity))
            }
        }
    }
}

/// Whether a put of this value may turn out to be an update in place, which needs no record.
pub(crate) fn may_fit_in_place(value: &[u8]) -> bool {
    value.len() <= INLINE_VALUE_BYTES
}
