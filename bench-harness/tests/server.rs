//! Servers over sockets: fake ones that lie, and real ones from start to end.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "real threads, real files, real processes")]

#[path = "support/fake_server.rs"]
mod fake_server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use fake_server::{FakeServer, Quirk, Wire};
use ferrokit_bench::distribution::Distribution;
use ferrokit_bench::plan::Promise;
use ferrokit_bench::server::{
    ServerCommand, ServerKind, ServerMeasurement, ServerPlan, ServerUsage, Stop, Target, measure,
};
use ferrokit_engine::{Env, ErrorKind, Result, block_on};
use serde_json::Value;

const RECORDS: u64 = 200;
const OPERATIONS: u64 = 1000;

fn plan(command: ServerCommand) -> ServerPlan {
    ServerPlan {
        command,
        connections: 3,
        pipeline: 4,
        rate_per_s: None,
        operations: OPERATIONS,
        threads: 2,
        records: RECORDS,
        value_bytes: 64,
        distribution: Distribution::Uniform,
        durability: Promise::Memory,
        seed: 5,
    }
}

/// Measures a fake server that shows its quirk on request number `occasion`.
fn run(wire: Wire, quirk: Quirk, occasion: u64, plan: &ServerPlan) -> Result<ServerMeasurement> {
    let kind = if wire == Wire::Resp { ServerKind::Redis } else { ServerKind::Memcached };
    let target = Target {
        address: FakeServer::start(wire, quirk, occasion),
        protocol: kind.protocol(),
        usage: &|| Ok(ServerUsage::default()),
    };
    measure(&Env::system(), plan, &target, &Stop::default())
}

const WIRES: [Wire; 2] = [Wire::Resp, Wire::Memcached];
const SINGLE: [ServerCommand; 3] = [ServerCommand::Set, ServerCommand::Get, ServerCommand::Incr];

#[test]
fn an_honest_server_is_measured_however_its_replies_are_split() {
    for wire in WIRES {
        for quirk in [Quirk::None, Quirk::SendsByteByByte] {
            for command in SINGLE {
                let measured = run(wire, quirk, 0, &plan(command)).unwrap();
                assert_eq!(measured.operations, OPERATIONS);
                assert!(measured.ops_per_s() > 0.0);
                let latency = measured.latency_ns;
                assert!(0 < latency.p50 && latency.p50 <= latency.p99, "{latency:?}");
                assert!(latency.p999 <= latency.max, "{latency:?}");
            }
        }
    }
    run(Wire::Resp, Quirk::SendsByteByByte, 0, &plan(ServerCommand::Mset)).unwrap();
}

