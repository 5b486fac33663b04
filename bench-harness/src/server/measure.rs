//! [`measure`]: one command, on one server, in one round.
//!
//! Load, settle, warm up, measure, verify. The server's CPU time is taken right before and right
//! after the measured part, when nothing is in flight and all connections are made.

use std::net::SocketAddr;
use std::time::Duration;

use ferrokit_engine::{Clock, Env, Error, ErrorKind, Result};
use hdrhistogram::Histogram;

use super::check::{Checker, wrong_answer};
use super::client::{Client, LATENCY_DIGITS, LATENCY_NS_MAX, Pace, Schedule, Timed};
use super::command::ServerCommand;
use super::connection::Connection;
use super::plan::ServerPlan;
use super::protocol::Protocol;
use super::requests::{Draw, Purpose, Requests};
use super::stop::Stop;
use super::usage::ServerUsage;
use crate::dataset::{Dataset, KeyOrder};
use crate::distribution::Chooser;
use crate::measurement::Latency;

/// Memory for the requests of a run.
const REQUESTS_BYTES_MAX: usize = 256 << 20;
/// Connections and requests in flight on each, outside the measured part.
const SWEEP_CONNECTIONS: usize = 4;
const SWEEP_PIPELINE: usize = 64;
/// Bytes of values in flight on a connection outside the measured part, above one value.
const SWEEP_BYTES: usize = 4 << 20;
/// Overwritten records that are read back, at most.
const VERIFIED_RECORDS_MAX: usize = 100_000;
/// Operations before the measured part: a tenth of those in it, up to so many.
const WARMUP_OPERATIONS_MAX: u64 = 50_000;
/// A server is settled when it uses less than a tenth of a core for so long.
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);
/// For so long it is waited for.
const SETTLE_PATIENCE: Duration = Duration::from_secs(30);
/// From the start of the clients until the first operation of an open loop is due.
const OPEN_LOOP_LEAD: Duration = Duration::from_millis(5);

/// A server that runs.
pub struct Target<'a> {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: &'static dyn Protocol,
    /// What it has cost so far.
    pub usage: &'a dyn Fn() -> Result<ServerUsage>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerMeasurement {
    /// Operations done.
    pub operations: u64,
    /// In so many seconds.
    pub elapsed_s: f64,
    /// From the time an operation began (open loop: was due) to its answer.
    pub latency_ns: Latency,
    /// CPU time of the server in seconds, its descendants included.
    pub cpu_s: f64,
    /// Resident memory of the server at the end, in bytes.
    pub rss_bytes: u64,
}

impl ServerMeasurement {
    /// Operations per second.
    pub fn ops_per_s(&self) -> f64 {
        self.operations as f64 / self.elapsed_s.max(1e-9)
    }

    /// Operations per second of the server's CPU time.
    pub fn ops_per_cpu_s(&self) -> f64 {
        self.operations as f64 / self.cpu_s.max(1e-9)
    }
}

/// Carries a plan out on a server with no data.
///
/// # Errors
/// `Unsupported` if the server has no such command; `Corruption` for a wrong answer; `Io` if the
/// server refuses, hangs up or falls silent; `Closed` on a stop.
pub fn measure(
    env: &Env,
    plan: &ServerPlan,
    target: &Target<'_>,
    stop: &Stop,
) -> Result<ServerMeasurement> {
    plan.check()?;
    let dataset = Dataset::new(plan.seed, KeyOrder::Hashed, plan.value_bytes);
    // A client that fails ends the others, and nothing else.
    let run = Run { env, plan, target, stop: &stop.nested(), dataset: &dataset };
    let requests = run.requests()?;
    run.load()?;
    run.settle()?;
    let mut clients = run.clients(&requests)?;
    let warmup = run.warm_up(&mut clients)?;

    let before = (target.usage)()?;
    let timed = run.timed(&mut clients)?;
    let after = (target.usage)()?;

    drop(clients);
    run.verify(&requests, warmup + plan.operations)?;
    Ok(ServerMeasurement {
        operations: plan.operations,
        elapsed_s: timed.end.saturating_sub(timed.begin).as_secs_f64(),
        latency_ns: Latency::of(&timed.latency_ns)
            .ok_or_else(|| Error::invalid("bench.server", "the run has no operations"))?,
        cpu_s: after.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e9,
        rss_bytes: after.resident_bytes,
    })
}

