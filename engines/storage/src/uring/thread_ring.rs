//! [`ThreadRing`]: a ring that belongs to one thread.
//!
//! What the thread begins is pushed to its ring; it reaches the kernel together with what else was
//! pushed: when a future of it is first polled or is dropped, when [`SUBMIT_AT`] have gathered, or
//! when the thread drives the ring. Completions are reaped by the thread, in
//! [`drive`](ThreadIo::drive).
//!
//! A thread that blocks on an answer does not drive its ring; the shared ring's thread looks after
//! such rings and drives them in its place, some 20 ms late. A full ring passes what is begun on to
//! the shared one.
//!
//! Locks: one around the ring, uncontended as a rule; nothing is completed under it.

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use ferrokit_engine::{Error, Op, Result};

use super::event::Event;
use super::refused;
use super::request::{Finished, Request};
use super::ring::Ring;
use super::shared::{Shared, complete};
use crate::completion::Completion;
use crate::fs::ThreadIo;

/// So many requests are submitted without waiting for a poll.
const SUBMIT_AT: usize = 32;

thread_local! {
    /// The ring of this thread.
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

struct Current {
    shared: Arc<Shared>,
    core: Arc<Core>,
}

/// A thread's ring, as others know it.
pub(super) struct Core {
    ring: Mutex<Ring>,
    event: Event,
    /// How often the thread has driven it.
    drives: AtomicU64,
}

impl Core {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, request: Request) -> Result<(), Request> {
        let mut ring = self.ring();
        ring.push(request)?;
        if ring.unsubmitted() >= SUBMIT_AT {
            submit(&mut ring);
        }
        Ok(())
    }

    fn submit_pushed(&self) {
        let mut ring = self.ring();
        if ring.unsubmitted() > 0 {
            submit(&mut ring);
        }
    }

    /// Submits, reaps, completes; how many.
    fn drive(&self) -> usize {
        let mut finished = Vec::new();
        let mut ring = self.ring();
        if ring.unsubmitted() > 0 {
            submit(&mut ring);
        }
        ring.reap(&mut finished);
        if ring.unsubmitted() > 0 {
            // What was begun again.
            submit(&mut ring);
        }
        drop(ring);
        complete_all(finished)
    }

    /// Waits for all that is under way.
    fn finish(&self) {
        loop {
            let mut finished = Vec::new();
            let mut ring = self.ring();
            if ring.is_idle() {
                return;
            }
            if let Err(error) = ring.submit_and_wait(None) {
                tracing::error!(%error, "the io_uring of a thread failed");
                return;
            }
            ring.reap(&mut finished);
            drop(ring);
            complete_all(finished);
        }
    }
}

fn submit(ring: &mut Ring) {
    if let Err(error) = ring.submit() {
        // What was pushed stays, and is submitted with the next.
        tracing::error!(%error, "the io_uring of a thread refused a submission");
    }
}

fn complete_all(finished: Vec<Finished>) -> usize {
    let count = finished.len();
    finished.into_iter().for_each(complete);
    count
}

/// How the shared ring's thread looks after a thread's ring.
pub(super) struct Watch {
    core: Weak<Core>,
    drives_seen: u64,
    was_due: bool,
}

impl Watch {
    pub(super) fn new(core: Weak<Core>) -> Self {
        Self { core, drives_seen: 0, was_due: false }
    }

    /// Drives the ring if it was due at the last look and nobody has driven it since; `false` when
    /// the ring is gone.
    pub(super) fn look(&mut self) -> bool {
        let Some(core) = self.core.upgrade() else { return false };
        let drives = core.drives.load(Ordering::Relaxed);
        let is_due = {
            let mut ring = core.ring();
            ring.has_completions() || ring.unsubmitted() > 0
        };
        if is_due && self.was_due && drives == self.drives_seen {
            core.drive();
        }
        self.was_due = is_due;
        self.drives_seen = drives;
        true
    }
}

/// The ring of the thread that registered it. Dropping it waits for what is under way on it; what
/// the thread begins after that goes to the shared ring.
///
/// Its descriptor is readable when there are completions.
pub struct ThreadRing {
    core: Arc<Core>,
    /// It is the ring of *this* thread.
    _not_send: PhantomData<*const ()>,
}

impl ThreadRing {
    /// Gives the calling thread a ring.
    pub(super) fn register(shared: &Arc<Shared>) -> Result<Self> {
        CURRENT.with_borrow_mut(|current| {
            if current.is_some() {
                return Err(Error::invalid("uring.register", "the thread has a ring already"));
            }
            let event = Event::new().map_err(|error| Error::io("uring.register", error))?;
            let ring = Ring::new(shared.options.thread_entries).map_err(refused)?;
            ring.signal_completions(&event).map_err(|error| Error::io("uring.register", error))?;
            let core = Arc::new(Core { ring: Mutex::new(ring), event, drives: AtomicU64::new(0) });
            shared.watch(&core);
            *current = Some(Current { shared: Arc::clone(shared), core: Arc::clone(&core) });
            Ok(Self { core, _not_send: PhantomData })
        })
    }
}

impl AsRawFd for ThreadRing {
    fn as_raw_fd(&self) -> RawFd {
        self.core.event.as_raw_fd()
    }
}

impl ThreadIo for ThreadRing {
    fn drive(&self) -> usize {
        self.core.drives.fetch_add(1, Ordering::Relaxed);
        self.core.event.clear();
        self.core.drive()
    }
}

impl Drop for ThreadRing {
    fn drop(&mut self) {
        // Absent only if the thread's locals are gone already.
        let current = CURRENT.try_with(|current| current.borrow_mut().take());
        self.core.finish();
        // After its ring: it may be the last of the file system.
        drop(current);
    }
}

/// Begins a request on this thread's ring, or on the shared one.
pub(super) fn begin<T: Send + 'static>(
    shared: &Arc<Shared>,
    request: Request,
    completion: Completion<T>,
) -> Op<'static, T> {
    let core = CURRENT.try_with(|current| {
        let current = current.borrow();
        let current = current.as_ref().filter(|current| Arc::ptr_eq(&current.shared, shared))?;
        Some(Arc::clone(&current.core))
    });
    let Ok(Some(core)) = core else { return shared.submit(request, completion) };
    match core.push(request) {
        Ok(()) => Op::pending(ThreadOp { unsubmitted: Some(core), completion }),
        Err(request) => shared.submit(request, completion),
    }
}

/// The answer of an operation on a thread's ring.
struct ThreadOp<T> {
    /// Where it was pushed, until it has been seen to that it is submitted.
    unsubmitted: Option<Arc<Core>>,
    completion: Completion<T>,
}

impl<T> ThreadOp<T> {
    fn submit(&mut self) {
        if let Some(core) = self.unsubmitted.take() {
            core.submit_pushed();
        }
    }
}

impl<T> Future for ThreadOp<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.submit();
        Pin::new(&mut self.completion).poll(cx)
    }
}

impl<T> Drop for ThreadOp<T> {
    fn drop(&mut self) {
        self.submit();
    }
}
