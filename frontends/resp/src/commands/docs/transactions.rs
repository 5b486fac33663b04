//! Documentation of transactions.

use super::{Docs, takes};

pub(super) const DOCS: &[Docs] = &[takes("watch", "key:key...")];
