//! Pipelines: order, splits, runs of GETs, and many clients on one key.

mod support;

use std::io::{Read, Write};

use support::{TestServer, on_each_engine, request};

#[test]
fn a_run_of_gets_is_answered_in_order_whatever_lies_between() {
    on_each_engine(|server| {
        let mut client = server.client();
        let (mut input, mut expected) = (Vec::new(), Vec::new());
        for number in 0..300 {
            if number % 3 != 0 {
                let value = "v".repeat(number);
                input.extend(request(&["SET", &format!("k{number}"), &value]));
                expected.extend_from_slice(b"+OK\r\n");
            }
        }
        for number in 0..300 {
            // Runs of GETs longer than a batch, broken by other commands and by errors.
            input.extend(request(&["get", &format!("k{number}")]));
            if number % 3 == 0 {
                expected.extend_from_slice(b"$-1\r\n");
            } else {
                expected.extend_from_slice(format!("${number}\r\n").as_bytes());
                expected.extend_from_slice("v".repeat(number).as_bytes());
                expected.extend_from_slice(b"\r\n");
            }
            if number == 100 {
                input.extend_from_slice(b"PING\r\nGET\r\nGET k1\r\n");
                expected.extend_from_slice(b"+PONG\r\n");
                expected.extend_from_slice(b"-ERR wrong number of arguments for 'get' command\r\n");
                expected.extend_from_slice(b"$1\r\nv\r\n");
            }
        }
        client.send(&input);
        client.expect(&expected);
    });
}

/// A GET behind a SET of its key sees it, and a SET behind a GET is not seen.
#[test]
fn commands_of_a_pipeline_take_effect_in_order() {
    on_each_engine(|server| {
        let mut client = server.client();
        let (mut input, mut expected) = (Vec::new(), Vec::new());
        for number in 0..200 {
            input.extend(request(&["SET", "k", &number.to_string()]));
            input.extend(request(&["GET", "k"]));
            input.extend(request(&["GET", "k"]));
            let value = number.to_string();
            let bulk = format!("${}\r\n{value}\r\n", value.len());
            expected.extend_from_slice(format!("+OK\r\n{bulk}{bulk}").as_bytes());
        }
        client.send(&input);
        client.expect(&expected);
    });
}

#[test]
fn a_request_may_arrive_in_any_pieces() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    let mut input = request(&["SET", "key", "value\r\nwith lines"]);
    input.extend_from_slice(b"GET key\r\n");
    input.extend(request(&["MGET", "key", "none"]));
    let value = "$17\r\nvalue\r\nwith lines\r\n";
    let expected = format!("+OK\r\n{value}*2\r\n{value}$-1\r\n").into_bytes();
    for cut in 0..input.len() {
        client.send(&input[..cut]);
        // An answered request of another connection shows that the first piece was looked at.
        server.client().check("PING", "+PONG\r\n");
        client.send(&input[cut..]);
        client.expect(&expected);
    }
    for byte in &input {
        client.send(&[*byte]);
    }
    client.expect(&expected);
}

#[test]
fn values_of_many_megabytes_go_in_and_out() {
    on_each_engine(|server| {
        let limit = server.server.engine().capabilities().max_value_bytes;
        let mut client = server.client();
        for len in [100_000, 3_000_000, 20_000_000] {
            let value: String =
                (0..len).map(|index| char::from(b'a' + (index % 23) as u8)).collect();
            client.send(&request(&["SET", "big", &value]));
            if len > limit {
                let error = client.read_value();
                assert!(format!("{error:?}").contains("the limit is"), "{error:?}");
                continue;
            }
            client.expect(b"+OK\r\n");
            client.send(b"GET big\r\n");
            client.expect(format!("${len}\r\n{value}\r\n").as_bytes());
        }
        client.check("PING", "+PONG\r\n");
    });
}

/// A client may send a long pipeline before it reads the first reply.
#[test]
fn a_long_pipeline_may_be_sent_before_its_replies_are_read() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    let value = "x".repeat(1000);
    client.check(&format!("SET k {value}"), "+OK\r\n");
    let count = 30_000;
    client.0.write_all(&b"GET k\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".repeat(count / 2)).unwrap();
    let reply = format!("$1000\r\n{value}\r\n");
    let mut replies = vec![0; reply.len() * count];
    client.0.read_exact(&mut replies).unwrap();
    assert!(replies.chunks(reply.len()).all(|it| it == reply.as_bytes()));
}

#[test]
fn a_counter_counts_every_increment_of_sixteen_connections() {
    on_each_engine(|server| {
        let (connections, rounds, batch) = (16, 20, 25);
        std::thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(|| {
                    let mut client = server.client();
                    let mut last = 0;
                    for _ in 0..rounds {
                        client.send(&b"INCR hot\r\n".repeat(batch));
                        for _ in 0..batch {
                            let now = client.read_value().integer();
                            assert!(now > last, "{now} after {last}");
                            last = now;
                        }
                    }
                });
            }
        });
        let total = connections * rounds * batch;
        assert_eq!(server.client().ask("GET hot").text(), total.to_string());
    });
}

/// MSET is atomic: a reader of both keys never sees them differ.
#[test]
fn no_reader_sees_half_an_mset() {
    on_each_engine(|server| {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut client = server.client();
                for number in 0..500 {
                    client.ask(&format!("MSET a {number} b {number}"));
                }
            });
            let mut client = server.client();
            while !writer.is_finished() {
                // What MGET reads of `b` is never older than what it reads of `a`.
                let reply = client.ask("MGET a b");
                if let [support::Value::Text(a), support::Value::Text(b)] = reply.array() {
                    let (a, b): (i64, i64) = (a.parse().unwrap(), b.parse().unwrap());
                    assert!(b >= a, "a new and b old: {a} {b}");
                }
            }
        });
    });
}
