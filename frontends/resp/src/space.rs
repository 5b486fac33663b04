//! [`Space`]: whether the device of the data is full, as writes that are refused tell.

use std::sync::atomic::{AtomicU64, Ordering};

use ferrokit_engine::{Durability, Error};
use ferrokit_redis::Refusal;
use ferrokit_redis::refusal::is_device_full;

use crate::shared::Shared;

/// Seconds without a refused write after which it is seen whether there is space again.
const QUIET_SECS: u64 = 3;

/// Whether the device has space.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// Seconds until it is seen whether there is space again, from 1; 0 while there is.
    lacking_secs: AtomicU64,
}

impl Space {
    /// Whether writes are refused for want of space.
    pub(crate) fn is_lacking(&self) -> bool {
        self.lacking_secs.load(Ordering::Relaxed) != 0
    }
}

impl Shared {
    /// Takes note of what a command was refused for.
    pub(crate) fn note_refusal(&self, refusal: &Refusal) {
        if let Refusal::Engine(error) = refusal {
            self.note_engine_error(error);
        }
    }

    /// Takes note of an error of the engine, and tells once of a full device.
    pub(crate) fn note_engine_error(&self, error: &Error) {
        if !is_device_full(error) {
            return;
        }
        if self.space.lacking_secs.swap(QUIET_SECS, Ordering::Relaxed) == 0 {
            tracing::error!(%error, "the device of the data is full: writes are refused");
        }
    }

    /// Once writes are refused no more, sees whether the log takes them; for every second.
    pub(crate) async fn look_for_space(&self) {
        let (left, order) = (&self.space.lacking_secs, Ordering::Relaxed);
        match left.load(order) {
            0 => {}
            // A log that is stalled is tried again by this.
            1 => {
                let has_space = self.engine.sync(Durability::Synced).await.is_ok();
                if has_space && left.compare_exchange(1, 0, order, order).is_ok() {
                    tracing::info!("the device of the data has space again");
                }
            }
            // Whoever is refused meanwhile begins anew; it does not matter who comes first.
            _ => {
                left.fetch_sub(1, order);
            }
        }
    }
}
