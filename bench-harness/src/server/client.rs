//! [`Client`]: one thread's connections, driven through epoll.
//!
//! Closed loop: each connection has a fixed number of requests in flight; a reply makes room for the
//! next. Open loop: operations begin at fixed times whatever the server does, and an operation that
//! finds its connection full waits on the client's side with its latency counted from the time it
//! was due, so that a server that stalls cannot hide it (coordinated omission).
//!
//! The requests are sent from where they lie, replies are looked at where they were received.

use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ferrokit_engine::{Clock, Error, ErrorKind, Result};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::check::Checker;
use super::connection::Connection;
use super::stop::Stop;

const BUFFER_BYTES: usize = 64 << 10;
/// Events taken from the kernel at a time.
const EVENTS: usize = 256;
/// How often a stop is looked for while nothing happens.
const STOP_INTERVAL: Duration = Duration::from_millis(100);
/// A server that answers nothing for so long is taken for dead.
const PATIENCE: Duration = Duration::from_secs(60);

/// When operations begin.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// When there is room for them.
    Closed,
    /// At fixed times.
    Open(Schedule),
}

/// The times of an open loop that several clients share: operation n begins at
/// `start + n * interval`; this client has every `clients`-th, from `client` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) start: Duration,
    pub(super) interval_ns: f64,
    pub(super) client: u64,
    pub(super) clients: u64,
}

impl Schedule {
    /// When this client's operation `number` begins.
    fn begin(&self, number: u64) -> Duration {
        let of_all = number * self.clients + self.client;
        self.start + Duration::from_nanos((of_all as f64 * self.interval_ns) as u64)
    }
}

/// What a client did.
pub(super) struct Timed {
    pub(super) begin: Duration,
    pub(super) end: Duration,
    pub(super) latency_ns: Histogram<u64>,
}

/// The connections of one thread.
pub(super) struct Client<'a> {
    clock: &'a dyn Clock,
    stop: &'a Stop,
    checker: Checker<'a>,
    pipeline: usize,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    /// The request sent next.
    next: usize,
}

