//! Every command, with the exact bytes of its reply, on every engine.

mod support;

use support::{Client, TestServer, on_each_engine, request, sleep};

/// Runs a script of requests and replies on one connection of a fresh server, engine by engine.
fn script(steps: &[(&str, &str)]) {
    on_each_engine(|server| {
        let mut client = server.client();
        let is_exact = server.server.engine().capabilities().exact_len;
        for (words, reply) in steps {
            if *words == "DBSIZE" && !is_exact {
                println!("DBSIZE is an estimate on this engine: {:?}", client.ask(words));
                continue;
            }
            client.check(words, reply);
        }
    });
}

const OK: &str = "+OK\r\n";
const NULL: &str = "$-1\r\n";
const SYNTAX: &str = "-ERR syntax error\r\n";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";

fn arity(name: &str) -> String {
    format!("-ERR wrong number of arguments for '{name}' command\r\n")
}

#[test]
fn ping_echo_and_unknown_commands() {
    script(&[
        ("PING", "+PONG\r\n"),
        ("ping hi", "$2\r\nhi\r\n"),
        ("PING a b", &arity("ping")),
        ("ECHO x", "$1\r\nx\r\n"),
        ("ECHO", &arity("echo")),
        ("NOPE", "-ERR unknown command 'NOPE', with args beginning with: \r\n"),
        ("NOPE a b", "-ERR unknown command 'NOPE', with args beginning with: 'a' 'b' \r\n"),
        ("CLIENT NOPE", "-ERR unknown subcommand 'NOPE'. Try CLIENT HELP.\r\n"),
        ("", "-ERR unknown command '', with args beginning with: \r\n"),
        (" a", "-ERR unknown command '', with args beginning with: 'a' \r\n"),
        ("\0PING", "-ERR unknown command '\0PING', with args beginning with: \r\n"),
        ("CONFIG", &arity("config")),
        ("CLIENT SETNAME", &arity("client|setname")),
    ]);
}

#[test]
fn get_and_set() {
    script(&[
        ("GET k", NULL),
        ("SET k v", OK),
        ("GET k", "$1\r\nv\r\n"),
        ("SET k", &arity("set")),
        ("GET", &arity("get")),
        ("GET a b", &arity("get")),
        ("SET k w NX", NULL),
        ("SET k w XX", OK),
        ("SET none w XX", NULL),
        ("SET k x GET", "$1\r\nw\r\n"),
        ("SET k y NX GET", "$1\r\nx\r\n"),
        ("SET new y NX GET", NULL),
        ("GET new", "$1\r\ny\r\n"),
        ("SET none w XX GET", NULL),
        ("SET k v NX XX", SYNTAX),
        ("SET k v EX 10 PX 10", SYNTAX),
        ("SET k v EX 10 KEEPTTL", SYNTAX),
        ("SET k v EX", SYNTAX),
        ("SET k v PERSIST", SYNTAX),
        ("SET k v EX 0", "-ERR invalid expire time in 'set' command\r\n"),
        ("SET k v PX -1", "-ERR invalid expire time in 'set' command\r\n"),
        ("SET k v EX 9223372036854775807", "-ERR invalid expire time in 'set' command\r\n"),
        ("SET k v PX 9223372036854775807", "-ERR invalid expire time in 'set' command\r\n"),
        ("SET k v EX ten", NOT_AN_INTEGER),
        ("SET k v EX 100", OK),
        ("TTL k", ":100\r\n"),
        ("SET k w KEEPTTL", OK),
        ("TTL k", ":100\r\n"),
        ("SET k w", OK),
        ("TTL k", ":-1\r\n"),
        ("SET k w PXAT 99999999999999", OK),
        ("PEXPIRETIME k", ":99999999999999\r\n"),
        ("SET k w EXAT 1", OK),
        ("EXISTS k", ":0\r\n"),
    ]);
}

