//! Documentation of connection commands.

use super::{Docs, takes};

pub(super) const DOCS: &[Docs] = &[
    takes("auth", "[username:string@6.0.0] password:string")
        .changed(&[("6.0.0", "Added ACL style (username and password).")]),
    takes("client|caching", "mode(yes=YES|no=NO)"),
    takes(
        "client|kill",
        "filter(old-format:string\"ip:port\"!2.8.12|new-format([client-id:integer=ID@2.8.12]|\
         [client-type=TYPE(normal=normal|master=master@3.2.0|slave=slave|replica=replica@5.0.0|\
         pubsub=pubsub)@2.8.12]|[username:string=USER]|[addr:string=ADDR\"ip:port\"]|\
         [laddr:string=LADDR\"ip:port\"@6.2.0]|[skipme=SKIPME(yes=YES|no=NO)])...)",
    )
    .changed(&[
        ("2.8.12", "Added new filter format."),
        ("2.8.12", "`ID` option."),
        ("3.2.0", "Added `master` type in for `TYPE` option."),
        (
            "5.0.0",
            "Replaced `slave` `TYPE` with `replica`. `slave` still supported for backward \
                 compatibility.",
        ),
        ("6.2.0", "`LADDR` option."),
    ]),
    takes(
        "client|list",
        "[client-type=TYPE(normal=normal|master=master|replica=replica|pubsub=pubsub)@5.0.0] \
         [client-id:integer=ID...@6.2.0]",
    )
    .changed(&[
        ("2.8.12", "Added unique client `id` field."),
        ("5.0.0", "Added optional `TYPE` filter."),
        ("6.0.0", "Added `user` field."),
        (
            "6.2.0",
            "Added `argv-mem`, `tot-mem`, `laddr` and `redir` fields and the optional `ID` \
                 filter.",
        ),
        ("7.0.0", "Added `resp`, `multi-mem`, `rbs` and `rbp` fields."),
        ("7.0.3", "Added `ssub` field."),
    ]),
    takes("client|no-evict", "enabled(on=ON|off=OFF)"),
    takes("client|no-touch", "enabled(on=ON|off=OFF)"),
    takes("client|pause", "timeout:integer [mode(write=WRITE|all=ALL)@6.2.0]")
        .changed(&[("6.2.0", "`CLIENT PAUSE WRITE` mode added along with the `mode` option.")]),
    takes("client|reply", "action(on=ON|off=OFF|skip=SKIP)"),
    takes("client|setinfo", "attr(libname:string=lib-name|libver:string=lib-ver)"),
    takes("client|setname", "connection-name:string"),
    takes(
        "client|tracking",
        "status(on=ON|off=OFF) [client-id:integer=REDIRECT] [prefix:string=PREFIX..+] \
         [BCAST=BCAST] [OPTIN=OPTIN] [OPTOUT=OPTOUT] [NOLOOP=NOLOOP]",
    ),
    takes("client|unblock", "client-id:integer [unblock-type(timeout=TIMEOUT|error=ERROR)]"),
    takes("echo", "message:string"),
    takes(
        "hello",
        "[arguments{protover:integer [auth=AUTH{username:string password:string}] \
         [clientname:string=SETNAME]}]",
    )
    .changed(&[(
        "6.2.0",
        "`protover` made optional; when called without arguments the command reports the \
                 current connection's context.",
    )]),
    takes("ping", "[message:string]"),
    takes("quit", "").replaced("7.2.0", "just closing the connection"),
    takes("select", "index:integer"),
];
