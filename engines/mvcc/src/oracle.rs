//! [`Oracle`]: timestamps of commits, and which of them open views still need.
//!
//! A view opens at the last timestamp given out, `T`, and waits until all commits up to `T` have
//! been applied. From the moment it is registered, every later commit keeps the versions it
//! replaces; commits from before have timestamps up to `T`, so the view sees what they wrote and
//! needs nothing they replaced. Without a view, no version is ever kept.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use ferrokit_engine::{CommitTicket, Error, ErrorKind, Result};

use crate::record::Timestamp;
use crate::wait::WaitList;

/// Gives out timestamps and knows who reads at which.
pub(crate) struct Oracle {
    state: Mutex<State>,
    finished: WaitList,
    max_views: usize,
}

struct State {
    last: Timestamp,
    /// Timestamps from here on must be reserved in the inner engine before they are given out.
    reserved: Timestamp,
    in_flight: BTreeSet<Timestamp>,
    views: BTreeMap<Timestamp, Views>,
    views_open: usize,
    /// Covers every commit that has been applied.
    ticket: CommitTicket,
}

struct Views {
    count: usize,
    first_opened: Duration,
}

/// What a commit asks for.
pub(crate) struct Request<'a> {
    /// The caller knows what it replaces; without that it can go on only if no view is open.
    pub(crate) has_heads: bool,
    /// `last_commit` of slots that must have no commit after the timestamp with them.
    pub(crate) unchanged: &'a [(Arc<SlotClock>, Timestamp)],
    /// Those of the slots written.
    pub(crate) written: &'a [Arc<SlotClock>],
}

/// The last commit to a slot; changed under the oracle's lock.
#[derive(Default)]
pub(crate) struct SlotClock(std::sync::atomic::AtomicU64);

/// The oracle's answer to a commit.
pub(crate) enum Allocated {
    /// Reserve timestamps first.
    Reserve,
    /// Read what is replaced first: a view is open.
    NeedHeads,
    /// Something read has changed.
    Conflict,
    /// Go on.
    Commit(Commit),
}

/// A commit that is being applied. Dropping it finishes it, applied or not.
pub(crate) struct Commit {
    oracle: Arc<Oracle>,
    pub(crate) timestamp: Timestamp,
    /// The timestamps of the open views, rising.
    views: Vec<Timestamp>,
}

impl Commit {
    /// Whether a view reads at `since` or later (and before this commit).
    pub(crate) fn is_needed(&self, since: Timestamp) -> bool {
        self.views.last().is_some_and(|view| *view >= since)
    }

    /// Whether a view reads before `timestamp`.
    pub(crate) fn has_view_before(&self, timestamp: Timestamp) -> bool {
        self.views.first().is_some_and(|view| *view < timestamp)
    }

    /// Joins the ticket of what was applied.
    pub(crate) fn applied(&self, ticket: CommitTicket) {
        let mut state = self.oracle.state();
        state.ticket = state.ticket.join(ticket);
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        let waited_for = {
            let mut state = self.oracle.state();
            state.in_flight.remove(&self.timestamp);
            !state.views.is_empty()
        };
        if waited_for {
            self.oracle.finished.wake_all();
        }
    }
}

/// A registered reader at a timestamp.
pub(crate) struct Reader {
    oracle: Arc<Oracle>,
    pub(crate) timestamp: Timestamp,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.oracle.state();
        state.views_open -= 1;
        if let Some(views) = state.views.get_mut(&self.timestamp) {
            views.count -= 1;
            if views.count == 0 {
                state.views.remove(&self.timestamp);
            }
        }
    }
}

impl Oracle {
    /// Goes on after `last`; nothing is reserved yet.
    pub(crate) fn new(last: Timestamp, max_views: usize) -> Self {
        let state = State {
            last,
            reserved: last,
            in_flight: BTreeSet::new(),
            views: BTreeMap::new(),
            views_open: 0,
            ticket: CommitTicket::NONE,
        };
        Self { state: Mutex::new(state), finished: WaitList::default(), max_views }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next timestamp, if nothing has to be done first.
    pub(crate) fn allocate(self: &Arc<Self>, request: &Request<'_>) -> Allocated {
        use std::sync::atomic::Ordering::Relaxed;
        let mut state = self.state();
        if state.last >= state.reserved {
            return Allocated::Reserve;
        }
        if !state.views.is_empty() && !request.has_heads {
            return Allocated::NeedHeads;
        }
        if request.unchanged.iter().any(|(clock, since)| clock.0.load(Relaxed) > since.0) {
            return Allocated::Conflict;
        }
        let timestamp = Timestamp(state.last.0 + 1);
        state.last = timestamp;
        state.in_flight.insert(timestamp);
        for clock in request.written {
            clock.0.store(timestamp.0, Relaxed);
        }
        let views = state.views.keys().copied().collect();
        Allocated::Commit(Commit { oracle: Arc::clone(self), timestamp, views })
    }

    /// Registers a reader of this moment; it may read after [`wait_applied`](Self::wait_applied).
    ///
    /// # Errors
    /// `Busy` if too many are open.
    pub(crate) fn register(self: &Arc<Self>, now: Duration) -> Result<Reader> {
        let mut state = self.state();
        if state.views_open >= self.max_views {
            return Err(Error::new(
                ErrorKind::Busy,
                "mvcc.view",
                format!("{} snapshots and transactions are open, the limit", self.max_views),
            ));
        }
        let timestamp = state.last;
        state.views_open += 1;
        let opened = Views { count: 0, first_opened: now };
        state.views.entry(timestamp).or_insert(opened).count += 1;
        Ok(Reader { oracle: Arc::clone(self), timestamp })
    }

    /// Waits until all commits up to `timestamp` are applied; the ticket covers them.
    pub(crate) async fn wait_applied(&self, timestamp: Timestamp, help: impl Fn()) -> CommitTicket {
        let look = || {
            let state = self.state();
            let is_applied = state.in_flight.first().is_none_or(|first| *first > timestamp);
            is_applied.then_some(state.ticket)
        };
        poll_fn(|cx| {
            if let Some(ticket) = look() {
                return Poll::Ready(ticket);
            }
            self.finished.register(cx);
            help();
            look().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    pub(crate) fn wake_all(&self) {
        self.finished.wake_all();
    }

    /// The last timestamp given out.
    pub(crate) fn last(&self) -> Timestamp {
        self.state().last
    }

    /// Whether timestamps must be reserved, and from where.
    pub(crate) fn reserve_from(&self) -> Option<Timestamp> {
        let state = self.state();
        (state.last >= state.reserved).then_some(state.last)
    }

    /// Timestamps below `end` may be given out.
    pub(crate) fn reserved(&self, end: Timestamp) {
        let mut state = self.state();
        state.reserved = state.reserved.max(end);
    }

    /// No open view, nor any that opens later, reads below this.
    pub(crate) fn watermark(&self) -> Timestamp {
        self.state().views.first_key_value().map_or(Timestamp(u64::MAX), |(oldest, _)| *oldest)
    }

    /// Open views, and the oldest one's timestamp and time of opening.
    pub(crate) fn views(&self) -> (usize, Option<(Timestamp, Duration)>) {
        let state = self.state();
        let oldest =
            state.views.first_key_value().map(|(oldest, views)| (*oldest, views.first_opened));
        (state.views_open, oldest)
    }
}