#[test]
fn several_keys_at_once_are_no_request_of_memcached() {
    let error = run(Wire::Memcached, Quirk::None, 0, &plan(ServerCommand::Mset)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn wrong_replies_end_the_run() {
    use Quirk::*;
    use ServerCommand::{Get, Incr, Mset, Set};
    let measured = RECORDS + OPERATIONS / 2;
    for (command, quirk, part) in [
        (Get, ForgetsRecords, "not there"),
        (Get, ReadsAnotherKey, "another key"),
        (Get, TearsValues, "nobody wrote"),
        (Get, CutsValues, "another length"),
        (Get, AnswersWithANumber, "another command"),
        (Get, AnswersTwice, "wrong answer"),
        (Set, AnswersWithANumber, "another command"),
        (Set, AnswersTwice, "wrong answer"),
        (Incr, LosesIncrements, "increments were answered"),
        (Mset, AnswersWithANumber, "another command"),
    ] {
        for wire in WIRES {
            if command == Mset && wire == Wire::Memcached {
                continue;
            }
            let error =
                run(wire, quirk, measured, &plan(command)).expect_err(&format!("{quirk:?}"));
            assert_eq!(error.kind(), ErrorKind::Corruption, "{wire:?} {quirk:?}: {error}");
            assert!(error.to_string().contains(part), "{wire:?} {quirk:?}: {error}");
        }
    }
}

#[test]
fn lost_writes_are_found_afterwards() {
    // Each of the records is written once more: by the operation that gets lost.
    let each_once =
        ServerPlan { operations: 1, records: 1, connections: 1, ..plan(ServerCommand::Set) };
    for wire in WIRES {
        let error = run(wire, Quirk::LosesWrites, 1, &each_once).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(error.to_string().contains("another time"), "{error}");
    }
}

#[test]
fn a_server_that_refuses_or_hangs_up_ends_the_run() {
    for wire in WIRES {
        for occasion in [0, RECORDS + OPERATIONS / 2] {
            let refused =
                run(wire, Quirk::Refuses, occasion, &plan(ServerCommand::Set)).unwrap_err();
            assert!(refused.to_string().contains("no room"), "{refused}");
            let gone = run(wire, Quirk::HangsUp, occasion, &plan(ServerCommand::Get)).unwrap_err();
            assert_eq!(gone.kind(), ErrorKind::Io, "{gone}");
        }
    }
}

#[test]
fn an_open_loop_counts_those_who_waited_behind_a_stall() {
    // 400 operations of which one takes 300 ms: at 1000/s another 300 are due meanwhile.
    let closed = ServerPlan {
        operations: 400,
        connections: 1,
        threads: 1,
        pipeline: 1,
        ..plan(ServerCommand::Get)
    };
    let open = ServerPlan { rate_per_s: Some(1000.0), ..closed.clone() };
    let occasion = RECORDS + 40 + 50;
    let latency = |plan| run(Wire::Resp, Quirk::Stalls, occasion, plan).unwrap().latency_ns;
    let closed = latency(&closed);
    assert!(closed.max > 290_000_000 && closed.p90 < 100_000_000, "{closed:?}");
    let open = latency(&open);
    assert!(open.max > 290_000_000 && open.p50 > 20_000_000, "{open:?}");
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let plan = ServerPlan { rate_per_s: Some(2000.0), ..plan(ServerCommand::Set) };
    let measured = run(Wire::Resp, Quirk::None, 0, &plan).unwrap();
    // Never faster; slower only on a machine that does not keep up.
    assert!(measured.ops_per_s() < 2010.0, "{}", measured.ops_per_s());
    assert!(measured.elapsed_s >= (OPERATIONS - 1) as f64 / 2000.0);
}

#[test]
fn a_stop_ends_a_run() {
    let stop = Stop::default();
    let target = Target {
        address: FakeServer::start(Wire::Resp, Quirk::None, 0),
        protocol: ServerKind::Redis.protocol(),
        usage: &|| Ok(ServerUsage::default()),
    };
    // It would take 1000 s.
    let plan = ServerPlan { rate_per_s: Some(1.0), ..plan(ServerCommand::Get) };
    let told = stop.clone();
    std::thread::spawn(move || {
        block_on(Env::system().timer.sleep(Duration::from_millis(500)));
        told.tell();
    });
    let error = measure(&Env::system(), &plan, &target, &stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

/// Ferrokit's server, built if it is not yet.
fn ferrokit_server() -> PathBuf {
    let bench = Path::new(env!("CARGO_BIN_EXE_ferrokit-bench"));
    let profile_directory = bench.parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "-q", "-p", "ferrokit-server", "--target-dir"]);
    cargo.arg(profile_directory.parent().unwrap());
    if profile_directory.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
    profile_directory.join("ferrokit-server")
}

struct Bench {
    directory: PathBuf,
    command: Command,
}

impl Bench {
    fn new(name: &str, arguments: &str) -> Self {
        let directory = format!("ferrokit-bench-server-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrokit-bench"));
        command
            .args(["server", "--rounds", "2", "--records", "500", "--operations", "2000"])
            .args(arguments.split_whitespace())
            .arg("--directory")
            .arg(&directory)
            .arg("--json")
            .arg(directory.with_extension("jsonl"));
        Self { directory, command }
    }

    fn run(&mut self) -> (Output, Vec<Value>) {
        let output = self.command.output().unwrap();
        assert!(!self.directory.exists(), "something is left");
        let json = self.directory.with_extension("jsonl");
        let lines = std::fs::read_to_string(&json).unwrap_or_default();
        let _ = std::fs::remove_file(&json);
        (output, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[track_caller]
    fn fails(&mut self, part: &str) {
        let (output, _) = self.run();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{part}");
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn of<'a>(lines: &'a [Value], record: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["record"] == record).collect()
}

#[test]
fn ferrokit_is_measured_from_start_to_end() {
    let server = ferrokit_server();
    let mut bench = Bench::new(
        "whole",
        "--servers ferrokit --engine memory,lsm:?memtable=8MiB --commands set,get,incr,mset \
         --connections 3 --pipeline 1,8 --client-threads 2",
    );
    let (output, lines) = bench.run_with(&server);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines[0]["record"], "machine");
    assert_eq!(lines[0]["schema"], 1);
    let runs = of(&lines, "server");
    assert_eq!(runs.len(), 4 * 2 * 2 * 2);
    let names: Vec<&str> = runs.iter().take(4).map(|run| run["server"].as_str().unwrap()).collect();
    let (memory, lsm) = ("ferrokit:memory", "ferrokit:lsm:?memtable=8MiB");
    assert_eq!(names, [memory, lsm, memory, lsm], "rounds are interleaved");
    for run in &runs {
        assert_eq!(run["operations"], 2000);
        assert_eq!(run["parameters"]["connections"], 3);
        assert!(run["ops_per_s"].as_f64().unwrap() > 0.0);
        assert!(run["cpu_s"].as_f64().unwrap() > 0.0, "{run}");
        assert!(run["ops_per_cpu_s"].as_f64().unwrap() > 0.0);
        assert!(run["rss_bytes"].as_u64().unwrap() > 1 << 20, "{run}");
        assert!(run["latency_ns"]["p50"].as_u64() <= run["latency_ns"]["max"].as_u64());
        assert!(run["settings"].as_str().unwrap().contains("--appendfsync no"));
    }
    let ratios = of(&lines, "server_ratio");
    assert_eq!(ratios.len(), 4 * 2);
    assert!(ratios.iter().all(|ratio| ratio["baseline"] == memory && ratio["server"] == lsm));
    assert!(ratios.iter().all(|ratio| ratio["ops_per_cpu_s"]["rounds"] == 2));
    assert!(text.contains("ops/cpu-s") && text.contains("mset: 3 connections"), "{text}");
}

#[test]
fn a_durable_promise_is_kept_or_refused() {
    let server = ferrokit_server();
    for (durability, sync) in [("os", "--appendfsync no"), ("synced", "--appendfsync always")] {
        let mut bench = Bench::new(
            durability,
            &format!(
                "--servers ferrokit:lsm,ferrokit:memory --commands set --connections 2 --pipeline 4 \
                 --rate 2000 --durability {durability}"
            ),
        );
        let (output, lines) = bench.run_with(&server);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("ferrokit:memory: cannot keep durability"), "{text}");
        let runs = of(&lines, "server");
        assert_eq!(runs.len(), 2);
        assert_eq!(runs[0]["server"], "ferrokit:lsm");
        assert_eq!(runs[0]["parameters"]["durability"], durability);
        assert_eq!(runs[0]["parameters"]["rate_per_s"], 2000.0);
        assert!(runs[0]["settings"].as_str().unwrap().contains(sync));
    }
}

impl Bench {
    fn run_with(&mut self, ferrokit_server: &Path) -> (Output, Vec<Value>) {
        self.command.arg("--ferrokit-server").arg(ferrokit_server);
        self.run()
    }
}

#[test]
fn redis_is_measured_where_it_is_and_left_out_where_it_is_not() {
    let server = ferrokit_server();
    let arguments = "--servers ferrokit:memory,redis --commands incr --connections 2 --pipeline 4";
    let mut without = Bench::new("no-redis", arguments);
    without.command.env("PATH", "/nonexistent");
    let (output, lines) = without.run_with(&server);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("redis: absent"));
    assert_eq!(of(&lines, "server").len(), 2);

    if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: redis-server is not installed");
        return;
    }
    let mut with = Bench::new("redis", arguments);
    let (output, lines) = with.run_with(&server);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let runs = of(&lines, "server");
    assert_eq!(runs.len(), 4);
    assert_eq!(runs[1]["server"], "redis");
    assert!(runs[1]["settings"].as_str().unwrap().contains("--appendonly no"));
    assert_eq!(of(&lines, "server_ratio")[0]["baseline"], "redis");
}

