//! Where the keys of each command are, and what is done with them, as COMMAND tells clients.

mod support;

use support::{Client, TestServer, Value};

/// All commands with keys. The places count from the start of a request, the last one of a range
/// from its first one, or if it is negative from the end.
const KEY_SPECS: &[(&str, &str)] = &[
    ("append", "RW,insert at 1 to 0 by 1"),
    ("bitcount", "RO,access at 1 to 0 by 1"),
    ("bitfield", "RW,access,update,variable_flags at 1 to 0 by 1"),
    ("bitfield_ro", "RO,access at 1 to 0 by 1"),
    ("bitop", "OW,update at 2 to 0 by 1; RO,access at 3 to -1 by 1"),
    ("bitpos", "RO,access at 1 to 0 by 1"),
    ("copy", "RO,access at 1 to 0 by 1; OW,update at 2 to 0 by 1"),
    ("decr", "RW,access,update at 1 to 0 by 1"),
    ("decrby", "RW,access,update at 1 to 0 by 1"),
    ("del", "RM,delete at 1 to -1 by 1"),
    ("dump", "RO,access at 1 to 0 by 1"),
    ("exists", "RO at 1 to -1 by 1"),
    ("expire", "RW,update at 1 to 0 by 1"),
    ("expireat", "RW,update at 1 to 0 by 1"),
    ("expiretime", "RO,access at 1 to 0 by 1"),
    ("get", "RO,access at 1 to 0 by 1"),
    ("getbit", "RO,access at 1 to 0 by 1"),
    ("getdel", "RW,access,delete at 1 to 0 by 1"),
    ("getex", "RW,access,update at 1 to 0 by 1"),
    ("getrange", "RO,access at 1 to 0 by 1"),
    ("getset", "RW,access,update at 1 to 0 by 1"),
    ("incr", "RW,access,update at 1 to 0 by 1"),
    ("incrby", "RW,access,update at 1 to 0 by 1"),
    ("incrbyfloat", "RW,access,update at 1 to 0 by 1"),
    ("lcs", "RO,access at 1 to 1 by 1"),
    ("memory|usage", "RO at 2 to 0 by 1"),
    ("mget", "RO,access at 1 to -1 by 1"),
    ("move", "RW,access,update at 1 to 0 by 1"),
    ("mset", "OW,update at 1 to -1 by 2"),
    ("msetnx", "OW,insert at 1 to -1 by 2"),
    ("object|encoding", "RO at 2 to 0 by 1"),
    ("object|freq", "RO at 2 to 0 by 1"),
    ("object|idletime", "RO at 2 to 0 by 1"),
    ("object|refcount", "RO at 2 to 0 by 1"),
    ("persist", "RW,update at 1 to 0 by 1"),
    ("pexpire", "RW,update at 1 to 0 by 1"),
    ("pexpireat", "RW,update at 1 to 0 by 1"),
    ("pexpiretime", "RO,access at 1 to 0 by 1"),
    ("pfadd", "RW,insert at 1 to 0 by 1"),
    ("pfcount", "RW,access at 1 to -1 by 1"),
    ("pfdebug", "RW,access at 2 to 0 by 1"),
    ("pfmerge", "RW,access,insert at 1 to 0 by 1; RO,access at 2 to -1 by 1"),
    ("psetex", "OW,update at 1 to 0 by 1"),
    ("pttl", "RO,access at 1 to 0 by 1"),
    ("rename", "RW,access,delete at 1 to 0 by 1; OW,update at 2 to 0 by 1"),
    ("renamenx", "RW,access,delete at 1 to 0 by 1; OW,insert at 2 to 0 by 1"),
    ("restore", "OW,update at 1 to 0 by 1"),
    ("set", "RW,access,update,variable_flags at 1 to 0 by 1"),
    ("setbit", "RW,access,update at 1 to 0 by 1"),
    ("setex", "OW,update at 1 to 0 by 1"),
    ("setnx", "OW,insert at 1 to 0 by 1"),
    ("setrange", "RW,update at 1 to 0 by 1"),
    ("sort", "RO,access at 1 to 0 by 1; RO,access ?; OW,update ?"),
    ("sort_ro", "RO,access at 1 to 0 by 1; RO,access ?"),
    ("spublish", "not_key at 1 to 0 by 1"),
    ("ssubscribe", "not_key at 1 to -1 by 1"),
    ("strlen", "RO at 1 to 0 by 1"),
    ("substr", "RO,access at 1 to 0 by 1"),
    ("sunsubscribe", "not_key at 1 to -1 by 1"),
    ("touch", "RO at 1 to -1 by 1"),
    ("ttl", "RO,access at 1 to 0 by 1"),
    ("type", "RO at 1 to 0 by 1"),
    ("unlink", "RM,delete at 1 to -1 by 1"),
    ("watch", "RO at 1 to -1 by 1"),
];

