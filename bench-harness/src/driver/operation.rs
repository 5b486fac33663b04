//! One operation on an engine, and the check of its answer.

use std::ops::Bound;
use std::time::Duration;

use ferrokit_engine::{
    Direction, Entry, Error, ErrorKind, KeyRange, KeyspaceId, ReadOptions, Result, ScanLimits,
    UnixMillis, Update, WriteBatch, WriteOptions,
};

use super::Run;
use crate::dataset::Stamp;
use crate::stream::Operation;
use crate::workload::Kind;

pub(super) const KEYSPACE: KeyspaceId = KeyspaceId::DEFAULT;
const READ: ReadOptions = ReadOptions { completion: ferrokit_engine::Completion::Durable };

/// How long an entry lives that expires soon: between the least and the most.
const LIFE_MIN: Duration = Duration::from_millis(50);
pub(super) const LIFE_MAX: Duration = Duration::from_millis(1000);

/// The error of a wrong answer.
#[cold]
pub(super) fn wrong(key: &[u8], what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corruption, "bench.verify", format!("wrong answer: {}", what.into()))
        .with_key(key)
}

/// Room that a caller uses again and again.
#[derive(Default)]
pub(super) struct Room {
    value: Vec<u8>,
    batch: WriteBatch,
}

impl Run<'_> {
    /// Does the first of `operations`, with all of its group; answers how many those are.
    pub(super) async fn step(
        &self,
        operations: &[Operation],
        stamp: Stamp,
        room: &mut Room,
    ) -> Result<usize> {
        let Some(operation) = operations.first() else { return Ok(0) };
        let stream = self.stream;
        let key = stream.key(operation);
        let item = u64::from(operation.item);
        let options = WriteOptions::with_durability(self.durability);
        match operation.kind {
            Kind::Read | Kind::ReadMiss | Kind::ReadMaybe => {
                let value = &mut room.value;
                value.clear();
                let mut visit = |entry: Entry<'_>| value.extend_from_slice(entry.value);
                let seen = self.engine.get_with(KEYSPACE, key, &READ, &mut visit).await?;
                self.check_read(operation, seen.found > 0, &room.value)?;
            }
            Kind::Update | Kind::Insert | Kind::PutExpiring => {
                let bytes = operation.value_bytes as usize;
                stream.dataset.write_value(item, stamp, bytes, &mut room.value);
                let expire_at = (operation.kind == Kind::PutExpiring).then(|| self.expiry(item));
                self.engine.put(KEYSPACE, key, &room.value, expire_at, &options).await?;
            }
            Kind::Delete => {
                self.engine.delete(KEYSPACE, key, &options).await?;
            }
            Kind::ReadModifyWrite => self.read_modify_write(operation, &options).await?,
            Kind::Scan => self.scan(operation).await?,
            Kind::MultiGet => return self.multi_get(operations, room).await,
            Kind::Batch => return self.batch(operations, stamp, &options, room).await,
        }
        Ok(1)
    }

    fn check_read(&self, operation: &Operation, is_found: bool, value: &[u8]) -> Result<()> {
        let key = self.stream.key(operation);
        match (operation.kind, is_found) {
            (Kind::ReadMiss, true) => Err(wrong(key, "a key that is not there was found")),
            (Kind::ReadMiss | Kind::ReadMaybe, false) => Ok(()),
            (_, false) => Err(wrong(key, "a key that is there was not found")),
            (_, true) => {
                let checked = self.stream.dataset.check_value(u64::from(operation.item), value);
                checked.map(drop).map_err(|what| wrong(key, what))
            }
        }
    }

    /// When an entry of `item` expires that is written now.
    fn expiry(&self, item: u64) -> UnixMillis {
        let spread = (LIFE_MAX - LIFE_MIN).as_millis() as u64;
        let life = LIFE_MIN.as_millis() as u64 + crate::dataset::mix(item) % spread;
        UnixMillis(self.clock.now().0 + life)
    }

    async fn read_modify_write(&self, operation: &Operation, options: &WriteOptions) -> Result<()> {
        let key = self.stream.key(operation);
        let dataset = &self.stream.dataset;
        let mut seen = Err("a key that is there was not found to be changed");
        let mut change = |entry: Option<Entry<'_>>, new: &mut Vec<u8>| match entry {
            None => Update::Keep,
            Some(entry) => {
                seen = dataset.check_value(u64::from(operation.item), entry.value).map(drop);
                dataset.write_counted(entry.value, new);
                Update::Put { expire_at: entry.expire_at }
            }
        };
        self.engine.update(KEYSPACE, key, options, &mut change).await?;
        seen.map_err(|what| wrong(key, what))
    }

    async fn multi_get(&self, operations: &[Operation], room: &mut Room) -> Result<usize> {
        let count = group_of(operations);
        let group = operations.get(..count).unwrap_or_default();
        let keys: smallvec::SmallVec<[&[u8]; 32]> =
            group.iter().map(|operation| self.stream.key(operation)).collect();
        let value = &mut room.value;
        value.clear();
        let mut found: smallvec::SmallVec<[(usize, usize); 32]> = smallvec::SmallVec::new();
        let mut visit = |index: usize, entry: Entry<'_>| {
            value.extend_from_slice(entry.value);
            found.push((index, entry.value.len()));
        };
        self.engine.get_many_with(KEYSPACE, &keys, &READ, &mut visit).await?;
        if found.len() != count {
            let key = keys.first().copied().unwrap_or_default();
            return Err(wrong(key, "a multi-get showed another number of keys than are there"));
        }
        let mut rest = room.value.as_slice();
        let mut is_seen: smallvec::SmallVec<[bool; 32]> = smallvec::smallvec![false; count];
        for (index, bytes) in found {
            let (value, behind) = rest.split_at_checked(bytes).unwrap_or((rest, &[]));
            rest = behind;
            match (group.get(index), is_seen.get_mut(index)) {
                (Some(operation), Some(is_seen @ false)) => {
                    *is_seen = true;
                    self.check_read(operation, true, value)?;
                }
                _ => {
                    let key = keys.first().copied().unwrap_or_default();
                    return Err(wrong(key, "a multi-get showed a key twice, and missed another"));
                }
            }
        }
        Ok(count)
    }

    async fn batch(
        &self,
        operations: &[Operation],
        stamp: Stamp,
        options: &WriteOptions,
        room: &mut Room,
    ) -> Result<usize> {
        let count = group_of(operations);
        room.batch.clear();
        for (place, operation) in operations.iter().take(count).enumerate() {
            let (item, bytes) = (u64::from(operation.item), operation.value_bytes as usize);
            let stamp = stamp.later(place);
            self.stream.dataset.write_value(item, stamp, bytes, &mut room.value);
            room.batch.put(KEYSPACE, self.stream.key(operation), &room.value, None);
        }
        self.engine.write(&room.batch, options).await?;
        Ok(count)
    }

    /// No loaded key from the start on may be left out; inserted ones may lie between.
    async fn scan(&self, operation: &Operation) -> Result<()> {
        let Some(ordered) = self.engine.as_ordered() else {
            return Err(Error::unsupported("bench", "the engine keeps its keys in no order"));
        };
        let key = self.stream.key(operation);
        let mut left = usize::from(operation.count);
        let mut check = ScanCheck::new(self, operation);
        let mut range = KeyRange { start: Bound::Included(key.to_vec()), end: Bound::Unbounded };
        while left > 0 {
            let mut visit = |key: &[u8], entry: Entry<'_>| check.visit(key, entry.value);
            let limits = ScanLimits { entries: left, bytes: usize::MAX };
            let scanned = ordered
                .scan_with(KEYSPACE, &range, Direction::Forward, limits, &READ, &mut visit)
                .await?;
            left = left.saturating_sub(scanned.visited);
            match scanned.rest {
                Some(rest) => range = rest,
                None => break,
            }
        }
        check.finish().map_err(|what| wrong(key, what))
    }
}

