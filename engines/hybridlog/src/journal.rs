//! [`Journal`]: the writes of an engine in its Log.
//!
//! ```text
//! record = format(1) time_ms(8) count(4) change*
//! change = 1 keyspace(4) key_len(4) value_len(4) expire_at(8) key value    a put; 0 = no expiry
//!        | 2 keyspace(4) key_len(4) key                                    a delete
//!        | 3 keyspace(4)                                                   a clear
//!        | 4 keyspace(4) keyspace(4)                                       a swap
//!        | 5 keyspace(4) key_len(4) key                                    an expiry
//! ```
//! Numbers are little-endian. A record is replayed as a whole: a batch is one.
//!
//! # Order
//! A write appends its record while it has the latch of the key's newest record, after everything
//! that can fail and before anybody sees it: records of one key lie in the log in the order in
//! which they took effect.

use std::sync::Arc;

use ferrokit_engine::{
    BatchOp, CommitTicket, Durability, Error, KeyspaceId, Result, UnixMillis, WriteBatch,
};
use ferrokit_storage::{CommitGate, Log, LogPosition};

use crate::primitive::{AtomicU64, Ordering};

const FORMAT: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const CLEAR: u8 = 3;
const SWAP: u8 = 4;
const EXPIRED: u8 = 5;
/// Bytes of a record before its changes.
const HEADER_BYTES: usize = 13;
/// Bytes of a put beside its key and value: no change takes more.
const PUT_BYTES: usize = 21;

/// Bytes that a record takes beyond keys and values, at most, for so many changes.
pub(crate) const fn overhead_bytes(changes: usize) -> usize {
    HEADER_BYTES + changes * PUT_BYTES
}

/// One change of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    Put {
        keyspace: KeyspaceId,
        key: &'a [u8],
        value: &'a [u8],
        expire_at: Option<UnixMillis>,
    },
    Delete {
        keyspace: KeyspaceId,
        key: &'a [u8],
    },
    Clear {
        keyspace: KeyspaceId,
    },
    Swap {
        a: KeyspaceId,
        b: KeyspaceId,
    },
    /// The key was removed because it had expired.
    Expired {
        keyspace: KeyspaceId,
        key: &'a [u8],
    },
}

impl<'a> From<Change<'a>> for ferrokit_engine::Change<'a> {
    fn from(change: Change<'a>) -> Self {
        match change {
            Change::Put { keyspace, key, value, expire_at } => {
                Self::Put { keyspace, key, value, expire_at }
            }
            Change::Delete { keyspace, key } => Self::Delete { keyspace, key },
            Change::Clear { keyspace } => Self::Clear { keyspace },
            Change::Swap { a, b } => Self::Swap { a, b },
            Change::Expired { keyspace, key } => Self::Expired { keyspace, key },
        }
    }
}

impl<'a> From<BatchOp<'a>> for Change<'a> {
    fn from(op: BatchOp<'a>) -> Self {
        match op {
            // 0 stands for no expiry; what expired then was never there.
            BatchOp::Put { keyspace, key, expire_at: Some(UnixMillis(0)), .. } => {
                Self::Delete { keyspace, key }
            }
            BatchOp::Put { keyspace, key, value, expire_at } => {
                Self::Put { keyspace, key, value, expire_at }
            }
            BatchOp::Delete { keyspace, key } => Self::Delete { keyspace, key },
        }
    }
}

