//! The change log and its feeds.
//!
//! Changes are kept only while a feed is open and needs them. A write that finds no feed open only
//! moves the log's position on: a later feed cannot start before it, so none misses a change in
//! silence.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use ferrokit_engine::{
    Change, ChangeBatch, ChangeFeed, ChangePosition, Error, ErrorKind, KeyspaceId, Op, Result,
    Sequence, UnixMillis,
};

use crate::state::Shared;

/// Bytes counted for a change beyond its key and value.
const CHANGE_OVERHEAD_BYTES: usize = 64;

/// A change that owns its bytes; [`Change`] says what each means.
#[derive(Debug)]
enum OwnedChange {
    Put { keyspace: KeyspaceId, key: Box<[u8]>, value: Box<[u8]>, expire_at: Option<UnixMillis> },
    Delete { keyspace: KeyspaceId, key: Box<[u8]> },
    Expired { keyspace: KeyspaceId, key: Box<[u8]> },
    Clear { keyspace: KeyspaceId },
    Swap { a: KeyspaceId, b: KeyspaceId },
}

impl OwnedChange {
    fn new(change: &Change<'_>) -> Self {
        match *change {
            Change::Put { keyspace, key, value, expire_at } => {
                Self::Put { keyspace, key: key.into(), value: value.into(), expire_at }
            }
            Change::Delete { keyspace, key } => Self::Delete { keyspace, key: key.into() },
            Change::Expired { keyspace, key } => Self::Expired { keyspace, key: key.into() },
            Change::Clear { keyspace } => Self::Clear { keyspace },
            Change::Swap { a, b } => Self::Swap { a, b },
        }
    }

    fn lend(&self) -> Change<'_> {
        match self {
            Self::Put { keyspace, key, value, expire_at } => {
                Change::Put { keyspace: *keyspace, key, value, expire_at: *expire_at }
            }
            Self::Delete { keyspace, key } => Change::Delete { keyspace: *keyspace, key },
            Self::Expired { keyspace, key } => Change::Expired { keyspace: *keyspace, key },
            Self::Clear { keyspace } => Change::Clear { keyspace: *keyspace },
            Self::Swap { a, b } => Change::Swap { a: *a, b: *b },
        }
    }
}

/// Changes that took effect together.
#[derive(Debug)]
struct OwnedBatch {
    sequence: Sequence,
    changes: Vec<OwnedChange>,
    bytes: usize,
}

#[derive(Debug)]
struct FeedSlot {
    position: u64,
    waker: Option<Waker>,
}

/// The bounded log of changes.
#[derive(Debug)]
pub(crate) struct ChangeLog {
    /// The position of the first batch kept.
    first: u64,
    batches: VecDeque<Arc<OwnedBatch>>,
    bytes: usize,
    max_bytes: usize,
    feeds: BTreeMap<u64, FeedSlot>,
    next_feed: u64,
}

