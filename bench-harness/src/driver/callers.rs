//! Threads and tasks that do a stream's operations.
//!
//! Closed loop: an operation begins when the last one of its caller is done. Its latency runs from
//! there, so that it includes the check of the answer. Open loop: operations begin at even
//! distances, whatever became of those before, and a latency runs from when its operation was meant
//! to begin: who comes late because of a stall counts the stall (Tene's coordinated omission).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use ferrokit_engine::{Durability, Error, Result, WaitsAlone, WriteOptions, block_on};

use super::operation::{KEYSPACE, Room};
use super::{Run, Timed};
use crate::dataset::{KEY_BYTES, Stamp};
use crate::plan::{Caller, Plan};
use crate::sampler::Progress;
use crate::stream::Operation;

/// Behind this a thread spins instead of sleeping until its next operation is meant to begin.
const SPIN: Duration = Duration::from_micros(200);

/// A thread's way to wait for answers.
struct Waiting(Waker);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Waiting {
    /// Of the calling thread.
    fn new() -> Self {
        Self(Waker::from(Arc::new(Unpark(std::thread::current()))))
    }

    #[inline]
    fn wait<F: Future>(&self, future: F) -> F::Output {
        let mut context = Context::from_waker(&self.0);
        let mut future = pin!(future);
        // As who calls `Op::wait`.
        let _alone = WaitsAlone::begin();
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            std::thread::park();
        }
    }
}

