//! Documentation of server commands.

use super::{Docs, takes};

pub(super) const DOCS: &[Docs] = &[
    takes("acl|cat", "[category:string]"),
    takes("acl|deluser", "username:string..."),
    takes("acl|dryrun", "username:string command:string [arg:string...]"),
    takes("acl|genpass", "[bits:integer]"),
    takes("acl|getuser", "username:string").changed(&[
        ("6.2.0", "Added Pub/Sub channel patterns."),
        (
            "7.0.0",
            "Added selectors and changed the format of key and channel patterns from a list \
                 to their rule representation.",
        ),
    ]),
    takes("acl|log", "[operation(count:integer|reset=RESET)]")
        .changed(&[("7.2.0", "Added entry ID, timestamp created, and timestamp last updated.")]),
    takes("acl|setuser", "username:string [rule:string...]").changed(&[
        ("6.2.0", "Added Pub/Sub channel patterns."),
        ("7.0.0", "Added selectors and key based permissions."),
    ]),
    takes("bgsave", "[schedule=SCHEDULE@3.2.2]")
        .changed(&[("3.2.2", "Added the `SCHEDULE` option.")]),
    takes("command|docs", "[command-name:string...]"),
    takes("command|getkeys", "command:string [arg:string...]"),
    takes("command|getkeysandflags", "command:string [arg:string...]"),
    takes("command|info", "[command-name:string...]").changed(&[(
        "7.0.0",
        "Allowed to be called with no argument to get info on all commands.",
    )]),
    takes(
        "command|list",
        "[filterby=FILTERBY(module-name:string=MODULE|category:string=ACLCAT|\
         pattern:pattern=PATTERN)]",
    ),
    takes("config|get", "parameter:string...")
        .changed(&[("7.0.0", "Added the ability to pass multiple pattern parameters in one call")]),
    takes("config|set", "data{parameter:string value:string}...")
        .changed(&[("7.0.0", "Added the ability to set multiple parameters in one call.")]),
    takes("debug", "").internal(),
    takes("flushall", "[flush-type(async=ASYNC@4.0.0|sync=SYNC@6.2.0)]").changed(&[
        ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
        ("6.2.0", "Added the `SYNC` flushing mode modifier."),
    ]),
    takes("flushdb", "[flush-type(async=ASYNC@4.0.0|sync=SYNC@6.2.0)]").changed(&[
        ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
        ("6.2.0", "Added the `SYNC` flushing mode modifier."),
    ]),
    takes("info", "[section:string...]")
        .changed(&[("7.0.0", "Added support for taking multiple section arguments.")]),
    takes("latency|graph", "event:string"),
    takes("latency|histogram", "[COMMAND:string...]"),
    takes("latency|history", "event:string"),
    takes("latency|reset", "[event:string...]"),
    takes("lolwut", "[version:integer=VERSION]"),
    takes("memory|usage", "key:key [count:integer=SAMPLES]"),
    takes("replicaof", "args(host-port{host:string port:integer}|no-one{no=NO one=ONE})"),
    takes(
        "shutdown",
        "[save-selector(nosave=NOSAVE|save=SAVE)] [now=NOW@7.0.0] [force=FORCE@7.0.0] \
         [abort=ABORT@7.0.0]",
    )
    .changed(&[("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers.")]),
    takes("slaveof", "args(host-port{host:string port:integer}|no-one{no=NO one=ONE})")
        .replaced("5.0.0", "`REPLICAOF`"),
    takes("slowlog|get", "[count:integer]")
        .changed(&[("4.0.0", "Added client IP address, port and name to the reply.")]),
    takes("swapdb", "index1:integer index2:integer"),
];
