//! The one logical [`Log`] of an engine: a segmented, checksummed record log with group commit.
//!
//! Writers append to a buffer in memory and never wait for a device; a background job, the
//! *committer*, swaps the buffer for an empty one, writes it with one write, syncs once if anyone
//! asked for it, and wakes everybody it covered, while writers fill the other buffer (group
//! commit: DeWitt et al., SIGMOD 1984; pipelined: Johnson et al., Aether, VLDB 2010). Who waits for
//! no more than the operating system, while the committer is at rest, does the write himself: a
//! short copy instead of two changes of threads. Dropping an [`Op`] changes nothing.
//!
//! # Invariants
//! - Positions are handed out in the order of [`Log::append`] and are never used twice, except
//!   those of a tail that a crash cut off.
//! - What is recovered is a prefix of what was appended. It holds everything acknowledged as
//!   `Synced`, and after the mere death of the process everything acknowledged as `Os`.
//! - A segment's name appears only after everything before it is on the device. So only the last
//!   segment can have a torn tail, and a hole before the last segment is corruption.
//! - Every opening starts a segment of its own. The bytes behind a cut tail lie in a segment that
//!   ends, by the start of its successor, before them: they can never come back.
//! - After a failed write or sync no position advances any more.
//!
//! The bytes are described in `docs/design.md`. Lock order: the committer, then trimming, then
//! buffer, then segments, then waiters; none but the first two is held across I/O.

mod commit;
mod feed;
mod format;
mod prepare;
mod reader;
mod recovery;
mod segment;
mod shared;
mod store;
#[cfg(test)]
mod tests;
mod waiters;

use std::sync::Arc;

use ferrokit_engine::{
    ChangePosition, CommitTicket, Durability, Error, ErrorKind, Op, Result, Stats,
};

pub use feed::{Decode, LogFeed};
pub use reader::LogReader;
pub use recovery::fuzz_segment;

use crate::background::JobHandle;
use crate::host::Host;
use shared::Shared;

/// How a [`Log`] is laid out and bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// The size of a segment file in bytes. A record that needs more gets a segment of its own.
    pub segment_bytes: u64,
    /// How many bytes may wait for the committer before [`Log::room`] holds writers back.
    pub buffer_bytes: usize,
    /// The longest record in bytes; also the most that is believed of a stored length.
    pub max_record_bytes: usize,
    /// How many trimmed segment files are kept for reuse.
    pub recycle_segments: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            buffer_bytes: 8 << 20,
            max_record_bytes: 256 << 20,
            recycle_segments: 2,
        }
    }
}

impl LogConfig {
    fn check(&self) -> Result<()> {
        let wrong = |message: &'static str| Err(Error::invalid("log.open", message));
        if !(4096..=1 << 40).contains(&self.segment_bytes) {
            return wrong("segment_bytes is to lie between 4 KiB and 1 TiB");
        }
        if !(1..=1 << 30).contains(&self.buffer_bytes) {
            return wrong("buffer_bytes is to lie between 1 and 1 GiB");
        }
        if !(1..=1 << 30).contains(&self.max_record_bytes) {
            return wrong("max_record_bytes is to lie between 1 and 1 GiB");
        }
        Ok(())
    }
}

/// A byte offset in the log. It grows for ever, across segments and openings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition(pub u64);

impl From<LogPosition> for ChangePosition {
    fn from(position: LogPosition) -> Self {
        Self(position.0)
    }
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Appended {
    /// Its first byte.
    pub start: LogPosition,
    /// The first byte after it: the start of the next record.
    pub end: LogPosition,
}

impl Appended {
    /// What to wait for so that the record has the durability it was appended with.
    pub const fn ticket(&self, durability: Durability) -> CommitTicket {
        CommitTicket::at(self.end.0, durability)
    }
}

/// The log. See the [module](self).
pub struct Log {
    shared: Arc<Shared>,
    committer: commit::SharedCommitter,
    commits: JobHandle,
}

impl Log {
    /// Opens or creates the log in `directory`. Replays every intact record that starts at or
    /// after `from`, in order, then is ready to append. Blocks.
    ///
    /// A log without segments begins at `from`. If the log ends before `from` (its unsynced tail
    /// was lost, but the engine had made its effects durable otherwise), it goes on at `from`, and
    /// what lies before is dropped.
    ///
    /// # Errors
    /// `Corruption` (with file and offset) for anything but a torn tail, `VersionTooNew`,
    /// `NotFound` if `from` was trimmed, `InvalidArgument` for a bad configuration or a `from`
    /// that no record starts at, `Io`, `OutOfSpace`, and those of `replay`.
    pub fn open(
        host: &Host,
        directory: &str,
        config: LogConfig,
        from: LogPosition,
        replay: &mut dyn FnMut(Appended, &[u8]) -> Result<()>,
    ) -> Result<Arc<Self>> {
        config.check()?;
        let recovered = recovery::recover(host, directory, &config, from, replay)?;
        let shared = Arc::new(Shared::new(config, &recovered));
        let preparer = prepare::Preparer::new(Arc::clone(&recovered.store), Arc::clone(&shared));
        let preparer = host.background.register("log-prepare", Box::new(preparer))?;
        let committer = commit::Committer::new(Arc::clone(&shared), recovered, preparer);
        let committer = commit::SharedCommitter::new(committer);
        let commits = host.background.register("log-commit", Box::new(committer.clone()))?;
        Ok(Arc::new(Self { shared, committer, commits }))
    }