fn pairs(map: &Value) -> impl Iterator<Item = (&str, &Value)> {
    map.array().chunks(2).map(|pair| (pair[0].text(), &pair[1]))
}

fn get<'v>(map: &'v Value, name: &str) -> &'v Value {
    pairs(map).find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name}")).1
}

fn number(map: &Value, name: &str) -> i64 {
    get(map, name).integer()
}

/// A key specification in a line.
fn line(spec: &Value) -> String {
    let mut access: Vec<&str> = get(spec, "flags").array().iter().map(Value::text).collect();
    access.sort_unstable();
    let (begin, find) = (get(spec, "begin_search"), get(spec, "find_keys"));
    let place = match (get(begin, "type").text(), get(find, "type").text()) {
        ("unknown", "unknown") => "?".to_owned(),
        ("index", "range") => {
            let (begin, find) = (get(begin, "spec"), get(find, "spec"));
            assert_eq!(number(find, "limit"), 0);
            let (first, last) = (number(begin, "index"), number(find, "lastkey"));
            format!("at {first} to {last} by {}", number(find, "keystep"))
        }
        other => panic!("{other:?}"),
    };
    format!("{} {place}", access.join(","))
}

/// A command and its subcommands, as far as they have keys.
fn collect(command: &Value, found: &mut Vec<(String, String)>) {
    let fields = command.array();
    let lines: Vec<String> = fields[8].array().iter().map(line).collect();
    if !lines.is_empty() {
        found.push((fields[0].text().to_owned(), lines.join("; ")));
    }
    fields[9].array().iter().for_each(|subcommand| collect(subcommand, found));
}

#[test]
fn the_key_specifications_are_those_of_redis() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    let mut found = Vec::new();
    client.ask("COMMAND").array().iter().for_each(|command| collect(command, &mut found));
    found.sort_unstable();
    let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    for (found, expected) in found.iter().zip(KEY_SPECS) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), KEY_SPECS.len(), "a command was added or taken away");
}

/// The keys of a request with what is done with each, as COMMAND GETKEYSANDFLAGS tells.
fn keys(client: &mut Client, request: &str) -> String {
    let found = client.ask(&format!("COMMAND GETKEYSANDFLAGS {request}"));
    if let Value::Error(text) = &found {
        return text.clone();
    }
    let line = |pair: &Value| {
        let mut access: Vec<&str> = pair.array()[1].array().iter().map(Value::text).collect();
        access.sort_unstable();
        format!("{} {}", pair.array()[0].text(), access.join(","))
    };
    let lines: Vec<String> = found.array().iter().map(line).collect();
    lines.join("; ")
}

#[test]
fn keys_are_found_with_what_is_done_with_them() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    for (request, expected) in [
        ("GET a", "a RO,access"),
        ("SET a 1", "a OW,update"),
        ("SET a 1 EX 5 GET", "a RW,access,update"),
        ("RENAME a b", "a RW,access,delete; b OW,update"),
        ("COPY a b DB 1", "a RO,access; b OW,update"),
        ("MSET a 1 b 2", "a OW,update; b OW,update"),
        ("MEMORY USAGE a", "a RO"),
        ("BITOP AND d a b", "d OW,update; a RO,access; b RO,access"),
        ("BITFIELD a GET u8 0", "a RO,access"),
        ("BITFIELD a OVERFLOW SAT SET u8 0 1", "a RW,access,update"),
        ("PFMERGE d a", "d RW,access,insert; a RO,access"),
        ("SORT a BY w_* GET o_*", "a RO,access"),
        ("SORT a STORE d STORE e", "a RO,access; e OW,update"),
        ("SSUBSCRIBE a", "ERR The command has no key arguments"),
        ("GET", "ERR Invalid number of arguments specified for command"),
    ] {
        assert_eq!(keys(&mut client, request), expected, "{request}");
    }
}
