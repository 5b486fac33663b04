//! Which tables make up the tree, and how that changes durably.

mod edit;
mod manifest;
mod view;

pub(crate) use edit::{Edit, Progress, TableRecord, TreeState};
pub(crate) use manifest::{CURRENT_FILE_NAME, Manifest, is_manifest_name, read_current};
pub(crate) use view::{LEVELS, SealedMemtable, Version, View};

/// Reads a manifest image; only its parsing, for fuzzing.
pub(crate) fn parse_manifest(bytes: &[u8]) -> ferrokit_engine::Result<()> {
    manifest::replay("fuzz", bytes).map(drop)
}
