//! The behaviour that every file system shares, as cases that each backend's tests run.

pub mod fs_suite;
