//! `maxmemory`: writes are refused there, or keys are evicted, by every policy.

mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};

use support::{ChildServer, Client, TestServer, Value, info_field};

/// What is allocated is the whole process': one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

fn used_bytes(client: &mut Client) -> u64 {
    let info = client.ask("INFO memory");
    let line = info.text().lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// Writes 200 bytes under keys in a row, until one is refused or there are `count`.
fn fill(client: &mut Client, prefix: &str, count: usize) -> Option<usize> {
    let value = "x".repeat(200);
    (0..count).find(|number| match client.ask(&format!("SET {prefix}{number} {value}")) {
        Value::Error(text) => {
            assert_eq!(text, OOM);
            true
        }
        _ => false,
    })
}

#[test]
fn without_eviction_writes_are_refused_and_reads_and_deletions_are_not() {
    let _alone = alone();
    let server = TestServer::on("memory:");
    let mut client = server.client();
    client.check("SET kept 1", "+OK\r\n");
    let limit = used_bytes(&mut client) + (4 << 20);
    client.check(&format!("CONFIG SET maxmemory {limit}"), "+OK\r\n");
    let refused = fill(&mut client, "k", 100_000);
    assert!(refused.is_some_and(|count| count > 1000), "{refused:?}");
    client.check("GET kept", "$1\r\n1\r\n");
    client.check("APPEND kept x", &format!("-{OOM}\r\n"));
    client.check_in_multi("MULTI", "+OK\r\n");
    client.check_in_multi("GET a", &format!("-{OOM}\r\n"));
    client.check("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    client.check("DEL kept", ":1\r\n");
    client.check("CONFIG SET maxmemory 0", "+OK\r\n");
    client.check("SET kept 2", "+OK\r\n");
}

#[test]
fn a_transaction_that_needs_memory_is_discarded_where_there_is_none() {
    let _alone = alone();
    let server = TestServer::on("memory:");
    let (mut client, mut other) = (server.client(), server.client());
    client.check("SET k 1", "+OK\r\n");
    client.check_in_multi("MULTI", "+OK\r\n");
    client.check_in_multi("SET x 1", "+QUEUED\r\n");
    other.check("CONFIG SET maxmemory 1", "+OK\r\n");
    let aborted = format!("-EXECABORT Transaction discarded because of: {OOM}\r\n");
    client.check("EXEC", &aborted);
    client.check("EXEC", "-ERR EXEC without MULTI\r\n");
    client.check("GET x", "$-1\r\n");
    // What only reads and deletes is run.
    other.check("CONFIG SET maxmemory 0", "+OK\r\n");
    client.check_in_multi("MULTI", "+OK\r\n");
    client.check_in_multi("GET x", "+QUEUED\r\n");
    client.check_in_multi("DEL k", "+QUEUED\r\n");
    other.check("CONFIG SET maxmemory 1", "+OK\r\n");
    client.check("EXEC", "*2\r\n$-1\r\n:1\r\n");
}

#[test]
fn what_is_evicted_is_told_before_the_reply_of_the_command_it_makes_room_for() {
    let _alone = alone();
    let server = TestServer::on("memory:");
    let mut client = server.client();
    client.ask("HELLO 3");
    client.check("CLIENT TRACKING on", "+OK\r\n");
    let limit = used_bytes(&mut client) + (1 << 20);
    let set = format!("CONFIG SET maxmemory {limit} maxmemory-policy volatile-random");
    client.check(&set, "+OK\r\n");
    client.check("SETEX volatile 1000 x", "+OK\r\n");
    client.check("GET volatile", "$1\r\nx\r\n");
    client.send(b"SETBIT big 24000000 0\r\n");
    client.expect(b":0\r\n");
    let told = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$8\r\nvolatile\r\n";
    client.check("GETBIT big 0", &format!("{told}:0\r\n"));
}

#[test]
fn every_policy_keeps_the_data_within_its_limit() {
    let _alone = alone();
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        let server = TestServer::on("memory:");
        let mut client = server.client();
        let limit = used_bytes(&mut client) + (4 << 20);
        client.check(&format!("CONFIG SET maxmemory {limit} maxmemory-policy {policy}"), "+OK\r\n");
        assert_eq!(fill(&mut client, "k", 40_000), None, "{policy}");
        let used = used_bytes(&mut client);
        assert!(used < limit + (1 << 20), "{policy}: {used} of {limit}");
    }
}

#[test]
fn volatile_policies_spare_keys_without_an_expiry() {
    let _alone = alone();
    for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
        let server = TestServer::on("memory:");
        let mut client = server.client();
        for number in 0..100 {
            client.check(&format!("SETEX volatile{number} 1000 x"), "+OK\r\n");
            client.check(&format!("SET kept{number} x"), "+OK\r\n");
        }
        let limit = used_bytes(&mut client) + (2 << 20);
        client.check(&format!("CONFIG SET maxmemory {limit} maxmemory-policy {policy}"), "+OK\r\n");
        assert!(fill(&mut client, "k", 100_000).is_some(), "{policy}");
        let keys = client.scan("MATCH *kept* COUNT 1000");
        assert_eq!(keys.len(), 100, "{policy}");
        assert_eq!(client.scan("MATCH volatile* COUNT 1000"), [""; 0], "{policy}");
    }
}

