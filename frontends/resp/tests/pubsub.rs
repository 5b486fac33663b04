//! Publish and subscribe over real connections: what subscribers get, in which order, and what
//! becomes of those that do not take it.

mod support;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{ChildServer, Client, TestServer, Value, info_field, request, sleep, until};

/// An array of strings, or a push, as bytes.
fn frame(kind: char, words: &[&str]) -> String {
    let strings: String = words.iter().map(|it| format!("${}\r\n{it}\r\n", it.len())).collect();
    format!("{kind}{}\r\n{strings}", words.len())
}

/// The confirmation of a subscription, or of its end.
fn confirmed(kind: char, word: &str, name: &str, count: usize) -> String {
    frame(kind, &[word, name]).replacen('2', "3", 1) + &format!(":{count}\r\n")
}

#[test]
fn in_resp2_a_subscriber_gets_messages_and_may_do_little_else() {
    let server = TestServer::on("memory:");
    let (mut one, mut other) = (server.client(), server.client());
    one.send(b"SUBSCRIBE x y x\r\n");
    for (name, count) in [("x", 1), ("y", 2), ("x", 2)] {
        one.expect(confirmed('*', "subscribe", name, count).as_bytes());
    }
    other.check("PUBLISH x hi", ":1\r\n");
    one.expect(frame('*', &["message", "x", "hi"]).as_bytes());
    for (request, reply) in [
        (
            "GET k",
            "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
             RESET are allowed in this context\r\n",
        ),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: \r\n"),
        ("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
        ("PING hello", "*2\r\n$4\r\npong\r\n$5\r\nhello\r\n"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n"),
        (
            "CLIENT LIST",
            "-ERR Can't execute 'client|list': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / \
             QUIT / RESET are allowed in this context\r\n",
        ),
        ("UNSUBSCRIBE x", &confirmed('*', "unsubscribe", "x", 1)),
        ("UNSUBSCRIBE nosuch", &confirmed('*', "unsubscribe", "nosuch", 1)),
        ("UNSUBSCRIBE", &confirmed('*', "unsubscribe", "y", 0)),
        ("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"),
        ("PUNSUBSCRIBE", "*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n"),
        ("SUNSUBSCRIBE", "*3\r\n$12\r\nsunsubscribe\r\n$-1\r\n:0\r\n"),
        ("GET k", "$-1\r\n"),
        ("PING", "+PONG\r\n"),
    ] {
        one.send(format!("{request}\r\n").as_bytes());
        println!("{request}");
        one.expect(reply.as_bytes());
    }
    other.check("PUBLISH x hi", ":0\r\n");
    // A subscription ends with RESET, without a word.
    one.send(b"PSUBSCRIBE a*\r\nRESET\r\nGET k\r\n");
    one.expect((confirmed('*', "psubscribe", "a*", 1) + "+RESET\r\n$-1\r\n").as_bytes());
    other.check("PUBLISH abc hi", ":0\r\n");
    one.send(b"SUBSCRIBE x\r\nQUIT\r\n");
    one.expect((confirmed('*', "subscribe", "x", 1) + "+OK\r\n").as_bytes());
    one.expect_end();
}

#[test]
fn in_resp3_messages_are_pushes_and_commands_go_on() {
    let server = TestServer::on("memory:");
    let mut one = server.client();
    one.ask("HELLO 3");
    one.check("SUBSCRIBE x", &confirmed('>', "subscribe", "x", 1));
    one.check("SET k v", "+OK\r\n");
    one.check("PING", "+PONG\r\n");
    one.check("SSUBSCRIBE s", &confirmed('>', "ssubscribe", "s", 1));
    one.check("PSUBSCRIBE x*", &confirmed('>', "psubscribe", "x*", 2));
    // What a command sends its own client follows the command's reply, before the next one's.
    one.send(b"PUBLISH x self\r\nPING\r\nSPUBLISH s own\r\nGET k\r\n");
    one.expect(b":2\r\n");
    one.expect(frame('>', &["message", "x", "self"]).as_bytes());
    one.expect(frame('>', &["pmessage", "x*", "x", "self"]).as_bytes());
    one.expect(b"+PONG\r\n:1\r\n");
    one.expect(frame('>', &["smessage", "s", "own"]).as_bytes());
    one.expect(b"$1\r\nv\r\n");
    for (request, reply) in [
        ("PUBSUB CHANNELS", "*1\r\n$1\r\nx\r\n"),
        ("PUBSUB CHANNELS y*", "*0\r\n"),
        ("PUBSUB SHARDCHANNELS", "*1\r\n$1\r\ns\r\n"),
        ("PUBSUB NUMSUB x y", "*4\r\n$1\r\nx\r\n:1\r\n$1\r\ny\r\n:0\r\n"),
        ("PUBSUB NUMSUB", "*0\r\n"),
        ("PUBSUB SHARDNUMSUB s", "*2\r\n$1\r\ns\r\n:1\r\n"),
        ("PUBSUB NUMPAT", ":1\r\n"),
        (
            "PUBSUB CHANNELS a b",
            "-ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB \
             HELP.\r\n",
        ),
        ("PUBSUB FOO", "-ERR unknown subcommand 'FOO'. Try PUBSUB HELP.\r\n"),
        // Replies are off, pushes are not.
        ("CLIENT REPLY SKIP", ""),
        ("SUBSCRIBE y", &confirmed('>', "subscribe", "y", 3)),
        ("SUNSUBSCRIBE", &confirmed('>', "sunsubscribe", "s", 0)),
        ("PUNSUBSCRIBE x*", &confirmed('>', "punsubscribe", "x*", 2)),
    ] {
        one.send(&request_of(request));
        println!("{request}");
        one.expect(reply.as_bytes());
    }
    let help = one.ask("PUBSUB HELP");
    assert_eq!(help.array().len(), 14);
    assert_eq!(help.array()[13].text(), "    Print this help.");
    // Back in RESP2 it is a subscriber as any other.
    one.ask("HELLO 2");
    let refused = one.ask("GET k");
    assert!(matches!(&refused, Value::Error(text) if text.contains("Can't execute 'get'")));
    server.client().check("PUBLISH x m", ":1\r\n");
    one.expect(frame('*', &["message", "x", "m"]).as_bytes());
}

fn request_of(words: &str) -> Vec<u8> {
    request(&words.split(' ').collect::<Vec<_>>())
}

/// Clients on both workers: all subscribers of a channel see the messages of all publishers in the
/// same order, and each publisher's in its own.
#[test]
fn messages_of_many_publishers_reach_all_subscribers_in_one_order() {
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 500;
    let server = TestServer::on("memory:");
    let mut subscribers: Vec<Client> = (0..12)
        .map(|number| {
            let mut client = server.client();
            if number % 2 == 0 {
                client.ask("HELLO 3");
            }
            client.ask("SUBSCRIBE c");
            client
        })
        .collect();
    let received: Vec<Vec<String>> = std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let mut client = server.client();
            scope.spawn(move || {
                let publish = |number| format!("PUBLISH c {publisher}-{number}\r\n");
                client.send((0..MESSAGES).map(publish).collect::<String>().as_bytes());
                (0..MESSAGES).for_each(|_| client.expect(b":12\r\n"));
            });
        }
        let readers: Vec<_> = subscribers
            .iter_mut()
            .map(|client| {
                scope.spawn(|| {
                    let all = 0..PUBLISHERS * MESSAGES;
                    all.map(|_| client.read_value().array()[2].text().to_owned()).collect()
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    for seen in &received {
        assert!(*seen == received[0], "subscribers differ in the order");
        for publisher in 0..PUBLISHERS {
            let prefix = format!("{publisher}-");
            let own = seen.iter().filter_map(|message| message.strip_prefix(&prefix));
            let own: Vec<usize> = own.map(|number| number.parse().unwrap()).collect();
            assert_eq!(own, (0..MESSAGES).collect::<Vec<_>>());
        }
    }
}

/// Ends a loop of another thread, a failed test included.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// While messages rush in, replies stay whole, and after the confirmation of an end none comes.
#[test]
fn a_push_is_never_inside_a_reply_nor_behind_the_end_of_its_subscription() {
    let server = TestServer::on("memory:");
    let mut one = server.client();
    let value = "v".repeat(100_000);
    one.check(&format!("SET big {value}"), "+OK\r\n");
    one.ask("HELLO 3");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = server.client();
            while !over.load(Ordering::Relaxed) {
                client.ask("PUBLISH c message");
            }
        });
        let _end = SetOnDrop(&over);
        let mut messages = 0;
        for _ in 0..200 {
            one.send(b"SUBSCRIBE c\r\nGET big\r\nMGET big none big\r\nUNSUBSCRIBE c\r\nPING\r\n");
            let mut replies = Vec::new();
            while replies.last().is_none_or(|it| *it != Value::Text("PONG".into())) {
                let value = one.read_value();
                let is_message =
                    matches!(&value, Value::Array(it) if it[0] == Value::Text("message".into()));
                if is_message {
                    messages += 1;
                    assert!((1..=3).contains(&replies.len()), "after {replies:?}");
                } else {
                    replies.push(value);
                }
            }
            let big = Value::Text(value.clone());
            assert_eq!(replies.len(), 5);
            assert!(replies[1] == big, "a reply was torn");
            assert!(replies[2] == Value::Array(vec![big.clone(), Value::Null, big]), "torn");
        }
        assert!(messages > 0, "no message ever came");
    });
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off_and_others_go_on() {
    let server = TestServer::with("memory:", |config| {
        config.set("client-output-buffer-limit", "pubsub 1mb 0 0").unwrap();
    });
    let (mut slow, mut good) = (server.client(), server.client());
    slow.ask("SUBSCRIBE c");
    good.ask("SUBSCRIBE c");
    let mut publisher = server.client();
    let message = "m".repeat(100_000);
    let mut sent = 0;
    while publisher.ask(&format!("PUBLISH c {message}")).integer() == 2 {
        sent += 1;
        good.expect(frame('*', &["message", "c", &message]).as_bytes());
        assert!(sent < 1000, "it is never cut off");
    }
    good.expect(frame('*', &["message", "c", &message]).as_bytes());
    until("it is gone", || info_field(&mut publisher, "connected_clients") == "2");
    assert_eq!(info_field(&mut publisher, "client_output_buffer_limit_disconnections"), "1");
    publisher.check("PUBSUB NUMSUB c", "*2\r\n$1\r\nc\r\n:1\r\n");
    // The limit is of the class: a normal client may let more wait.
    let mut normal = server.client();
    normal.check(&format!("SET big {message}"), "+OK\r\n");
    normal.send(&b"GET big\r\n".repeat(100));
    sleep(100);
    (0..100).for_each(|_| normal.expect(format!("$100000\r\n{message}\r\n").as_bytes()));
}

#[test]
fn a_soft_limit_holds_for_some_seconds() {
    let server = TestServer::on("memory:");
    let mut admin = server.client();
    admin.send(&request(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 100kb 1"]));
    admin.expect(b"+OK\r\n");
    let mut slow = server.client();
    slow.ask("SUBSCRIBE c");
    let message = "m".repeat(1 << 20);
    // More than the system's buffers take.
    (0..20).for_each(|_| assert_eq!(admin.ask(&format!("PUBLISH c {message}")).integer(), 1));
    admin.check("PUBLISH c small", ":1\r\n");
    until("it is cut off", || admin.ask("PUBLISH c small").integer() == 0);
    let lagged = info_field(&mut admin, "client_output_buffer_limit_disconnections");
    assert_eq!(lagged, "1");
}

#[test]
fn subscribers_may_leave_at_any_moment() {
    let server = TestServer::on("memory:");
    let mut publisher = server.client();
    let message = "m".repeat(300_000);
    for round in 0..20 {
        let mut leaving: Vec<Client> = (0..5)
            .map(|_| {
                let mut client = server.client();
                client.ask("SUBSCRIBE c");
                client.ask("PSUBSCRIBE c*");
                client
            })
            .collect();
        publisher.send(&request(&["PUBLISH", "c", &message]));
        // Some leave in the middle of a message, some in the middle of a request.
        for (number, client) in leaving.iter_mut().enumerate() {
            if (number + round) % 2 == 0 {
                let mut part = [0; 1000];
                std::io::Read::read_exact(&mut client.0, &mut part).unwrap();
            } else {
                client.0.write_all(b"*2\r\n$9\r\nSUBSCR").unwrap();
            }
        }
        drop(leaving);
        // Some of this round may be gone already, some of the one before not yet.
        assert!((0..=20).contains(&publisher.read_value().integer()));
    }
    until("all are forgotten", || publisher.ask("PUBLISH c x").integer() == 0);
    publisher.check("PUBSUB NUMPAT", ":0\r\n");
    publisher.check("PUBSUB CHANNELS", "*0\r\n");
}

#[test]
fn an_idle_subscriber_is_not_silent_and_costs_little() {
    let server = ChildServer::start(&["--engine", "memory:", "--timeout", "1"]);
    let mut active = server.client();
    let before: u64 = info_field(&mut active, "used_memory_rss").parse().unwrap();
    let mut idle: Vec<Client> = (0..500)
        .map(|_| {
            let mut client = server.client();
            client.ask("SUBSCRIBE c");
            client
        })
        .collect();
    let mut plain = server.client();
    assert_eq!(active.ask("PUBLISH c m").integer(), 500);
    let after: u64 = info_field(&mut active, "used_memory_rss").parse().unwrap();
    let each = after.saturating_sub(before) / 500;
    println!("{each} bytes per idle subscriber");
    assert!(each < 5 << 10, "{each} bytes each");
    // Others are disconnected when they are silent for too long.
    sleep(3000);
    plain.expect_end();
    assert_eq!(server.client().ask("PUBLISH c m").integer(), 500);
    let message = frame('*', &["message", "c", "m"]);
    idle.iter_mut().for_each(|client| client.expect(message.repeat(2).as_bytes()));
}
