//! [`Shared`]: the ring of all threads that have none of their own, and its thread.
//!
//! The thread owns the ring alone. Callers reach it through the queue; while it waits in the
//! kernel, an event in the ring's own poll wakes it.

use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use ferrokit_engine::{Clock, Env, Error, Op, Result};

use super::event::Event;
use super::request::{Finished, Request};
use super::ring::Ring;
use super::thread_ring::{Core, Watch};
use super::{UringOptions, refused};
use crate::bounded_queue::BoundedQueue;
use crate::completion::Completion;
use crate::threads::pool::Pool;

/// How often the rings of threads are looked after. One that its thread has not driven for that
/// long, though it has completions, is driven from here.
const WATCH_PERIOD: Duration = Duration::from_millis(10);

/// The shared ring. Dropping it lets the queue run empty and joins the thread.
pub(super) struct Shared {
    queue: Arc<BoundedQueue<Request>>,
    bell: Arc<Bell>,
    /// For what goes through no ring.
    pub(super) pool: Arc<Pool>,
    pub(super) options: UringOptions,
    watched: Arc<Mutex<Vec<Weak<Core>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Wakes the ring's thread; costs nothing while it is awake.
///
/// The thread sets `is_asleep` before it looks into the queue for the last time; a caller rings
/// after its push. Both pass through the queue's lock in between, so one of them sees the other.
struct Bell {
    event: Event,
    is_asleep: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        if self.is_asleep.swap(false, Ordering::AcqRel) {
            self.event.set();
        }
    }
}

impl Shared {
    pub(super) fn start(env: &Env, options: UringOptions) -> Result<Arc<Self>> {
        let ring = Ring::for_one_thread(options.shared_entries).map_err(refused)?;
        let event = Event::new().map_err(|error| Error::io("uring.start", error))?;
        let bell = Arc::new(Bell { event, is_asleep: AtomicBool::new(false) });
        let to_ring = Arc::clone(&bell);
        let queue =
            Arc::new(BoundedQueue::new(options.queue_len, Box::new(move || to_ring.ring())));
        let watched = Arc::new(Mutex::new(Vec::new()));
        let pool = Pool::start(env, "ferrokit-io", 1, 64)?;
        let worker = Worker {
            ring,
            queue: Arc::clone(&queue),
            bell: Arc::clone(&bell),
            watched: Arc::clone(&watched),
            watches: Vec::new(),
            clock: Arc::clone(&env.clock),
            looked_at: Duration::ZERO,
            finished: Vec::new(),
        };
        let thread = env
            .spawner
            .spawn("ferrokit-uring", Box::new(move || worker.run()))
            .map_err(|error| Error::io("uring.start", error))?;
        let thread = Mutex::new(Some(thread));
        Ok(Arc::new(Self { queue, bell, pool, options, watched, thread }))
    }

    /// Queues a request for the shared ring.
    pub(super) fn submit<T: Send + 'static>(
        self: &Arc<Self>,
        request: Request,
        completion: Completion<T>,
    ) -> Op<'static, T> {
        self.queue.submit(request, completion, Arc::clone(self))
    }

    /// Looks after a thread's ring from now on.
    pub(super) fn watch(&self, core: &Arc<Core>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.push(Arc::downgrade(core));
        drop(watched);
        self.bell.event.set();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            // The last file may be dropped by a waker that the ring's thread calls.
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// The ring's thread.
struct Worker {
    ring: Ring,
    queue: Arc<BoundedQueue<Request>>,
    bell: Arc<Bell>,
    watched: Arc<Mutex<Vec<Weak<Core>>>>,
    watches: Vec<Watch>,
    clock: Arc<dyn Clock>,
    /// When the watched rings were looked at last.
    looked_at: Duration,
    finished: Vec<Finished>,
}

impl Worker {
    fn run(mut self) {
        if let Err(error) = self.ring.enable() {
            return self.fail(&error);
        }
        while !(self.queue.is_finished() && self.ring.is_idle()) {
            self.bell.is_asleep.store(false, Ordering::Release);
            self.take_queued();
            self.ring.poll_event(self.bell.event.as_raw_fd());
            self.bell.is_asleep.store(true, Ordering::SeqCst);
            // What came before the flag was set rang no bell.
            self.take_queued();
            if self.queue.is_finished() && self.ring.is_idle() {
                break;
            }
            let time_max = self.watch_thread_rings().then_some(WATCH_PERIOD);
            if let Err(error) = self.ring.submit_and_wait(time_max) {
                return self.fail(&error);
            }
            if self.ring.reap(&mut self.finished) {
                self.bell.event.clear();
            }
            for answer in self.finished.drain(..) {
                complete(answer);
            }
        }
    }

    /// After a failure that does not pass the ring is of no more use: what is under way ends as it
    /// may, what is queued or comes later answers an error.
    fn fail(&self, error: &io::Error) {
        tracing::error!(%error, "the shared io_uring failed");
        self.queue.close();
        while self.queue.try_pop().is_some() {}
    }

    /// Moves requests from the queue to the ring, as many as it takes.
    fn take_queued(&mut self) {
        while self.ring.has_room()
            && let Some(request) = self.queue.try_pop()
        {
            let pushed = self.ring.push(request);
            debug_assert!(pushed.is_ok(), "there was room");
        }
    }

    /// Drives the rings whose threads do not; whether there are any rings to look after.
    fn watch_thread_rings(&mut self) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        self.watches.extend(watched.drain(..).map(Watch::new));
        drop(watched);
        if self.watches.is_empty() {
            return false;
        }
        let now = self.clock.monotonic();
        if now.saturating_sub(self.looked_at) >= WATCH_PERIOD {
            self.looked_at = now;
            self.watches.retain_mut(Watch::look);
        }
        true
    }
}

/// Hands an answer over; a waker that panics harms nobody else.
pub(super) fn complete(answer: Finished) {
    if catch_unwind(AssertUnwindSafe(|| answer.complete())).is_err() {
        tracing::error!("a waker panicked on an I/O thread");
    }
}
