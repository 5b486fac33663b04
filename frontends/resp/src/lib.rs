//! A Redis-compatible server over any ferrokit engine.
