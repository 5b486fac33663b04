//! Versions, snapshots and transactions over any ferrokit engine.