#[test]
fn an_engine_that_frees_space_later_refuses_to_evict() {
    let _alone = alone();
    let server = TestServer::on("lsm:{}");
    let mut client = server.client();
    let reply = client.ask("CONFIG SET maxmemory-policy allkeys-lru");
    assert!(matches!(&reply, Value::Error(text) if text.contains("noeviction")), "{reply:?}");
    client.check("CONFIG SET maxmemory 1000000", "+OK\r\n");
    let refused = (0..50).any(|round| {
        support::sleep(100);
        fill(&mut client, &format!("r{round}:"), 2000).is_some()
    });
    assert!(refused, "10 MB went into a limit of 1 MB");
}

/// A lower limit holds from the reply on, though nobody writes anything.
#[test]
fn a_lower_limit_evicts_at_once() {
    let server =
        ChildServer::start(&["--engine", "memory:", "--maxmemory-policy", "allkeys-random"]);
    let mut client = server.client();
    for number in 0..3000 {
        client.ask(&format!("SET k{number} {}", "x".repeat(1000)));
    }
    let used: u64 = info_field(&mut client, "used_memory").parse().unwrap();
    client.check(&format!("CONFIG SET maxmemory {}", used - (1 << 20)), "+OK\r\n");
    let left = client.ask("DBSIZE").integer();
    assert!((1500..2500).contains(&left), "{left} keys are left");
    let evicted: i64 = info_field(&mut client, "evicted_keys").parse().unwrap();
    // Some more may go at the next look.
    assert!(evicted >= 3000 - left, "{evicted} were evicted, {left} are left");
}

#[test]
fn what_is_read_without_touching_counts_as_unused() {
    let _alone = alone();
    let server = TestServer::with("memory:", |config| {
        config.set("maxmemory-policy", "allkeys-lfu").unwrap();
    });
    let (mut client, mut quiet) = (server.client(), server.client());
    client.check("SET k v", "+OK\r\n");
    quiet.check("CLIENT NO-TOUCH ON", "+OK\r\n");
    let mut frequency = || client.ask("OBJECT FREQ k").integer();
    let before = frequency();
    quiet.send(&b"GET k\r\n".repeat(3000));
    quiet.expect(&b"$1\r\nv\r\n".repeat(3000));
    quiet.check("STRLEN k", ":1\r\n");
    assert_eq!(frequency(), before);
    // But for TOUCH.
    quiet.send(&b"TOUCH k\r\n".repeat(3000));
    quiet.expect(&b":1\r\n".repeat(3000));
    let touched = frequency();
    assert!(touched > before, "{touched} after {before}");
    quiet.check("CLIENT NO-TOUCH OFF", "+OK\r\n");
    quiet.send(&b"GET k\r\n".repeat(30_000));
    quiet.expect(&b"$1\r\nv\r\n".repeat(30_000));
    assert!(frequency() > touched, "{} after {touched}", frequency());
}
