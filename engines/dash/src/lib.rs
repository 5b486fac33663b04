//! Dash extendible hashing on persistent memory.