#[test]
fn the_other_commands_of_strings() {
    script(&[
        ("SETNX k v", ":1\r\n"),
        ("SETNX k w", ":0\r\n"),
        ("SETEX e 100 v", OK),
        ("TTL e", ":100\r\n"),
        ("SETEX e 0 v", "-ERR invalid expire time in 'setex' command\r\n"),
        ("PSETEX e 100000 v", OK),
        ("TTL e", ":100\r\n"),
        ("PSETEX e -1 v", "-ERR invalid expire time in 'psetex' command\r\n"),
        ("GETSET k new", "$1\r\nv\r\n"),
        ("GETSET fresh new", NULL),
        ("GETDEL fresh", "$3\r\nnew\r\n"),
        ("GETDEL fresh", NULL),
        ("GETEX k EX 100", "$3\r\nnew\r\n"),
        ("TTL k", ":100\r\n"),
        ("GETEX k PERSIST", "$3\r\nnew\r\n"),
        ("TTL k", ":-1\r\n"),
        ("GETEX k", "$3\r\nnew\r\n"),
        ("GETEX k PERSIST EX 1", SYNTAX),
        ("GETEX none EX 0", NULL),
        ("GETEX none EX x", NULL),
        ("GETEX none NOPE", SYNTAX),
        ("GETEX k EX x", NOT_AN_INTEGER),
        ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command\r\n"),
        ("GETEX k EXAT 1", "$3\r\nnew\r\n"),
        ("EXISTS k", ":0\r\n"),
        ("APPEND s Hello", ":5\r\n"),
        ("APPEND s World", ":10\r\n"),
        ("STRLEN s", ":10\r\n"),
        ("STRLEN none", ":0\r\n"),
        ("GETRANGE s 0 4", "$5\r\nHello\r\n"),
        ("GETRANGE s -5 -1", "$5\r\nWorld\r\n"),
        ("GETRANGE none 0 -1", "$0\r\n\r\n"),
        ("GETRANGE s x 1", NOT_AN_INTEGER),
    ]);
}

#[test]
fn several_keys_at_once() {
    script(&[
        ("MSET a 1 b 2 c 3", OK),
        ("MGET c none a", "*3\r\n$1\r\n3\r\n$-1\r\n$1\r\n1\r\n"),
        ("MGET", &arity("mget")),
        ("MSET a 1 b", &arity("mset")),
        ("MSET a 1 a 2", OK),
        ("GET a", "$1\r\n2\r\n"),
        ("EXISTS a a b none", ":3\r\n"),
        ("TYPE a", "+string\r\n"),
        ("TYPE none", "+none\r\n"),
        ("DEL a b b none", ":2\r\n"),
        ("UNLINK c", ":1\r\n"),
        ("DBSIZE", ":0\r\n"),
    ]);
}

#[test]
fn counters() {
    let large = format!("$301\r\n{:.0}\r\n", 1e300);
    let overflow = "-ERR increment or decrement would overflow\r\n";
    script(&[
        ("INCR n", ":1\r\n"),
        ("INCRBY n 10", ":11\r\n"),
        ("DECR n", ":10\r\n"),
        ("DECRBY n 30", ":-20\r\n"),
        ("GET n", "$3\r\n-20\r\n"),
        ("INCRBY n x", NOT_AN_INTEGER),
        ("DECRBY n -9223372036854775808", "-ERR decrement would overflow\r\n"),
        ("SET n 9223372036854775807", OK),
        ("INCR n", overflow),
        ("GET n", "$19\r\n9223372036854775807\r\n"),
        ("SET n 01", OK),
        ("INCR n", NOT_AN_INTEGER),
        ("SET n 1 EX 100", OK),
        ("INCR n", ":2\r\n"),
        ("TTL n", ":100\r\n"),
        ("INCRBYFLOAT f 10.5", "$4\r\n10.5\r\n"),
        ("INCRBYFLOAT f 0.1", "$4\r\n10.6\r\n"),
        ("INCRBYFLOAT f -5", "$3\r\n5.6\r\n"),
        ("INCRBYFLOAT f x", "-ERR value is not a valid float\r\n"),
        ("INCRBYFLOAT large 1e300", &large),
        ("INCRBYFLOAT large 1", &large),
        ("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity\r\n"),
    ]);
}

