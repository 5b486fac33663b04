//! A log-structured merge-tree engine.
