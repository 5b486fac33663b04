//! Simulated time, randomness and threads.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use ferrokit_engine::{Clock, Random, Spawner, Timer, UnixMillis};

use super::background::SteppedBackground;
use super::rng::mix;

/// Time that stands still until it is moved. A handle: clones show the same time.
#[derive(Debug, Clone)]
pub struct SimClock(Arc<Time>);

#[derive(Debug)]
struct Time {
    monotonic_nanos: AtomicU64,
    /// Wall clock minus monotonic clock.
    wall_offset_ms: AtomicI64,
}

impl SimClock {
    /// A clock whose wall time is `wall` and whose monotonic time is zero.
    pub fn new(wall: UnixMillis) -> Self {
        let offset = i64::try_from(wall.0).unwrap_or(i64::MAX);
        Self(Arc::new(Time {
            monotonic_nanos: AtomicU64::new(0),
            wall_offset_ms: AtomicI64::new(offset),
        }))
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.monotonic_nanos.fetch_add(nanos, Ordering::AcqRel);
    }

    /// Sets the wall clock, forwards or backwards; the monotonic one stays.
    pub fn set_wall(&self, wall: UnixMillis) {
        let wall = i64::try_from(wall.0).unwrap_or(i64::MAX);
        self.0.wall_offset_ms.store(wall.saturating_sub(self.monotonic_ms()), Ordering::Release);
    }

    fn monotonic_ms(&self) -> i64 {
        let nanos = self.0.monotonic_nanos.load(Ordering::Acquire);
        i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX)
    }

    fn raise_to(&self, deadline: Duration) {
        let nanos = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        self.0.monotonic_nanos.fetch_max(nanos, Ordering::AcqRel);
    }
}

impl Clock for SimClock {
    fn now(&self) -> UnixMillis {
        let wall =
            self.0.wall_offset_ms.load(Ordering::Acquire).saturating_add(self.monotonic_ms());
        UnixMillis(u64::try_from(wall).unwrap_or(0))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.monotonic_nanos.load(Ordering::Acquire))
    }
}

/// How often a sleep lets awake jobs go first.
const YIELDS_MAX: u32 = 1000;

/// Sleeps of simulated time.
///
/// A sleep is over once the clock has reached its deadline. Whoever polls it before lets awake
/// jobs run first; once none is awake (or inside a job's step, where none could run, or after
/// a thousand polls) nothing but time can go on, so time jumps to the deadline. A sleep therefore
/// never hangs, whatever drives it, and costs no real time.
#[derive(Clone)]
pub struct SimTimer {
    clock: SimClock,
    background: SteppedBackground,
}

impl SimTimer {
    /// A timer on `clock` that yields to the jobs of `background`.
    pub fn new(clock: SimClock, background: SteppedBackground) -> Self {
        Self { clock, background }
    }
}

impl Timer for SimTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let deadline = self.clock.monotonic().saturating_add(duration);
        Box::pin(SimSleep { timer: self.clone(), deadline, yields: 0 })
    }
}

struct SimSleep {
    timer: SimTimer,
    deadline: Duration,
    yields: u32,
}

impl Future for SimSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.clock.monotonic() < self.deadline {
            if self.timer.background.could_step() && self.yields < YIELDS_MAX {
                self.yields += 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.timer.clock.raise_to(self.deadline);
        }
        Poll::Ready(())
    }
}

/// Random numbers from a seed.
#[derive(Debug)]
pub struct SimRandom(AtomicU64);

impl SimRandom {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Random for SimRandom {
    fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        mix(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }
}

/// Refuses threads: on a stepped machine everything runs on the thread of the test.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimSpawner;

impl Spawner for SimSpawner {
    fn spawn(&self, name: &str, _body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("a stepped machine starts no threads (asked for \"{name}\")"),
        ))
    }
}