/// How many operations the group of the first one has.
fn group_of(operations: &[Operation]) -> usize {
    let count = operations.first().map_or(0, |first| usize::from(first.count));
    count.clamp(1, operations.len())
}

/// Checks what a scan shows.
struct ScanCheck<'a> {
    run: &'a Run<'a>,
    wanted: usize,
    rank: usize,
    visited: usize,
    start: &'a [u8],
    last: Vec<u8>,
    problem: Option<&'static str>,
}

impl<'a> ScanCheck<'a> {
    fn new(run: &'a Run<'a>, operation: &'a Operation) -> Self {
        Self {
            run,
            wanted: usize::from(operation.count),
            rank: operation.item as usize,
            visited: 0,
            start: run.stream.key(operation),
            last: Vec::new(),
            problem: None,
        }
    }

    fn visit(&mut self, key: &[u8], value: &[u8]) {
        let checked = self.check(key, value);
        if self.problem.is_none() {
            self.problem = checked.err();
        }
        self.visited += 1;
        self.last.clear();
        self.last.extend_from_slice(key);
    }

    fn check(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let stream = self.run.stream;
        if self.visited > 0 && self.last.as_slice() >= key {
            return Err("a scan went backwards");
        }
        if key < self.start {
            return Err("a scan began before its first key");
        }
        let item = stream.item_of(key).ok_or("a scan showed a key that was never written")?;
        if item < stream.loaded && !stream.sorted.is_empty() {
            if stream.sorted.get(self.rank).map(|&next| u64::from(next)) != Some(item) {
                return Err("a scan left out a key, or showed it out of order");
            }
            self.rank += 1;
        }
        stream.dataset.check_value(item, value).map(drop)
    }

    fn finish(self) -> Result<(), &'static str> {
        let sorted = &self.run.stream.sorted;
        let is_short = self.visited < self.wanted && !sorted.is_empty() && self.rank < sorted.len();
        match self.problem {
            Some(problem) => Err(problem),
            None if self.visited > self.wanted || is_short => {
                Err("a scan showed another number of entries")
            }
            None => Ok(()),
        }
    }
}
