//! [`Pool`]: a fixed number of threads that run blocking tasks from a bounded queue.
//!
//! Who finds the queue full waits in a future of his own ([`Submit`]); each task taken from the
//! queue calls the one who has waited longest. One who is called but dropped calls the next, so
//! that no room goes unused.
//!
//! Locks: one, around queue and waiters; nothing is called under it.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use ferrokit_engine::{Env, Error, Op, Result};

use crate::completion::{Completion, completion};

type Task = Box<dyn FnOnce() + Send>;

/// Threads and what they share. Dropping it lets the queue run empty and joins the threads.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    not_empty: Condvar,
    queue_len: usize,
}

struct State {
    queue: VecDeque<Task>,
    /// Those who wait for room, longest first. Bounded by the number of live operations, which
    /// belong to callers.
    waiters: VecDeque<(u64, Waker)>,
    next_waiter: u64,
    is_closed: bool,
}

impl Pool {
    /// Starts the threads.
    pub(crate) fn start(
        env: &Env,
        name: &str,
        threads: usize,
        queue_len: usize,
    ) -> Result<Arc<Self>> {
        if threads == 0 || queue_len == 0 {
            return Err(Error::invalid(
                "io.start",
                format!("{threads} I/O threads with a queue of {queue_len}: at least 1 of each"),
            ));
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: VecDeque::with_capacity(queue_len.min(1024)),
                waiters: VecDeque::new(),
                next_waiter: 0,
                is_closed: false,
            }),
            not_empty: Condvar::new(),
            queue_len,
        });
        // Built first, so that a failure below ends the threads that were started.
        let pool = Arc::new(Self { shared, threads: Mutex::new(Vec::with_capacity(threads)) });
        for index in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = env
                .spawner
                .spawn(&format!("{name}-{index}"), Box::new(move || shared.work()))
                .map_err(|error| Error::io("io.start", error))?;
            pool.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(pool)
    }

    /// Runs `work` on one of the threads. It is queued at once where there is room; the operation
    /// does not need to be polled then, and dropping it does not undo it.
    pub(crate) fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Op<'static, T> {
        let (completer, completion) = completion();
        let task: Task = Box::new(move || completer.complete(work()));
        match self.shared.try_push(task) {
            Ok(()) => Op::pending(completion),
            Err(task) => Op::pending(Submit {
                pool: Arc::clone(self),
                task: Some(task),
                waiter: None,
                completion,
            }),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.not_empty.notify_all();
        let this_thread = std::thread::current().id();
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // The last file may be dropped by a waker that a pool thread calls.
            if thread.thread().id() != this_thread {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_push(&self, task: Task) -> Result<(), Task> {
        let mut state = self.lock();
        if state.queue.len() >= self.queue_len {
            return Err(task);
        }
        state.queue.push_back(task);
        drop(state);
        self.not_empty.notify_one();
        Ok(())
    }

    /// What each thread does.
    fn work(&self) {
        while let Some(task) = self.next_task() {
            // A task's own error travels through its completion; what unwinds is a waker.
            if catch_unwind(AssertUnwindSafe(task)).is_err() {
                tracing::error!("an I/O task panicked; its operation answers an error");
            }
        }
    }

    /// The next task, and room for one who waits; `None` once the pool is closed and empty.
    fn next_task(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.queue.pop_front() {
                let waiter = state.waiters.pop_front();
                drop(state);
                if let Some((_, waker)) = waiter {
                    waker.wake();
                }
                return Some(task);
            }
            if state.is_closed {
                return None;
            }
            state = self.not_empty.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// An operation that found the queue full: waits for room, then for its answer.
struct Submit<T> {
    pool: Arc<Pool>,
    /// `None` once queued.
    task: Option<Task>,
    /// Where it stands in line: set from the first poll until it is queued.
    waiter: Option<u64>,
    completion: Completion<T>,
}

impl<T> Submit<T> {
    /// Queues the task, or gets in line. `true` once it is queued.
    fn submit(&mut self, waker: &Waker) -> bool {
        let Some(task) = self.task.take() else { return true };
        let mut state = self.pool.shared.lock();
        let place =
            self.waiter.and_then(|id| state.waiters.iter().position(|(waiting, _)| *waiting == id));
        if state.queue.len() < self.pool.shared.queue_len {
            if let Some(place) = place {
                state.waiters.remove(place);
            }
            self.waiter = None;
            state.queue.push_back(task);
            drop(state);
            self.pool.shared.not_empty.notify_one();
            return true;
        }
        self.task = Some(task);
        if let Some((_, waiting)) = place.and_then(|place| state.waiters.get_mut(place)) {
            waiting.clone_from(waker);
        } else {
            let was_called = self.waiter.is_some();
            let id = state.next_waiter;
            state.next_waiter += 1;
            self.waiter = Some(id);
            if was_called {
                // Somebody else took the room: back to the head of the line.
                state.waiters.push_front((id, waker.clone()));
            } else {
                state.waiters.push_back((id, waker.clone()));
            }
        }
        false
    }
}

impl<T> Future for Submit<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.submit(cx.waker()) {
            return Poll::Pending;
        }
        Pin::new(&mut self.completion).poll(cx)
    }
}

impl<T> Drop for Submit<T> {
    fn drop(&mut self) {
        let Some(id) = self.waiter else { return };
        let mut state = self.pool.shared.lock();
        if let Some(place) = state.waiters.iter().position(|(waiting, _)| *waiting == id) {
            state.waiters.remove(place);
            return;
        }
        // It was called, and does not come: the next one may.
        let next = state.waiters.pop_front();
        drop(state);
        if let Some((_, waker)) = next {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    fn small_pool() -> (Arc<Pool>, mpsc::Sender<()>, Op<'static, ()>) {
        let pool = Pool::start(&Env::system(), "test-io", 1, 1).unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        let blocked = pool.run(move || {
            started.send(()).unwrap();
            gate.recv().unwrap();
            Ok(())
        });
        has_started.recv().unwrap();
        (pool, release, blocked)
    }

    #[test]
    fn a_full_queue_holds_up_the_operation_not_the_caller() {
        let (pool, release, blocked) = small_pool();
        let queued = pool.run(|| Ok(1));
        // These find the queue full; creating them returns at once, and none runs yet.
        let waiting: Vec<_> = (2..50).map(|n| pool.run(move || Ok(n))).collect();
        assert_eq!(pool.shared.lock().queue.len(), 1);
        release.send(()).unwrap();
        blocked.wait().unwrap();
        assert_eq!(queued.wait().unwrap(), 1);
        for (n, op) in (2..50).zip(waiting) {
            assert_eq!(op.wait().unwrap(), n);
        }
    }

    #[test]
    fn one_who_was_called_and_dropped_calls_the_next() {
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (pool, release, blocked) = small_pool();
        let queued = pool.run(|| Ok(1));
        let counts: Vec<_> = (0..2).map(|_| Arc::new(Count(AtomicUsize::new(0)))).collect();
        let mut waiting: Vec<_> = (0..2).map(|n| pool.run(move || Ok(n))).collect();
        for (op, count) in waiting.iter_mut().zip(&counts) {
            let waker = Waker::from(Arc::clone(count));
            assert!(Pin::new(op).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        release.send(()).unwrap();
        blocked.wait().unwrap();
        queued.wait().unwrap();
        // One task was taken from the queue while two waited: only the first was called.
        assert_eq!(counts[0].0.load(Ordering::SeqCst), 1);
        assert_eq!(counts[1].0.load(Ordering::SeqCst), 0);
        drop(waiting.remove(0));
        assert_eq!(counts[1].0.load(Ordering::SeqCst), 1);
        assert_eq!(waiting.remove(0).wait().unwrap(), 1);
    }

    #[test]
    fn a_dropped_operation_still_happens_and_the_pool_waits_for_it() {
        let happened = Arc::new(AtomicUsize::new(0));
        let pool = Pool::start(&Env::system(), "test-io", 2, 64).unwrap();
        for _ in 0..64 {
            let happened = Arc::clone(&happened);
            drop(pool.run(move || {
                happened.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }));
        }
        drop(pool);
        assert_eq!(happened.load(Ordering::SeqCst), 64);
    }
}
