//! Clients that mean harm, or do it: each gets an error or is dropped, and others go on.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use ferrokit_server::Limits;
use support::{ChildServer, Client, TestServer, info_field, request, sleep, until};

#[test]
fn what_is_no_request_gets_an_error_and_the_end() {
    let server = TestServer::on("memory:");
    let garbage = [b"\xff\xfe".as_slice(), &vec![b'z'; 100_000]].concat();
    for (input, error) in [
        (b"*1\r\n$999999999999999999\r\n".as_slice(), "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$-5\r\n", "invalid bulk length"),
        (b"*1\r\n!4\r\nPING\r\n", "expected '$', got '!'"),
        (b"*999999999\r\n", "invalid multibulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"GET \"open\r\n", "unbalanced quotes in request"),
        (&garbage, "too big inline request"),
    ] {
        let mut client = server.client();
        client.send(b"PING\r\n");
        client.send(input);
        client.expect(format!("+PONG\r\n-ERR Protocol error: {error}\r\n").as_bytes());
        client.expect_end();
    }
    for line in ["POST / HTTP/1.1\r\nHost: here\r\n\r\n", "host: here\r\n"] {
        let mut client = server.client();
        client.send(line.as_bytes());
        client.expect_end();
    }
    // Requests before the error took effect and were answered; the server goes on.
    server.client().check("PING", "+PONG\r\n");
}

#[test]
fn an_announced_length_takes_no_memory_and_half_a_request_holds_nobody_up() {
    // A process of its own, so that its memory is its own.
    let server = ChildServer::start(&["--engine", "memory:"]);
    let before: u64 = info_field(&mut server.client(), "used_memory_rss").parse().unwrap();
    let mut halves: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = server.client();
            client.send(b"*1000000\r\n$536870912\r\nab");
            client
        })
        .collect();
    let mut other = server.client();
    other.check("SET k v", "+OK\r\n");
    other.check("GET k", "$1\r\nv\r\n");
    let after: u64 = info_field(&mut other, "used_memory_rss").parse().unwrap();
    assert!(after.saturating_sub(before) < 8 << 20, "200 clients hold {} bytes", after - before);
    let mut patient = server.client();
    patient.send(b"*2\r\n$3\r\nGE");
    sleep(300);
    patient.send(b"T\r\n$1\r\nk\r\n");
    patient.expect(b"$1\r\nv\r\n");
    assert!(halves.iter_mut().all(|client| client.0.write_all(b"c").is_ok()));
}

/// What a client sends without ever reading is not read beyond the soft bound, and it is dropped
/// when it has taken nothing for a while.
#[test]
fn a_client_that_never_reads_is_dropped_and_others_go_on() {
    let server = TestServer::memory_with(Limits {
        output_soft_bytes: 1 << 20,
        output_hard_bytes: 8 << 20,
        output_stall: Duration::from_secs(1),
        ..Limits::default()
    });
    let value = "x".repeat(100_000);
    server.client().check(&format!("SET big {value}"), "+OK\r\n");
    std::thread::scope(|scope| {
        let deaf = scope.spawn(|| {
            let mut client = server.client();
            let requests = b"GET big\r\n".repeat(1000);
            // Until the server reads no more, and then cuts the connection.
            while client.0.write_all(&requests).is_ok() {}
        });
        let mut other = server.client();
        until("the deaf client is dropped", || {
            other.check("GET none", "$-1\r\n");
            let unsent: usize = other
                .ask("CLIENT LIST")
                .text()
                .split_whitespace()
                .filter_map(|field| field.strip_prefix("omem="))
                .map(|bytes| bytes.parse::<usize>().unwrap())
                .sum();
            assert!(unsent <= (1 << 20) + (100 << 10) * 70, "{unsent} bytes wait");
            deaf.is_finished()
        });
        let dropped = info_field(&mut other, "client_output_buffer_limit_disconnections");
        assert_eq!(dropped, "1");
    });
}

/// Below the soft bound a client need not take its replies yet, and the server rests meanwhile.
#[test]
fn replies_that_wait_cost_no_time() {
    let server = ChildServer::start(&["--engine", "memory:", "--workers", "1"]);
    let mut client = server.client();
    let value = "x".repeat(100_000);
    client.check(&format!("SET big {value}"), "+OK\r\n");
    let count = 300;
    client.send(&b"GET big\r\n".repeat(count));
    let mut other = server.client();
    let mut cpu_secs = || -> f64 {
        ["used_cpu_user", "used_cpu_sys"]
            .map(|field| info_field(&mut other, field).parse::<f64>().unwrap())
            .iter()
            .sum()
    };
    sleep(500);
    let before = cpu_secs();
    sleep(1500);
    let used = cpu_secs() - before;
    assert!(used < 0.4, "{used} of 1.5 s");
    let reply = format!("$100000\r\n{value}\r\n");
    (0..count).for_each(|_| client.expect(reply.as_bytes()));
}

