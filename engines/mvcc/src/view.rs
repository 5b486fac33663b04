//! [`View`]: reads at a timestamp; [`MvccSnapshot`] over it.

use std::sync::Arc;

use ferrokit_engine::{
    CommitTicket, Completion, Entry, Error, KeyspaceId, KvRead, Op, Ordered, ReadOptions, Result,
    Seen, Sequence, Snapshot, Snapshots, SweepCursor, Swept, UnixMillis,
};

use crate::core::Core;
use crate::directory::{Directory, Slot};
use crate::engine::{Mvcc, start, start_checked};
use crate::oracle::Reader;
use crate::record::{HISTORY, Header, Timestamp, corrupt, version_key};

/// What everything looked like at a timestamp.
pub(crate) struct View {
    pub(crate) core: Arc<Core>,
    pub(crate) reader: Reader,
    pub(crate) directory: Arc<Directory>,
    pub(crate) opened_at: UnixMillis,
}

/// What a version means to a view.
enum Step<'v> {
    Present(Entry<'v>),
    Absent,
    /// Too new; an older one may do.
    Older(Timestamp),
}

impl View {
    /// A view of this moment, of which everything is durable.
    pub(crate) async fn open(core: &Arc<Core>) -> Result<Self> {
        core.check_open("view")?;
        let gate = core.enter().await;
        let reader = core.oracle.register(core.monotonic.monotonic())?;
        let ticket = core.oracle.wait_applied(reader.timestamp, || core.help()).await;
        let directory = core.directories.current();
        let opened_at = core.now();
        drop(gate);
        core.complete(Completion::Durable, ticket).await?;
        Ok(Self { core: Arc::clone(core), reader, directory, opened_at })
    }

