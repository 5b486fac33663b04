//! [`Turns`]: the connections of a worker take turns.
//!
//! A connection runs what its client sends until nothing is left, or its [`Turn`] is over. Then it
//! stands in line, and of that line as many go on between two looks at the sockets as have a turn's
//! time together. One that takes more than a trifle for a batch owes the rest, and stands in line
//! before it runs again, until time has paid it back. However many clients send without end, or ask
//! for much, one that asks for little waits for a turn of theirs, not for all of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;

/// How long a turn is.
const TURN: Duration = Duration::from_micros(100);
/// A batch that takes no more owes nothing.
const TRIFLE: Duration = Duration::from_micros(20);
/// What is owed is paid back at this part of the time that passes.
const PAID_BACK_PART: u32 = 32;

/// What a connection has had since it last waited for its client.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    ends_at: Option<Duration>,
    is_over: bool,
    batch_began_at: Duration,
    /// What the last batch took.
    cost: Duration,
    /// What its batches took beyond a trifle and was not paid back.
    owes: Duration,
    /// Until when it was paid back.
    paid_at: Duration,
}

impl Turn {
    /// It waited for its client: another turn begins with the next batch.
    #[inline]
    pub(crate) fn renew(&mut self) {
        self.ends_at = None;
        self.is_over = false;
    }

    /// It stood in line: another turn begins with the next batch, whatever it owed.
    fn renew_called(&mut self) {
        self.renew();
        self.owes = Duration::ZERO;
    }

    #[inline]
    pub(crate) fn begin_batch(&mut self, now: Duration) {
        self.batch_began_at = now;
        if self.ends_at.is_none() {
            self.owes = self.owes.saturating_sub(now.saturating_sub(self.paid_at) / PAID_BACK_PART);
            self.paid_at = now;
            let is_free = self.owes.is_zero();
            self.ends_at = Some(if is_free { now + TURN } else { Duration::ZERO });
        }
    }

    /// It waited for something else than its client, and others went on meanwhile.
    #[cold]
    pub(crate) fn resume(&mut self, now: Duration) {
        self.batch_began_at = now;
        self.ends_at = Some(now + TURN);
    }

    /// Whether the turn is over, as of the time that was last seen.
    #[inline]
    pub(crate) fn is_over_at(&mut self, seen: Duration) -> bool {
        self.is_over = self.ends_at.is_some_and(|ends_at| seen > ends_at);
        self.is_over
    }

    #[inline]
    pub(crate) fn end_batch(&mut self, now: Duration) {
        self.cost = now.saturating_sub(self.batch_began_at);
        self.owes += self.cost.saturating_sub(TRIFLE);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }
}

/// One that waits for its turn.
struct Waiting {
    /// What it will take, as far as can be told.
    cost: Duration,
    called: oneshot::Sender<()>,
}

/// The line of a worker. It is no longer than the worker has connections.
#[derive(Default)]
pub(crate) struct Turns {
    line: RefCell<VecDeque<Waiting>>,
    joined: Notify,
}

impl Turns {
    /// Waits for another turn.
    pub(crate) async fn wait(&self, turn: &mut Turn) {
        let (called, is_called) = oneshot::channel();
        self.line.borrow_mut().push_back(Waiting { cost: turn.cost, called });
        self.joined.notify_one();
        // The line is called until the worker ends, and its connections with it.
        let _ = is_called.await;
        turn.renew_called();
    }

    /// Calls one after the other, for ever.
    pub(crate) async fn call(&self) {
        loop {
            if self.line.borrow().is_empty() {
                self.joined.notified().await;
            }
            // The runtime looks at the sockets before it goes on here.
            yield_now().await;
            let mut given = Duration::ZERO;
            while given < TURN
                && let Some(Waiting { cost, called }) = self.next()
            {
                // One that has left the line takes nothing.
                if called.send(()).is_ok() {
                    given += cost.max(TRIFLE);
                }
            }
        }
    }

    fn next(&self) -> Option<Waiting> {
        self.line.borrow_mut().pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    const fn at(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_turn_is_over_by_the_clock_and_lasts_over_batches() {
        let mut turn = Turn::default();
        turn.begin_batch(at(5));
        assert!(!turn.is_over_at(at(60)));
        turn.end_batch(at(25));
        turn.begin_batch(at(30));
        assert!(!turn.is_over_at(at(105)));
        assert!(turn.is_over_at(at(106)) && turn.is_over());
        turn.resume(at(1000));
        assert!(!turn.is_over_at(at(1010)) && !turn.is_over());
        turn.end_batch(at(1010));
        turn.renew();
        turn.begin_batch(at(1110));
        assert!(!turn.is_over_at(at(1210)));
    }

    #[test]
    fn what_was_taken_beyond_a_trifle_is_owed_until_it_is_paid_back_or_stood_in_line_for() {
        let mut turn = Turn::default();
        turn.begin_batch(at(0));
        turn.end_batch(at(52));
        turn.renew();
        turn.begin_batch(at(32 * 31));
        assert!(turn.is_over_at(at(32 * 31)));
        turn.renew();
        turn.begin_batch(at(32 * 32));
        assert!(!turn.is_over_at(at(32 * 32)));
        turn.end_batch(at(32 * 32 + 1000));
        turn.renew_called();
        turn.begin_batch(at(3000));
        assert!(!turn.is_over_at(at(3000)));
    }

    /// How often a task that only yields goes round while 500 turns of that cost are taken.
    fn rounds(cost: Duration) -> u32 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let turns = Rc::new(Turns::default());
        let (taken, mut rounds) = (Rc::new(Cell::new(0)), 0);
        LocalSet::new().block_on(&runtime, async {
            let calling = Rc::clone(&turns);
            let caller = spawn_local(async move { calling.call().await });
            for _ in 0..50 {
                let (turns, taken) = (Rc::clone(&turns), Rc::clone(&taken));
                spawn_local(async move {
                    let mut turn = Turn { cost, ..Turn::default() };
                    loop {
                        turns.wait(&mut turn).await;
                        taken.set(taken.get() + 1);
                    }
                });
            }
            while taken.get() < 500 {
                yield_now().await;
                rounds += 1;
            }
            caller.abort();
        });
        rounds
    }

    #[test]
    fn of_the_line_a_turn_is_given_in_each_round() {
        let long = rounds(TURN);
        assert!((499..=600).contains(&long), "{long} rounds for 500 long turns");
        let short = rounds(TRIFLE);
        assert!((99..=150).contains(&short), "{short} rounds for 500 trifles");
    }
}
