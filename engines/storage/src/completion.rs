//! A one-shot answer: the backend completes it, a future waits for it.
//!
//! Either side may be dropped at any point. A dropped [`Completer`] answers an error, so that no
//! future waits for an answer that cannot come; a dropped [`Completion`] lets the answer go
//! unheard, and the operation takes its course.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ferrokit_engine::{Error, ErrorKind, Result};

enum State<T> {
    /// No answer, and nobody waits.
    Open,
    /// No answer; this one waits.
    Waiting(Waker),
    /// The answer.
    Done(Result<T>),
    /// The answer was taken.
    Taken,
}

struct Slot<T>(Mutex<State<T>>);

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code runs under the lock that could panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connected pair.
pub(crate) fn completion<T>() -> (Completer<T>, Completion<T>) {
    let slot = Arc::new(Slot(Mutex::new(State::Open)));
    (Completer { slot: Some(Arc::clone(&slot)) }, Completion { slot })
}

/// The side that answers.
pub(crate) struct Completer<T> {
    slot: Option<Arc<Slot<T>>>,
}

impl<T> Completer<T> {
    /// Answers, and wakes whoever waits.
    pub(crate) fn complete(mut self, result: Result<T>) {
        self.answer(result);
    }

    fn answer(&mut self, result: Result<T>) {
        let Some(slot) = self.slot.take() else { return };
        let before = std::mem::replace(&mut *slot.lock(), State::Done(result));
        // Outside the lock: a waker may poll at once.
        if let State::Waiting(waker) = before {
            waker.wake();
        }
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.answer(Err(Error::new(
                ErrorKind::Closed,
                "io",
                "the I/O backend ended before the operation did",
            )));
        }
    }
}

/// The side that waits.
pub(crate) struct Completion<T> {
    slot: Arc<Slot<T>>,
}

impl<T> Future for Completion<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.lock();
        match &mut *state {
            State::Waiting(waker) => waker.clone_from(cx.waker()),
            State::Open => *state = State::Waiting(cx.waker().clone()),
            State::Done(_) | State::Taken => {
                return match std::mem::replace(&mut *state, State::Taken) {
                    State::Done(result) => Poll::Ready(result),
                    _ => panic!("a completion was polled after it had answered"),
                };
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrokit_engine::block_on;

    #[test]
    fn an_answer_from_another_thread_arrives() {
        let (completer, completion) = completion();
        std::thread::scope(|scope| {
            scope.spawn(move || completer.complete(Ok(7)));
            assert_eq!(block_on(completion).unwrap(), 7);
        });
    }

    #[test]
    fn an_abandoned_completion_answers_an_error() {
        let (completer, completion) = completion::<()>();
        drop(completer);
        assert_eq!(block_on(completion).unwrap_err().kind(), ErrorKind::Closed);
    }
}
