//! Starting, stopping, being killed.

mod support;

use std::io::Write;

use ferrokit_engine::KvEngineExt;
use support::{ChildServer, Directory, TestServer, Value, refusal, request, until};

#[test]
fn what_was_answered_under_always_survives_kill_9() {
    let directory = Directory::new();
    let engine = format!("lsm:{}", directory.path());
    let options = ["--engine", engine.as_str(), "--appendfsync", "always", "--workers", "2"];
    let mut expected = 0;
    for round in 0..3 {
        let server = ChildServer::start(&options);
        let mut client = server.client();
        for number in 0..expected {
            assert_eq!(client.ask(&format!("GET k{number}")), Value::Text(format!("v{number}")));
        }
        assert_eq!(client.ask("DBSIZE").integer(), expected);
        client.ask("SELECT 3");
        let lives = if round == 0 { Value::Null } else { Value::Text(format!("{round}")) };
        assert_eq!(client.ask("GET lives"), lives);
        client.ask("INCR lives");
        client.ask("SELECT 0");
        // Pipelined, so that one wait covers many writes.
        for _ in 0..5 {
            let batch: Vec<u8> = (expected..expected + 20)
                .flat_map(|number| request(&["SET", &format!("k{number}"), &format!("v{number}")]))
                .collect();
            client.send(&batch);
            client.expect(&b"+OK\r\n".repeat(20));
            expected += 20;
        }
        // More, unanswered: they may be there or not, but not in the way.
        client.send(b"DEL extra\r\n");
        server.kill();
    }
}

#[test]
fn an_orderly_end_keeps_everything_at_any_setting() {
    for end in ["SIGTERM", "SHUTDOWN"] {
        let directory = Directory::new();
        let engine = format!("lsm:{}", directory.path());
        let options = ["--engine", engine.as_str(), "--appendfsync", "no"];
        let server = ChildServer::start(&options);
        let (mut client, mut idle) = (server.client(), server.client());
        for number in 0..500 {
            client.ask(&format!("SET k{number} v{number} EX 1000"));
        }
        idle.check("PING", "+PONG\r\n");
        if end == "SIGTERM" {
            let pid = server.child.id().to_string();
            let kill = std::process::Command::new("kill").args(["-TERM", &pid]).status();
            assert!(kill.unwrap().success());
        } else {
            client.send(b"SHUTDOWN NOSAVE\r\n");
        }
        client.expect_end();
        idle.expect_end();
        server.expect_success();

        let server = ChildServer::start(&options);
        let mut client = server.client();
        assert_eq!(client.ask("DBSIZE").integer(), 500);
        assert_eq!(client.ask("GET k499").text(), "v499");
        assert!((900..=1000).contains(&client.ask("TTL k0").integer()));
    }
}

#[test]
fn a_shutdown_answers_what_it_was_asked_before() {
    let server = TestServer::on("lsm:{}");
    let mut client = server.client();
    client.check("PING", "+PONG\r\n");
    // So many that it has not read them all when it is told to stop: closing on them would reset
    // the connection, and replies that are under way would be lost.
    client.0.write_all(&b"INCR n\r\n".repeat(50_000)).unwrap();
    // The first reply shows that the batch is being run.
    let first = client.read_value();
    assert_eq!(first, Value::Integer(1));
    let engine = std::sync::Arc::clone(server.server.engine());
    let TestServer { server, .. } = server;
    server.shutdown().unwrap();
    let mut last = 1;
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut client.0, &mut rest).unwrap();
    for line in rest.lines() {
        last += 1;
        assert_eq!(line, format!(":{last}"));
    }
    let key = engine.get(ferrokit_engine::KeyspaceId::DEFAULT, b"n");
    let error = ferrokit_engine::block_on(key).unwrap_err();
    assert_eq!(error.kind(), ferrokit_engine::ErrorKind::Closed);
}

