//! The change feed: the engine's log, read back.
//!
//! An entry that expired before a feed was opened may be collected without word of it: its expiry
//! lies before every position of that feed. What compaction moves is not in the log.

use ferrokit_engine::{Change, ChangeFeed, ChangePosition, Changes, Error, Op, Result, Sequence};
use ferrokit_storage::{Appended, LogFeed, LogPosition};

use crate::engine::HybridLogEngine;
use crate::journal::{self, FeedHold};
use crate::store::Store;

impl Changes for HybridLogEngine {
    fn position(&self) -> ChangePosition {
        let end = self.store().journal().map_or(LogPosition(0), |journal| journal.log().end());
        end.into()
    }

    fn subscribe(&self, from: Option<ChangePosition>) -> Op<'_, Box<dyn ChangeFeed>> {
        let feed = self
            .check_open("subscribe")
            .and_then(|()| self.store().open_feed(from.map(|position| LogPosition(position.0))));
        Op::Ready(feed.map(|feed| Box::new(feed) as Box<dyn ChangeFeed>))
    }
}

impl Store {
    /// A feed of the log from a position on.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument`; `Busy` if an operation does not end.
    fn open_feed(&self, from: Option<LogPosition>) -> Result<LogFeed<FeedHold>> {
        let Some(journal) = self.journal() else {
            return Err(Error::unsupported("subscribe", "an engine in memory has no log"));
        };
        // No write is under way that began before there was a feed: all behind its position are
        // in the log.
        let (hold, reader) = self.in_a_still_moment("subscribe", || {
            let hold = journal.hold_feed();
            journal.log().retain(from).map(|reader| (hold, reader))
        })??;
        Ok(LogFeed::new(reader, decode, hold))
    }
}

fn decode(at: Appended, bytes: &[u8]) -> Result<(Option<Sequence>, Vec<Change<'_>>)> {
    let record = journal::decode(at.start, bytes)?;
    Ok((None, record.changes.iter().copied().map(Change::from).collect()))
}