#[test]
fn expiry() {
    script(&[
        ("SET k v", OK),
        ("EXPIRE none 10", ":0\r\n"),
        ("EXPIRE k 100", ":1\r\n"),
        ("EXPIRE k 200 NX", ":0\r\n"),
        ("EXPIRE k 200 XX", ":1\r\n"),
        ("EXPIRE k 50 GT", ":0\r\n"),
        ("EXPIRE k 500 GT", ":1\r\n"),
        ("EXPIRE k 600 LT", ":0\r\n"),
        ("EXPIRE k 100 LT", ":1\r\n"),
        ("TTL k", ":100\r\n"),
        ("PERSIST k", ":1\r\n"),
        ("PERSIST k", ":0\r\n"),
        ("PERSIST none", ":0\r\n"),
        ("EXPIRE k 100 XX", ":0\r\n"),
        ("EXPIRE k 100 GT", ":0\r\n"),
        ("EXPIRE k 100 LT", ":1\r\n"),
        (
            "EXPIRE k 1 NX XX",
            "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n",
        ),
        ("EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible\r\n"),
        ("EXPIRE k 1 NOPE", "-ERR Unsupported option NOPE\r\n"),
        ("EXPIRE k x", NOT_AN_INTEGER),
        ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command\r\n"),
        ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command\r\n"),
        ("PEXPIREAT k 99999999999999", ":1\r\n"),
        ("PEXPIRETIME k", ":99999999999999\r\n"),
        ("EXPIREAT k 99999999999", ":1\r\n"),
        ("EXPIRETIME k", ":99999999999\r\n"),
        ("GET k", "$1\r\nv\r\n"),
        ("EXPIRETIME none", ":-2\r\n"),
        ("PTTL none", ":-2\r\n"),
        ("EXPIREAT k 1", ":1\r\n"),
        ("EXISTS k", ":0\r\n"),
        ("SET k v", OK),
        ("PTTL k", ":-1\r\n"),
        ("PEXPIRE k -1", ":1\r\n"),
        ("EXISTS k", ":0\r\n"),
    ]);
}

#[test]
fn a_key_is_gone_once_its_time_has_come() {
    on_each_engine(|server| {
        let mut client = server.client();
        client.check("SET k v PX 60", OK);
        client.check("SET stays v", OK);
        assert!((1..=60).contains(&client.ask("PTTL k").integer()));
        sleep(80);
        client.check("MGET k stays", "*2\r\n$-1\r\n$1\r\nv\r\n");
        client.check("TTL k", ":-2\r\n");
        assert_eq!(client.scan(""), ["stays"]);
        client.check("SET k v NX", OK);
    });
}

#[test]
fn databases() {
    let range = "-ERR DB index is out of range\r\n";
    script(&[
        ("SET k zero", OK),
        ("SELECT 1", OK),
        ("GET k", NULL),
        ("SET k one", OK),
        ("SET l one", OK),
        ("DBSIZE", ":2\r\n"),
        ("SWAPDB 0 1", OK),
        ("DBSIZE", ":1\r\n"),
        ("GET k", "$4\r\nzero\r\n"),
        ("SELECT 0", OK),
        ("GET k", "$3\r\none\r\n"),
        ("SELECT 16", range),
        ("SELECT -1", range),
        ("SELECT x", NOT_AN_INTEGER),
        ("SWAPDB x 1", "-ERR invalid first DB index\r\n"),
        ("SWAPDB 0 x", "-ERR invalid second DB index\r\n"),
        ("SWAPDB 0 16", range),
        ("FLUSHDB NOPE", SYNTAX),
        ("FLUSHDB ASYNC", OK),
        ("DBSIZE", ":0\r\n"),
        ("SELECT 1", OK),
        ("DBSIZE", ":1\r\n"),
        ("FLUSHALL SYNC", OK),
        ("DBSIZE", ":0\r\n"),
    ]);
}

#[test]
fn scan_filters_and_refuses() {
    script(&[
        ("SCAN x", "-ERR invalid cursor\r\n"),
        ("SCAN 0 COUNT 0", SYNTAX),
        ("SCAN 0 COUNT x", NOT_AN_INTEGER),
        ("SCAN 0 COUNT", SYNTAX),
        ("SCAN 0 NOPE 1", SYNTAX),
        (
            "SCAN 123456",
            "-ERR invalid cursor: it is of another database or was forgotten; start again from \
             0\r\n",
        ),
    ]);
    on_each_engine(|server| {
        let mut client = server.client();
        assert_eq!(client.scan(""), [""; 0]);
        client.check("MSET key1 v other v", OK);
        assert_eq!(client.scan(""), ["key1", "other"]);
        assert_eq!(client.scan("MATCH key*"), ["key1"]);
        assert_eq!(client.scan("COUNT 100 MATCH o[a-z]her TYPE string"), ["other"]);
        assert_eq!(client.scan("TYPE hash"), [""; 0]);
    });
    // An ordered engine of few keys answers in one step.
    TestServer::on("lsm:{}").client().check("SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n");
}

