//! [`Preparer`]: the job that makes the next segment's file ahead of need.

use std::sync::Arc;

use ferrokit_engine::Result;

use super::segment::Spare;
use super::shared::Shared;
use super::store::Store;
use crate::background::{Job, Progress};

/// Keeps one spare file ready, filled with zeros: overwriting them changes no metadata, so that
/// a commit's sync has only data to write. Whatever fails here fails quietly: the committer makes
/// a file itself when it finds none.
pub(super) struct Preparer {
    store: Arc<Store>,
    shared: Arc<Shared>,
    /// The file under way, and how far it is filled.
    filling: Option<(Spare, u64)>,
}

impl Preparer {
    pub(super) fn new(store: Arc<Store>, shared: Arc<Shared>) -> Self {
        Self { store, shared, filling: None }
    }

    fn step(&mut self) -> Result<Progress> {
        let Some((spare, filled)) = self.filling.take() else {
            if !self.shared.segments().spares.is_empty() {
                return Ok(Progress::Idle);
            }
            self.filling = Some((self.store.create_spare(self.store.segment_bytes)?, 0));
            return Ok(Progress::More);
        };
        match self.store.fill_spare(&spare, filled) {
            Ok(Some(filled)) => {
                self.filling = Some((spare, filled));
                Ok(Progress::More)
            }
            Ok(None) => {
                self.shared.segments().spares.push(spare);
                Ok(Progress::Idle)
            }
            Err(error) => {
                self.store.discard_spare(&spare);
                Err(error)
            }
        }
    }
}

impl Job for Preparer {
    fn run(&mut self) -> Progress {
        self.step().unwrap_or_else(|error| {
            tracing::debug!(%error, "no log segment could be prepared ahead");
            Progress::Idle
        })
    }
}
