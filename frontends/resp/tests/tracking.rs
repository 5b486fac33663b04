//! Caches of clients and keyspace notifications over real connections.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{Client, TestServer, Value, info_field, request, until};

fn invalidation(keys: &[&str]) -> String {
    let keys: String = keys.iter().map(|key| format!("${}\r\n{key}\r\n", key.len())).collect();
    let count = keys.matches('$').count();
    format!(">2\r\n$10\r\ninvalidate\r\n*{count}\r\n{keys}")
}

const ALL_INVALID: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

fn in_resp3(server: &TestServer) -> Client {
    let mut client = server.client();
    client.ask("HELLO 3");
    client
}

#[test]
fn what_a_transaction_read_as_it_wrote_it_is_told_of_the_next_change_only() {
    support::on_each_engine(|server| {
        let (mut one, mut other) = (in_resp3(server), server.client());
        one.check("CLIENT TRACKING ON", "+OK\r\n");
        one.send(b"MULTI\r\nMSET x 1 y 2\r\nGET x\r\nGET y\r\nSET y 3\r\nEXEC\r\nPING\r\n");
        one.expect(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
        one.expect(b"*4\r\n+OK\r\n$1\r\n1\r\n$1\r\n2\r\n+OK\r\n");
        one.expect((invalidation(&["y"]) + "+PONG\r\n").as_bytes());
        other.check("SET y 4", "+OK\r\n");
        other.check("SET x 5", "+OK\r\n");
        one.expect(invalidation(&["x"]).as_bytes());
        // What is written out in between counts as written.
        one.send(b"MULTI\r\nSET x 6\r\nGET x\r\nKEYS x\r\nGET x\r\nEXEC\r\nPING\r\n");
        one.expect(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
        one.expect(b"*4\r\n+OK\r\n$1\r\n6\r\n*1\r\n$1\r\nx\r\n$1\r\n6\r\n+PONG\r\n");
        other.check("SET x 7", "+OK\r\n");
        one.expect((invalidation(&["x"])).as_bytes());
        one.check("PING", "+PONG\r\n");
    });
}

#[test]
fn who_does_not_find_an_expired_key_has_its_expiry_told() {
    let server = TestServer::with("memory:", |config| {
        config.set("enable-debug-command", "yes").expect("a value of the parameter");
    });
    let (mut one, mut other) = (in_resp3(&server), server.client());
    one.check("CLIENT TRACKING ON", "+OK\r\n");
    other.check("DEBUG SET-ACTIVE-EXPIRE 0", "+OK\r\n");
    for (reader, request) in [("itself", "MGET x k"), ("another", "GET k"), ("another", "TTL k")] {
        one.check("SET k v PX 100", "+OK\r\n");
        one.check("GET k", "$1\r\nv\r\n");
        support::sleep(400);
        if reader == "itself" {
            one.send(format!("{request}\r\n").as_bytes());
            one.expect(b"*2\r\n_\r\n_\r\n");
        } else {
            one.check("PING", "+PONG\r\n");
            other.ask(request);
        }
        one.expect(invalidation(&["k"]).as_bytes());
    }
}

#[test]
fn a_lower_limit_of_the_table_holds_at_once() {
    let server = TestServer::on("memory:");
    let (mut one, mut other) = (in_resp3(&server), server.client());
    one.check("CLIENT TRACKING ON", "+OK\r\n");
    one.check("MGET a b c", "*3\r\n_\r\n_\r\n_\r\n");
    other.check("CONFIG SET tracking-table-max-keys 1", "+OK\r\n");
    assert_eq!(info_field(&mut other, "tracking_total_keys"), "1");
    let told = [one.read_value(), one.read_value()];
    assert!(told.iter().all(|it| it.array()[0].text() == "invalidate"), "{told:?}");
    one.check("PING", "+PONG\r\n");
}

#[test]
fn who_read_a_key_is_told_once_that_it_changed() {
    support::on_each_engine(|server| {
        let (mut one, mut other) = (in_resp3(server), server.client());
        one.check("CLIENT TRACKING ON", "+OK\r\n");
        one.check("GET k", "_\r\n");
        other.check("SET k 1", "+OK\r\n");
        one.expect(invalidation(&["k"]).as_bytes());
        other.check("SET k 2", "+OK\r\n");
        // GETs in a row are tracked, too; what one changes itself is told behind the reply.
        one.send(b"GET k\r\nGET l\r\nMGET m k\r\nSET k 3\r\nPING\r\n");
        one.expect(b"$1\r\n2\r\n_\r\n*2\r\n_\r\n$1\r\n2\r\n+OK\r\n");
        one.expect((invalidation(&["k"]) + "+PONG\r\n").as_bytes());
        other.check("DEL l m", ":0\r\n");
        other.check("MSET l 1 m 2", "+OK\r\n");
        let mut told = [one.read_value(), one.read_value()].map(|it| it.array()[1].clone());
        told.sort_by_key(|keys| keys.array()[0].text().to_owned());
        assert_eq!(told, ["l", "m"].map(|key| Value::Array(vec![Value::Text(key.into())])));
        one.check("GET k", "$1\r\n3\r\n");
        assert_eq!(info_field(&mut other, "tracking_total_keys"), "1");
        other.check("FLUSHALL", "+OK\r\n");
        one.expect(ALL_INVALID.as_bytes());
        one.send(b"FLUSHDB\r\n");
        one.expect(format!("+OK\r\n{ALL_INVALID}").as_bytes());
        // In a transaction, told behind its reply.
        one.send(b"MULTI\r\nGET m\r\nSET m 1\r\nEXEC\r\nPING\r\n");
        one.expect(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n_\r\n+OK\r\n");
        one.expect((invalidation(&["m"]) + "+PONG\r\n").as_bytes());
        one.check("CLIENT TRACKING ON NOLOOP", "+OK\r\n");
        one.check("GET m", "$1\r\n1\r\n");
        one.check("SET m 2", "+OK\r\n");
        // It read what it wrote: the next change is told.
        one.send(b"MULTI\r\nSET m 4\r\nGET m\r\nEXEC\r\n");
        one.expect(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\n4\r\n");
        other.check("SET m 2", "+OK\r\n");
        one.expect(invalidation(&["m"]).as_bytes());
        one.check("CLIENT TRACKING OFF", "+OK\r\n");
        one.check("GET m", "$1\r\n2\r\n");
        other.check("SET m 3", "+OK\r\n");
        one.check("PING", "+PONG\r\n");
        assert_eq!(info_field(&mut other, "tracking_clients"), "0");
    });
}

#[test]
fn keys_are_tracked_on_demand_or_but_for_exceptions() {
    let server = TestServer::on("memory:");
    let (mut one, mut other) = (in_resp3(&server), server.client());
    for (request, reply) in [
        ("CLIENT GETREDIR", ":-1\r\n"),
        (
            "CLIENT CACHING YES",
            "-ERR CLIENT CACHING can be called only when the client is in tracking mode with \
             OPTIN or OPTOUT mode enabled\r\n",
        ),
        (
            "CLIENT TRACKING ON OPTIN OPTOUT",
            "-ERR You can't specify both OPTIN mode and OPTOUT mode\r\n",
        ),
        (
            "CLIENT TRACKING ON BCAST OPTIN",
            "-ERR OPTIN and OPTOUT are not compatible with BCAST\r\n",
        ),
        ("CLIENT TRACKING ON PREFIX a", "-ERR PREFIX option requires BCAST mode to be enabled\r\n"),
        ("CLIENT TRACKING ON REDIRECT", "-ERR syntax error\r\n"),
        ("CLIENT TRACKING ON REDIRECT x", "-ERR value is not an integer or out of range\r\n"),
        (
            "CLIENT TRACKING ON REDIRECT 99",
            "-ERR The client ID you want redirect to does not exist\r\n",
        ),
        ("CLIENT TRACKING ON foo", "-ERR syntax error\r\n"),
        ("CLIENT TRACKING foo", "-ERR syntax error\r\n"),
        ("CLIENT TRACKING ON OPTIN", "+OK\r\n"),
        ("CLIENT GETREDIR", ":0\r\n"),
        (
            "CLIENT TRACKING ON BCAST",
            "-ERR You can't switch BCAST mode on/off before disabling tracking for this client, \
             and then re-enabling it with a different mode.\r\n",
        ),
        (
            "CLIENT TRACKING ON OPTOUT",
            "-ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, \
             and then re-enabling it with a different mode.\r\n",
        ),
        (
            "CLIENT CACHING NO",
            "-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.\r\n",
        ),
        ("CLIENT CACHING foo", "-ERR syntax error\r\n"),
        ("GET a", "_\r\n"),
    ] {
        one.check(request, reply);
    }
    other.check("SET a 1", "+OK\r\n");
    one.send(
        b"CLIENT CACHING YES\r\nCLIENT TRACKINGINFO\r\nGET a\r\nGET b\r\nCLIENT TRACKINGINFO\r\n",
    );
    one.expect(
        b"+OK\r\n%3\r\n$5\r\nflags\r\n~3\r\n$2\r\non\r\n$5\r\noptin\r\n$11\r\ncaching-yes\r\n",
    );
    one.expect(b"$8\r\nredirect\r\n:0\r\n$8\r\nprefixes\r\n*0\r\n$1\r\n1\r\n_\r\n");
    one.expect(b"%3\r\n$5\r\nflags\r\n~2\r\n$2\r\non\r\n$5\r\noptin\r\n");
    one.expect(b"$8\r\nredirect\r\n:0\r\n$8\r\nprefixes\r\n*0\r\n");
    other.check("MSET a 1 b 1", "+OK\r\n");
    one.expect(invalidation(&["a"]).as_bytes());
    // For a transaction it holds until its end.
    one.send(b"CLIENT CACHING YES\r\nMULTI\r\nGET a\r\nGET b\r\nEXEC\r\nGET c\r\n");
    one.expect(b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$1\r\n1\r\n$1\r\n1\r\n_\r\n");
    other.check("DEL a", ":1\r\n");
    other.check("DEL b", ":1\r\n");
    other.check("SET c 1", "+OK\r\n");
    one.expect((invalidation(&["a"]) + &invalidation(&["b"])).as_bytes());
    one.check("CLIENT TRACKING OFF", "+OK\r\n");
    one.check("CLIENT TRACKING ON OPTOUT", "+OK\r\n");
    one.send(b"CLIENT CACHING NO\r\nGET a\r\nGET b\r\n");
    one.expect(b"+OK\r\n_\r\n_\r\n");
    other.check("MSET a 1 b 1", "+OK\r\n");
    one.expect(invalidation(&["b"]).as_bytes());
    one.check("RESET", "+RESET\r\n");
    one.check("CLIENT GETREDIR", ":-1\r\n");
}

#[test]
fn in_broadcast_mode_all_keys_under_a_prefix_are_told() {
    let server = TestServer::on("memory:");
    let (mut one, mut other) = (in_resp3(&server), server.client());
    let overlap = "Prefixes for a single client must not overlap.\r\n";
    for (request, reply) in [
        (
            "CLIENT TRACKING ON BCAST PREFIX a PREFIX ab",
            &format!("-ERR Prefix 'a' overlaps with another provided prefix 'ab'. {overlap}"),
        ),
        ("CLIENT TRACKING ON BCAST PREFIX p PREFIX q NOLOOP", &"+OK\r\n".to_owned()),
        (
            "CLIENT TRACKING ON BCAST PREFIX pa",
            &format!("-ERR Prefix 'pa' overlaps with an existing prefix 'p'. {overlap}"),
        ),
    ] {
        one.check(request, reply);
    }
    let info = one.ask("CLIENT TRACKINGINFO");
    let flags: Vec<&str> = info.array()[1].array().iter().map(Value::text).collect();
    let prefixes: Vec<&str> = info.array()[5].array().iter().map(Value::text).collect();
    assert_eq!((flags, prefixes), (vec!["on", "bcast", "noloop"], vec!["p", "q"]));
    other.check("SET p1 v", "+OK\r\n");
    one.expect(invalidation(&["p1"]).as_bytes());
    other.check("MSET q2 v p4 v z4 v p3 v", "+OK\r\n");
    one.expect((invalidation(&["p3", "p4"]) + &invalidation(&["q2"])).as_bytes());
    one.check("SET p5 v", "+OK\r\n");
    let list = other.ask("CLIENT LIST");
    assert!(list.text().contains(" flags=tB "), "{list:?}");
    assert_eq!(info_field(&mut other, "tracking_total_prefixes"), "2");
    drop(one);
    until("it is forgotten", || info_field(&mut other, "tracking_total_prefixes") == "0");
    other.check("SET p1 v", "+OK\r\n");
}

#[test]
fn invalidations_are_redirected_until_nobody_is_there() {
    let server = TestServer::on("memory:");
    let (mut one, mut other, mut target) = (server.client(), server.client(), server.client());
    let id = target.ask("CLIENT ID").integer();
    one.check(&format!("CLIENT TRACKING ON REDIRECT {id}"), "+OK\r\n");
    one.check("CLIENT GETREDIR", &format!(":{id}\r\n"));
    one.check("GET k", "$-1\r\n");
    // It does not listen yet.
    other.check("SET k 1", "+OK\r\n");
    target.ask("SUBSCRIBE __redis__:invalidate");
    one.check("GET k", "$1\r\n1\r\n");
    other.check("SET k 2", "+OK\r\n");
    let message = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";
    target.expect(format!("{message}*1\r\n$1\r\nk\r\n").as_bytes());
    other.check("FLUSHALL", "+OK\r\n");
    target.expect(format!("{message}$-1\r\n").as_bytes());
    one.ask("HELLO 3");
    one.check("GET k", "_\r\n");
    drop(target);
    until("it is gone", || info_field(&mut other, "connected_clients") == "2");
    other.check("SET k 2", "+OK\r\n");
    one.expect(format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{id}\r\n").as_bytes());
    assert!(other.ask("CLIENT LIST").text().contains(" flags=tR "));
    one.check("CLIENT TRACKING ON", "+OK\r\n");
    one.check("GET k", "$1\r\n2\r\n");
    other.check("SET k 3", "+OK\r\n");
    one.expect(invalidation(&["k"]).as_bytes());
    // One that has read the reply to its QUIT is gone, though it did not hang up.
    for _ in 0..20 {
        let mut target = server.client();
        let id = target.ask("CLIENT ID").integer();
        one.check(&format!("CLIENT TRACKING ON REDIRECT {id}"), "+OK\r\n");
        one.ask("GET k");
        target.ask("SUBSCRIBE __redis__:invalidate");
        target.send(b"QUIT\r\n");
        target.expect(b"+OK\r\n");
        other.check("PUBLISH __redis__:invalidate m", ":0\r\n");
        other.check("SET k 2", "+OK\r\n");
        one.expect(format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{id}\r\n").as_bytes());
    }
}

/// While others write, a cache that follows the invalidations ends up with what is stored.
#[test]
fn a_cache_that_follows_never_stays_behind() {
    const KEYS: usize = 20;
    let server = TestServer::on("memory:");
    let mut one = in_resp3(&server);
    one.ask("CLIENT TRACKING ON");
    let mut cache: HashMap<String, Value> = HashMap::new();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (server, over) = (&server, &over);
            scope.spawn(move || {
                let mut client = server.client();
                for round in 0..3000 {
                    let key = (round * 7 + writer) % KEYS;
                    client.ask(&format!("SET key{key} {writer}-{round}"));
                }
                over.store(true, Ordering::Relaxed);
            });
        }
        while !over.load(Ordering::Relaxed) {
            for number in 0..KEYS {
                let key = format!("key{number}");
                if !cache.contains_key(&key) {
                    let value = read(&mut one, &key, &mut cache);
                    cache.insert(key, value);
                }
                drain(&mut one, &mut cache);
            }
        }
    });
    drain(&mut one, &mut cache);
    let mut direct = server.client();
    let stale: Vec<&String> = cache
        .iter()
        .filter(|(key, cached)| direct.ask(&format!("GET {key}")) != **cached)
        .map(|(key, _)| key)
        .collect();
    assert!(stale.is_empty(), "stale: {stale:?}");
}

fn invalidated(value: &Value) -> Option<&str> {
    match value {
        Value::Array(it) if it[0] == Value::Text("invalidate".into()) => {
            Some(it[1].array()[0].text())
        }
        _ => None,
    }
}

/// The value of a key; invalidations that come first are followed.
fn read(client: &mut Client, key: &str, cache: &mut HashMap<String, Value>) -> Value {
    client.send(&request(&["GET", key]));
    loop {
        let value = client.read_value();
        match invalidated(&value) {
            Some(invalid) => drop(cache.remove(invalid)),
            None => return value,
        }
    }
}

/// Follows all invalidations sent so far.
fn drain(client: &mut Client, cache: &mut HashMap<String, Value>) {
    client.send(b"PING\r\n");
    loop {
        let value = client.read_value();
        match invalidated(&value) {
            Some(invalid) => drop(cache.remove(invalid)),
            None => return,
        }
    }
}

#[test]
fn events_of_keys_are_published_as_far_as_they_are_asked_for() {
    let server = TestServer::on("memory:");
    let (mut listener, mut one) = (server.client(), server.client());
    listener.ask("PSUBSCRIBE *");
    let mut expect = |expected: &[(&str, &str)]| {
        for (channel, message) in expected {
            let value = listener.read_value();
            let got: Vec<&str> = value.array()[2..].iter().map(Value::text).collect();
            assert_eq!(got, [*channel, *message]);
        }
    };
    one.check("SET k v", "+OK\r\n");
    one.check("CONFIG SET notify-keyspace-events KEA", "+OK\r\n");
    one.check("SET k v", "+OK\r\n");
    expect(&[("__keyspace@0__:k", "set"), ("__keyevent@0__:set", "k")]);
    one.check("CONFIG SET notify-keyspace-events Eg$", "+OK\r\n");
    one.check("SELECT 2", "+OK\r\n");
    one.check("SET k v EX 100", "+OK\r\n");
    one.check("DEL k", ":1\r\n");
    expect(&[
        ("__keyevent@2__:set", "k"),
        ("__keyevent@2__:expire", "k"),
        ("__keyevent@2__:del", "k"),
    ]);
    one.check("CONFIG SET notify-keyspace-events K$nm", "+OK\r\n");
    one.check("SET k v", "+OK\r\n");
    one.check("DEL k", ":1\r\n");
    one.check("GET k", "$-1\r\n");
    one.check("CONFIG SET notify-keyspace-events $", "+OK\r\n");
    one.check("SET k v", "+OK\r\n");
    one.check("PUBLISH end .", ":1\r\n");
    let by_key = "__keyspace@2__:k";
    expect(&[(by_key, "new"), (by_key, "set"), (by_key, "keymiss"), ("end", ".")]);
    // A setting from the start holds from the start.
    let server = TestServer::with("memory:", |config| {
        config.set("notify-keyspace-events", "Ex").unwrap();
    });
    let (mut listener, mut one) = (server.client(), server.client());
    listener.ask("SUBSCRIBE __keyevent@0__:expired");
    one.check("SET k v PX 30", "+OK\r\n");
    assert_eq!(listener.read_value().array()[2].text(), "k");
}

/// The bound is looked at before anything that takes longer the more there are.
#[test]
fn prefixes_that_take_too_much_are_refused_before_they_are_compared() {
    let server = TestServer::on("memory:");
    let mut one = in_resp3(&server);
    let ask = |client: &mut Client, count: usize| {
        let mut words = vec!["CLIENT".to_owned(), "TRACKING".into(), "ON".into(), "BCAST".into()];
        for number in 0..count {
            words.extend(["PREFIX".to_owned(), format!("k{number:06}")]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["PREFIX", "k"]).collect();
        client.send(&request(&words));
    };
    ask(&mut one, 30_000);
    one.expect(b"-ERR the prefixes of the client take too much\r\n");
    ask(&mut one, 10_000);
    one.expect(
        b"-ERR Prefix 'k000000' overlaps with another provided prefix 'k'. Prefixes for a single \
          client must not overlap.\r\n",
    );
    // Refused, it is off.
    let info = one.ask("CLIENT TRACKINGINFO");
    assert_eq!(info.array()[1].array()[0].text(), "off");
}
