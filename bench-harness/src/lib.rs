//! Workloads, drivers and comparisons for ferrokit engines and their peers.
