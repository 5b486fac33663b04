//! [`Garbage`]: what no view will need, once the oldest one of today is closed.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::record::Timestamp;

/// Newest versions that are tombstones or expired, remembered for removal at most; more are found
/// again by later sweeps and reads.
const MAX_DEAD_HEADS: usize = 1 << 16;

/// An older version: of no use to views at `until` and later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OldVersion {
    /// When it was replaced.
    pub(crate) until: Timestamp,
    pub(crate) timestamp: Timestamp,
    pub(crate) slot: u32,
    pub(crate) key: Vec<u8>,
}

/// A newest version that shows nothing to views at `from` and later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadHead {
    pub(crate) from: Timestamp,
    pub(crate) timestamp: Timestamp,
    pub(crate) slot: u32,
    pub(crate) key: Vec<u8>,
}

#[derive(Default)]
struct State {
    versions: BTreeSet<OldVersion>,
    heads: VecDeque<DeadHead>,
    known_heads: HashSet<(u32, Vec<u8>, Timestamp)>,
}

/// Versions to remove, in bounded steps, as the watermark passes them.
#[derive(Default)]
pub(crate) struct Garbage {
    state: Mutex<State>,
}

impl Garbage {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_versions(&self, versions: impl IntoIterator<Item = OldVersion>) {
        self.state().versions.extend(versions);
    }

    /// Forgets it if there is no room: a later read finds it again.
    pub(crate) fn add_head(&self, head: DeadHead) {
        let mut state = self.state();
        if state.heads.len() < MAX_DEAD_HEADS
            && state.known_heads.insert((head.slot, head.key.clone(), head.timestamp))
        {
            state.heads.push_back(head);
        }
    }

    /// Up to `max` versions that no view at `watermark` or later needs. It is asked for with the
    /// lock held: all that is here was added before, and so were the views that need any of it.
    pub(crate) fn take_versions(
        &self,
        watermark: impl FnOnce() -> Timestamp,
        max: usize,
    ) -> Vec<OldVersion> {
        let mut state = self.state();
        let watermark = watermark();
        let mut taken = Vec::new();
        while taken.len() < max
            && state.versions.first().is_some_and(|oldest| oldest.until <= watermark)
        {
            taken.extend(state.versions.pop_first());
        }
        taken
    }

    /// Looks at up to `max` heads and takes those that no view at `watermark` or later needs.
    pub(crate) fn take_heads(
        &self,
        watermark: impl FnOnce() -> Timestamp,
        max: usize,
    ) -> Vec<DeadHead> {
        let mut state = self.state();
        let watermark = watermark();
        let mut taken = Vec::new();
        for _ in 0..max.min(state.heads.len()) {
            let Some(head) = state.heads.pop_front() else { break };
            if head.from <= watermark {
                state.known_heads.remove(&(head.slot, head.key.clone(), head.timestamp));
                taken.push(head);
            } else {
                state.heads.push_back(head);
            }
        }
        taken
    }

    /// Older versions and dead heads that are waiting.
    pub(crate) fn len(&self) -> (usize, usize) {
        let state = self.state();
        (state.versions.len(), state.heads.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_watermark_passed_is_taken_in_steps() {
        let garbage = Garbage::default();
        let version = |until| OldVersion {
            until: Timestamp(until),
            timestamp: Timestamp(1),
            slot: 0,
            key: vec![until as u8],
        };
        garbage.add_versions([version(7), version(3), version(5)]);
        assert_eq!(garbage.take_versions(|| Timestamp(5), 1), [version(3)]);
        assert_eq!(garbage.take_versions(|| Timestamp(5), 9), [version(5)]);
        assert!(garbage.take_versions(|| Timestamp(6), 9).is_empty());
        assert_eq!(garbage.len(), (1, 0));
    }

    #[test]
    fn a_head_found_again_is_queued_once() {
        let garbage = Garbage::default();
        let head =
            DeadHead { from: Timestamp(4), timestamp: Timestamp(4), slot: 1, key: b"k".to_vec() };
        garbage.add_head(head.clone());
        garbage.add_head(head.clone());
        assert_eq!(garbage.len(), (0, 1));
        assert!(garbage.take_heads(|| Timestamp(3), 8).is_empty());
        assert_eq!(garbage.take_heads(|| Timestamp(4), 8), [head]);
        assert_eq!(garbage.len(), (0, 0));
    }
}
