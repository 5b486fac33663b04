//! The change feed: the engine's log, read back.
//!
//! An entry that expired before a feed was opened may be collected without word of it: its expiry
//! lies before every position of that feed. What compaction moves is not in the log.

use ferrokit_engine::{
    Change, ChangeBatch, ChangeFeed, ChangePosition, Changes, Error, Op, Result,
};
use ferrokit_storage::{Appended, LogPosition, LogReader};

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
    fn open_feed(&self, from: Option<LogPosition>) -> Result<HybridLogFeed> {
        let Some(journal) = self.journal() else {
            return Err(Error::unsupported("subscribe", "an engine in memory has no log"));
        };
        // No write is under way that began before there was a feed: all behind its position are
        // in the log.
        let (hold, reader) = self.in_a_still_moment("subscribe", || {
            let hold = journal.hold_feed();
            journal.log().retain(from).map(|reader| (hold, reader))
        })??;
        let position = reader.position();
        Ok(HybridLogFeed { reader, position, _hold: hold })
    }
}

/// It keeps the log readable, but not the engine.
struct HybridLogFeed {
    reader: LogReader,
    /// Behind the last batch visited.
    position: LogPosition,
    _hold: FeedHold,
}

impl ChangeFeed for HybridLogFeed {
    fn next_with<'a>(
        &'a mut self,
        budget_bytes: usize,
        visit: &'a mut (dyn FnMut(&ChangeBatch<'_>) + Send + 'a),
    ) -> Op<'a, ChangePosition> {
        Op::pending(async move {
            let before = self.position;
            // The log may pass records of its own without a visit.
            loop {
                let position = &mut self.position;
                let mut visit_record = |at: Appended, bytes: &[u8]| {
                    let record = journal::decode(at.start, bytes)?;
                    let changes: Vec<Change<'_>> =
                        record.changes.iter().copied().map(Change::from).collect();
                    visit(&ChangeBatch { next: at.end.into(), sequence: None, changes: &changes });
                    *position = at.end;
                    Ok(())
                };
                self.reader.next(budget_bytes, &mut visit_record).await?;
                if self.position != before {
                    return Ok(self.position.into());
                }
            }
        })
    }

    fn position(&self) -> ChangePosition {
        self.position.into()
    }
}
