//! [`LogFeed`]: the change feed of an engine whose log is a [`Log`](super::Log).

use ferrokit_engine::{Change, ChangeBatch, ChangeFeed, ChangePosition, Op, Result, Sequence};

use super::{Appended, LogPosition, LogReader};

/// The changes of a record, and its place among all writes where the engine counts them.
pub type Decode = for<'b> fn(Appended, &'b [u8]) -> Result<(Option<Sequence>, Vec<Change<'b>>)>;

/// Reads an engine's log back, record by record. It keeps the log readable, and what `hold` keeps.
pub struct LogFeed<H> {
    reader: LogReader,
    /// Behind the last batch visited.
    position: LogPosition,
    decode: Decode,
    _hold: H,
}

impl<H> LogFeed<H> {
    /// The records from where `reader` stands.
    pub fn new(reader: LogReader, decode: Decode, hold: H) -> Self {
        Self { position: reader.position(), reader, decode, _hold: hold }
    }
}

impl<H: Send> ChangeFeed for LogFeed<H> {
    fn next_with<'a>(
        &'a mut self,
        budget_bytes: usize,
        visit: &'a mut (dyn FnMut(&ChangeBatch<'_>) + Send + 'a),
    ) -> Op<'a, ChangePosition> {
        Op::pending(async move {
            let before = self.position;
            // The log may pass records of its own without a visit.
            loop {
                let (position, decode) = (&mut self.position, self.decode);
                let mut visit_record = |at: Appended, bytes: &[u8]| {
                    let (sequence, changes) = decode(at, bytes)?;
                    visit(&ChangeBatch { next: at.end.into(), sequence, changes: &changes });
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
