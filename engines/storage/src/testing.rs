//! The behaviour that every file system, and every object tier, shares, as cases that each
//! backend's tests run.

pub mod fs_suite;
pub mod object_suite;