/// GETs in a row are read together, but it is the client's to take the replies one by one.
#[test]
fn values_that_are_together_beyond_the_hard_limit_are_sent_one_after_the_other() {
    let server = TestServer::memory_with(Limits {
        output_soft_bytes: 1 << 20,
        output_hard_bytes: 2 << 20,
        ..Limits::default()
    });
    let mut client = server.client();
    let value = "x".repeat(300_000);
    client.check(&format!("SET big {value}"), "+OK\r\n");
    let input = [
        b"INCR n\r\n".as_slice(),
        &request(&["GET", "big"]).repeat(100),
        b"INCR n\r\n",
        &request(&["GET", "none"]),
        &request(&["GET", "big"]).repeat(3),
        b"GET \"",
    ];
    client.send(&input.concat());
    let big = format!("$300000\r\n{value}\r\n");
    client.expect(b":1\r\n");
    (0..100).for_each(|_| client.expect(big.as_bytes()));
    client.expect(b":2\r\n$-1\r\n");
    client.expect(big.repeat(3).as_bytes());
    client.send(b"\n");
    client.expect(b"-ERR Protocol error: unbalanced quotes in request\r\n");
    client.expect_end();
    // Half a request behind the run that is given up is read again, too.
    let mut client = server.client();
    client.send(&[&request(&["GET", "big"]).repeat(20), b"*2\r\n$6\r\nEXIS".as_slice()].concat());
    (0..20).for_each(|_| client.expect(big.as_bytes()));
    client.send(b"TS\r\n$4\r\nnone\r\n");
    client.expect(b":0\r\n");
}

#[test]
fn a_reply_beyond_the_hard_limit_ends_the_connection() {
    let server = TestServer::memory_with(Limits {
        output_soft_bytes: 1 << 20,
        output_hard_bytes: 2 << 20,
        ..Limits::default()
    });
    let mut client = server.client();
    client.check(&format!("SET big {}", "x".repeat(1 << 20)), "+OK\r\n");
    let keys = vec!["big"; 1000];
    client.send(&request(&[&["MGET"], keys.as_slice()].concat()));
    client.expect_end();
    let mut other = server.client();
    let dropped = info_field(&mut other, "client_output_buffer_limit_disconnections");
    assert_eq!(dropped, "1");
    other.check("EXISTS big", ":1\r\n");
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = TestServer::with("memory:", |config| {
        config.set("maxclients", "2").unwrap();
    });
    let (mut first, mut second) = (server.client(), server.client());
    first.check("PING", "+PONG\r\n");
    second.check("PING", "+PONG\r\n");
    let mut third = server.client();
    third.expect(b"-ERR max number of clients reached\r\n");
    third.expect_end();
    assert_eq!(info_field(&mut first, "rejected_connections"), "1");
    drop(second);
    until("a place becomes free", || info_field(&mut first, "connected_clients") == "1");
    server.client().check("PING", "+PONG\r\n");
}

#[test]
fn a_silent_client_is_disconnected_where_a_timeout_is_set() {
    let server = TestServer::with("memory:", |config| {
        config.set("timeout", "1").unwrap();
    });
    let mut silent = server.client();
    let mut half = server.client();
    half.send(b"*1\r\n$4\r\nPI");
    silent.check("PING", "+PONG\r\n");
    let mut busy = server.client();
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| {
            silent.expect_end();
            half.expect_end();
        });
        until("the silent ones are gone", || {
            busy.check("PING", "+PONG\r\n");
            ended.is_finished()
        });
    });
    busy.check("PING", "+PONG\r\n");
}

#[test]
fn a_thousand_idle_connections_cost_little() {
    let server = ChildServer::start(&["--engine", "memory:"]);
    let mut active = server.client();
    active.check("PING", "+PONG\r\n");
    let before: u64 = info_field(&mut active, "used_memory_rss").parse().unwrap();
    let mut idle: Vec<Client> = (0..1000)
        .map(|_| {
            let mut client = server.client();
            client.check("PING", "+PONG\r\n");
            client
        })
        .collect();
    assert_eq!(info_field(&mut active, "connected_clients"), "1001");
    let after: u64 = info_field(&mut active, "used_memory_rss").parse().unwrap();
    let each = after.saturating_sub(before) / 1000;
    println!("{each} bytes per idle connection");
    assert!(each < 4 << 10, "{each} bytes each");
    for client in idle.iter_mut().step_by(100) {
        client.check("PING", "+PONG\r\n");
    }
}

/// Bytes at random, many times over: no panic, no hang, and the server still answers.
#[test]
fn random_bytes_harm_nobody() {
    let env = ferrokit_engine::Env::system();
    let seed = env.random.next_u64();
    println!("seed {seed}");
    let mut state = seed;
    let mut next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let server = TestServer::on("memory:");
    let pieces: &[&[u8]] = &[
        b"*",
        b"$",
        b"\r\n",
        b"3",
        b"-1",
        b"0",
        b"GET",
        b"SET ",
        b"k",
        b"\x00\xff",
        b"\"",
        b"'",
        b"MGET a b\r\n",
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        b"EXPIRE k 1 NX\r\n",
        b"HELLO 3\r\n",
        b"SCAN 0 COUNT 9\r\n",
        b"CLIENT REPLY SKIP\r\n",
        b"COMMAND DOCS\r\n",
        b"1234567890",
    ];
    for _ in 0..300 {
        let mut client = server.client();
        let input: Vec<u8> =
            (0..next() % 40).flat_map(|_| pieces[next() % pieces.len()].to_vec()).collect();
        if client.0.write_all(&input).is_ok() {
            let _ = client.0.shutdown(std::net::Shutdown::Write);
            let mut replies = Vec::new();
            let _ = client.0.read_to_end(&mut replies);
        }
    }
    server.client().check("PING", "+PONG\r\n");
    assert!(server.client().ask("INFO clients").text().contains("connected_clients:"));
}