#[test]
fn valkey_is_driven_as_redis_where_it_is_and_left_out_where_it_is_not() {
    let server = ferrokit_server();
    let arguments = "--servers ferrokit:memory,valkey --commands get --connections 2 --pipeline 4";
    let programs = std::env::temp_dir().join(format!("ferrokit-valkey-{}", std::process::id()));
    std::fs::create_dir_all(&programs).unwrap();
    let mut without = Bench::new("no-valkey", arguments);
    without.command.env("PATH", &programs);
    let (output, lines) = without.run_with(&server);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("valkey: absent (valkey-server is not installed)"), "{text}");
    assert!(of(&lines, "server").iter().all(|run| run["server"] == "ferrokit:memory"));

    // Redis under its name takes the same command line and speaks the same protocol.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let redis = std::env::split_paths(&path).map(|directory| directory.join("redis-server"));
    if let Some(redis) = redis.into_iter().find(|program| program.is_file()) {
        std::os::unix::fs::symlink(redis, programs.join("valkey-server")).unwrap();
        let mut with = Bench::new("valkey", arguments);
        with.command.env("PATH", &programs);
        let (output, lines) = with.run_with(&server);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let runs = of(&lines, "server");
        assert_eq!((runs.len(), &runs[1]["server"]), (4, &"valkey".into()));
        assert!(runs[1]["settings"].as_str().unwrap().starts_with("valkey-server --port 0"));
    } else {
        println!("skipped: there is no redis-server to stand in for it");
    }
    std::fs::remove_dir_all(&programs).unwrap();
}

