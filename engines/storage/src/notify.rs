//! [`Notify`]: waiting for something to have changed.

use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

/// Wakes all who wait. Take a [`ticket`](Self::ticket), look, and if what is wanted is not there,
/// await [`changed`](Self::changed) with that ticket: a change in between is not missed.
#[derive(Debug, Default)]
pub struct Notify {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    waiting: Vec<Waker>,
}

impl Notify {
    /// How things stand: for [`changed`](Self::changed).
    pub fn ticket(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// Wakes all who wait.
    pub fn notify(&self) {
        let waiting = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.generation += 1;
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }

    /// Completes once [`notify`](Self::notify) was called after `ticket` was taken.
    pub async fn changed(&self, ticket: u64) {
        poll_fn(|cx| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.generation != ticket {
                return Poll::Ready(());
            }
            // One entry per task: wakers of dropped waits are replaced or go at the next change.
            if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
