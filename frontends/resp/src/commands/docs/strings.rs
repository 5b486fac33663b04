//! Documentation of strings.

use super::{Docs, takes};

pub(super) const DOCS: &[Docs] = &[
    takes("append", "key:key value:string"),
    takes("decr", "key:key"),
    takes("decrby", "key:key decrement:integer"),
    takes("get", "key:key"),
    takes("getdel", "key:key"),
    takes(
        "getex",
        "key:key [expiration(seconds:integer=EX|milliseconds:integer=PX|\
         unix-time-seconds:unix-time=EXAT|unix-time-milliseconds:unix-time=PXAT|persist=PERSIST)]",
    ),
    takes("getrange", "key:key start:integer end:integer"),
    takes("getset", "key:key value:string").replaced("6.2.0", "`SET` with the `!GET` argument"),
    takes("incr", "key:key"),
    takes("incrby", "key:key increment:integer"),
    takes("incrbyfloat", "key:key increment:double"),
    takes(
        "lcs",
        "key1:key key2:key [len=LEN] [idx=IDX] [min-match-len:integer=MINMATCHLEN] \
         [withmatchlen=WITHMATCHLEN]",
    ),
    takes("mget", "key:key..."),
    takes("mset", "data{key:key value:string}..."),
    takes("msetnx", "data{key:key value:string}..."),
    takes("psetex", "key:key milliseconds:integer value:string")
        .replaced("2.6.12", "`SET` with the `PX` argument"),
    takes(
        "set",
        "key:key value:string [condition(nx=NX|xx=XX)@2.6.12] [get=GET@6.2.0] \
         [expiration(seconds:integer=EX@2.6.12|milliseconds:integer=PX@2.6.12|\
         unix-time-seconds:unix-time=EXAT@6.2.0|unix-time-milliseconds:unix-time=PXAT@6.2.0|\
         keepttl=KEEPTTL@6.0.0)]",
    )
    .changed(&[
        ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
        ("6.0.0", "Added the `KEEPTTL` option."),
        ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
        ("7.0.0", "Allowed the `NX` and `GET` options to be used together."),
    ]),
    takes("setex", "key:key seconds:integer value:string")
        .replaced("2.6.12", "`SET` with the `EX` argument"),
    takes("setnx", "key:key value:string").replaced("2.6.12", "`SET` with the `NX` argument"),
    takes("setrange", "key:key offset:integer value:string"),
    takes("strlen", "key:key"),
    takes("substr", "key:key start:integer end:integer").replaced("2.0.0", "`GETRANGE`"),
];