impl Run<'_> {
    /// Puts the loaded records in, in the order of their items.
    pub(super) fn load(&self, threads: usize) -> Result<()> {
        let options = WriteOptions::with_durability(Durability::Memory);
        self.load_with(threads, &options)
    }

    pub(super) fn load_with(&self, threads: usize, options: &WriteOptions) -> Result<()> {
        self.on_threads(threads, |thread, stop| {
            let (mut value, mut room) = (Vec::new(), [0; KEY_BYTES]);
            for item in (thread as u64..self.stream.loaded).step_by(threads) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let bytes = self.stream.loaded_bytes(item);
                self.stream.dataset.write_value(item, Stamp::LOADED, bytes, &mut value);
                let key = self.stream.item_key(item, &mut room);
                self.engine.put(KEYSPACE, key, &value, None, options).wait()?;
            }
            Ok(())
        })
        .map(drop)
    }

    /// Does the operations before the measured ones.
    pub(super) fn warm_up(&self, plan: &Plan) -> Result<()> {
        let progress = Progress::new(plan.threads);
        let warm_up = |thread: usize, stop: &AtomicBool| {
            let (operations, warm) = self.operations(thread);
            let operations = operations.get(..warm).unwrap_or_default();
            self.closed_loop(thread, operations, 0, stop, &progress).map(drop)
        };
        self.on_threads(plan.threads, warm_up).map(drop)
    }

    /// Does the measured operations.
    pub(super) fn timed(&self, plan: &Plan, progress: &Progress) -> Result<Timed> {
        let barrier = Barrier::new(plan.threads);
        let parts = self.on_threads(plan.threads, |thread, stop| {
            let (operations, warm) = self.operations(thread);
            let operations = operations.get(warm..).unwrap_or_default();
            barrier.wait();
            match (plan.caller, plan.rate_per_s) {
                (Caller::Async, _) => {
                    self.tasks(thread, plan.tasks, operations, warm, stop, progress)
                }
                (Caller::Sync, None) => self.closed_loop(thread, operations, warm, stop, progress),
                (Caller::Sync, Some(rate)) => {
                    let every = Duration::from_secs_f64(plan.threads as f64 / rate);
                    let offset = every.mul_f64(thread as f64 / plan.threads as f64);
                    let place = Place { thread, warm, offset, every };
                    self.open_loop(place, operations, stop, progress)
                }
            }
        })?;
        let mut parts = parts.into_iter();
        let first = parts.next().ok_or_else(|| Error::invalid("bench", "no threads"))?;
        parts.try_fold(first, |all, part| all.join(&part))
    }

    /// The operations of a thread, and how many of them are of the warm-up.
    fn operations(&self, thread: usize) -> (&[Operation], usize) {
        let operations = self.stream.threads.get(thread).map_or(&[][..], Vec::as_slice);
        (operations, self.stream.warmup.get(thread).copied().unwrap_or(0))
    }

    fn closed_loop(
        &self,
        thread: usize,
        operations: &[Operation],
        first: usize,
        stop: &AtomicBool,
        progress: &Progress,
    ) -> Result<Timed> {
        let waiting = Waiting::new();
        let mut room = Room::default();
        let mut timed = Timed::new(self.clock.monotonic())?;
        let mut done = 0;
        while let Some(operation) = operations.get(done) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let rest = operations.get(done..).unwrap_or_default();
            let stamp = Stamp::of(thread, first + done);
            let count = waiting.wait(self.step(rest, stamp, &mut room))?;
            let now = self.clock.monotonic();
            let latency = now.saturating_sub(timed.end);
            timed.end = now;
            timed.record(operation.kind.writes(), count as u64, latency);
            done += count;
            progress.set(thread, done as u64);
        }
        Ok(timed)
    }

    fn open_loop(
        &self,
        place: Place,
        operations: &[Operation],
        stop: &AtomicBool,
        progress: &Progress,
    ) -> Result<Timed> {
        let waiting = Waiting::new();
        let mut room = Room::default();
        let mut timed = Timed::new(self.clock.monotonic())?;
        let mut done = 0;
        let begin = timed.begin + place.offset;
        while let Some(operation) = operations.get(done) {
            let intended = begin + place.every.mul_f64(done as f64);
            self.wait_until(intended);
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let rest = operations.get(done..).unwrap_or_default();
            let stamp = Stamp::of(place.thread, place.warm + done);
            let count = waiting.wait(self.step(rest, stamp, &mut room))?;
            timed.end = self.clock.monotonic();
            let latency = timed.end.saturating_sub(intended);
            timed.record(operation.kind.writes(), count as u64, latency);
            done += count;
            progress.set(place.thread, done as u64);
        }
        Ok(timed)
    }

    fn wait_until(&self, intended: Duration) {
        loop {
            let left = intended.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return;
            }
            if left > SPIN {
                block_on(self.timer.sleep(left - SPIN));
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Each task does the operations of its own items, in their order.
    fn tasks(
        &self,
        thread: usize,
        tasks: usize,
        operations: &[Operation],
        first: usize,
        stop: &AtomicBool,
        progress: &Progress,
    ) -> Result<Timed> {
        let mut shares: Vec<Vec<usize>> = vec![Vec::new(); tasks];
        let mut at = 0;
        while let Some(operation) = operations.get(at) {
            if let Some(share) = shares.get_mut(operation.item as usize % tasks) {
                share.push(at);
            }
            at += usize::from(operation.kind.is_grouped()) * usize::from(operation.count).max(1)
                + usize::from(!operation.kind.is_grouped());
        }
        let timed = RefCell::new(Timed::new(self.clock.monotonic())?);
        let done = Cell::new(0);
        let task = |share: Vec<usize>| {
            let (timed, done) = (&timed, &done);
            async move {
                let mut room = Room::default();
                for at in share {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let rest = operations.get(at..).unwrap_or_default();
                    let begin = self.clock.monotonic();
                    let count = self.step(rest, Stamp::of(thread, first + at), &mut room).await?;
                    let now = self.clock.monotonic();
                    let writes = rest.first().is_some_and(|operation| operation.kind.writes());
                    {
                        let mut timed = timed.borrow_mut();
                        timed.end = now;
                        timed.record(writes, count as u64, now.saturating_sub(begin));
                    }
                    done.set(done.get() + count as u64);
                    progress.set(thread, done.get());
                    // The others get their turn, also where every answer is ready.
                    yield_now().await;
                }
                Ok::<(), Error>(())
            }
        };
        run_tasks(shares.into_iter().map(task).collect())?;
        Ok(timed.into_inner())
    }

    /// Runs `body` on each of `threads` threads; the first error stops the others.
    pub(super) fn on_threads<T: Send>(
        &self,
        threads: usize,
        body: impl Fn(usize, &AtomicBool) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let stop = AtomicBool::new(false);
        let (body, stop) = (&body, &stop);
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads)
                .map(|thread| {
                    scope.spawn(move || {
                        let result = body(thread, stop);
                        if result.is_err() {
                            stop.store(true, Ordering::Relaxed);
                        }
                        result
                    })
                })
                .collect();
            handles
                .into_iter()
                .map(|handle| match handle.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect()
        })
    }
}

/// What a thread of an open loop needs to know of its place.
#[derive(Clone, Copy)]
struct Place {
    thread: usize,
    warm: usize,
    offset: Duration,
    every: Duration,
}

/// Lets the other tasks of the thread go on.
async fn yield_now() {
    let mut is_second = false;
    std::future::poll_fn(|context| {
        if is_second {
            return Poll::Ready(());
        }
        is_second = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs tasks on this thread until all are done or one fails.
fn run_tasks<F: Future<Output = Result<()>>>(tasks: Vec<F>) -> Result<()> {
    let mut tasks: FuturesUnordered<F> = tasks.into_iter().collect();
    Waiting::new().wait(async {
        while let Some(result) = tasks.next().await {
            result?;
        }
        Ok(())
    })
}