    fn step<'v>(&self, record: &'v [u8]) -> Result<Step<'v>> {
        let (header, value) = Header::decode(record)?;
        Ok(if header.timestamp > self.reader.timestamp {
            if header.previous == Timestamp::NONE {
                Step::Absent
            } else {
                Step::Older(header.previous)
            }
        } else if header.is_live_at(self.opened_at) {
            Step::Present(header.entry(value))
        } else {
            Step::Absent
        })
    }

    pub(crate) fn check(&self, operation: &'static str, keyspace: KeyspaceId) -> Result<()> {
        self.core.check_open(operation)?;
        self.core.capabilities.check_keyspace(operation, keyspace)
    }

    pub(crate) fn check_keys(
        &self,
        operation: &'static str,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
    ) -> Result<()> {
        self.check(operation, keyspace)?;
        let facts = &self.core.capabilities;
        keys.iter().try_for_each(|key| facts.check_key(operation, keyspace, key))
    }

    /// Reads keys; `visit` gets the index of each one found.
    pub(crate) async fn get_many(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        visit: &mut (dyn FnMut(usize, Entry<'_>) + Send + '_),
    ) -> Result<usize> {
        let slot = self.directory.slot(keyspace);
        let (mut older, mut found, mut failed) = (Vec::new(), 0, None);
        let mut step = |index: usize, entry: Entry<'_>| match self.step(entry.value) {
            Ok(Step::Present(entry)) => {
                found += 1;
                visit(index, entry);
            }
            Ok(Step::Absent) => {}
            Ok(Step::Older(previous)) => older.push((index, previous)),
            Err(error) => failed = Some(error),
        };
        let (inner, options) = (&self.core.inner, &ReadOptions::APPLIED);
        inner.get_many_with(slot.heads(), keys, options, &mut step).await?;
        if let Some(error) = failed {
            return Err(error);
        }
        for (index, previous) in older {
            let key = keys.get(index).copied().unwrap_or_default();
            let mut visit_one = |entry: Entry<'_>| visit(index, entry);
            found += usize::from(self.follow(slot, key, previous, &mut visit_one).await?);
        }
        Ok(found)
    }

    /// Follows the links from `timestamp` to the version that was the newest one for this view.
    async fn follow(
        &self,
        slot: &Slot,
        key: &[u8],
        mut timestamp: Timestamp,
        visit: &mut (dyn FnMut(Entry<'_>) + Send + '_),
    ) -> Result<bool> {
        loop {
            let at = version_key(slot.id, key, timestamp);
            let mut found: Option<Result<Option<Timestamp>>> = None;
            let mut is_present = false;
            let mut step = |entry: Entry<'_>| {
                found = Some(self.step(entry.value).map(|step| match step {
                    Step::Older(previous) => Some(previous),
                    Step::Absent => None,
                    Step::Present(entry) => {
                        is_present = true;
                        visit(entry);
                        None
                    }
                }));
            };
            let options = &ReadOptions::APPLIED;
            self.core.inner.get_with(HISTORY, &at, options, &mut step).await?;
            match found {
                None => return Err(missing(key)),
                Some(Err(error)) => return Err(error.with_key(key)),
                Some(Ok(None)) => return Ok(is_present),
                Some(Ok(Some(previous))) if previous < timestamp => timestamp = previous,
                Some(Ok(Some(_))) => return Err(missing(key)),
            }
        }
    }

    /// A step of a sweep. Every key of the view has a newest version, be it a tombstone.
    pub(crate) async fn sweep(
        &self,
        keyspace: KeyspaceId,
        cursor: &SweepCursor,
        budget: usize,
        visit: &mut (dyn FnMut(&[u8], Entry<'_>) + Send + '_),
    ) -> Result<Swept> {
        let slot = self.directory.slot(keyspace);
        let (mut older, mut visited, mut failed) = (Vec::new(), 0, None);
        let mut step = |key: &[u8], entry: Entry<'_>| match self.step(entry.value) {
            Ok(Step::Present(entry)) => {
                visited += 1;
                visit(key, entry);
            }
            Ok(Step::Absent) => {}
            Ok(Step::Older(previous)) => older.push((key.to_vec(), previous)),
            Err(error) => failed = Some(error.with_key(key)),
        };
        let (inner, options) = (&self.core.inner, &ReadOptions::APPLIED);
        let swept = inner.sweep(slot.heads(), cursor, budget, options, &mut step).await?;
        if let Some(error) = failed {
            return Err(error);
        }
        for (key, previous) in older {
            let mut visit_one = |entry: Entry<'_>| visit(&key, entry);
            visited += usize::from(self.follow(slot, &key, previous, &mut visit_one).await?);
        }
        Ok(Swept { next: swept.next, visited, ticket: CommitTicket::NONE })
    }
}

#[cold]
fn missing(key: &[u8]) -> Error {
    corrupt("a version that an open view needs is not there").with_key(key)
}

/// A consistent view. Reads of what has changed since cost one inner read per version in between.
pub(crate) struct MvccSnapshot(View);

impl KvRead for MvccSnapshot {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let checked = self.0.check_keys("snapshot.get", keyspace, &[key]);
        start_checked(checked, async move {
            let mut visit_many = |_: usize, entry: Entry<'_>| visit(entry);
            let found = self.0.get_many(keyspace, &[key], &mut visit_many).await?;
            Ok(Seen { found, ticket: CommitTicket::NONE })
        })
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let checked = self.0.check_keys("snapshot.get_many", keyspace, keys);
        start_checked(checked, async move {
            let found = self.0.get_many(keyspace, keys, visit).await?;
            Ok(Seen { found, ticket: CommitTicket::NONE })
        })
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        let checked = self.0.check("snapshot.sweep", keyspace);
        start_checked(checked, self.0.sweep(keyspace, cursor, budget, visit))
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        None
    }
}

impl Snapshot for MvccSnapshot {
    fn sequence(&self) -> Option<Sequence> {
        Some(self.0.reader.timestamp.sequence())
    }

    fn opened_at(&self) -> UnixMillis {
        self.0.opened_at
    }
}

impl Snapshots for Mvcc {
    fn snapshot(&self) -> Op<'_, Arc<dyn Snapshot>> {
        start(async move {
            let view = View::open(&self.core).await?;
            Ok(Arc::new(MvccSnapshot(view)) as Arc<dyn Snapshot>)
        })
    }
}
