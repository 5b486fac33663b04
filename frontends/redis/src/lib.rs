//! What "Redis" means, over any ferrokit engine, written once for every frontend.
//!
//! | module | subject |
//! |---|---|
//! | [`decimal`] | INCRBYFLOAT's arithmetic |
//! | [`glob`] | the patterns of KEYS, SCAN and PSUBSCRIBE |
//! | [`integer`] | decimal integers as Redis reads and writes them |
//!
//! The crate knows no socket, no protocol and no async runtime.

#![forbid(unsafe_code)]

pub mod decimal;
pub mod glob;
pub mod integer;
