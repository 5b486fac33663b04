//! The change feed: the log, read back.
//!
//! An entry that expired before the first feed was opened may be collected without word of it: its
//! expiry lies before every position of that feed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrokit_engine::{Change, ChangeFeed, ChangePosition, Changes, Error, Op, Result, Sequence};
use ferrokit_storage::{Appended, LogFeed, LogPosition};

use crate::engine::LsmEngine;
use crate::tree::Tree;
use crate::wal;

impl Changes for LsmEngine {
    fn position(&self) -> ChangePosition {
        ChangePosition(self.tree().log.end().0)
    }

    fn subscribe(&self, from: Option<ChangePosition>) -> Op<'_, Box<dyn ChangeFeed>> {
        Op::Ready(open(self.tree(), from).map(|feed| Box::new(feed) as Box<dyn ChangeFeed>))
    }
}

fn open(tree: &Arc<Tree>, from: Option<ChangePosition>) -> Result<LogFeed<FeedHold>> {
    tree.check_open("lsm.subscribe")?;
    // Under the write lock: every write behind the position enters the log.
    let _writer = tree.lock_writer();
    let reader = tree.log.retain(from.map(|position| LogPosition(position.0)))?;
    tree.feeds.fetch_add(1, Ordering::SeqCst);
    Ok(LogFeed::new(reader, decode, FeedHold(Arc::clone(tree))))
}

/// While there is one, what expires is told of.
struct FeedHold(Arc<Tree>);

impl Drop for FeedHold {
    fn drop(&mut self) {
        self.0.feeds.fetch_sub(1, Ordering::SeqCst);
    }
}

fn decode(at: Appended, bytes: &[u8]) -> Result<(Option<Sequence>, Vec<Change<'_>>)> {
    let record = wal::decode(bytes)
        .map_err(|malformed| Error::corruption("lsm.changes", malformed.0, "log", at.start.0))?;
    let changes = record.changes.iter().copied().map(Change::from).collect();
    Ok((Some(Sequence(record.last_sequence())), changes))
}