/// The keys that are there all the time, while others come and go, are all returned.
#[test]
fn a_scan_returns_every_key_that_stays() {
    on_each_engine(|server| {
        let (mut client, mut other) = (server.client(), server.client());
        for number in 0..500 {
            client.ask(&format!("SET stays:{number} v"));
        }
        let mut seen = std::collections::HashSet::new();
        let (mut cursor, mut steps) = ("0".to_owned(), 0);
        loop {
            let reply = client.ask(&format!("SCAN {cursor} COUNT 7 MATCH stays:*"));
            let [next, keys] = reply.array() else { panic!("{reply:?}") };
            seen.extend(keys.array().iter().map(|key| key.text().to_owned()));
            cursor = next.text().to_owned();
            if cursor == "0" {
                break;
            }
            steps += 1;
            assert!(steps < 5_000, "the scan does not end");
            other.ask(&format!("SET goes:{steps} v"));
            other.ask(&format!("DEL goes:{}", steps / 2));
        }
        assert!(steps > 10, "the whole in {steps} steps");
        assert_eq!(seen.len(), 500);
    });
}

/// However long the keys, a reply of SCAN is whole, bounded, and gets on.
#[test]
fn a_scan_of_the_longest_keys_answers_in_bounded_steps() {
    // A bound of several keys, and one below a single key.
    for scan_bytes in [300_000, 1_000] {
        for engine in support::ENGINES {
            println!("engine {engine}, at most {scan_bytes} bytes");
            let server = TestServer::with(engine, |config| {
                config.limits.scan_bytes = scan_bytes;
                config.limits.output_hard_bytes = 1 << 20;
                config.limits.output_soft_bytes = 1 << 20;
            });
            let longest = server.server.engine().capabilities().max_key_bytes;
            assert!((1_000..=64 << 10).contains(&longest), "{longest}");
            let mut client = server.client();
            let mut expected: Vec<String> = (0..60)
                .flat_map(|number| {
                    let long = format!("{number:02}{}", "k".repeat(longest - 2));
                    [long, format!("short:{number}")]
                })
                .collect();
            for key in &expected {
                assert_eq!(client.ask(&format!("SET {key} v")).text(), "OK");
            }
            let (mut cursor, mut found, mut steps) = ("0".to_owned(), Vec::new(), 0);
            while steps == 0 || cursor != "0" {
                let reply = client.ask(&format!("SCAN {cursor} COUNT 100000"));
                let [next, keys] = reply.array() else { panic!("{reply:?}") };
                let keys: Vec<String> =
                    keys.array().iter().map(|key| key.text().to_owned()).collect();
                let bytes: usize = keys.iter().map(String::len).sum();
                assert!(bytes <= scan_bytes || keys.len() < 20, "{bytes} bytes, {}", keys.len());
                found.extend(keys);
                cursor = next.text().to_owned();
                steps += 1;
                assert!(steps <= 500, "it does not end");
            }
            // An engine of buckets may visit a few keys where it was asked for one.
            assert!(steps >= 30 * longest / scan_bytes.max(longest), "{steps} steps");
            expected.sort_unstable();
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), expected.len());
            assert!(found == expected);
            // What the pattern keeps out takes no room.
            assert_eq!(client.scan("COUNT 100000 MATCH short:7").len(), 1);
        }
    }
}

#[test]
fn hello_and_the_protocols() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    client.check("HELLO 4", "-NOPROTO unsupported protocol version\r\n");
    client.check("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n");
    client.check("HELLO 3 NOPE", "-ERR Syntax error in HELLO option 'NOPE'\r\n");
    client.check("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'\r\n");
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    client.check("HELLO 3 AUTH someone x", wrong);
    client.check("AUTH someone x", wrong);
    client.check("AUTH default x", OK);
    client.check(
        "AUTH x",
        "-ERR AUTH <password> called without any password configured for the default user. Are \
         you sure your configuration is correct?\r\n",
    );
    client.check("GET none", NULL);
    client.check(
        "HELLO 3 AUTH default x SETNAME me",
        "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n$5\r\nproto\r\n:3\r\n\
         $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n\
         $7\r\nmodules\r\n*0\r\n",
    );
    client.check("CLIENT GETNAME", "$2\r\nme\r\n");
    client.check("GET none", "_\r\n");
    client.check("SET k v XX", "_\r\n");
    client.check("MGET none none", "*2\r\n_\r\n_\r\n");
    client.check("CONFIG GET save", "%1\r\n$4\r\nsave\r\n$0\r\n\r\n");
    client.check("SET k v", OK);
    client.check("GET k", "$1\r\nv\r\n");
    client.check("INCR n", ":1\r\n");
    client.check("COMMAND INFO nope", "*1\r\n_\r\n");
    client.send(b"INFO cluster\r\n");
    client.expect(b"=34\r\ntxt:# Cluster\r\ncluster_enabled:0\r\n\r\n");
    client.check("SELECT 3", OK);
    client.check("RESET", "+RESET\r\n");
    client.check("GET none", NULL);
    client.check("CLIENT GETNAME", NULL);
    client.check("GET k", "$1\r\nv\r\n");
    assert_eq!(client.ask("HELLO").array().len(), 14);
}

