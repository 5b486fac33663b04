//! The part of the record log that is on disk.
//!
//! | module | subject |
//! |---|---|
//! | [`segment`] | files of pages: writing a page, reading a record, giving files up |
//! | [`mapped`] | the newest of them, mapped |
//! | [`packed`] | a segment as an object: chunks compressed, checked, maybe encrypted |
//! | [`place`] | the object tier, and which segments are in it |
//! | [`image`] | a page and its records as bytes: sealed when written, checked when read |
//! | [`tier_counts`] | numbers for statistics |
//! | [`checkpoint_file`] | the index and the bounds of the log at one moment |
//! | [`chunks`] | files in chunks, each with its checksum |
//! | [`export`] | segments for a backup: linked, or copied page by page |

pub(crate) mod checkpoint_file;
pub(crate) mod chunks;
pub(crate) mod export;
pub(crate) mod image;
mod mapped;
pub(crate) mod packed;
pub(crate) mod place;
pub(crate) mod segment;
pub(crate) mod tier_counts;
