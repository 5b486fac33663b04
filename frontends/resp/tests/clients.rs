//! CLIENT, MONITOR and RESET over real connections.

mod support;

use std::time::{Duration, Instant};

use support::{Client, TestServer, Value, info_field, sleep, until};

/// A field of a client's line.
fn field(line: &str, name: &str) -> String {
    let prefix = format!("{name}=");
    let found = line.split_whitespace().find_map(|it| it.strip_prefix(&prefix));
    found.unwrap_or_else(|| panic!("no {name} in {line}")).to_owned()
}

fn line_of(client: &mut Client, id: i64) -> String {
    client.ask(&format!("CLIENT LIST ID {id}")).text().to_owned()
}

fn elapsed(work: impl FnOnce()) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the server's time is the system's")]
    let start = Instant::now();
    work();
    start.elapsed()
}

#[test]
fn the_line_of_a_client_has_the_fields_of_redis_in_their_order() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    client.send(b"*2\r\n$6\r\nclient\r\n$4\r\nlist\r\n");
    let Value::Text(line) = client.read_value() else { panic!("no text") };
    let names: Vec<&str> =
        line.split_whitespace().filter_map(|it| Some(it.split_once('=')?.0)).collect();
    let expected = "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free \
                    argv-mem multi-mem rbs rbp obl oll omem tot-mem events cmd user redir resp \
                    lib-name lib-ver";
    assert_eq!(names.join(" "), expected);
    for (name, value) in [
        ("flags", "N"),
        ("multi", "-1"),
        ("qbuf", "26"),
        ("argv-mem", "10"),
        ("omem", "0"),
        ("events", "r"),
        ("cmd", "client|list"),
        ("user", "default"),
        ("redir", "-1"),
        ("resp", "2"),
    ] {
        assert_eq!(field(&line, name), value, "{name}");
    }
    let mut other = server.client();
    let id = other.ask("CLIENT ID").integer();
    other.ask("SELECT 3");
    other.ask("CLIENT NO-EVICT on");
    other.ask("CLIENT NO-TOUCH on");
    other.ask("CLIENT SETINFO lib-name it");
    other.ask("HELLO 3 SETNAME me");
    other.ask("SUBSCRIBE a b");
    other.read_value();
    other.ask("PSUBSCRIBE c*");
    other.ask("SSUBSCRIBE d");
    // Its worker may be about to say that it has nothing more to run.
    until("it is at rest", || field(&line_of(&mut client, id), "qbuf") == "0");
    let line = line_of(&mut client, id);
    for (name, value) in [
        ("flags", "PeT"),
        ("db", "3"),
        ("sub", "2"),
        ("psub", "1"),
        ("ssub", "1"),
        ("name", "me"),
        ("lib-name", "it"),
        ("resp", "3"),
        ("qbuf", "0"),
        ("cmd", "ssubscribe"),
    ] {
        assert_eq!(field(&line, name), value, "{name}");
    }
    assert_eq!(client.ask("CLIENT LIST TYPE pubsub").text(), line_of(&mut client, id));
    assert_eq!(client.ask("CLIENT LIST TYPE master").text(), "");
    assert_eq!(client.ask("CLIENT LIST TYPE normal").text().lines().count(), 1);
    other.check("RESET", "+RESET\r\n");
    assert_eq!(field(&line_of(&mut client, id), "flags"), "N");
}