impl ChangeLog {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            first: 0,
            batches: VecDeque::new(),
            bytes: 0,
            max_bytes,
            feeds: BTreeMap::new(),
            next_feed: 0,
        }
    }

    /// The position after everything logged.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.batches.len() as u64
    }

    pub(crate) fn open_feeds(&self) -> usize {
        self.feeds.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a batch of `changes` fits. An empty log takes one of any size.
    pub(crate) fn has_room(&self, changes: &[Change<'_>]) -> bool {
        self.batches.is_empty()
            || self.feeds.is_empty()
            || self.bytes.saturating_add(batch_bytes(changes)) <= self.max_bytes
    }

    /// Appends a batch; the feeds that waited for it are to be woken once the lock is released.
    #[must_use]
    pub(crate) fn push(&mut self, changes: &[Change<'_>], sequence: Sequence) -> Vec<Waker> {
        if self.feeds.is_empty() {
            self.first += 1;
            return Vec::new();
        }
        let bytes = batch_bytes(changes);
        let changes = changes.iter().map(OwnedChange::new).collect();
        self.batches.push_back(Arc::new(OwnedBatch { sequence, changes, bytes }));
        self.bytes += bytes;
        self.take_wakers()
    }

    /// The wakers of all waiting feeds.
    pub(crate) fn take_wakers(&mut self) -> Vec<Waker> {
        self.feeds.values_mut().filter_map(|feed| feed.waker.take()).collect()
    }

    /// Opens a feed and answers its number and position.
    pub(crate) fn subscribe(&mut self, from: Option<ChangePosition>) -> Result<(u64, u64)> {
        let position = from.map_or(self.end(), |from| from.0);
        if position < self.first {
            return Err(Error::new(
                ErrorKind::NotFound,
                "subscribe",
                format!("position {position} was trimmed; the log begins at {}", self.first),
            ));
        }
        if position > self.end() {
            return Err(Error::invalid(
                "subscribe",
                format!("position {position} is ahead of the log, which ends at {}", self.end()),
            ));
        }
        let feed = self.next_feed;
        self.next_feed += 1;
        self.feeds.insert(feed, FeedSlot { position, waker: None });
        Ok((feed, position))
    }

    fn unsubscribe(&mut self, feed: u64) {
        self.feeds.remove(&feed);
        self.trim();
    }

    /// The batches from `position` on, about `budget_bytes` of them.
    fn read(&self, position: u64, budget_bytes: usize) -> Vec<Arc<OwnedBatch>> {
        let skip = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut bytes = 0usize;
        let mut batches = Vec::new();
        for batch in self.batches.iter().skip(skip) {
            batches.push(Arc::clone(batch));
            bytes = bytes.saturating_add(batch.bytes);
            if bytes >= budget_bytes {
                break;
            }
        }
        batches
    }

    fn advance(&mut self, feed: u64, position: u64) {
        if let Some(slot) = self.feeds.get_mut(&feed) {
            slot.position = position;
        }
        self.trim();
    }

    /// Drops what no feed needs.
    fn trim(&mut self) {
        let needed = self.feeds.values().map(|feed| feed.position).min().unwrap_or(self.end());
        while self.first < needed
            && let Some(batch) = self.batches.pop_front()
        {
            self.bytes -= batch.bytes;
            self.first += 1;
        }
    }
}

fn batch_bytes(changes: &[Change<'_>]) -> usize {
    changes.iter().fold(0, |bytes: usize, change| {
        let payload = match change {
            Change::Put { key, value, .. } => key.len() + value.len(),
            Change::Delete { key, .. } | Change::Expired { key, .. } => key.len(),
            Change::Clear { .. } | Change::Swap { .. } => 0,
        };
        bytes.saturating_add(CHANGE_OVERHEAD_BYTES + payload)
    })
}

/// An open feed of the engine.
pub(crate) struct MemoryFeed {
    shared: Arc<Shared>,
    feed: u64,
    position: u64,
}

impl MemoryFeed {
    pub(crate) fn new(shared: Arc<Shared>, feed: u64, position: u64) -> Self {
        Self { shared, feed, position }
    }

    /// Visits what is there; `None` if there is nothing yet, and then `waker` is kept.
    fn try_next(
        &mut self,
        budget_bytes: usize,
        visit: &mut (dyn FnMut(&ChangeBatch<'_>) + Send + '_),
        waker: Option<&Waker>,
    ) -> Option<Result<ChangePosition>> {
        let batches = {
            let mut state = self.shared.state();
            let batches = state.log.read(self.position, budget_bytes);
            if batches.is_empty() {
                if self.shared.is_closed() {
                    return Some(Err(Shared::closed("changes.next")));
                }
                if let (Some(waker), Some(slot)) = (waker, state.log.feeds.get_mut(&self.feed)) {
                    slot.waker = Some(waker.clone());
                }
                return None;
            }
            batches
        };
        for batch in &batches {
            self.position += 1;
            let changes: Vec<Change<'_>> = batch.changes.iter().map(OwnedChange::lend).collect();
            visit(&ChangeBatch {
                next: ChangePosition(self.position),
                sequence: Some(batch.sequence),
                changes: &changes,
            });
        }
        self.shared.state().log.advance(self.feed, self.position);
        Some(Ok(ChangePosition(self.position)))
    }
}

impl ChangeFeed for MemoryFeed {
    fn next_with<'a>(
        &'a mut self,
        budget_bytes: usize,
        visit: &'a mut (dyn FnMut(&ChangeBatch<'_>) + Send + 'a),
    ) -> Op<'a, ChangePosition> {
        if let Some(result) = self.try_next(budget_bytes, visit, None) {
            return Op::Ready(result);
        }
        Op::pending(poll_fn(move |cx| match self.try_next(budget_bytes, visit, Some(cx.waker())) {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }))
    }

    fn position(&self) -> ChangePosition {
        ChangePosition(self.position)
    }
}

impl Drop for MemoryFeed {
    fn drop(&mut self) {
        self.shared.state().log.unsubscribe(self.feed);
    }
}