#[test]
fn an_interrupted_run_puts_everything_away() {
    let server = ferrokit_server();
    let arguments = "--servers ferrokit:lsm --commands get --connections 2 --pipeline 1 --rate 1";
    let mut bench = Bench::new("interrupted", arguments);
    bench.command.arg("--ferrokit-server").arg(&server).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = bench.command.spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let find = || children_of(pid).pop();
    let server = until("a server", find);
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let status = until("the end", || child.try_wait().unwrap());
    assert!(!status.success());
    assert!(!Path::new(&format!("/proc/{server}")).exists(), "the server is left");
    assert!(!bench.directory.exists(), "its directory is left");
    let _ = std::fs::remove_file(bench.directory.with_extension("jsonl"));
}

#[test]
fn a_server_dies_with_a_killed_run() {
    let server = ferrokit_server();
    let arguments = "--servers ferrokit:memory --commands get --connections 2 --rate 1";
    let mut bench = Bench::new("killed", arguments);
    bench.command.arg("--ferrokit-server").arg(&server).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = bench.command.spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let server = until("a server", || children_of(pid).pop());
    child.kill().unwrap();
    child.wait().unwrap();
    until("its end", || (state_of(server).is_none_or(|state| state == "Z")).then_some(()));
    let _ = std::fs::remove_dir_all(&bench.directory);
    let _ = std::fs::remove_file(bench.directory.with_extension("jsonl"));
}

/// The processes whose parent is `pid`, and that have become the program they are to run.
fn children_of(pid: i32) -> Vec<i32> {
    let numbers = std::fs::read_dir("/proc").unwrap();
    let numbers = numbers.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    numbers.filter(|child| is_server_of(*child, pid)).collect()
}

fn is_server_of(child: i32, parent: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().nth(1) == Some(&parent.to_string())
        && stat.contains("(ferrokit-server")
}

fn state_of(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().next().map(str::to_owned)
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(found) = found() {
            return found;
        }
        block_on(Env::system().timer.sleep(Duration::from_millis(20)));
    }
    panic!("in vain: {what}");
}

#[test]
fn mistakes_end_with_an_error() {
    for (name, arguments, part) in [
        ("unknown", "--servers nosuch", "\"nosuch\" is no server"),
        ("redis-engine", "--servers redis:lsm", "\"redis:lsm\" is no server"),
        ("none", "--servers valkey --ferrokit-server x", "none of the servers is there"),
        ("rounds", "--rounds 0", "invalid value"),
        ("connections", "--connections 10001", "--connections 10001"),
        ("pipeline", "--pipeline 2000", "--pipeline 2000"),
        ("value", "--value-size 3", "--value-size 3"),
        ("rate", "--rate -5", "unexpected argument"),
        ("extra", "--server-args redis=--x --servers ferrokit", "--server-args redis"),
    ] {
        let mut bench = Bench::new(name, "");
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        bench.command = {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ferrokit-bench"));
            command.arg("server").args(&arguments).env("PATH", "/nonexistent");
            command.arg("--directory").arg(&bench.directory);
            command
        };
        let part = if name == "rounds" { "--rounds 0" } else { part };
        bench.fails(part);
    }
}

#[test]
fn a_server_that_does_not_start_is_told_with_its_log() {
    use std::os::unix::fs::PermissionsExt;
    let script = std::env::temp_dir().join(format!("ferrokit-bench-broken-{}", std::process::id()));
    std::fs::write(&script, "#!/bin/sh\necho the disk is on fire >&2\nexit 3\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut bench = Bench::new("broken", "--servers ferrokit:memory");
    bench.command.arg("--ferrokit-server").arg(&script);
    bench.fails("the disk is on fire");
    std::fs::remove_file(&script).unwrap();
}
