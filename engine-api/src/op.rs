//! [`Op`]: the answer of an engine, ready or pending.
//!
//! An answer that is in memory is [`Op::Ready`]: no allocation, no task switch. One that has to
//! wait for a device is [`Op::Pending`]. This is the OK / PENDING status of FASTER (Chandramouli
//! et al., SIGMOD 2018) made awaitable.
//!
//! Dropping an `Op` is sound at any point: buffers in flight belong to the I/O backend, a dropped
//! write happened or did not, and commits go on without their caller.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::error::{Error, Result};

/// The future inside a pending [`Op`].
pub type PendingOp<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The answer of an operation: ready now, or a future.
#[must_use = "an operation may not happen unless it is awaited"]
pub enum Op<'a, T> {
    /// The answer is here.
    Ready(Result<T>),
    /// The answer comes later.
    Pending(PendingOp<'a, T>),
    /// The answer was already taken by a poll.
    Taken,
}

impl<'a, T> Op<'a, T> {
    /// A ready success.
    #[inline]
    pub const fn ok(value: T) -> Self {
        Self::Ready(Ok(value))
    }

    /// A ready failure.
    #[inline]
    pub const fn err(error: Error) -> Self {
        Self::Ready(Err(error))
    }

    /// A pending answer.
    pub fn pending(future: impl Future<Output = Result<T>> + Send + 'a) -> Self {
        Self::Pending(Box::pin(future))
    }

    /// Whether the answer is here without waiting.
    #[inline]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// Maps the value of a successful answer.
    #[inline]
    pub fn map<U>(self, map: impl FnOnce(T) -> U + Send + 'a) -> Op<'a, U>
    where
        T: 'a,
    {
        match self {
            Self::Ready(result) => Op::Ready(result.map(map)),
            Self::Pending(future) => Op::Pending(Box::pin(async move { future.await.map(map) })),
            Self::Taken => Op::Taken,
        }
    }

    /// Waits on this thread for the answer. Not for executor threads: there, `.await` it.
    ///
    /// # Errors
    /// Those of the operation.
    #[inline]
    pub fn wait(mut self) -> Result<T> {
        if !self.is_ready() {
            self.settle();
        }
        // In the same place either way, so that the caller reads a ready answer where it lies: a
        // copy, right after the answer was written in parts, would wait for the store buffer.
        match self {
            Self::Ready(result) => result,
            _ => panic!("an Op was waited for after it had answered"),
        }
    }

    /// Waits until the answer is here.
    #[cold]
    #[inline(never)]
    fn settle(&mut self) {
        if let Self::Pending(future) = self {
            let _alone = WaitsAlone::begin();
            *self = Self::Ready(block_on(future));
        }
    }
}

thread_local! {
    /// Whether this thread does nothing but wait for one operation.
    static WAITS_ALONE: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, the thread waits for one operation alone, and [`may_block`] says so.
/// [`Op::wait`] has one; others who poll a single future on a thread of their own may have one too.
#[derive(Debug)]
pub struct WaitsAlone {
    before: bool,
    /// It belongs to its thread.
    not_send: PhantomData<*const ()>,
}

impl WaitsAlone {
    /// From now on, until it is dropped.
    #[must_use = "it ends as it is dropped"]
    pub fn begin() -> Self {
        Self { before: WAITS_ALONE.replace(true), not_send: PhantomData }
    }
}

impl Drop for WaitsAlone {
    fn drop(&mut self) {
        WAITS_ALONE.set(self.before);
    }
}

/// Whether the calling thread [waits](WaitsAlone) for the operation that asks and does nothing else:
/// then its future may as well block the thread, which saves the ways to another one and back. On
/// an executor's threads the answer is `false`.
pub fn may_block() -> bool {
    WAITS_ALONE.get()
}

impl<T> From<Result<T>> for Op<'_, T> {
    #[inline]
    fn from(result: Result<T>) -> Self {
        Self::Ready(result)
    }
}

// `Op` never pins its `T`: a ready value is only ever moved out.
impl<T> Unpin for Op<'_, T> {}

impl<T> Future for Op<'_, T> {
    type Output = Result<T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Self::Pending(future) = &mut *self {
            return match future.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(result) => {
                    *self = Self::Taken;
                    Poll::Ready(result)
                }
            };
        }
        match std::mem::replace(&mut *self, Self::Taken) {
            Self::Ready(result) => Poll::Ready(result),
            _ => panic!("an Op was polled after it had answered"),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Op<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(result) => f.debug_tuple("Ready").field(result).finish(),
            Self::Pending(_) => f.write_str("Pending(..)"),
            Self::Taken => f.write_str("Taken"),
        }
    }
}

/// Runs a future to its end on this thread, parking while it waits.
///
/// The blocking face of the API and the engines' own maintenance threads use it; it needs no
/// runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_answers_without_waiting() {
        assert_eq!(Op::ok(7).map(|n| n + 1).wait().unwrap(), 8);
    }

    #[test]
    fn pending_is_driven_to_its_end() {
        let mut polls = 0;
        let op: Op<'_, i32> = Op::pending(std::future::poll_fn(move |cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls < 3 { Poll::Pending } else { Poll::Ready(Ok(polls)) }
        }));
        assert!(!op.is_ready());
        assert_eq!(op.wait().unwrap(), 3);
    }

    #[test]
    fn only_who_waits_for_one_operation_may_block() {
        let asked = || Op::<'static, bool>::pending(async { Ok(may_block()) });
        assert!(asked().wait().unwrap());
        assert!(!may_block());
        assert!(!block_on(asked()).unwrap(), "an executor may have others to poll");
        let nested = Op::pending(async move { Ok((asked().wait()?, may_block())) });
        assert_eq!(nested.wait().unwrap(), (true, true));
    }

    #[test]
    fn a_result_stays_small() {
        // Errors are one pointer, so that a ready answer travels in registers.
        assert!(std::mem::size_of::<Op<'static, u64>>() <= 24);
    }
}