#[test]
fn client() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    client.check("CLIENT ID", ":1\r\n");
    client.check("CLIENT SETNAME me", OK);
    client.check("CLIENT GETNAME", "$2\r\nme\r\n");
    client.send(b"CLIENT SETNAME \"a b\"\r\n");
    client.expect(b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n");
    client.check("CLIENT SETINFO LIB-NAME lib", OK);
    client.check("CLIENT SETINFO lib-ver 1.2", OK);
    client.check("CLIENT SETINFO nope 1", "-ERR Unrecognized option 'nope'\r\n");
    client.send(b"CLIENT SETINFO lib-name \"a b\"\r\n");
    client.expect(b"-ERR lib-name cannot contain spaces, newlines or special characters.\r\n");
    client.check("CLIENT NO-EVICT on", OK);
    client.check("CLIENT NO-EVICT x", SYNTAX);
    client.check("CLIENT LIST TYPE x", "-ERR Unknown client type 'x'\r\n");
    client.check("CLIENT LIST ID x", "-ERR Invalid client ID\r\n");
    client.check("CLIENT LIST TYPE pubsub", "$0\r\n\r\n");
    client.check("CLIENT LIST ID -1", "$0\r\n\r\n");
    let mut other = server.client();
    other.check("SELECT 5", OK);
    let list = client.ask("CLIENT LIST").text().to_owned();
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    for part in
        ["id=1 ", " name=me ", " flags=e ", " cmd=client|list ", " lib-name=lib lib-ver=1.2"]
    {
        assert!(lines[0].contains(part), "{part} in {list}");
    }
    assert!(lines[1].starts_with("id=2 addr=127.0.0.1:") && lines[1].contains(" db=5 "), "{list}");
    assert_eq!(client.ask("CLIENT LIST ID 2").text().lines().count(), 1);
    assert!(client.ask("CLIENT INFO").text().starts_with("id=1 "));
}

#[test]
fn client_reply() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    client.send(b"CLIENT REPLY OFF\r\nSET a 1\r\nGET a\r\nGET a\r\nCLIENT REPLY ON\r\nGET a\r\n");
    client.expect(b"+OK\r\n$1\r\n1\r\n");
    client.send(b"CLIENT REPLY SKIP\r\nSET a 2\r\nGET a\r\n");
    client.expect(b"$1\r\n2\r\n");
    client.send(b"CLIENT REPLY SKIP\r\nGET a\r\nGET a\r\nGET none\r\n");
    client.expect(b"$1\r\n2\r\n$-1\r\n");
    client.send(b"CLIENT REPLY SKIP\r\nRESET\r\nPING\r\n");
    client.expect(b"+PONG\r\n");
    client.send(b"CLIENT REPLY OFF\r\nRESET\r\nPING\r\n");
    client.expect(b"+RESET\r\n+PONG\r\n");
    client.check("CLIENT REPLY NOPE", SYNTAX);
}

#[test]
fn command() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    let count = client.ask("COMMAND COUNT").integer();
    assert_eq!(client.ask("COMMAND").array().len() as i64, count);
    assert!(client.ask("COMMAND LIST").array().len() as i64 > count, "with subcommands");
    assert_eq!(client.ask("COMMAND DOCS").array().len() as i64, 2 * count);
    client.check(
        "COMMAND INFO get nope config|get",
        "*3\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n\
         *3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n\
         *1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n\
         $12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n\
         *2\r\n$5\r\nindex\r\n:1\r\n\
         $9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n\
         *6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n\
         $-1\r\n\
         *10\r\n$10\r\nconfig|get\r\n:-3\r\n*4\r\n+admin\r\n+noscript\r\n+loading\r\n+stale\r\n\
         :0\r\n:0\r\n:0\r\n*3\r\n+@admin\r\n+@slow\r\n+@dangerous\r\n*0\r\n*0\r\n*0\r\n",
    );
    client.check("COMMAND GETKEYS MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    client.check("COMMAND GETKEYS GET a", "*1\r\n$1\r\na\r\n");
    client.check("COMMAND GETKEYS PING x", "-ERR The command has no key arguments\r\n");
    client.check(
        "COMMAND GETKEYS GET a b",
        "-ERR Invalid number of arguments specified for command\r\n",
    );
    client.check("COMMAND GETKEYS NOPE a", "-ERR Invalid command specified\r\n");
    client.check("COMMAND LIST FILTERBY PATTERN mg*", "*1\r\n$4\r\nmget\r\n");
    client.check("COMMAND LIST FILTERBY NOPE x", SYNTAX);
    client.check("COMMAND GETKEYS CONFIG NOPE x", "-ERR Invalid command specified\r\n");
    client.check("SHUTDOWN SAVE NOSAVE", SYNTAX);
    client.check("SHUTDOWN NOPE", SYNTAX);
    client.check("SHUTDOWN ABORT", "-ERR No shutdown in progress.\r\n");
    client.check("COMMAND DOCS nope", "*0\r\n");
}

