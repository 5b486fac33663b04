//! [`Pool`]: a fixed number of threads that run blocking tasks from a bounded queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ferrokit_engine::{Env, Error, Op, Result};

use crate::bounded_queue::BoundedQueue;
use crate::completion::completion;

type Task = Box<dyn FnOnce() + Send>;

/// Threads and their queue. Dropping it lets the queue run empty and joins the threads.
pub(crate) struct Pool {
    queue: Arc<BoundedQueue<Task>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
        let queue = Arc::new(BoundedQueue::new(queue_len, Box::new(|| {})));
        // Built first, so that a failure below ends the threads that were started.
        let pool = Arc::new(Self { queue, threads: Mutex::new(Vec::with_capacity(threads)) });
        for index in 0..threads {
            let queue = Arc::clone(&pool.queue);
            let thread = env
                .spawner
                .spawn(&format!("{name}-{index}"), Box::new(move || work(&queue)))
                .map_err(|error| Error::io("io.start", error))?;
            pool.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(pool)
    }

    /// Runs `work` on one of the threads.
    pub(crate) fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Op<'static, T> {
        let (completer, completion) = completion();
        let task: Task = Box::new(move || completer.complete(work()));
        self.queue.submit(task, completion, Arc::clone(self))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
        let this_thread = std::thread::current().id();
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // The last file may be dropped by a waker that a pool thread calls.
            if thread.thread().id() != this_thread {
                let _ = thread.join();
            }
        }
    }
}

/// What each thread does.
fn work(queue: &BoundedQueue<Task>) {
    while let Some(task) = queue.pop_wait() {
        // A task's own error travels through its completion; what unwinds is a waker.
        if catch_unwind(AssertUnwindSafe(task)).is_err() {
            tracing::error!("a waker panicked on an I/O thread");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::task::{Context, Waker};

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
        assert_eq!(pool.queue.len(), 1);
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
