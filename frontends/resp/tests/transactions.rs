//! MULTI, EXEC, WATCH, and the commands of several keys, in races of many connections.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Client, TestServer, Value, on_each_engine};

const OK: &str = "+OK\r\n";
const QUEUED: &str = "+QUEUED\r\n";

#[test]
fn what_is_queued_runs_at_exec() {
    on_each_engine(|server| {
        let (mut client, mut other) = (server.client(), server.client());
        for (words, reply) in [
            ("MULTI", OK),
            ("SET a 1", QUEUED),
            ("INCR a", QUEUED),
            ("GET a", QUEUED),
            ("SELECT 3", QUEUED),
            ("SET b x", QUEUED),
            ("INCR b", QUEUED),
        ] {
            client.check_in_multi(words, reply);
        }
        other.check("GET a", "$-1\r\n");
        client.check(
            "EXEC",
            "*6\r\n+OK\r\n:2\r\n$1\r\n2\r\n+OK\r\n+OK\r\n\
             -ERR value is not an integer or out of range\r\n",
        );
        other.check("GET a", "$1\r\n2\r\n");
        client.check("GET b", "$1\r\nx\r\n");
        client.check("EXEC", "-ERR EXEC without MULTI\r\n");
        client.check("DISCARD", "-ERR DISCARD without MULTI\r\n");
    });
}

#[test]
fn whole_databases_and_many_keys_inside_a_transaction() {
    on_each_engine(|server| {
        let mut client = server.client();
        client.check("MSET a 1 b 2", OK);
        for words in
            ["SET c 3", "RENAME a d", "FLUSHDB", "SET e 5", "MSETNX e 1 f 2", "EXISTS a d e"]
        {
            client.check_in_multi(if words == "SET c 3" { "MULTI" } else { "PING" }, {
                if words == "SET c 3" { OK } else { QUEUED }
            });
            client.check_in_multi(words, QUEUED);
        }
        let reply = client.ask("EXEC");
        let last = reply.array().last().cloned();
        assert_eq!(last, Some(Value::Integer(1)), "{reply:?}");
        client.check("MGET a b c d e f", "*6\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$1\r\n5\r\n$-1\r\n");
    });
}

#[test]
fn a_refused_command_spoils_the_transaction() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    client.check_in_multi("MULTI", OK);
    client.check_in_multi("SET a 1", QUEUED);
    client.check_in_multi("MULTI", "-ERR MULTI calls can not be nested\r\n");
    client.check_in_multi("WATCH a", "-ERR WATCH inside MULTI is not allowed\r\n");
    client.check("EXEC", "*1\r\n+OK\r\n");
    client.check_in_multi("MULTI", OK);
    client.check_in_multi("SET a", "-ERR wrong number of arguments for 'set' command\r\n");
    client.check_in_multi("SET a 2", QUEUED);
    client.check("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    let aborted = "-EXECABORT Transaction discarded because of: wrong number of arguments for \
                   'exec' command\r\n";
    client.check_in_multi("MULTI", "+OK\r\n");
    client.check("EXEC x", aborted);
    client.check("EXEC", "-ERR EXEC without MULTI\r\n");
    client.check("GET a", "$1\r\n1\r\n");
    client.check_in_multi("MULTI", OK);
    client.check_in_multi("SET a 3", QUEUED);
    client.check("DISCARD", OK);
    client.check("GET a", "$1\r\n1\r\n");
}

#[test]
fn a_watched_key_that_changed_aborts_the_transaction() {
    on_each_engine(|server| {
        let (mut client, mut other) = (server.client(), server.client());
        for (change, is_aborted) in [
            ("PING", false),
            ("SET k 2", true),
            ("SETNX k 3", false),
            ("GET k", false),
            ("DEL other", false),
            ("APPEND k x", true),
            ("PEXPIRE k 100000", true),
            ("MSET a 1 k 2", true),
            ("RENAME k l", true),
            ("FLUSHALL", false),
            ("SET k 1", true),
            ("SWAPDB 0 5", true),
        ] {
            client.check("WATCH k", OK);
            other.ask(change);
            client.check_in_multi("MULTI", OK);
            client.check_in_multi("ECHO run", QUEUED);
            let expected = if is_aborted { "*-1\r\n" } else { "*1\r\n$3\r\nrun\r\n" };
            println!("{change}");
            client.check("EXEC", expected);
        }
        client.check("WATCH k", OK);
        other.check("SET k 9", OK);
        client.check("UNWATCH", OK);
        client.check_in_multi("MULTI", OK);
        client.check_in_multi("PING", QUEUED);
        client.check("EXEC", "*1\r\n+PONG\r\n");
    });
}

/// Sixteen connections: what they do to shared keys adds up exactly.
#[test]
fn races_of_sixteen_connections_are_exact() {
    const CLIENTS: usize = 16;
    const ROUNDS: usize = 150;
    on_each_engine(|server| {
        let port = server.server.port();
        let (won, exchanged) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (won, exchanged) = (&won, &exchanged);
                scope.spawn(move || {
                    let mut client = Client::connect(port);
                    for round in 0..ROUNDS {
                        client.ask("INCR count");
                        client.ask("APPEND text x");
                        // Both keys of a round are one client's, or the round is lost.
                        let pair = format!("MSETNX x{round} {number} y{round} {number}");
                        let single = format!("SETNX y{round} {number}");
                        let request = if number % 2 == 0 { &pair } else { &single };
                        if client.ask(request) == Value::Integer(1) {
                            won.fetch_add(1, Ordering::Relaxed);
                        }
                        if optimistic_increment(&mut client) {
                            exchanged.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut client = server.client();
        assert_eq!(client.ask("GET count").text(), (CLIENTS * ROUNDS).to_string());
        assert_eq!(client.ask("STRLEN text"), Value::Integer((CLIENTS * ROUNDS) as i64));
        assert_eq!(won.into_inner(), ROUNDS, "each round has one winner");
        for round in 0..ROUNDS {
            let pair = client.ask(&format!("MGET x{round} y{round}"));
            let [x, y] = pair.array() else { panic!("{pair:?}") };
            assert!(*x == Value::Null || x == y, "round {round}: {pair:?}");
        }
        assert_eq!(client.ask("GET exchanged").text(), exchanged.into_inner().to_string());
    });
}

/// WATCH, GET, MULTI, SET, EXEC: whether it was committed.
fn optimistic_increment(client: &mut Client) -> bool {
    client.ask("WATCH exchanged");
    let before = match client.ask("GET exchanged") {
        Value::Text(text) => text.parse::<u64>().unwrap_or(0),
        _ => 0,
    };
    client.ask("MULTI");
    client.ask(&format!("SET exchanged {}", before + 1));
    client.ask("EXEC") != Value::Null
}
