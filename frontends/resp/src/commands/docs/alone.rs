//! Documentation of what a server alone answers: cluster and function commands.

use super::{Docs, takes};

pub(super) const DOCS: &[Docs] = &[
    takes("cluster|keyslot", "key:string"),
    takes("cluster|slots", "")
        .changed(&[
            ("4.0.0", "Added node IDs."),
            ("7.0.0", "Added additional networking metadata field."),
        ])
        .replaced("7.0.0", "`CLUSTER SHARDS`"),
    takes("function|delete", "library-name:string"),
    takes("function|flush", "[flush-type(async=ASYNC|sync=SYNC)]"),
    takes("function|list", "[library-name-pattern:string=LIBRARYNAME] [withcode=WITHCODE]"),
];
