//! [`handoff`]: one value, from a thread to a future.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

enum State<T> {
    Waiting(Option<Waker>),
    Sent(T),
    /// The sender was dropped, or the value was taken.
    Over,
}

struct Slot<T>(Mutex<State<T>>);

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State<T>) {
        let before = std::mem::replace(&mut *self.lock(), state);
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// Gives the value away. Dropped without that, its receiver gets none.
pub(crate) struct Sender<T>(Arc<Slot<T>>);

impl<T> Sender<T> {
    pub(crate) fn send(self, value: T) {
        self.0.set(State::Sent(value));
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if matches!(*self.0.lock(), State::Waiting(_)) {
            self.0.set(State::Over);
        }
    }
}

/// A sender, and the future of what it sends.
pub(crate) fn handoff<T: Send>() -> (Sender<T>, impl Future<Output = Option<T>> + Send) {
    let slot = Arc::new(Slot(Mutex::new(State::Waiting(None))));
    let sender = Sender(Arc::clone(&slot));
    let receiver = poll_fn(move |cx| {
        let mut state = slot.lock();
        if let State::Waiting(waker) = &mut *state {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match std::mem::replace(&mut *state, State::Over) {
            State::Sent(value) => Poll::Ready(Some(value)),
            _ => Poll::Ready(None),
        }
    });
    (sender, receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrokit_engine::{Env, block_on};

    #[test]
    fn a_value_comes_from_another_thread_or_never() {
        let spawner = Env::system().spawner;
        let (sender, receiver) = handoff();
        let thread = spawner.spawn("sender", Box::new(move || sender.send(7))).unwrap();
        assert_eq!(block_on(receiver), Some(7));
        thread.join().unwrap();
        let (sender, receiver) = handoff::<u8>();
        let thread = spawner.spawn("dropper", Box::new(move || drop(sender))).unwrap();
        assert_eq!(block_on(receiver), None);
        thread.join().unwrap();
    }
}
