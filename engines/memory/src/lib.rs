//! The ordered in-memory model engine: the oracle of every test.
