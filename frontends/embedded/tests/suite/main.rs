//! The embedded API on every engine of the registry.

#![expect(clippy::unwrap_used, reason = "a test")]

mod backup;
mod common;
mod durability;
mod examples;
mod executors;
mod keys;
mod model;
mod opening;
mod races;
mod ranges;
mod several_keys;
mod strings;
mod watches;
