//! [`Env`]: clock, timer, randomness and threads. Everything that would make a run differ from the
//! one before is reached through it, so that tests can replace it.
//!
//! Files and persistent memory are injected likewise, by `ferrokit-storage`.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::entry::UnixMillis;

/// The time.
pub trait Clock: Send + Sync {
    /// The wall clock. It may step backwards: [`ExpiryClock`] is the one for expiry.
    fn now(&self) -> UnixMillis;

    /// Time since some fixed moment; never steps backwards.
    fn monotonic(&self) -> Duration;
}

/// Waiting for a time.
pub trait Timer: Send + Sync {
    /// Completes once `duration` has passed on [`Clock::monotonic`].
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Randomness. Not for secrets.
pub trait Random: Send + Sync {
    /// Uniform over all `u64`.
    fn next_u64(&self) -> u64;
}

/// Starting threads.
pub trait Spawner: Send + Sync {
    /// Runs `body` on a thread of that name.
    ///
    /// # Errors
    /// Those of the operating system.
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;
}

/// The environment an engine is opened with.
#[derive(Clone)]
pub struct Env {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Waiting.
    pub timer: Arc<dyn Timer>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Threads.
    pub spawner: Arc<dyn Spawner>,
}

impl Env {
    /// The real one: the system's clock and threads.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            timer: Arc::new(SystemTimer),
            random: Arc::new(SystemRandom::default()),
            spawner: Arc::new(SystemSpawner),
        }
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Env")
    }
}

/// The clock that expiry uses: it never goes backwards, and an engine that persists
/// [`now`](Self::now) and gives it back as `floor` keeps that across restarts.
pub struct ExpiryClock {
    clock: Arc<dyn Clock>,
    floor: AtomicU64,
}

impl ExpiryClock {
    /// A clock that starts at the later of the wall clock and `floor`.
    pub fn new(clock: Arc<dyn Clock>, floor: UnixMillis) -> Self {
        Self { clock, floor: AtomicU64::new(floor.0) }
    }

    /// The time; at least every time answered before.
    pub fn now(&self) -> UnixMillis {
        let wall = self.clock.now().0;
        UnixMillis(self.floor.fetch_max(wall, Ordering::AcqRel).max(wall))
    }

    /// Never answers a time before `floor` from now on.
    pub fn raise(&self, floor: UnixMillis) {
        self.floor.fetch_max(floor.0, Ordering::AcqRel);
    }
}

struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    fn now(&self) -> UnixMillis {
        let since_epoch =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Sleeps are rare (back-pressure, retries), so each gets a helper thread that waits for it or for
/// its cancellation.
struct SystemTimer;

#[derive(Default)]
struct SleepState {
    woken: Mutex<(bool, Option<Waker>)>,
    cancelled: Condvar,
}

struct SystemSleep {
    duration: Duration,
    state: Option<Arc<SleepState>>,
}

impl Timer for SystemTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(SystemSleep { duration, state: None })
    }
}

impl Future for SystemSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(state) = &self.state {
            let mut woken = state.woken.lock().unwrap_or_else(PoisonError::into_inner);
            if woken.0 {
                return Poll::Ready(());
            }
            woken.1 = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let state = Arc::new(SleepState::default());
        state.woken.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(cx.waker().clone());
        let shared = Arc::clone(&state);
        let duration = self.duration;
        let started = SystemSpawner.spawn(
            "ferrokit-sleep",
            Box::new(move || {
                let woken = shared.woken.lock().unwrap_or_else(PoisonError::into_inner);
                let (mut woken, _) = shared
                    .cancelled
                    .wait_timeout_while(woken, duration, |woken| !woken.0)
                    .unwrap_or_else(PoisonError::into_inner);
                woken.0 = true;
                if let Some(waker) = woken.1.take() {
                    drop(woken);
                    waker.wake();
                }
            }),
        );
        self.state = Some(state);
        match started {
            Ok(_detached) => Poll::Pending,
            // No thread to be had: a shorter wait is better than none that ends.
            Err(_) => Poll::Ready(()),
        }
    }
}

impl Drop for SystemSleep {
    fn drop(&mut self) {
        if let Some(state) = &self.state {
            let mut woken = state.woken.lock().unwrap_or_else(PoisonError::into_inner);
            *woken = (true, None);
            state.cancelled.notify_all();
        }
    }
}

struct SystemRandom {
    keys: RandomState,
    counter: AtomicU64,
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self { keys: RandomState::new(), counter: AtomicU64::new(0) }
    }
}

impl Random for SystemRandom {
    fn next_u64(&self) -> u64 {
        // SipHash of a counter under a random key.
        let mut hasher = self.keys.build_hasher();
        hasher.write_u64(self.counter.fetch_add(1, Ordering::Relaxed));
        hasher.finish()
    }
}

struct SystemSpawner;

impl Spawner for SystemSpawner {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(name.to_owned()).spawn(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::block_on;

    struct StepClock(AtomicU64);
    impl Clock for StepClock {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.0.load(Ordering::Relaxed))
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn expiry_time_never_goes_back() {
        let wall = Arc::new(StepClock(AtomicU64::new(100)));
        let clock = ExpiryClock::new(Arc::clone(&wall) as Arc<dyn Clock>, UnixMillis(50));
        assert_eq!(clock.now(), UnixMillis(100));
        wall.0.store(70, Ordering::Relaxed);
        assert_eq!(clock.now(), UnixMillis(100));
        clock.raise(UnixMillis(120));
        assert_eq!(clock.now(), UnixMillis(120));
    }

    #[test]
    fn the_system_timer_waits() {
        let env = Env::system();
        let before = env.clock.monotonic();
        block_on(env.timer.sleep(Duration::from_millis(5)));
        assert!(env.clock.monotonic() - before >= Duration::from_millis(5));
    }

    #[test]
    fn random_numbers_differ() {
        let env = Env::system();
        assert_ne!(env.random.next_u64(), env.random.next_u64());
    }
}
