//! [`Stripes`]: locks of keys, held across waits.
//!
//! Lock order: the gate, then stripes in rising order, each at most once, then the short mutexes
//! (garbage, directory, oracle), none of which is held while anything awaits, and only that of the
//! garbage while another is taken: the oracle's.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ferrokit_engine::{Error, ErrorKind, Result};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Fair locks, one for each of many keys: whoever waits longest is handed the stripe.
pub(crate) struct Stripes {
    stripes: Box<[Mutex<Stripe>]>,
    max_waiters: usize,
}

#[derive(Default)]
struct Stripe {
    is_held: bool,
    /// Handed to this waiter, who has not looked yet.
    granted: Option<u64>,
    next_waiter: u64,
    queue: VecDeque<(u64, Waker)>,
}

/// Stripes held. Dropping it hands each to the next in its queue.
pub(crate) struct StripeGuard {
    owner: Arc<Stripes>,
    held: Vec<usize>,
}

impl Stripes {
    /// `stripes` of them, and one more for the meta keyspace: the last in the order.
    pub(crate) fn new(stripes: usize, max_waiters: usize) -> Self {
        let stripes = (0..=stripes).map(|_| Mutex::default()).collect();
        Self { stripes, max_waiters }
    }

    /// The stripe of a key in a slot.
    pub(crate) fn of(&self, slot: u32, key: &[u8]) -> usize {
        let stripes = self.meta() as u64;
        (xxh3_64_with_seed(key, u64::from(slot)) % stripes) as usize
    }

    /// The stripe of the meta keyspace.
    pub(crate) fn meta(&self) -> usize {
        self.stripes.len() - 1
    }

    fn stripe(&self, index: usize) -> MutexGuard<'_, Stripe> {
        self.stripes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the stripes, in rising order; `help` is called before each wait.
    ///
    /// # Errors
    /// `Busy` if too many wait for one of them.
    pub(crate) async fn lock(
        self: &Arc<Self>,
        mut indexes: Vec<usize>,
        help: impl Fn(),
    ) -> Result<StripeGuard> {
        indexes.sort_unstable();
        indexes.dedup();
        let mut guard =
            StripeGuard { owner: Arc::clone(self), held: Vec::with_capacity(indexes.len()) };
        for index in indexes {
            let mut wait = Wait { owner: self, index, waiter: None };
            poll_fn(|cx| wait.poll(cx, &help)).await?;
            guard.held.push(index);
        }
        Ok(guard)
    }

    fn release(&self, index: usize) {
        let mut stripe = self.stripe(index);
        match stripe.queue.pop_front() {
            None => stripe.is_held = false,
            Some((waiter, waker)) => {
                stripe.granted = Some(waiter);
                drop(stripe);
                waker.wake();
            }
        }
    }

    /// Makes every waiter look again.
    pub(crate) fn wake_all(&self) {
        for index in 0..self.stripes.len() {
            let wakers: Vec<Waker> =
                self.stripe(index).queue.iter().map(|(_, waker)| waker.clone()).collect();
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// One place in a queue; leaves it when dropped.
struct Wait<'s> {
    owner: &'s Stripes,
    index: usize,
    waiter: Option<u64>,
}

impl Wait<'_> {
    fn poll(&mut self, cx: &Context<'_>, help: &impl Fn()) -> Poll<Result<()>> {
        if self.try_take(cx)? {
            return Poll::Ready(Ok(()));
        }
        help();
        if self.try_take(cx)? { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Takes the stripe if it is free or was handed over; otherwise waits in its queue.
    fn try_take(&mut self, cx: &Context<'_>) -> Result<bool> {
        let mut stripe = self.owner.stripe(self.index);
        let Some(waiter) = self.waiter else {
            if !stripe.is_held {
                stripe.is_held = true;
                return Ok(true);
            }
            if stripe.queue.len() >= self.owner.max_waiters {
                let message = "too many writers wait for this key";
                return Err(Error::new(ErrorKind::Busy, "mvcc.lock", message));
            }
            let waiter = stripe.next_waiter;
            stripe.next_waiter += 1;
            stripe.queue.push_back((waiter, cx.waker().clone()));
            self.waiter = Some(waiter);
            return Ok(false);
        };
        if stripe.granted == Some(waiter) {
            stripe.granted = None;
            self.waiter = None;
            return Ok(true);
        }
        if let Some((_, waker)) = stripe.queue.iter_mut().find(|(queued, _)| *queued == waiter) {
            waker.clone_from(cx.waker());
        }
        Ok(false)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter else { return };
        let mut stripe = self.owner.stripe(self.index);
        if stripe.granted == Some(waiter) {
            stripe.granted = None;
            drop(stripe);
            self.owner.release(self.index);
        } else {
            stripe.queue.retain(|(queued, _)| *queued != waiter);
        }
    }
}

impl Drop for StripeGuard {
    fn drop(&mut self) {
        for &index in &self.held {
            self.owner.release(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;

    type Locking<'a> = Pin<Box<dyn Future<Output = Result<StripeGuard>> + Send + 'a>>;

    fn lock(stripes: &Arc<Stripes>, indexes: Vec<usize>) -> Locking<'_> {
        Box::pin(stripes.lock(indexes, || {}))
    }

    fn poll(future: &mut Locking<'_>) -> Poll<Result<StripeGuard>> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn taken(poll: Poll<Result<StripeGuard>>) -> StripeGuard {
        match poll {
            Poll::Ready(guard) => guard.unwrap(),
            Poll::Pending => panic!("still waiting"),
        }
    }

    #[test]
    fn a_stripe_goes_to_who_waited_longest() {
        let stripes = Arc::new(Stripes::new(4, 8));
        let first = taken(poll(&mut lock(&stripes, vec![1, 1])));
        let (mut second, mut third) = (lock(&stripes, vec![1]), lock(&stripes, vec![0, 1]));
        assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending());
        drop(first);
        assert!(poll(&mut third).is_pending(), "the second was there before");
        assert!(poll(&mut lock(&stripes, vec![1])).is_pending(), "nobody barges in");
        drop(taken(poll(&mut second)));
        drop(taken(poll(&mut third)));
        drop(taken(poll(&mut lock(&stripes, vec![0, 1, 2, 3, 4]))));
    }

    #[test]
    fn a_waiter_that_gives_up_passes_the_stripe_on() {
        let stripes = Arc::new(Stripes::new(4, 8));
        let first = taken(poll(&mut lock(&stripes, vec![2])));
        let (mut second, mut third) = (lock(&stripes, vec![2]), lock(&stripes, vec![2]));
        assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending());
        drop(first);
        // Granted, and dropped before it looked.
        drop(second);
        let held = taken(poll(&mut third));
        let mut fourth = lock(&stripes, vec![1, 2]);
        assert!(poll(&mut fourth).is_pending());
        // Dropped in the queue, with another stripe already held.
        drop(fourth);
        drop(taken(poll(&mut lock(&stripes, vec![1]))));
        drop(held);
        drop(taken(poll(&mut lock(&stripes, vec![2]))));
    }

    #[test]
    fn a_queue_is_bounded() {
        let stripes = Arc::new(Stripes::new(1, 1));
        let _held = taken(poll(&mut lock(&stripes, vec![0])));
        let mut waiting = lock(&stripes, vec![0]);
        assert!(poll(&mut waiting).is_pending());
        let Poll::Ready(Err(error)) = poll(&mut lock(&stripes, vec![0])) else {
            panic!("one too many")
        };
        assert_eq!(error.kind(), ErrorKind::Busy);
    }
}
