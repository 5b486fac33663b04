//! [`BoundedQueue`]: between callers and the threads of a backend.
//!
//! Who finds it full waits in a future of his own ([`Submit`]); each item taken calls the one who
//! has waited longest. One who is called but dropped calls the next, so that no room goes unused.
//!
//! Locks: one, around items and waiters; nothing is called under it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ferrokit_engine::{Op, Result};

use crate::completion::Completion;

/// A queue of a fixed length.
pub(crate) struct BoundedQueue<I> {
    state: Mutex<State<I>>,
    not_empty: Condvar,
    len_max: usize,
    /// Called after each push, for consumers that do not wait in [`pop_wait`](Self::pop_wait).
    notify: Box<dyn Fn() + Send + Sync>,
}

struct State<I> {
    items: VecDeque<I>,
    /// Those who wait for room, longest first. Bounded by the number of live operations, which
    /// belong to callers.
    waiters: VecDeque<(u64, Waker)>,
    next_waiter: u64,
    is_closed: bool,
}

impl<I: Send + 'static> BoundedQueue<I> {
    pub(crate) fn new(len_max: usize, notify: Box<dyn Fn() + Send + Sync>) -> Self {
        let state = State {
            items: VecDeque::with_capacity(len_max.min(1024)),
            waiters: VecDeque::new(),
            next_waiter: 0,
            is_closed: false,
        };
        Self { state: Mutex::new(state), not_empty: Condvar::new(), len_max, notify }
    }

    /// Queues the item that will answer `completion`. It is queued at once where there is room: the
    /// operation does not need to be polled then, and dropping it does not undo it. `keep` lives as
    /// long as an operation that waits for room.
    pub(crate) fn submit<T: Send + 'static>(
        self: &Arc<Self>,
        item: I,
        completion: Completion<T>,
        keep: impl Send + Unpin + 'static,
    ) -> Op<'static, T> {
        match self.try_push(item) {
            Ok(()) => Op::pending(completion),
            Err(item) => Op::pending(Submit {
                queue: Arc::clone(self),
                item: Some(item),
                waiter: None,
                completion,
                _keep: keep,
            }),
        }
    }

    fn try_push(&self, item: I) -> Result<(), I> {
        let mut state = self.lock();
        if state.is_closed {
            // Nobody would take it. Dropped, it answers an error.
            drop(state);
            drop(item);
            return Ok(());
        }
        if state.items.len() >= self.len_max {
            return Err(item);
        }
        state.items.push_back(item);
        drop(state);
        self.pushed();
        Ok(())
    }

    fn pushed(&self) {
        self.not_empty.notify_one();
        (self.notify)();
    }

    /// The next item, waited for; `None` once the queue is closed and empty.
    pub(crate) fn pop_wait(&self) -> Option<I> {
        let mut state = self.lock();
        loop {
            match state.items.pop_front() {
                Some(item) => {
                    Self::call_next(state);
                    return Some(item);
                }
                None if state.is_closed => return None,
                None => {
                    state = self.not_empty.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// The next item, if there is one.
    pub(crate) fn try_pop(&self) -> Option<I> {
        let mut state = self.lock();
        let item = state.items.pop_front()?;
        Self::call_next(state);
        Some(item)
    }

    /// Takes no more items: consumers end when the queue is empty.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        waiters.into_iter().for_each(|(_, waker)| waker.wake());
        self.not_empty.notify_all();
        (self.notify)();
    }

    /// Whether it is closed and empty.
    pub(crate) fn is_finished(&self) -> bool {
        let state = self.lock();
        state.is_closed && state.items.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().items.len()
    }

    fn call_next(mut state: MutexGuard<'_, State<I>>) {
        let waiter = state.waiters.pop_front();
        drop(state);
        if let Some((_, waker)) = waiter {
            waker.wake();
        }
    }
}

impl<I> BoundedQueue<I> {
    fn lock(&self) -> MutexGuard<'_, State<I>> {
        // Nothing under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation that found the queue full: waits for room, then for its answer.
struct Submit<I: Send + 'static, T, K> {
    queue: Arc<BoundedQueue<I>>,
    /// `None` once queued.
    item: Option<I>,
    /// Where it stands in line: set from the first poll until it is queued.
    waiter: Option<u64>,
    completion: Completion<T>,
    _keep: K,
}

// Nothing in it is ever pinned.
impl<I: Send + 'static, T, K> Unpin for Submit<I, T, K> {}

impl<I: Send + 'static, T, K> Submit<I, T, K> {
    /// Queues the item, or gets in line. `true` once it is queued.
    fn submit(&mut self, waker: &Waker) -> bool {
        let Some(item) = self.item.take() else { return true };
        let mut state = self.queue.lock();
        let place =
            self.waiter.and_then(|id| state.waiters.iter().position(|(waiting, _)| *waiting == id));
        if state.is_closed {
            self.waiter = None;
            drop(state);
            drop(item);
            return true;
        }
        if state.items.len() < self.queue.len_max {
            if let Some(place) = place {
                state.waiters.remove(place);
            }
            self.waiter = None;
            state.items.push_back(item);
            drop(state);
            self.queue.pushed();
            return true;
        }
        self.item = Some(item);
        if let Some((_, waiting)) = place.and_then(|place| state.waiters.get_mut(place)) {
            waiting.clone_from(waker);
            return false;
        }
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
        false
    }
}

impl<I: Send + 'static, T, K> Future for Submit<I, T, K> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.submit(cx.waker()) {
            return Poll::Pending;
        }
        Pin::new(&mut self.completion).poll(cx)
    }
}

impl<I: Send + 'static, T, K> Drop for Submit<I, T, K> {
    fn drop(&mut self) {
        let Some(id) = self.waiter else { return };
        let mut state = self.queue.lock();
        match state.waiters.iter().position(|(waiting, _)| *waiting == id) {
            Some(place) => {
                // The last of a task may go with its waker, and with it other operations that wait
                // here: not under the lock.
                let waiter = state.waiters.remove(place);
                drop(state);
                drop(waiter);
            }
            // It was called, and does not come: the next one may.
            None => BoundedQueue::call_next(state),
        }
    }
}