    /// Appends a record, gathered from parts, to the commit buffer. Never waits and does no I/O.
    ///
    /// The record is committed with the durability asked for whether or not anybody waits for it:
    /// at once if somebody does or there are [readers](Self::retain), else within milliseconds; one
    /// at [`Durability::Memory`] that nobody reads when the next commit comes.
    ///
    /// # Errors
    /// `InvalidArgument` for a record longer than the configuration allows, `Busy` far beyond the
    /// bound of [`room`](Self::room), `OutOfSpace` while no segment can be had, `Poisoned`,
    /// `Closed`.
    pub fn append(&self, parts: &[&[u8]], durability: Durability) -> Result<Appended> {
        let appended = self.shared.append(parts, durability);
        if appended.is_ok() {
            if self.shared.is_filling() || self.shared.is_read() {
                self.commits.wake();
            } else if durability > Durability::Memory {
                self.commits.wake_soon();
            }
        }
        self.trying_again(appended)
    }

    /// The answer; a stalled log is tried again whenever somebody wants anything of it.
    fn trying_again<T>(&self, answer: Result<T>) -> Result<T> {
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::OutOfSpace) {
            self.commits.wake();
        }
        answer
    }

    /// Ready while fewer than [`LogConfig::buffer_bytes`] wait for the committer; otherwise it
    /// completes when the committer has caught up.
    ///
    /// # Errors
    /// `OutOfSpace` while no segment can be had, `Poisoned`, `Closed`.
    pub fn room(&self) -> Op<'static, ()> {
        if let Some(result) = self.shared.room_now() {
            return Op::Ready(self.trying_again(result));
        }
        self.commits.wake();
        self.shared.wait_for_room()
    }

    /// Completes when the log is durable through `ticket`; at once, without an allocation, if it
    /// already is.
    ///
    /// # Errors
    /// `Poisoned`, `Closed`, `OutOfSpace` while no segment can be had (what was appended stays and
    /// may be committed later), `InvalidArgument` for a ticket this log never gave.
    pub fn committed(&self, ticket: CommitTicket) -> Op<'static, ()> {
        match self.trying_again(self.is_committed(ticket)) {
            Ok(true) => return Op::ok(()),
            Ok(false) => {}
            Err(error) => return Op::err(error),
        }
        if ticket.os.max(ticket.synced) > self.end().0 {
            return Op::err(Error::invalid("log.committed", "the ticket is of no record so far"));
        }
        if ticket.synced <= self.shared.durable(Durability::Synced) {
            if self.committer.write_here() {
                self.commits.wake();
            }
            return match self.is_committed(ticket) {
                Ok(true) => Op::ok(()),
                Ok(false) => self.shared.wait_for_commit(ticket),
                Err(error) => Op::err(error),
            };
        }
        self.shared.ask_for_sync(ticket.synced);
        self.commits.wake();
        self.shared.wait_for_commit(ticket)
    }

    /// Whether the log is durable through `ticket`. Two atomic loads.
    ///
    /// # Errors
    /// If it is not and cannot become so: `Poisoned`, `Closed`, `OutOfSpace`.
    pub fn is_committed(&self, ticket: CommitTicket) -> Result<bool> {
        self.shared.is_committed(ticket)
    }

    /// Completes when everything appended so far is durable at `level`.
    ///
    /// # Errors
    /// Those of [`committed`](Self::committed).
    pub fn sync(&self, level: Durability) -> Op<'static, ()> {
        self.committed(CommitTicket::at(self.end().0, level))
    }

    /// The position after the last record appended.
    pub fn end(&self) -> LogPosition {
        LogPosition(self.shared.end())
    }

    /// How far the log is durable at `level`. At `Memory` that is all of it.
    pub fn durable(&self, level: Durability) -> LogPosition {
        LogPosition(self.shared.durable(level))
    }

    /// The oldest position that can still be read.
    pub fn first(&self) -> LogPosition {
        LogPosition(self.shared.segments().first())
    }

    /// Gives up the records before a position, in whole segments, as far as no reader
    /// [holds them back](Self::retain). Blocks: for maintenance jobs.
    ///
    /// # Errors
    /// `Io`. The log itself is not harmed.
    pub fn trim(&self, before: LogPosition) -> Result<()> {
        self.shared.trim(before)?;
        self.commits.wake();
        Ok(())
    }

    /// A reader from a position (`None`: from the end of what was appended so far). While it
    /// lives nothing at or behind its position is trimmed.
    ///
    /// # Errors
    /// `NotFound` if the position was trimmed, `InvalidArgument` beyond the end.
    pub fn retain(self: &Arc<Self>, from: Option<LogPosition>) -> Result<LogReader> {
        let reader = LogReader::new(Arc::clone(&self.shared), from)?;
        // What was appended at `Memory` before there was a reader has waited for no commit.
        self.commits.wake();
        Ok(reader)
    }

    /// The failure that ended commits, if there was one.
    pub fn poison(&self) -> Option<Error> {
        self.shared.poison()
    }

    /// Adds the figures of the log.
    pub fn stats_into(&self, stats: &mut Stats) {
        self.shared.stats_into(stats);
    }

    /// Refuses further appends, and completes when everything appended is on the device, with a
    /// record that proves it to the next opening.
    ///
    /// # Errors
    /// Those of [`committed`](Self::committed).
    pub fn close(&self) -> Op<'static, ()> {
        match self.trying_again(self.shared.append_closing_record()) {
            Ok(end) => self.committed(CommitTicket::at(end, Durability::Synced)),
            Err(error) => Op::err(error),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.commits.stop();
        self.shared.abandon();
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("end", &self.end()).finish_non_exhaustive()
    }
}