impl<'a> Client<'a> {
    /// Watches `connections`, which have up to `pipeline` requests in flight each.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(super) fn new(
        clock: &'a dyn Clock,
        stop: &'a Stop,
        checker: Checker<'a>,
        connections: Vec<Connection>,
        pipeline: usize,
    ) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(os_error)?;
        for (index, connection) in connections.iter().enumerate() {
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &connection.stream, data, epoll::EventFlags::IN)
                .map_err(os_error)?;
        }
        let buffer = vec![0; BUFFER_BYTES];
        Ok(Self { clock, stop, checker, pipeline, epoll, connections, buffer, next: 0 })
    }

    /// The sum of the counters read so far.
    pub(super) fn counted(&self) -> u64 {
        self.checker.counted
    }

    /// Does `operations` operations, and returns when the last one is answered.
    ///
    /// # Errors
    /// `Corruption` for a wrong reply; `Io` if the server refuses, hangs up or falls silent;
    /// `Closed` on a stop.
    pub(super) fn run(&mut self, pace: Pace, operations: u64) -> Result<Timed> {
        if matches!(pace, Pace::Open(_)) {
            // The default of 50 us would be a good part of a latency.
            rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).map_err(os_error)?;
        }
        let begin = match pace {
            Pace::Closed => self.clock.monotonic(),
            Pace::Open(schedule) => schedule.start,
        };
        let mut run = Run {
            pace,
            operations,
            begun: 0,
            due: 0,
            answered: 0,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)
                .map_err(|error| Error::invalid("bench.server", error.to_string()))?,
        };
        let connections = self.connections.len() as u64;
        for (index, connection) in self.connections.iter_mut().enumerate() {
            connection.next_operation = index as u64;
        }
        if matches!(pace, Pace::Closed) {
            (0..self.connections.len()).try_for_each(|index| self.fill(&mut run, index))?;
        }
        let mut last_answer = begin;
        let mut events = Vec::with_capacity(EVENTS);
        while run.answered < operations {
            let answered_before = run.answered;
            self.begin_due(&mut run, connections)?;
            self.wait(&run, &mut events)?;
            for event in &events {
                self.handle(&mut run, *event)?;
            }
            if run.answered > answered_before {
                last_answer = self.clock.monotonic();
            } else if events.is_empty() {
                self.check_patience(&run, last_answer)?;
            }
            self.stop.check()?;
        }
        Ok(Timed { begin, end: last_answer, latency_ns: run.latency_ns })
    }

    /// Open loop: begins what is due by now.
    fn begin_due(&mut self, run: &mut Run, connections: u64) -> Result<()> {
        let Pace::Open(schedule) = run.pace else { return Ok(()) };
        let now = self.clock.monotonic();
        while run.due < run.operations && schedule.begin(run.due) <= now {
            let index = (run.due % connections) as usize;
            run.due += 1;
            self.fill(run, index)?;
        }
        Ok(())
    }

    fn wait(&self, run: &Run, events: &mut Vec<epoll::Event>) -> Result<()> {
        let timeout = match run.pace {
            Pace::Open(schedule) if run.due < run.operations => {
                let now = self.clock.monotonic();
                schedule.begin(run.due).saturating_sub(now).min(STOP_INTERVAL)
            }
            _ => STOP_INTERVAL,
        };
        let timeout = Timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(os_error(error)),
        }
    }

    fn handle(&mut self, run: &mut Run, event: epoll::Event) -> Result<()> {
        let index = event.data.u64() as usize;
        // Copied: the kernel's structure is packed.
        let flags = event.flags;
        if flags.contains(epoll::EventFlags::OUT) {
            self.send(index)?;
        }
        // An error or a hang-up is told by reading, too.
        if flags == epoll::EventFlags::OUT {
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        let answered = connection.receive(
            self.clock,
            &mut self.buffer,
            &mut self.checker,
            &mut run.latency_ns,
        )?;
        run.answered += answered as u64;
        self.fill(run, index)
    }

    /// Begins on a connection what there is room for: in an open loop, of what is due.
    fn fill(&mut self, run: &mut Run, index: usize) -> Result<()> {
        let connections = self.connections.len() as u64;
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        let requests = self.checker.requests;
        let mut room = self.pipeline.saturating_sub(connection.requests_in_flight());
        let begun_before = run.begun;
        match run.pace {
            Pace::Closed => {
                let left = usize::try_from(run.operations - run.begun).unwrap_or(usize::MAX);
                room = room.min(left);
                let now = if room > 0 { self.clock.monotonic() } else { Duration::ZERO };
                while room > 0 {
                    let count = room.min(requests.len() - self.next);
                    connection.begin(self.next, count, requests.request_bytes(), now);
                    self.next = (self.next + count) % requests.len();
                    run.begun += count as u64;
                    room -= count;
                }
            }
            Pace::Open(schedule) => {
                while room > 0 && connection.next_operation < run.due {
                    let begin = schedule.begin(connection.next_operation);
                    connection.begin(self.next, 1, requests.request_bytes(), begin);
                    connection.next_operation += connections;
                    self.next = (self.next + 1) % requests.len();
                    run.begun += 1;
                    room -= 1;
                }
            }
        }
        if run.begun > begun_before { self.send(index) } else { Ok(()) }
    }

    /// Sends, and watches for room in the socket's buffer as long as something is left.
    fn send(&mut self, index: usize) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        let is_blocked = !connection.flush(self.checker.requests.bytes())?;
        if is_blocked != connection.is_blocked {
            connection.is_blocked = is_blocked;
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, is_blocked);
            let data = epoll::EventData::new_u64(index as u64);
            epoll::modify(&self.epoll, &connection.stream, data, flags).map_err(os_error)?;
        }
        Ok(())
    }

    fn check_patience(&self, run: &Run, last_answer: Duration) -> Result<()> {
        let is_waiting = run.answered < run.begun;
        if is_waiting && self.clock.monotonic().saturating_sub(last_answer) > PATIENCE {
            return Err(Error::new(
                ErrorKind::Io,
                "bench.server",
                format!("the server answered nothing for {} s", PATIENCE.as_secs()),
            ));
        }
        Ok(())
    }
}

/// The longest latency told apart, an hour.
pub(super) const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Two significant digits: within 1 %.
pub(super) const LATENCY_DIGITS: u8 = 2;

/// One call of [`Client::run`].
struct Run {
    pace: Pace,
    operations: u64,
    begun: u64,
    /// Open loop: the operations whose time has come.
    due: u64,
    answered: u64,
    latency_ns: Histogram<u64>,
}

fn os_error(error: rustix::io::Errno) -> Error {
    Error::io("bench.server", error.into())
}
