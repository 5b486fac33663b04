//! System calls on files and directories, shared by the real backends.
//!
//! Thread-safety: everything here is a thin layer over file descriptors and may be called from any
//! thread. Crash-safety: as the operating system gives it; see `docs/design.md`.

mod descriptor;
pub(crate) mod mapped;
pub(crate) mod namespace;

pub(crate) use descriptor::{Cached, Descriptor, check_range};
