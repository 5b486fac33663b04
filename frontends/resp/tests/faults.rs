//! The server on a simulated machine: power lost, syncs that fail.

mod support;

use ferrokit_server::{AppendFsync, Config, Server};
use ferrokit_storage::sim::{CrashMode, FaultKind, FaultPlan, OpKind, SimMachine};
use support::{Client, Value, health, info_field, until};

#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn start(machine: &SimMachine, appendfsync: AppendFsync) -> Server {
    let mut config = Config::default();
    let appendfsync = appendfsync.name();
    for (name, value) in [
        ("port", "0"),
        ("engine", "lsm:/data"),
        ("appendfsync", appendfsync),
        ("workers", "2"),
        ("metrics-addr", "127.0.0.1:0"),
    ] {
        config.set(name, value).unwrap();
    }
    Server::start(&machine.threaded_host(), &config).unwrap()
}

/// What was answered is on the device: it survives the loss of everything that was not synced.
#[test]
fn what_was_answered_under_always_survives_the_loss_of_power() {
    let mut machine = SimMachine::new(7);
    let mut expected: Vec<(String, String)> = Vec::new();
    for round in 0..4 {
        let server = start(&machine, AppendFsync::Always);
        let mut client = Client::connect(server.port());
        for (key, value) in &expected {
            assert_eq!(client.ask(&format!("GET {key}")), Value::Text(value.clone()), "{key}");
        }
        for batch in 0..10 {
            let mut input = Vec::new();
            for number in 0..10 {
                let pair = (format!("k{round}:{batch}:{number}"), format!("v{number}"));
                input.extend(support::request(&["SET", &pair.0, &pair.1]));
                expected.push(pair);
            }
            client.send(&input);
            client.expect(&b"+OK\r\n".repeat(10));
        }
        let after = machine.crash(CrashMode::DropUnsynced);
        drop(server);
        machine = after;
    }
}

/// A batch whose writes never become durable is answered with the failure, reads included: they
/// saw what may be lost.
#[test]
fn no_reply_of_a_batch_leaves_when_its_sync_fails() {
    let machine = SimMachine::new(8);
    let server = start(&machine, AppendFsync::Always);
    let mut client = Client::connect(server.port());
    client.check("SET k v", "+OK\r\n");
    machine.set_faults(FaultPlan::new().on(OpKind::Sync, "", FaultKind::Error, u64::MAX));
    client.send(b"SET k w\r\nGET k\r\nPING\r\n");
    for _ in 0..3 {
        let Value::Error(error) = client.read_value() else { panic!("a reply left") };
        assert!(error.starts_with("MISCONF "), "{error}");
    }
    // The engine stays poisoned: nothing is taken, and nothing that never became durable is shown.
    machine.set_faults(FaultPlan::new());
    let Value::Error(error) = client.ask("SET k x") else { panic!("a write was taken") };
    assert!(error.starts_with("MISCONF "), "{error}");
    client.check("PING", "+PONG\r\n");
    let after = machine.crash(CrashMode::DropUnsynced);
    drop(server);
    let server = start(&after, AppendFsync::Always);
    assert_eq!(Client::connect(server.port()).ask("GET k").text(), "v");
}

/// Where files answer late, operations are pending: a connection waits and others go on.
#[test]
fn slow_files_change_no_answer() {
    let machine = SimMachine::new(9);
    let server = start(&machine, AppendFsync::Always);
    machine.set_faults(FaultPlan::new().sometimes(None, "", FaultKind::Slow { polls: 3 }, 500_000));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let port = server.port();
            scope.spawn(move || {
                let mut client = Client::connect(port);
                for number in 0..50 {
                    client.check(&format!("SET k{worker}:{number} {number}"), "+OK\r\n");
                    let value = client.ask(&format!("GET k{worker}:{number}"));
                    assert_eq!(value.text(), number.to_string());
                    client.ask("INCR shared");
                }
            });
        }
    });
    assert_eq!(Client::connect(server.port()).ask("GET shared").text(), "200");
    server.shutdown().unwrap();
}

/// A full device is no lack of memory; it is told of while it lasts, without its paths.
#[test]
fn a_full_device_is_told_as_one_until_there_is_space() {
    let machine = SimMachine::new(10);
    let server = start(&machine, AppendFsync::Always);
    let mut client = Client::connect(server.port());
    client.check("SET k v", "+OK\r\n");
    assert_eq!(info_field(&mut client, "aof_last_write_status"), "ok");
    assert!(health(&server).starts_with("HTTP/1.1 200 "));
    machine.set_capacity_bytes(1);
    let value = "v".repeat(1 << 20);
    let refusal = (0..200).find_map(|number| {
        client.send(&support::request(&["SET", &format!("k{number}"), &value]));
        match client.read_value() {
            Value::Error(error) => Some(error),
            _ => None,
        }
    });
    let refusal = refusal.unwrap();
    let expected = "MISCONF There is no space left on the device that the data is on: ";
    assert!(refusal.starts_with(expected), "{refusal}");
    assert!(!refusal.contains("/data"), "{refusal}");
    assert_eq!(info_field(&mut client, "aof_last_write_status"), "err");
    assert!(health(&server).starts_with("HTTP/1.1 503 "));
    // Nobody writes: it is looked for all the same, and in vain.
    support::sleep(5000);
    assert_eq!(info_field(&mut client, "aof_last_write_status"), "err");
    machine.set_capacity_bytes(1 << 30);
    until("there is space", || health(&server).starts_with("HTTP/1.1 200 "));
    assert_eq!(info_field(&mut client, "aof_last_write_status"), "ok");
    client.check("SET k w", "+OK\r\n");
    server.shutdown().unwrap();
}
