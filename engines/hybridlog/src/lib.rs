//! A FASTER-style hybrid log engine.