struct Run<'a> {
    env: &'a Env,
    plan: &'a ServerPlan,
    target: &'a Target<'a>,
    stop: &'a Stop,
    dataset: &'a Dataset,
}

impl<'a> Run<'a> {
    fn clock(&self) -> &'a dyn Clock {
        self.env.clock.as_ref()
    }

    /// Client threads: each has a connection and an operation.
    fn threads(&self) -> usize {
        let operations = usize::try_from(self.plan.operations).unwrap_or(usize::MAX);
        self.plan.threads.min(self.plan.connections).min(operations)
    }

    /// The part of a client thread in a total.
    fn share(&self, total: u64, thread: usize) -> u64 {
        let threads = self.threads() as u64;
        total / threads + u64::from((thread as u64) < total % threads)
    }

    /// The requests of each client thread.
    fn requests(&self) -> Result<Vec<Requests>> {
        let chooser = Chooser::new(self.plan.distribution, self.plan.records);
        (0..self.threads())
            .map(|thread| {
                let draw = Draw {
                    chooser: &chooser,
                    seed: self.plan.seed,
                    thread,
                    count: self.share(self.plan.operations, thread),
                    budget_bytes: REQUESTS_BYTES_MAX / self.threads(),
                };
                Requests::drawn(self.target.protocol, self.dataset, self.plan.command, &draw)
            })
            .collect()
    }

    fn client<'r>(&'r self, requests: &'r Requests, size: ClientSize) -> Result<Client<'r>> {
        let checker = Checker {
            protocol: self.target.protocol,
            dataset: self.dataset,
            requests,
            value_bytes: self.plan.value_bytes,
            counted: 0,
        };
        let connections = (0..size.connections)
            .map(|_| Connection::open(self.target.address))
            .collect::<Result<_>>()?;
        Client::new(self.clock(), self.stop, checker, connections, size.pipeline)
    }

    fn clients<'r>(&'r self, requests: &'r [Requests]) -> Result<Vec<Client<'r>>> {
        let clients = requests.iter().enumerate().map(|(thread, requests)| {
            let connections = self.share(self.plan.connections as u64, thread) as usize;
            self.client(requests, ClientSize { connections, pipeline: self.plan.pipeline })
        });
        clients.collect()
    }

    fn load(&self) -> Result<()> {
        let purpose = match self.plan.command {
            ServerCommand::Incr => Purpose::LoadCounter,
            _ => Purpose::Load,
        };
        let items: Vec<u32> = (0..self.plan.records as u32).collect();
        self.sweep(purpose, &items).map(drop)
    }

    /// Does one request for each of `items`; the sum of the counters read.
    fn sweep(&self, purpose: Purpose, items: &[u32]) -> Result<u64> {
        let pipeline = (SWEEP_BYTES / self.plan.value_bytes).clamp(1, SWEEP_PIPELINE);
        let size = ClientSize { connections: SWEEP_CONNECTIONS, pipeline };
        // A request is at most a few times its key longer than its value.
        let chunk = (REQUESTS_BYTES_MAX / (self.plan.value_bytes + 128)).max(1);
        let mut counted = 0_u64;
        for items in items.chunks(chunk) {
            let (protocol, dataset) = (self.target.protocol, self.dataset);
            let requests = Requests::on_items(protocol, dataset, purpose, 0, items.to_vec())?;
            let mut client = self.client(&requests, size)?;
            client.run(Pace::Closed, items.len() as u64)?;
            counted = counted.wrapping_add(client.counted());
        }
        Ok(counted)
    }

    /// Waits until the server has done what the load left it to do.
    fn settle(&self) -> Result<()> {
        let deadline = self.clock().monotonic() + SETTLE_PATIENCE;
        let busy_ns = SETTLE_INTERVAL.as_nanos() as u64 / 10;
        let mut before = (self.target.usage)()?;
        while self.clock().monotonic() < deadline {
            self.stop.sleep(self.env, SETTLE_INTERVAL)?;
            let after = (self.target.usage)()?;
            if after.cpu_ns.saturating_sub(before.cpu_ns) < busy_ns {
                break;
            }
            before = after;
        }
        Ok(())
    }

    /// Answers how many operations it did.
    fn warm_up(&self, clients: &mut [Client<'_>]) -> Result<u64> {
        let operations = (self.plan.operations / 10).min(WARMUP_OPERATIONS_MAX);
        self.in_threads(clients, operations, |_| Pace::Closed)?;
        Ok(operations)
    }

    fn timed(&self, clients: &mut [Client<'_>]) -> Result<Timed> {
        let start = self.clock().monotonic() + OPEN_LOOP_LEAD;
        let count = clients.len() as u64;
        let pace = |thread: usize| match self.plan.rate_per_s {
            None => Pace::Closed,
            Some(rate) => Pace::Open(Schedule {
                start,
                interval_ns: 1e9 / rate,
                client: thread as u64,
                clients: count,
            }),
        };
        self.in_threads(clients, self.plan.operations, pace)
    }

    /// Runs all clients, each in a thread of its own.
    fn in_threads(
        &self,
        clients: &mut [Client<'_>],
        operations: u64,
        pace: impl Fn(usize) -> Pace,
    ) -> Result<Timed> {
        let results: Vec<Result<Timed>> = std::thread::scope(|scope| {
            let threads: Vec<_> = clients
                .iter_mut()
                .enumerate()
                .map(|(thread, client)| {
                    let (pace, share) = (pace(thread), self.share(operations, thread));
                    let stop = self.stop;
                    scope.spawn(move || {
                        let result = client.run(pace, share);
                        if result.is_err() {
                            stop.tell();
                        }
                        result
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(wrong_answer("a panic"))))
                .collect()
        });
        let mut all = Timed {
            begin: Duration::MAX,
            end: Duration::ZERO,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)
                .map_err(|error| Error::invalid("bench.server", error.to_string()))?,
        };
        for timed in all_or_cause(results)? {
            all.begin = all.begin.min(timed.begin);
            all.end = all.end.max(timed.end);
            all.latency_ns
                .add(&timed.latency_ns)
                .map_err(|error| Error::invalid("bench.server", error.to_string()))?;
        }
        Ok(all)
    }

    /// Reads back what was written: every counter, or up to [`VERIFIED_RECORDS_MAX`] records.
    fn verify(&self, requests: &[Requests], operations: u64) -> Result<()> {
        if self.plan.command == ServerCommand::Get {
            return Ok(());
        }
        let mut items: Vec<u32> =
            requests.iter().flat_map(|requests| requests.items()).copied().collect();
        items.sort_unstable();
        items.dedup();
        if self.plan.command == ServerCommand::Incr {
            let counted = self.sweep(Purpose::ReadCounter, &items)?;
            if counted != operations {
                let what = format!("{operations} increments were answered, {counted} are there");
                return Err(wrong_answer(what));
            }
            return Ok(());
        }
        let step = items.len().div_ceil(VERIFIED_RECORDS_MAX).max(1);
        let sample: Vec<u32> = items.into_iter().step_by(step).collect();
        self.sweep(Purpose::ReadOverwritten, &sample).map(drop)
    }
}

#[derive(Clone, Copy)]
struct ClientSize {
    connections: usize,
    pipeline: usize,
}

/// All results, or the error that made the other clients stop.
fn all_or_cause(results: Vec<Result<Timed>>) -> Result<Vec<Timed>> {
    let mut timed = Vec::new();
    let mut cause: Option<Error> = None;
    for result in results {
        match (result, &cause) {
            (Ok(one), _) => timed.push(one),
            (Err(error), Some(known)) if known.kind() != ErrorKind::Closed => drop(error),
            (Err(error), _) => cause = Some(error),
        }
    }
    cause.map_or(Ok(timed), Err)
}
