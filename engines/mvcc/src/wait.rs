//! Waiting without blocking a thread: [`WaitList`], and the [`Gate`] that all operations pass.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Tasks that wait for a change. All are woken by each, and look again.
#[derive(Default)]
pub(crate) struct WaitList {
    wakers: Mutex<Vec<Waker>>,
}

impl WaitList {
    /// The caller looks again after this, so that no change is missed.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
    }

    pub(crate) fn wake_all(&self) {
        let wakers = {
            let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

const EXCLUSIVE: usize = 1 << (usize::BITS - 1);

/// Operations pass it together; a change of the keyspace directory passes it alone, so that every
/// operation sees one directory from its beginning to its end.
#[derive(Default)]
pub(crate) struct Gate {
    /// How many are inside; the top bit while a change is, or waits for the others to leave.
    state: AtomicUsize,
    waiting: WaitList,
}

/// Inside, with others.
pub(crate) struct Shared(Arc<Gate>);

/// Inside, alone; or about to be.
pub(crate) struct Exclusive(Arc<Gate>);

impl Gate {
    fn try_enter(self: &Arc<Self>) -> Option<Shared> {
        let enter = |state: usize| (state & EXCLUSIVE == 0).then_some(state + 1);
        self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).ok()?;
        Some(Shared(Arc::clone(self)))
    }

    /// Enters with others; `help` is called before each wait.
    pub(crate) async fn enter(self: &Arc<Self>, help: impl Fn()) -> Shared {
        poll_fn(|cx| {
            if let Some(inside) = self.try_enter() {
                return Poll::Ready(inside);
            }
            self.waiting.register(cx);
            help();
            self.try_enter().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Enters alone: later comers wait, those inside leave first.
    pub(crate) async fn enter_alone(self: &Arc<Self>, help: impl Fn()) -> Exclusive {
        let claim = || {
            let claim = |state: usize| (state & EXCLUSIVE == 0).then_some(state | EXCLUSIVE);
            self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, claim).is_ok()
        };
        poll_fn(|cx| {
            if claim() {
                return Poll::Ready(());
            }
            self.waiting.register(cx);
            help();
            if claim() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let inside = Exclusive(Arc::clone(self));
        let is_alone = || self.state.load(Ordering::Acquire) == EXCLUSIVE;
        poll_fn(|cx| {
            if is_alone() {
                return Poll::Ready(());
            }
            self.waiting.register(cx);
            help();
            if is_alone() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        inside
    }

    pub(crate) fn wake_all(&self) {
        self.waiting.wake_all();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(1, Ordering::Release) == EXCLUSIVE + 1 {
            self.0.waiting.wake_all();
        }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        self.0.state.fetch_and(!EXCLUSIVE, Ordering::Release);
        self.0.waiting.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_change_waits_for_those_inside_and_holds_off_later_ones() {
        let gate = Arc::new(Gate::default());
        let Poll::Ready(inside) = poll(pin!(gate.enter(|| {}))) else { panic!("an open gate") };
        let mut change = Box::pin(gate.enter_alone(|| {}));
        assert!(poll(change.as_mut()).is_pending());
        assert!(poll(pin!(gate.enter(|| {}))).is_pending(), "a change is waiting");
        drop(inside);
        let Poll::Ready(alone) = poll(change.as_mut()) else { panic!("nobody is inside") };
        assert!(poll(pin!(gate.enter(|| {}))).is_pending());
        drop(alone);
        assert!(poll(pin!(gate.enter(|| {}))).is_ready());
    }

    #[test]
    fn a_change_that_gives_up_waiting_lets_others_in() {
        let gate = Arc::new(Gate::default());
        let Poll::Ready(_inside) = poll(pin!(gate.enter(|| {}))) else { panic!("an open gate") };
        let mut change = Box::pin(gate.enter_alone(|| {}));
        assert!(poll(change.as_mut()).is_pending());
        drop(change);
        assert!(poll(pin!(gate.enter(|| {}))).is_ready());
    }
}
