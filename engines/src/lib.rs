//! Opens ferrokit engines by URL.
