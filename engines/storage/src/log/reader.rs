//! [`LogReader`]: reads what is committed, as it is committed.

use std::sync::Arc;

use ferrokit_engine::{Error, ErrorKind, Op, Result};

use super::format::{Expected, Parsed, RECORD_HEADER_BYTES, RecordKind, parse};
use super::shared::Shared;
use super::{Appended, LogPosition};

/// The least and the most that is read at once, unless a record needs more.
const READ_BYTES_MIN: u64 = 4 << 10;
const READ_BYTES_MAX: u64 = 1 << 20;

/// Reads records from a position on. While it lives, nothing from its position on is trimmed.
pub struct LogReader {
    shared: Arc<Shared>,
    hold: u64,
    position: u64,
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>, from: Option<LogPosition>) -> Result<Self> {
        let mut segments = shared.segments();
        let end = shared.end();
        let position = from.map_or(end, |from| from.0);
        if position < segments.first() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "log.retain",
                format!("position {position} was trimmed; the log begins at {}", segments.first()),
            ));
        }
        if position > end {
            return Err(Error::invalid(
                "log.retain",
                format!("position {position} is ahead of the log, which ends at {end}"),
            ));
        }
        let hold = segments.next_hold;
        segments.next_hold += 1;
        segments.holds.insert(hold, position);
        drop(segments);
        shared.add_reader();
        Ok(Self { shared, hold, position })
    }

    /// Where the next record starts.
    pub fn position(&self) -> LogPosition {
        LogPosition(self.position)
    }

    /// Visits the next committed records, about `budget_bytes` of them. Waits until there is at
    /// least one. A record is committed when it and all before it have the durability they were
    /// appended with.
    ///
    /// Dropping the operation loses nothing: what was not visited comes again. So does a record
    /// whose visit failed.
    ///
    /// # Errors
    /// `Corruption`, `Io`, `Poisoned`; `Closed` after the last record of a closed log; those of
    /// `visit`.
    pub fn next<'a>(
        &'a mut self,
        budget_bytes: usize,
        visit: &'a mut (dyn FnMut(Appended, &[u8]) -> Result<()> + Send + 'a),
    ) -> Op<'a, LogPosition> {
        Op::pending(async move {
            let mut least = READ_BYTES_MIN.max(budget_bytes as u64).min(READ_BYTES_MAX);
            loop {
                let readable = self.shared.readable();
                if self.position >= readable {
                    self.shared.wait_for_readable(self.position).await?;
                    continue;
                }
                let chunk = self.read(readable, least).await?;
                let (visited, needed) = self.visit_chunk(&chunk, budget_bytes, visit)?;
                if visited {
                    return Ok(self.position());
                }
                least = READ_BYTES_MIN.max(needed as u64);
            }
        })
    }

    /// Reads up to `len` bytes at the position, as far as they are committed.
    async fn read(&self, readable: u64, len: u64) -> Result<Chunk> {
        let found = self.shared.segments().find(self.position);
        let (segment, sealed) = found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "log.read", "the position was trimmed")
        })?;
        let end = sealed.map_or(readable, |sealed| sealed.min(readable));
        let available = end - self.position;
        let offset = segment.offset_of(self.position);
        let len = usize::try_from(len.min(available)).unwrap_or(0);
        let bytes = segment.file.read_at(offset, len).await?;
        Ok(Chunk {
            bytes,
            epoch: segment.epoch,
            is_all: len as u64 == available,
            path: segment.file.path().to_owned(),
            offset,
        })
    }

    /// Visits the records of a chunk: whether there was one, and how many bytes the next needs.
    fn visit_chunk(
        &mut self,
        chunk: &Chunk,
        budget_bytes: usize,
        visit: &mut (dyn FnMut(Appended, &[u8]) -> Result<()> + Send + '_),
    ) -> Result<(bool, usize)> {
        let mut at = 0;
        let mut visited_bytes = 0;
        let mut visited = false;
        let mut needed = 0;
        while let Some(rest) = chunk.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if visited && visited_bytes >= budget_bytes {
                break;
            }
            match parse(rest, &Expected { position: self.position, epoch: chunk.epoch }) {
                Parsed::Record { header, payload, total } => {
                    let end = self.position + total as u64;
                    if header.kind == RecordKind::Data as u8 {
                        let place =
                            Appended { start: LogPosition(self.position), end: LogPosition(end) };
                        visit(place, payload)?;
                        visited = true;
                        visited_bytes += payload.len();
                    }
                    at += total;
                    self.advance(end);
                }
                Parsed::Incomplete(bytes) if !chunk.is_all => {
                    needed = bytes.max(RECORD_HEADER_BYTES);
                    break;
                }
                Parsed::Incomplete(_) => return Err(chunk.corruption("a record is cut off", at)),
                Parsed::Invalid(what) => return Err(chunk.corruption(what, at)),
                Parsed::TooNew(_) => {
                    return Err(chunk.corruption("a record of an unknown version", at));
                }
            }
        }
        Ok((visited, needed))
    }

    fn advance(&mut self, position: u64) {
        self.position = position;
        self.shared.segments().holds.insert(self.hold, position);
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.shared.segments().holds.remove(&self.hold);
        self.shared.remove_reader();
    }
}

struct Chunk {
    bytes: Vec<u8>,
    epoch: u32,
    /// Whether nothing committed follows in this segment.
    is_all: bool,
    path: String,
    offset: u64,
}

impl Chunk {
    fn corruption(&self, what: &'static str, at: usize) -> Error {
        Error::corruption("log.read", what, &self.path, self.offset + at as u64)
    }
}