impl<'a> Change<'a> {
    /// The fixed part, in the first bytes of an array, its length, key and value.
    fn parts(self) -> ([u8; PUT_BYTES], usize, &'a [u8], &'a [u8]) {
        let mut fixed = [0; PUT_BYTES];
        let mut len = 0;
        let mut push = |bytes: &[u8]| {
            fixed[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        // Keys and values are checked against limits far below 4 GiB.
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let (key, value): (&[u8], &[u8]) = match self {
            Self::Put { keyspace, key, value, expire_at } => {
                push(&[PUT]);
                push(&keyspace.0.to_le_bytes());
                push(&length(key));
                push(&length(value));
                push(&expire_at.map_or(0, |at| at.0).to_le_bytes());
                (key, value)
            }
            Self::Delete { keyspace, key } | Self::Expired { keyspace, key } => {
                push(&[if matches!(self, Self::Delete { .. }) { DELETE } else { EXPIRED }]);
                push(&keyspace.0.to_le_bytes());
                push(&length(key));
                (key, &[])
            }
            Self::Clear { keyspace } => {
                push(&[CLEAR]);
                push(&keyspace.0.to_le_bytes());
                (&[], &[])
            }
            Self::Swap { a, b } => {
                push(&[SWAP]);
                push(&a.0.to_le_bytes());
                push(&b.0.to_le_bytes());
                (&[], &[])
            }
        };
        (fixed, len, key, value)
    }
}

fn header(time: UnixMillis, count: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = FORMAT;
    header[1..9].copy_from_slice(&time.0.to_le_bytes());
    header[9..].copy_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    header
}

/// Who wants to find every write in the log.
#[derive(Default)]
struct Listeners {
    /// While not 0, writes at `Memory` are logged, too: a checkpoint is being taken, or there are
    /// feeds.
    all: AtomicU64,
    /// Open change feeds.
    feeds: AtomicU64,
}

/// As long as it lives every write is logged.
pub(crate) struct AllHold(Arc<Listeners>);

impl Drop for AllHold {
    fn drop(&mut self) {
        self.0.all.fetch_sub(1, Ordering::SeqCst);
    }
}

/// As long as it lives every write is logged, and that keys expired.
pub(crate) struct FeedHold(AllHold);

impl Drop for FeedHold {
    fn drop(&mut self) {
        self.0.0.feeds.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The Log, and what readers must wait for.
pub(crate) struct Journal {
    log: Arc<Log>,
    gate: CommitGate,
    listeners: Arc<Listeners>,
    /// When the log is beyond this position, a checkpoint is due.
    checkpoint_due: AtomicU64,
}

impl Journal {
    /// The journal in a log.
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self {
            log,
            gate: CommitGate::new(),
            listeners: Arc::default(),
            checkpoint_due: AtomicU64::new(u64::MAX),
        }
    }

    /// A checkpoint is due when the log has come this far.
    pub(crate) fn set_checkpoint_due(&self, at: LogPosition) {
        self.checkpoint_due.store(at.0, Ordering::Relaxed);
    }

    /// Whether a checkpoint is due.
    pub(crate) fn is_checkpoint_due(&self) -> bool {
        self.log.end().0 >= self.checkpoint_due.load(Ordering::Relaxed)
    }

    /// Whether the record behind a ticket made a checkpoint due.
    #[inline]
    pub(crate) fn makes_checkpoint_due(&self, ticket: CommitTicket) -> bool {
        ticket.os.max(ticket.synced) >= self.checkpoint_due.load(Ordering::Relaxed)
    }

    /// The log.
    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Whether a write at that level is logged. The answer holds until the caller leaves its epoch.
    #[inline]
    pub(crate) fn logs(&self, durability: Durability) -> bool {
        durability > Durability::Memory || self.listeners.all.load(Ordering::Acquire) != 0
    }

    /// Logs every write from now on. The caller sees to it that no write is under way.
    pub(crate) fn hold_all(&self) -> AllHold {
        self.listeners.all.fetch_add(1, Ordering::SeqCst);
        AllHold(Arc::clone(&self.listeners))
    }

    /// As [`hold_all`](Self::hold_all), for a feed: what expires is logged, too.
    pub(crate) fn hold_feed(&self) -> FeedHold {
        self.listeners.feeds.fetch_add(1, Ordering::SeqCst);
        FeedHold(self.hold_all())
    }

    /// Whether there are change feeds.
    #[inline]
    pub(crate) fn has_feeds(&self) -> bool {
        self.listeners.feeds.load(Ordering::Acquire) != 0
    }

    /// Appends the change of a key that nobody sees yet; what its readers must wait for.
    ///
    /// # Errors
    /// Those of [`Log::append`].
    pub(crate) fn append(
        &self,
        hash: u64,
        time: UnixMillis,
        change: Change<'_>,
        durability: Durability,
    ) -> Result<CommitTicket> {
        let ticket = self.append_unnoted(time, change, durability)?;
        self.gate.note(hash, ticket);
        Ok(ticket)
    }

    /// Appends a change of keyspaces, whose readers learn of the ticket otherwise.
    ///
    /// # Errors
    /// Those of [`Log::append`].
    pub(crate) fn append_unnoted(
        &self,
        time: UnixMillis,
        change: Change<'_>,
        durability: Durability,
    ) -> Result<CommitTicket> {
        let (fixed, len, key, value) = change.parts();
        let parts: [&[u8]; 4] = [&header(time, 1), &fixed[..len], key, value];
        Ok(self.log.append(&parts, durability)?.ticket(durability))
    }

    /// Appends a batch as one record.
    ///
    /// # Errors
    /// Those of [`Log::append`].
    pub(crate) fn append_batch(
        &self,
        hashes: impl Iterator<Item = u64>,
        time: UnixMillis,
        batch: &WriteBatch,
        durability: Durability,
    ) -> Result<CommitTicket> {
        let mut record = Vec::with_capacity(overhead_bytes(batch.len()) + batch.bytes());
        record.extend_from_slice(&header(time, batch.len()));
        for op in batch.iter() {
            let (fixed, len, key, value) = Change::from(op).parts();
            record.extend_from_slice(&fixed[..len]);
            record.extend_from_slice(key);
            record.extend_from_slice(value);
        }
        let ticket = self.log.append(&[&record], durability)?.ticket(durability);
        for hash in hashes {
            self.gate.note(hash, ticket);
        }
        Ok(ticket)
    }

    /// What a reader of a key must wait for; asked after the read.
    #[inline]
    pub(crate) fn ticket(&self, hash: u64) -> CommitTicket {
        self.gate.ticket(hash)
    }

    /// What a reader of any keys must wait for; asked after the read.
    pub(crate) fn ticket_all(&self) -> CommitTicket {
        self.gate.ticket_all()
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JournalRecord<'a> {
    /// When it was written.
    pub(crate) time: UnixMillis,
    /// Its changes, in order.
    pub(crate) changes: Vec<Change<'a>>,
}

/// Reads the record at `at`.
///
/// # Errors
/// `Corruption`.
pub(crate) fn decode(at: LogPosition, bytes: &[u8]) -> Result<JournalRecord<'_>> {
    let corrupt = || Error::corruption("hybridlog.replay", "no record of this engine", "log", at.0);
    let mut input = Input(bytes);
    let mut read = || -> Option<JournalRecord<'_>> {
        if input.take(1)? != [FORMAT] {
            return None;
        }
        let time = UnixMillis(input.u64()?);
        let count = input.u32()? as usize;
        // A change takes at least 5 bytes: no more room is made than the record can fill.
        let mut changes = Vec::with_capacity(count.min(input.0.len() / 5));
        for _ in 0..count {
            changes.push(input.change()?);
        }
        (input.0.is_empty() && count > 0).then_some(JournalRecord { time, changes })
    };
    read().ok_or_else(corrupt)
}

/// Bytes yet to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn change(&mut self) -> Option<Change<'a>> {
        let tag = self.take(1)?[0];
        let keyspace = KeyspaceId(self.u32()?);
        Some(match tag {
            PUT => {
                let (key_len, value_len) = (self.u32()? as usize, self.u32()? as usize);
                let expire_at = Some(self.u64()?).filter(|at| *at != 0).map(UnixMillis);
                let (key, value) = (self.take(key_len)?, self.take(value_len)?);
                Change::Put { keyspace, key, value, expire_at }
            }
            DELETE => {
                let key_len = self.u32()? as usize;
                Change::Delete { keyspace, key: self.take(key_len)? }
            }
            EXPIRED => {
                let key_len = self.u32()? as usize;
                Change::Expired { keyspace, key: self.take(key_len)? }
            }
            CLEAR => Change::Clear { keyspace },
            SWAP => Change::Swap { a: keyspace, b: KeyspaceId(self.u32()?) },
            _ => return None,
        })
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_damaged_one_does_not() {
        let changes = [
            Change::Put {
                keyspace: KeyspaceId(1),
                key: b"k",
                value: b"value",
                expire_at: Some(UnixMillis(5)),
            },
            Change::Delete { keyspace: KeyspaceId(0), key: b"" },
            Change::Clear { keyspace: KeyspaceId(3) },
            Change::Swap { a: KeyspaceId(0), b: KeyspaceId(1) },
            Change::Expired { keyspace: KeyspaceId(2), key: b"x" },
        ];
        let mut bytes = header(UnixMillis(99), changes.len()).to_vec();
        for change in changes {
            let (fixed, len, key, value) = change.parts();
            bytes.extend_from_slice(&fixed[..len]);
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
        }
        assert!(bytes.len() <= overhead_bytes(changes.len()) + 7);
        let record = decode(LogPosition(0), &bytes).unwrap();
        assert_eq!((record.time, &record.changes[..]), (UnixMillis(99), &changes[..]));
        for len in 0..bytes.len() {
            assert!(decode(LogPosition(0), &bytes[..len]).is_err());
        }
        bytes.push(0);
        assert!(decode(LogPosition(0), &bytes).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(LogPosition(7), &bytes);
        }
    }
}
