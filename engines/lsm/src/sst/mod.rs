//! FerroSST: sorted, immutable files of versions. `docs/design.md` describes every byte.
//!
//! | file | subject |
//! |---|---|
//! | `block` | a block of records: builder and cursor |
//! | `filter` | the bloom filter |
//! | `format` | footer, handles, properties |
//! | `builder` | writes a table |
//! | `table` | an open table |
//! | `iter` | versions of a table in order |

pub(crate) mod block;
pub(crate) mod builder;
pub(crate) mod filter;
pub(crate) mod format;
pub(crate) mod iter;
pub(crate) mod table;

pub(crate) use block::Block;
pub(crate) use builder::{BuiltTable, TableBuilder};
pub(crate) use format::BlockHandle;
pub(crate) use table::{Garbage, Table};
