//! A crowd: many connections, most of them idle, some of them hostile. The others are answered
//! rightly and hardly later than before.
//!
//! # Environment
//! - `FERROKIT_SOAK=1`: 10,000 connections, 500 of them hostile, for half a minute, in a release
//!   build; the honest ones' 99.9th percentile must stay within twice what it was.
//! - `FERROKIT_CROWD_SECONDS`: how long each phase takes.
//!
//! Without it a few hundred connections for a moment: latencies mean little beside other tests, so
//! only a standstill fails.

#![expect(clippy::unwrap_used, reason = "a test")]

mod honest;
mod hostile;
#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use honest::{Honest, Latencies};
use hostile::{KINDS, harass};
use support::{ChildServer, info_field};

/// How many there are, and for how long.
struct Crowd {
    connections: usize,
    hostile: usize,
    phase: Duration,
    is_soak: bool,
}

impl Crowd {
    fn of_environment() -> Self {
        let is_soak = std::env::var("FERROKIT_SOAK").is_ok_and(|value| value == "1");
        let (connections, hostile, secs) = if is_soak { (10_000, 500, 20) } else { (300, 45, 2) };
        let asked = std::env::var("FERROKIT_CROWD_SECONDS").ok().and_then(|it| it.parse().ok());
        Self { connections, hostile, phase: Duration::from_secs(asked.unwrap_or(secs)), is_soak }
    }
}

/// Descriptors for the clients, which are in this process.
fn raise_descriptors(wanted: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let wanted = wanted as u64 + 200;
    assert!(
        maximum.is_none_or(|maximum| maximum >= wanted),
        "the limit of open files is {maximum:?}"
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
}

#[test]
fn hostile_clients_hardly_slow_the_others() {
    let crowd = Crowd::of_environment();
    raise_descriptors(crowd.connections);
    // One worker: the clients need a core, too.
    let server = ChildServer::start(&[
        "--engine",
        "memory:",
        "--workers",
        "1",
        "--maxclients",
        "11000",
        "--maxmemory-clients",
        "512mb",
    ]);
    let mut watcher = server.client();
    let mut rss = || info_field(&mut watcher, "used_memory_rss").parse::<u64>().unwrap();
    let at_first = rss();
    let mut honest = Honest::connect(server.port, crowd.connections - crowd.hostile);
    let each = rss().saturating_sub(at_first) / honest.len() as u64;
    println!("{each} bytes of the server's memory for each idle connection");
    // A few carry what the server has for all of them.
    assert!(!crowd.is_soak || each < 4 << 10, "{each} bytes for each idle connection");
    // As many, idle, in the place of the hostile ones.
    let idle = Honest::connect(server.port, crowd.hostile);
    // Once to warm up.
    honest.ask_for(crowd.phase / 4);
    let before = honest.ask_for(crowd.phase);
    println!("before:     {before}");
    drop(idle);

    let is_over = AtomicBool::new(false);
    let during = std::thread::scope(|scope| {
        for (index, kind) in KINDS.iter().enumerate() {
            let share =
                crowd.hostile / KINDS.len() + usize::from(index < crowd.hostile % KINDS.len());
            let (port, is_over) = (server.port, &is_over);
            scope.spawn(move || harass(kind, share, port, is_over));
        }
        // Stopped in any case: a failure here must not wait for the others for ever.
        let stop = Stop(&is_over);
        honest.ask_for(crowd.phase / 4);
        let during = honest.ask_for(crowd.phase);
        drop(stop);
        during
    });
    println!("harassed:   {during}");
    let at_worst = info_field(&mut watcher, "used_memory_peak").parse::<u64>().unwrap();
    println!("the server took {} MiB at most", at_worst >> 20);
    assert!(at_worst < 3 << 30, "{at_worst} bytes");
    let after = honest.ask_for(crowd.phase / 4);
    println!("afterwards: {after}");
    check(&crowd, &before, &during);
}

fn check(crowd: &Crowd, before: &Latencies, during: &Latencies) {
    let (bound, what) = if crowd.is_soak && !cfg!(debug_assertions) {
        (before.percentile(99.9) * 2, "twice what it was")
    } else {
        (Duration::from_secs(1), "a second")
    };
    let got = during.percentile(99.9);
    assert!(got <= bound, "{got:?} is more than {what}");
}

struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
