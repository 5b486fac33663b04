//! The atomics that modules checked by loom are written on; their models put loom's in this place.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