#[test]
fn info_time_and_leaving() {
    on_each_engine(|server| {
        let mut client = server.client();
        client.check("SET k v", OK);
        client.check("GET k", "$1\r\nv\r\n");
        client.check("GET none", NULL);
        let info = client.ask("INFO").text().to_owned();
        for line in [
            "redis_version:7.2.0",
            "connected_clients:1",
            "keyspace_hits:1",
            "keyspace_misses:1",
            "role:master",
        ] {
            assert!(info.lines().any(|it| it == line), "{line} in {info}");
        }
        for section in ["Server", "Clients", "Memory", "Persistence", "Stats", "CPU", "Keyspace"] {
            assert!(info.contains(&format!("# {section}\r\n")), "{section} in {info}");
        }
        assert!(!client.ask("INFO stats").text().contains("# Server"));
        let time = client.ask("TIME");
        assert!(time.array()[0].text().parse::<u64>().unwrap() > 1_600_000_000);
        client.send(b"PING\r\nQUIT\r\nPING\r\n");
        client.expect(b"+PONG\r\n+OK\r\n");
        client.expect_end();
    });
}

/// As a transaction of its own.
fn check_inside(client: &mut Client, words: &str, reply: &str) {
    client.check_in_multi("MULTI", OK);
    client.check_in_multi(words, "+QUEUED\r\n");
    client.check("EXEC", &format!("*1\r\n{reply}"));
}

/// What no engine's key can be is absent, and not to be written.
#[test]
fn a_key_that_is_too_long_is_absent_and_not_written() {
    support::on_each_engine(|server| {
        let limit = server.server.engine().capabilities().max_key_bytes;
        let key = "k".repeat(limit + 1);
        let mut client = server.client();
        client.check("SET short v", "+OK\r\n");
        for (words, reply) in [
            ("GET KEY", "$-1\r\n"),
            ("EXISTS KEY short", ":1\r\n"),
            ("MGET short KEY", "*2\r\n$1\r\nv\r\n$-1\r\n"),
            ("STRLEN KEY", ":0\r\n"),
            ("TTL KEY", ":-2\r\n"),
            ("TYPE KEY", "+none\r\n"),
            ("DEL KEY", ":0\r\n"),
            ("GETDEL KEY", "$-1\r\n"),
            ("EXPIRE KEY 10", ":0\r\n"),
            ("SET KEY v XX", "$-1\r\n"),
            ("RENAME KEY short", "-ERR no such key\r\n"),
            ("COPY KEY short REPLACE", ":0\r\n"),
        ] {
            client.check(&words.replace("KEY", &key), reply);
            check_inside(&mut client, &words.replace("KEY", &key), reply);
        }
        // GETs in a row are read together.
        let gets = ["short", &key, "short"].map(|key| request(&["GET", key]));
        client.send(&gets.concat());
        client.expect(b"$1\r\nv\r\n$-1\r\n$1\r\nv\r\n");
        let refused = format!(
            "-ERR key: invalid argument: the key has {} bytes; this engine's keys have up to \
             {limit}\r\n",
            limit + 1
        );
        for words in [
            "SET KEY v",
            "APPEND KEY v",
            "INCR KEY",
            "MSET short w KEY v",
            "SETBIT KEY 1 1",
            "RENAME short KEY",
            "COPY short KEY",
            "SET KEY v NX",
            "GETSET KEY v",
        ] {
            client.check(&words.replace("KEY", &key), &refused);
            check_inside(&mut client, &words.replace("KEY", &key), &refused);
        }
        client.check("GET short", "$1\r\nv\r\n");
        client.check("KEYS *", "*1\r\n$5\r\nshort\r\n");
    });
}
