//! Documentation of commands on keys of any type.

use super::{Docs, takes};

pub(super) const DOCS: &[Docs] = &[
    takes("copy", "source:key destination:key#1 [destination-db:integer=DB] [replace=REPLACE]"),
    takes("del", "key:key..."),
    takes("dump", "key:key"),
    takes("exists", "key:key...").changed(&[("3.0.3", "Accepts multiple `key` arguments.")]),
    takes("expire", "key:key seconds:integer [condition(nx=NX|xx=XX|gt=GT|lt=LT)@7.0.0]")
        .changed(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")]),
    takes(
        "expireat",
        "key:key unix-time-seconds:unix-time [condition(nx=NX|xx=XX|gt=GT|lt=LT)@7.0.0]",
    )
    .changed(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")]),
    takes("expiretime", "key:key"),
    takes("keys", "pattern:pattern"),
    takes("move", "key:key db:integer"),
    takes("object|encoding", "key:key"),
    takes("object|freq", "key:key"),
    takes("object|idletime", "key:key"),
    takes("object|refcount", "key:key"),
    takes("persist", "key:key"),
    takes("pexpire", "key:key milliseconds:integer [condition(nx=NX|xx=XX|gt=GT|lt=LT)@7.0.0]")
        .changed(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")]),
    takes(
        "pexpireat",
        "key:key unix-time-milliseconds:unix-time [condition(nx=NX|xx=XX|gt=GT|lt=LT)@7.0.0]",
    )
    .changed(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")]),
    takes("pexpiretime", "key:key"),
    takes("pttl", "key:key").changed(&[("2.8.0", "Added the -2 reply.")]),
    takes("rename", "key:key newkey:key#1"),
    takes("renamenx", "key:key newkey:key#1").changed(&[(
        "3.2.0",
        "The command no longer returns an error when source and destination names are the \
                 same.",
    )]),
    takes(
        "restore",
        "key:key ttl:integer serialized-value:string [replace=REPLACE@3.0.0] \
         [absttl=ABSTTL@5.0.0] [seconds:integer=IDLETIME@5.0.0] [frequency:integer=FREQ@5.0.0]",
    )
    .changed(&[
        ("3.0.0", "Added the `REPLACE` modifier."),
        ("5.0.0", "Added the `ABSTTL` modifier."),
        ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
    ]),
    takes(
        "scan",
        "cursor:integer [pattern:pattern=MATCH] [count:integer=COUNT] [type:string=TYPE@6.0.0]",
    )
    .changed(&[("6.0.0", "Added the `TYPE` subcommand.")]),
    takes(
        "sort",
        "key:key [by-pattern:pattern=BY#1\"pattern\"] [limit=LIMIT{offset:integer count:integer}] \
         [get-pattern:pattern=GET#1\"pattern\"..+] [order(asc=ASC|desc=DESC)] [sorting=ALPHA] \
         [destination:key=STORE#2]",
    ),
    takes(
        "sort_ro",
        "key:key [by-pattern:pattern=BY#1\"pattern\"] [limit=LIMIT{offset:integer count:integer}] \
         [get-pattern:pattern=GET#1\"pattern\"..+] [order(asc=ASC|desc=DESC)] [sorting=ALPHA]",
    ),
    takes("touch", "key:key..."),
    takes("ttl", "key:key").changed(&[("2.8.0", "Added the -2 reply.")]),
    takes("type", "key:key"),
    takes("unlink", "key:key..."),
    takes("wait", "numreplicas:integer timeout:integer"),
    takes("waitaof", "numlocal:integer numreplicas:integer timeout:integer"),
];
