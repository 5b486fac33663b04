//! The change feed: the log, read back.
//!
//! An entry that expired before the first feed was opened may be collected without word of it: its
//! expiry lies before every position of that feed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrokit_engine::{
    Change, ChangeBatch, ChangeFeed, ChangePosition, Changes, Error, Op, Result, Sequence,
};
use ferrokit_storage::{Appended, LogPosition, LogReader};

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

fn open(tree: &Arc<Tree>, from: Option<ChangePosition>) -> Result<LsmFeed> {
    tree.check_open("lsm.subscribe")?;
    // Under the write lock: every write behind the position enters the log.
    let _writer = tree.lock_writer();
    let reader = tree.log.retain(from.map(|position| LogPosition(position.0)))?;
    tree.feeds.fetch_add(1, Ordering::SeqCst);
    let position = reader.position();
    Ok(LsmFeed { tree: Arc::clone(tree), reader, position })
}

struct LsmFeed {
    tree: Arc<Tree>,
    reader: LogReader,
    /// Behind the last batch visited.
    position: LogPosition,
}

impl Drop for LsmFeed {
    fn drop(&mut self) {
        self.tree.feeds.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ChangeFeed for LsmFeed {
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
                    let record = wal::decode(bytes).map_err(|malformed| {
                        Error::corruption("lsm.changes", malformed.0, "log", at.start.0)
                    })?;
                    let changes: Vec<Change<'_>> =
                        record.changes.iter().copied().map(Change::from).collect();
                    visit(&ChangeBatch {
                        next: ChangePosition(at.end.0),
                        sequence: Some(Sequence(record.last_sequence())),
                        changes: &changes,
                    });
                    *position = at.end;
                    Ok(())
                };
                self.reader.next(budget_bytes, &mut visit_record).await?;
                if self.position != before {
                    return Ok(ChangePosition(self.position.0));
                }
            }
        })
    }

    fn position(&self) -> ChangePosition {
        ChangePosition(self.position.0)
    }
}
