//! Documentation of bitmaps.

use super::{Docs, takes};

pub(super) const DOCS: &[Docs] = &[
    takes("bitcount", "key:key [range{start:integer end:integer [unit(byte=BYTE|bit=BIT)@7.0.0]}]")
        .changed(&[("7.0.0", "Added the `BYTE|BIT` option.")]),
    takes(
        "bitfield",
        "key:key [operation(get-block=GET{encoding:string offset:integer}|\
         write{[overflow-block=OVERFLOW(wrap=WRAP|sat=SAT|fail=FAIL)] \
         write-operation(set-block=SET{encoding:string offset:integer value:integer}|\
         incrby-block=INCRBY{encoding:string offset:integer increment:integer})})...]",
    ),
    takes("bitfield_ro", "key:key [get-block=GET{encoding:string offset:integer}..+]"),
    takes("bitop", "operation(and=AND|or=OR|xor=XOR|not=NOT) destkey:key key:key#1..."),
    takes(
        "bitpos",
        "key:key bit:integer [range{start:integer [end-unit-block{end:integer [unit(byte=BYTE|\
         bit=BIT)@7.0.0]}]}]",
    )
    .changed(&[("7.0.0", "Added the `BYTE|BIT` option.")]),
    takes("getbit", "key:key offset:integer"),
    takes("setbit", "key:key offset:integer value:integer"),
];