#[test]
fn a_start_that_cannot_succeed_says_in_one_line_what_to_do() {
    let server = TestServer::on("memory:");
    let port = server.server.port().to_string();
    let error = refusal(&["--engine", "memory:", "--port", &port]);
    assert!(error.contains("another process listens there; choose another --port"), "{error}");
    let error = refusal(&["--engine", "nope:", "--port", "0"]);
    assert!(error.contains("no engine \"nope\"; compiled in: "), "{error}");
    let error = refusal(&["--engine", "memory:", "--appendfsync", "always", "--port", "0"]);
    assert!(error.contains("use --appendfsync everysec or another --engine"), "{error}");
    let error = refusal(&["--engine", "memory:?nope=1", "--port", "0"]);
    assert!(error.contains("no option \"nope\""), "{error}");
    let error = refusal(&["--engine", "memory:", "--bind", "203.0.113.1", "--port", "0"]);
    assert!(error.contains("choose another --bind"), "{error}");
    let server = ChildServer::start(&["--engine", "memory:", "--bind", "127.0.0.2"]);
    let port = server.port.to_string();
    let both = ["--engine", "memory:", "--bind", "127.0.0.1", "127.0.0.2"];
    let error = refusal(&[both.as_slice(), &["--port", &port]].concat());
    assert!(error.contains("another process listens there"), "{error}");

    let directory = Directory::new();
    let engine = format!("lsm:{}", directory.path());
    let _first = ChildServer::start(&["--engine", &engine]);
    let error = refusal(&["--engine", &engine, "--port", "0"]);
    assert!(error.contains("locked"), "{error}");
}

/// Nothing but a terminal is sent colours, whatever the environment says of them.
#[test]
fn a_log_that_is_no_terminal_is_plain_text() {
    let server = ChildServer::start(&["--engine", "memory:", "--loglevel", "debug"]);
    assert!(server.log.contains(" WARN "), "{}", server.log);
    let strays: Vec<char> =
        server.log.chars().filter(|it| it.is_control() && *it != '\n').collect();
    assert!(strays.is_empty(), "{strays:?} in {:?}", server.log);
}

#[test]
fn a_server_runs_through_threads_where_it_is_told_to() {
    let directory = Directory::new();
    let engine = format!("lsm:{}", directory.path());
    for io in ["threads", "auto"] {
        let server = ChildServer::start(&["--engine", &engine, "--io", io, "--workers", "3"]);
        let mut client = server.client();
        let io = if io == "auto" { "" } else { io };
        let info = client.ask("INFO server").text().to_owned();
        assert!(info.contains(&format!("io_backend:{io}")), "{info}");
        assert!(info.contains("worker_threads:3"), "{info}");
        client.check("INCR starts", if io.is_empty() { ":2\r\n" } else { ":1\r\n" });
        client.send(b"SHUTDOWN\r\n");
        client.expect_end();
        server.expect_success();
    }
}

/// With `everysec` a write reaches the device within about a second, without any further command.
#[test]
fn every_second_means_a_sync_every_second() {
    let server = TestServer::on("lsm:{}");
    let mut client = server.client();
    let syncs = |client: &mut support::Client| -> u64 {
        support::info_field(client, "engine_log_syncs").parse().unwrap()
    };
    until("the log rests", || {
        let before = syncs(&mut client);
        support::sleep(1200);
        before == syncs(&mut client)
    });
    let before = syncs(&mut client);
    client.check("SET k v", "+OK\r\n");
    until("the log is synced", || syncs(&mut client) > before);
    client.check("CONFIG SET appendfsync no", "+OK\r\n");
    let before = syncs(&mut client);
    client.check("SET k w", "+OK\r\n");
    support::sleep(2500);
    assert_eq!(syncs(&mut client), before);
    client.check("CONFIG SET appendfsync always", "+OK\r\n");
    client.check("SET k x", "+OK\r\n");
    assert!(syncs(&mut client) > before);
}