#[test]
fn clients_are_killed_by_address_and_by_what_they_are() {
    let server = TestServer::on("memory:");
    let mut one = server.client();
    for (request, reply) in [
        ("CLIENT KILL 1.2.3.4:5", "-ERR No such client\r\n"),
        ("CLIENT KILL ID 0", "-ERR client-id should be greater than 0\r\n"),
        ("CLIENT KILL ID x", "-ERR client-id should be greater than 0\r\n"),
        ("CLIENT KILL TYPE foo", "-ERR Unknown client type 'foo'\r\n"),
        ("CLIENT KILL USER nobody", "-ERR No such user 'nobody'\r\n"),
        ("CLIENT KILL SKIPME maybe", "-ERR syntax error\r\n"),
        ("CLIENT KILL ID 1 ADDR", "-ERR syntax error\r\n"),
        ("CLIENT KILL MAXAGE 1", "-ERR syntax error\r\n"),
        ("CLIENT KILL TYPE master", ":0\r\n"),
        ("CLIENT KILL SKIPME yes", ":0\r\n"),
        ("CLIENT UNBLOCK 1", ":0\r\n"),
        ("CLIENT UNBLOCK x", "-ERR value is not an integer or out of range\r\n"),
        ("CLIENT UNBLOCK 1 foo", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n"),
    ] {
        one.check(request, reply);
    }
    let address = |client: &Client| client.0.local_addr().unwrap();
    let mut other = server.client();
    other.check("PING", "+PONG\r\n");
    one.check(&format!("CLIENT KILL {}", address(&other)), "+OK\r\n");
    assert_eq!(one.ask("CLIENT LIST").text().lines().count(), 1, "it is seen no more");
    other.expect_end();
    let mut subscriber = server.client();
    subscriber.ask("SUBSCRIBE c");
    // It hears no more from then on, whether its own task has seen its end or not.
    one.send(b"CLIENT KILL TYPE pubsub SKIPME yes\r\nPUBLISH c m\r\nPUBSUB NUMSUB c\r\n");
    one.expect(b":1\r\n:0\r\n*2\r\n$1\r\nc\r\n:0\r\n");
    one.check("PUBSUB CHANNELS", "*0\r\n");
    subscriber.expect_end();
    let mut other = server.client();
    let id = other.ask("CLIENT ID").integer();
    one.check(&format!("CLIENT KILL ID {id} ADDR 1.2.3.4:5"), ":0\r\n");
    one.check(
        &format!("CLIENT KILL ID {id} USER default LADDR 127.0.0.1:{}", server.server.port()),
        ":1\r\n",
    );
    other.expect_end();
    // Its own end comes after the reply.
    let own = format!("CLIENT KILL ADDR {} SKIPME no\r\nPING\r\n", address(&one));
    one.send(own.as_bytes());
    one.expect(b":1\r\n");
    one.expect_end();
}

#[test]
fn a_pause_puts_off_writes_or_everything() {
    let server = TestServer::on("memory:");
    let (mut one, mut other) = (server.client(), server.client());
    for (request, reply) in [
        ("CLIENT PAUSE -1", "-ERR timeout is negative\r\n"),
        ("CLIENT PAUSE x", "-ERR timeout is not an integer or out of range\r\n"),
        ("CLIENT PAUSE 9223372036854775807", "-ERR timeout is out of range\r\n"),
        ("CLIENT PAUSE 9223372036854775808", "-ERR timeout is not an integer or out of range\r\n"),
        ("CLIENT PAUSE 1 foo", "-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n"),
        (
            "CLIENT PAUSE 1 all x",
            "-ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.\
             \r\n",
        ),
        ("SUBSCRIBE c", "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"),
        ("RESET", "+RESET\r\n"),
        ("CLIENT PAUSE 100000 WRITE", "+OK\r\n"),
    ] {
        one.send(format!("{request}\r\n").as_bytes());
        one.expect(reply.as_bytes());
    }
    let mut subscriber = server.client();
    subscriber.ask("SUBSCRIBE c");
    // What comes before the write is answered, an error too; the write and what follows waits.
    other.send(b"GET k\r\nSET k\r\nSET k v\r\nGET k\r\n");
    other.expect(b"$-1\r\n-ERR wrong number of arguments for 'set' command\r\n");
    let mut publisher = server.client();
    publisher.send(b"PUBLISH c m\r\n");
    until("both wait", || {
        let list = one.ask("CLIENT LIST");
        list.text().lines().filter(|line| field(line, "flags") == "b").count() == 2
    });
    one.check("GET k", "$-1\r\n");
    one.check("CLIENT UNPAUSE", "+OK\r\n");
    other.expect(b"+OK\r\n$1\r\nv\r\n");
    publisher.expect(b":1\r\n");
    let paused = elapsed(|| {
        one.send(b"CLIENT PAUSE 300\r\nPING\r\n");
        one.expect(b"+OK\r\n+PONG\r\n");
    });
    assert!(paused >= Duration::from_millis(290), "{paused:?}");
    let after = elapsed(|| one.check("GET k", "$1\r\nv\r\n"));
    assert!(after < Duration::from_millis(250), "{after:?}");
    // Who leaves while it waits is gone.
    one.check("CLIENT PAUSE 100000 WRITE", "+OK\r\n");
    let mut leaving = server.client();
    leaving.check("PING", "+PONG\r\n");
    let connected = info_field(&mut one, "connected_clients");
    leaving.send(b"SET gone 1\r\n");
    until("it waits", || info_field(&mut one, "blocked_clients") == "1");
    drop(leaving);
    until("it is gone", || info_field(&mut one, "connected_clients") != connected);
    one.check("CLIENT UNPAUSE", "+OK\r\n");
    sleep(50);
    one.check("GET gone", "$-1\r\n");
}

/// The rest of a line of MONITOR, behind its time.
fn monitored(monitor: &mut Client) -> String {
    let Value::Text(line) = monitor.read_value() else { panic!("no line") };
    let Some((time, rest)) = line.split_once(' ') else { panic!("no time in {line}") };
    assert!(time.parse::<f64>().is_ok_and(|time| time > 1e9), "{time}");
    rest.to_owned()
}

#[test]
fn a_monitor_sees_every_command_but_no_secret() {
    let server = TestServer::on("memory:");
    let (mut monitor, mut one) = (server.client(), server.client());
    one.check("SET k v", "+OK\r\n");
    monitor.check("MONITOR", "+OK\r\n");
    let own = monitor.0.local_addr().unwrap();
    assert_eq!(monitored(&mut monitor), format!("[0 {own}] \"ECHO\" \"~~\""));
    let address = one.0.local_addr().unwrap();
    one.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\n\"\\\n\x01x\r\nget k\r\nGET k\r\nGET k\r\nSELECT 3\r\n");
    let value = "$5\r\n\"\\\n\x01x\r\n";
    one.expect(format!("+OK\r\n{value}{value}{value}+OK\r\n").as_bytes());
    // Administration, what is refused before it runs, and passwords are not shown.
    for request in ["CONFIG GET port", "NOSUCH", "GET", "AUTH default secret"] {
        one.ask(request);
    }
    one.ask("HELLO 3 AUTH default secret SETNAME me");
    for (database, shown) in [
        (0, r#""SET" "k" "\"\\\n\x01x""#),
        (0, r#""get" "k""#),
        (0, r#""GET" "k""#),
        (0, r#""GET" "k""#),
        (3, r#""SELECT" "3""#),
        (3, r#""AUTH" "(redacted)" "(redacted)""#),
        (3, r#""HELLO" "3" "AUTH" "(redacted)" "(redacted)" "SETNAME" "me""#),
    ] {
        assert_eq!(monitored(&mut monitor), format!("[{database} {address}] {shown}"));
    }
    let lines = one.ask("CLIENT LIST");
    let line = lines.text().lines().find(|line| field(line, "addr") == own.to_string()).unwrap();
    assert_eq!(field(line, "flags"), "O");
    // Its own commands follow their replies; RESET ends it.
    monitor.send(b"PING\r\nMONITOR\r\nRESET\r\nPING\r\n");
    monitor.expect(b"+PONG\r\n");
    assert_eq!(monitored(&mut monitor), format!("[0 {own}] \"PING\""));
    monitor.expect(b"+RESET\r\n+PONG\r\n");
    one.check("GET k", "_\r\n");
    monitor.check("PING", "+PONG\r\n");
    // One that leaves is forgotten.
    let mut leaving = server.client();
    leaving.check("MONITOR", "+OK\r\n");
    drop(leaving);
    until("it is gone", || info_field(&mut one, "connected_clients") == "2");
    one.check("PING", "+PONG\r\n");
}
