//! What [`wake_signal`](super::wake_signal) is made of. A model checker puts its own in place.

pub(crate) use std::sync::atomic::{AtomicU8, Ordering};
pub(crate) use std::thread::{Thread, park};

/// How long a call that can wait is left waiting: some two hundred steps a second at most.
const A_LITTLE: std::time::Duration = std::time::Duration::from_millis(5);

/// Parks the thread until it is unparked, or for [`A_LITTLE`].
pub(crate) fn park_a_little() {
    std::thread::park_timeout(A_LITTLE);
}
