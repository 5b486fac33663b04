//! Documentation of HyperLogLog.

use super::{Docs, takes};

pub(super) const DOCS: &[Docs] = &[
    takes("pfadd", "key:key [element:string...]"),
    takes("pfcount", "key:key..."),
    takes("pfdebug", "subcommand:string key:key").internal(),
    takes("pfmerge", "destkey:key [sourcekey:key#1...]"),
    takes("pfselftest", "").internal(),
];
