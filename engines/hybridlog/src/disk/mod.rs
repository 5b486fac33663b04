//! The part of the record log that is on disk.
//!
//! | module | subject |
//! |---|---|
//! | [`segment`] | files of pages: writing a page, reading a record, giving files up |
//! | [`image`] | a page and its records as bytes: sealed when written, checked when read |
//! | [`checkpoint_file`] | the index and the bounds of the log at one moment |

pub(crate) mod checkpoint_file;
pub(crate) mod image;
pub(crate) mod segment;
