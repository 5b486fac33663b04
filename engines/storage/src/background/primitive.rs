//! What [`wake_signal`](super::wake_signal) is made of. A model checker puts its own in place.

pub(crate) use std::sync::atomic::{AtomicU8, Ordering};
pub(crate) use std::thread::{Thread, park};
