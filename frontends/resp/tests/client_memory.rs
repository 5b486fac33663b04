//! `maxmemory-clients`: what clients have the server hold is bounded, and the heaviest goes first.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use support::{Client, TestServer, info_field, request, until};

/// The field of a client's own line in CLIENT LIST.
fn own_field(client: &mut Client, field: &str) -> usize {
    let line = client.ask("CLIENT INFO");
    let prefix = format!("{field}=");
    let found = line.text().split_whitespace().find_map(|it| it.strip_prefix(&prefix));
    found.unwrap().parse().unwrap()
}

/// A client in a transaction that holds so many kilobytes.
fn queueing(server: &TestServer, kilobytes: usize) -> Client {
    let mut client = server.client();
    client.check_in_multi("MULTI", "+OK\r\n");
    for _ in 0..kilobytes {
        client.check_in_multi(&format!("SET k {}", "x".repeat(1000)), "+QUEUED\r\n");
    }
    client
}

/// Sends half a request of so many kilobytes.
fn send_half(client: &mut Client, kilobytes: usize) {
    client.send(b"*2\r\n$4\r\nECHO\r\n$9000000\r\n");
    client.send(&vec![b'x'; kilobytes << 10]);
}

#[test]
fn the_heaviest_goes_first_and_the_others_stay() {
    let server = TestServer::on("memory:");
    let mut other = server.client();
    let mut light = queueing(&server, 100);
    let mut heavy = queueing(&server, 500);
    let mut half = server.client();
    send_half(&mut half, 2000);
    let mem = || info_field(&mut server.client(), "mem_clients_normal").parse::<usize>().unwrap();
    until("all are counted", || mem() > 2_600_000);
    other.check("CONFIG SET maxmemory-clients 4mb", "+OK\r\n");
    assert_eq!(info_field(&mut other, "evicted_clients"), "0");
    // From here on it is beyond, whoever it is that runs something.
    other.check("CONFIG SET maxmemory-clients 1mb", "+OK\r\n");
    half.expect_end();
    assert_eq!(info_field(&mut other, "evicted_clients"), "1");
    other.check("CONFIG SET maxmemory-clients 500kb", "+OK\r\n");
    heavy.expect_end();
    assert_eq!(info_field(&mut other, "evicted_clients"), "2");
    light.check_in_multi("DISCARD", "+OK\r\n");
    assert!(mem() < 50_000, "{} bytes are left", mem());
}

#[test]
fn whoever_grows_beyond_the_limit_is_cut_off_by_itself() {
    let server = TestServer::with("memory:", |config| {
        config.set("maxmemory-clients", "10mb").unwrap();
    });
    let mut other = server.client();
    // Replies that are not taken, far beyond what the system's buffers hold.
    let mut deaf = server.client();
    deaf.check(&format!("SET big {}", "x".repeat(1 << 20)), "+OK\r\n");
    deaf.send(&request(&["GET", "big"]).repeat(30));
    until("it is cut off", || info_field(&mut other, "evicted_clients") == "1");
    // Commands queued without end.
    let mut endless = server.client();
    endless.check_in_multi("MULTI", "+OK\r\n");
    let queued = request(&["SET", "k", &"x".repeat(1000)]);
    while endless
        .0
        .try_clone()
        .is_ok_and(|mut it| std::io::Write::write_all(&mut it, &queued).is_ok())
    {}
    until("it is cut off", || info_field(&mut other, "evicted_clients") == "2");
    // Watches, too.
    let mut watching = server.client();
    let keys: Vec<String> = (0..100_000).map(|it| format!("WATCH key:{it}\r\n")).collect();
    let _ = std::io::Write::write_all(&mut watching.0, keys.concat().as_bytes());
    until("it is cut off", || info_field(&mut other, "evicted_clients") == "3");
}

#[test]
fn a_client_that_may_not_be_evicted_is_counted_and_stays() {
    let server = TestServer::with("memory:", |config| {
        config.set("maxmemory", "100mb").unwrap();
        config.set("maxmemory-clients", "1%").unwrap();
    });
    let mut kept = server.client();
    kept.check("CLIENT NO-EVICT ON", "+OK\r\n");
    let mut watcher = server.client();
    watcher.check("CLIENT NO-EVICT ON", "+OK\r\n");
    send_half(&mut kept, 2000);
    let mut other = server.client();
    until("it is counted", || {
        info_field(&mut watcher, "mem_clients_normal").parse::<usize>().unwrap() > 2_000_000
    });
    // All others may go; that one may not. Who comes after that is served.
    until("a new one is served", || {
        let _ = std::io::Write::write_all(&mut other.0, b"PING\r\n");
        other = server.client();
        let mut reply = [0; 7];
        let served = std::io::Write::write_all(&mut other.0, b"PING\r\n")
            .and_then(|()| std::io::Read::read_exact(&mut other.0, &mut reply));
        served.is_ok() && reply == *b"+PONG\r\n"
    });
    kept.send(&vec![b'x'; 9_000_000 - (2000 << 10)]);
    kept.send(b"\r\n");
    kept.expect(b"$9000000\r\n");
}

#[test]
fn what_a_session_remembers_shows_in_its_line() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    let before = own_field(&mut client, "tot-mem");
    client.check("WATCH a b", "+OK\r\n");
    let watching = own_field(&mut client, "tot-mem");
    assert!(watching > before, "{watching} bytes, {before} before");
    client.check("UNWATCH", "+OK\r\n");
    assert_eq!(own_field(&mut client, "multi-mem"), 0);
    let mut queueing = queueing(&server, 10);
    let list = client.ask("CLIENT LIST");
    let shown = list.text().split_whitespace().filter_map(|it| it.strip_prefix("multi-mem="));
    let most = shown.map(|bytes| bytes.parse::<usize>().unwrap()).max().unwrap();
    assert!((10_000..15_000).contains(&most), "{most} bytes");
    queueing.check_in_multi("DISCARD", "+OK\r\n");
}

#[test]
fn the_parameter_takes_bytes_or_a_percentage() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    let failed = "-ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - ";
    for value in ["x", "%", "-1%", "1.5%", "-5"] {
        let reply = format!("{failed}argument must be a memory or percent value\r\n");
        client.check(&format!("CONFIG SET maxmemory-clients {value}"), &reply);
    }
    let reply = format!("{failed}percentage argument must be less or equal to 100\r\n");
    client.check("CONFIG SET maxmemory-clients 101%", &reply);
    for (value, shown) in [("5%", "5%"), ("100mb", "104857600"), ("0", "0")] {
        client.check(&format!("CONFIG SET maxmemory-clients {value}"), "+OK\r\n");
        let got = client.ask("CONFIG GET maxmemory-clients");
        assert_eq!(got.array()[1].text(), shown);
    }
}
