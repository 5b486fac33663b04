//! The reading operations, of the engine and of snapshots.

use std::ops::Bound;
use std::sync::Arc;

use ferrokit_engine::{
    CommitTicket, Completion, Direction, Entry, Error, KeyRange, KeyspaceId, Op, ReadOptions,
    Result, ScanLimits, Scanned, Seen, Sequence, SweepCursor, Swept, UnixMillis,
};

use crate::encoding::{Reader, put_bytes};
use crate::key::{StoredKey, StoredRange, stored_key, user_key};
use crate::memtable::Kind;
use crate::read::scan::{Scan, ScanEnd};
use crate::read::{self, CachedBlocks, Fault, Found, Missing};
use crate::snapshot::SnapshotPoint;
use crate::sst::filter::filter_hash;
use crate::stats::count;
use crate::tree::Tree;
use crate::version::View;

/// The first byte of a sweep cursor of this engine: behind it stand the end of the sweep, with its
/// length, and the last key passed.
const SWEEP_CURSOR: u8 = 1;

/// The moment a read looks at.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    /// This one.
    Now,
    /// A snapshot's.
    Snapshot(&'a SnapshotPoint),
}

/// A moment, pinned down.
struct Point {
    view: Arc<View>,
    sequence: u64,
    now: Option<UnixMillis>,
    keyspaces: Arc<crate::keyspaces::KeyspaceMap>,
}

impl Point {
    fn of(tree: &Tree, at: At<'_>) -> Self {
        let (view, visible) = tree.read_point();
        match at {
            At::Now => {
                let keyspaces = Arc::clone(&view.keyspaces);
                Self { view, sequence: visible, now: None, keyspaces }
            }
            At::Snapshot(point) => Self {
                view,
                sequence: point.sequence,
                now: Some(point.opened_at),
                keyspaces: Arc::clone(&point.keyspaces),
            },
        }
    }

    /// The time expiry is evaluated at: asked only when something may have expired.
    fn now(&self, tree: &Tree) -> UnixMillis {
        self.now.unwrap_or_else(|| tree.clock.now())
    }

    fn is_snapshot(&self) -> bool {
        self.now.is_some()
    }
}

/// `value` once the log is durable through `ticket`.
pub(crate) fn when_committed<'a, T: Send + 'a>(
    tree: &Tree,
    ticket: CommitTicket,
    value: T,
) -> Op<'a, T> {
    if ticket == CommitTicket::NONE {
        return Op::ok(value);
    }
    match tree.log.committed(ticket) {
        Op::Ready(Ok(())) => Op::ok(value),
        Op::Ready(Err(error)) => Op::err(error),
        pending => pending.map(|()| value),
    }
}

/// The answer of a read that saw what `ticket` covers.
fn answer<'a, T: Send + 'a>(
    tree: &Tree,
    completion: Completion,
    ticket: CommitTicket,
    make: impl FnOnce(CommitTicket) -> T,
) -> Op<'a, T> {
    match completion {
        Completion::Applied => Op::ok(make(ticket)),
        Completion::Durable => when_committed(tree, ticket, make(CommitTicket::NONE)),
    }
}

/// The tickets of what a read of `key` may have seen.
fn ticket_of(tree: &Tree, point: &Point, key: &StoredKey) -> CommitTicket {
    if point.is_snapshot() {
        // The snapshot waited when it was opened.
        return CommitTicket::NONE;
    }
    tree.gate.ticket(filter_hash(key)).join(point.keyspaces.ticket)
}

/// Visits the entry that was found, unless it is none; whether it did.
fn visit_found(
    tree: &Tree,
    point: &Point,
    key: &StoredKey,
    found: Found<'_>,
    visit: impl FnOnce(Entry<'_>),
) -> bool {
    if found.kind == Kind::Delete {
        return false;
    }
    if found.expire_at.is_some() && Entry::is_expired_at(found.expire_at, point.now(tree)) {
        if !point.is_snapshot() {
            tree.expiry.report(tree, key.clone(), found.sequence);
        }
        return false;
    }
    visit(Entry {
        value: found.value,
        expire_at: found.expire_at,
        sequence: Some(Sequence(found.sequence)),
    });
    true
}

type VisitOne<'a> = dyn FnMut(Entry<'_>) + Send + 'a;

fn try_get(
    tree: &Tree,
    point: &Point,
    key: &StoredKey,
    blocks: &mut CachedBlocks<'_>,
    visit: &mut VisitOne<'_>,
) -> Result<bool, Fault> {
    let found = read::get(&point.view, key, point.sequence, blocks, |found| {
        visit_found(tree, point, key, found, &mut *visit)
    })?;
    Ok(found.unwrap_or(false))
}

pub(crate) fn get<'a>(
    tree: &'a Tree,
    at: At<'a>,
    keyspace: KeyspaceId,
    key: &'a [u8],
    options: &ReadOptions,
    visit: &'a mut VisitOne<'a>,
) -> Op<'a, Seen> {
    if let Err(error) = check(tree, "lsm.get", keyspace, key) {
        return Op::err(error);
    }
    let point = Point::of(tree, at);
    let key = stored_key(point.keyspaces.physical(keyspace), key);
    let mut blocks = CachedBlocks::new(&tree.cache);
    let completion = options.completion;
    let seen = move |found: bool, ticket| Seen { found: usize::from(found), ticket };
    match try_get(tree, &point, &key, &mut blocks, visit) {
        Ok(found) => {
            answer(tree, completion, ticket_of(tree, &point, &key), |ticket| seen(found, ticket))
        }
        Err(Fault::Failed(error)) => Op::err(error),
        Err(Fault::Missing(missing)) => Op::pending(async move {
            count(&tree.counters.cold_reads);
            let mut missing = missing;
            let found = loop {
                blocks.fetch(missing).await?;
                match try_get(tree, &point, &key, &mut blocks, visit) {
                    Ok(found) => break found,
                    Err(Fault::Failed(error)) => return Err(error),
                    Err(Fault::Missing(next)) => missing = next,
                }
            };
            let ticket = ticket_of(tree, &point, &key);
            answer(tree, completion, ticket, |ticket| seen(found, ticket)).await
        }),
    }
}

type VisitMany<'a> = dyn FnMut(usize, Entry<'_>) + Send + 'a;

/// Keys still to be read, by their index, and what came of the others.
struct Many<'a> {
    point: Point,
    keyspace: KeyspaceId,
    keys: &'a [&'a [u8]],
    pending: Vec<usize>,
    found: usize,
    ticket: CommitTicket,
}

impl Many<'_> {
    /// Reads every pending key whose blocks are at hand; answers what is missing for the others.
    fn round(
        &mut self,
        tree: &Tree,
        blocks: &mut CachedBlocks<'_>,
        visit: &mut VisitMany<'_>,
    ) -> Result<Vec<Missing>> {
        let mut missing: Vec<Missing> = Vec::new();
        let pending = std::mem::take(&mut self.pending);
        for index in pending {
            let Some(key) = self.keys.get(index) else { continue };
            let key = stored_key(self.point.keyspaces.physical(self.keyspace), key);
            let mut visit = |entry: Entry<'_>| visit(index, entry);
            match try_get(tree, &self.point, &key, blocks, &mut visit) {
                Ok(found) => {
                    self.found += usize::from(found);
                    self.ticket = self.ticket.join(ticket_of(tree, &self.point, &key));
                }
                Err(Fault::Failed(error)) => return Err(error),
                Err(Fault::Missing(block)) => {
                    self.pending.push(index);
                    let is_known = missing.iter().any(|known| {
                        known.handle == block.handle && known.table.id() == block.table.id()
                    });
                    if !is_known {
                        missing.push(block);
                    }
                }
            }
        }
        Ok(missing)
    }
}

pub(crate) fn get_many<'a>(
    tree: &'a Tree,
    at: At<'a>,
    keyspace: KeyspaceId,
    keys: &'a [&'a [u8]],
    options: &ReadOptions,
    visit: &'a mut VisitMany<'a>,
) -> Op<'a, Seen> {
    if let Err(error) = tree.check_open("lsm.get_many").and_then(|()| {
        keys.iter().try_for_each(|key| tree.capabilities.check_key("lsm.get_many", keyspace, key))
    }) {
        return Op::err(error);
    }
    let mut many = Many {
        point: Point::of(tree, at),
        keyspace,
        keys,
        pending: (0..keys.len()).collect(),
        found: 0,
        ticket: CommitTicket::NONE,
    };
    let completion = options.completion;
    let mut blocks = CachedBlocks::new(&tree.cache);
    let missing = match many.round(tree, &mut blocks, visit) {
        Ok(missing) => missing,
        Err(error) => return Op::err(error),
    };
    if missing.is_empty() {
        return answer(tree, completion, many.ticket, |ticket| Seen { found: many.found, ticket });
    }
    Op::pending(async move {
        count(&tree.counters.cold_reads);
        let mut missing = missing;
        while !missing.is_empty() {
            blocks.fetch_all(missing).await?;
            missing = many.round(tree, &mut blocks, visit)?;
        }
        answer(tree, completion, many.ticket, |ticket| Seen { found: many.found, ticket }).await
    })
}

type VisitKeyed<'a> = dyn FnMut(&[u8], Entry<'_>) + Send + 'a;

/// Something that reads a range step by step, and goes on where it stood after a fault.
trait Steps: Send {
    fn run(
        &mut self,
        view: &View,
        blocks: &mut CachedBlocks<'_>,
        visit: &mut VisitKeyed<'_>,
    ) -> Result<ScanEnd, Fault>;

    /// Expired entries met.
    fn take_expired(&mut self) -> Vec<(StoredKey, u64)>;
}

impl Steps for Scan {
    fn run(
        &mut self,
        view: &View,
        blocks: &mut CachedBlocks<'_>,
        visit: &mut VisitKeyed<'_>,
    ) -> Result<ScanEnd, Fault> {
        Self::run(self, view, blocks, visit)
    }

    fn take_expired(&mut self) -> Vec<(StoredKey, u64)> {
        std::mem::take(&mut self.expired)
    }
}

/// Runs a scan to its end, fetching what is missing; `make` answers from the scan.
fn run_scan<'a, S: Steps + 'a, T: Send + 'a>(
    tree: &'a Tree,
    point: Point,
    mut scan: S,
    completion: Completion,
    visit: &'a mut VisitKeyed<'a>,
    make: impl FnOnce(&S, ScanEnd, CommitTicket) -> T + Send + 'a,
) -> Op<'a, T> {
    let mut blocks = CachedBlocks::new(&tree.cache);
    let finish = move |tree: &Tree, point: &Point, scan: &mut S, end: ScanEnd| {
        let mut ticket = CommitTicket::NONE;
        if !point.is_snapshot() {
            for (key, sequence) in scan.take_expired() {
                tree.expiry.report(tree, key, sequence);
            }
            ticket = tree.gate.ticket_all().join(point.keyspaces.ticket);
        }
        answer(tree, completion, ticket, |ticket| make(scan, end, ticket))
    };
    match scan.run(&point.view, &mut blocks, visit) {
        Ok(end) => finish(tree, &point, &mut scan, end),
        Err(Fault::Failed(error)) => Op::err(error),
        Err(Fault::Missing(missing)) => Op::pending(async move {
            count(&tree.counters.cold_reads);
            let mut missing = missing;
            let end = loop {
                blocks.fetch(missing).await?;
                match scan.run(&point.view, &mut blocks, visit) {
                    Ok(end) => break end,
                    Err(Fault::Failed(error)) => return Err(error),
                    Err(Fault::Missing(next)) => missing = next,
                }
            };
            finish(tree, &point, &mut scan, end).await
        }),
    }
}

#[expect(clippy::too_many_arguments, reason = "the contract's arguments and where to look")]
pub(crate) fn scan<'a>(
    tree: &'a Tree,
    at: At<'a>,
    keyspace: KeyspaceId,
    range: &'a KeyRange,
    direction: Direction,
    limits: ScanLimits,
    options: &ReadOptions,
    visit: &'a mut VisitKeyed<'a>,
) -> Op<'a, Scanned> {
    if let Err(error) = check(tree, "lsm.scan", keyspace, &[]) {
        return Op::err(error);
    }
    if range.is_empty() {
        return Op::ok(Scanned { rest: None, visited: 0, ticket: CommitTicket::NONE });
    }
    let point = Point::of(tree, at);
    let stored = StoredRange::new(point.keyspaces.physical(keyspace), range);
    let now = point.now(tree);
    let state = Scan::new(stored, direction, point.sequence, now, limits.entries, limits.bytes);
    run_scan(tree, point, state, options.completion, visit, move |scan, end, ticket| {
        let rest = match (end, &scan.last) {
            (ScanEnd::Limit, Some(last)) => {
                Some(range.after(user_key(last), direction)).filter(|rest| !rest.is_empty())
            }
            _ => None,
        };
        Scanned { rest, visited: scan.visited, ticket }
    })
}

/// A sweep in key order. It ends at the greatest key there was when it began: keys appended
/// behind that were not present during the whole sweep, and would keep it from ending.
struct Sweep {
    /// Finds the end: the first step of a backward scan.
    end: Option<Scan>,
    /// The greatest user key to visit.
    last: Vec<u8>,
    scan: Scan,
}

impl Steps for Sweep {
    fn run(
        &mut self,
        view: &View,
        blocks: &mut CachedBlocks<'_>,
        visit: &mut VisitKeyed<'_>,
    ) -> Result<ScanEnd, Fault> {
        if let Some(end) = &mut self.end {
            end.run(view, blocks, &mut |_, _| {})?;
            let Some(last) = &end.last else { return Ok(ScanEnd::Exhausted) };
            self.last = user_key(last).to_vec();
            self.scan.end_at(last);
            self.end = None;
        }
        self.scan.run(view, blocks, visit)
    }

    fn take_expired(&mut self) -> Vec<(StoredKey, u64)> {
        std::mem::take(&mut self.scan.expired)
    }
}

impl Sweep {
    fn cursor(&self) -> Option<SweepCursor> {
        let at = self.scan.last.as_ref()?;
        let mut bytes = vec![SWEEP_CURSOR];
        put_bytes(&mut bytes, &self.last);
        bytes.extend_from_slice(user_key(at));
        Some(SweepCursor::from_bytes(&bytes))
    }

    /// The end of the sweep and the last key passed, out of a cursor.
    fn parse(cursor: &SweepCursor, key_bytes_max: usize) -> Result<(Vec<u8>, Vec<u8>)> {
        let foreign = || Error::invalid("lsm.sweep", "the cursor is not of this engine");
        let mut reader = Reader::new(cursor.as_bytes());
        let parsed = reader
            .u8()
            .ok()
            .filter(|tag| *tag == SWEEP_CURSOR)
            .and_then(|_| reader.bytes().ok())
            .and_then(|last| Some((last, reader.take(reader.remaining()).ok()?)));
        let (last, at) = parsed.ok_or_else(foreign)?;
        if last.len() > key_bytes_max || at.len() > key_bytes_max || at > last {
            return Err(foreign());
        }
        Ok((last.to_vec(), at.to_vec()))
    }
}

pub(crate) fn sweep<'a>(
    tree: &'a Tree,
    at: At<'a>,
    keyspace: KeyspaceId,
    cursor: &'a SweepCursor,
    budget: usize,
    options: &ReadOptions,
    visit: &'a mut VisitKeyed<'a>,
) -> Op<'a, Swept> {
    if let Err(error) = check(tree, "lsm.sweep", keyspace, &[]) {
        return Op::err(error);
    }
    let (last, range) = if cursor.is_start() {
        (None, KeyRange::ALL)
    } else {
        match Sweep::parse(cursor, tree.capabilities.max_key_bytes) {
            Ok((last, at)) => {
                let end = Bound::Included(last.clone());
                (Some(last), KeyRange { start: Bound::Excluded(at), end })
            }
            Err(error) => return Op::err(error),
        }
    };
    let point = Point::of(tree, at);
    let stored = StoredRange::new(point.keyspaces.physical(keyspace), &range);
    let now = point.now(tree);
    let scan = |direction, entries| {
        Scan::new(stored.clone(), direction, point.sequence, now, entries, usize::MAX)
    };
    let sweep = Sweep {
        // Where the bounded step ends is a valid end: nothing behind it is present now.
        end: last.is_none().then(|| scan(Direction::Backward, 1).with_bounded_work()),
        last: last.unwrap_or_default(),
        scan: scan(Direction::Forward, budget).with_bounded_work(),
    };
    run_scan(tree, point, sweep, options.completion, visit, |sweep, end, ticket| {
        let next = if end == ScanEnd::Limit { sweep.cursor() } else { None };
        Swept { next, visited: sweep.scan.visited, ticket }
    })
}

fn check(tree: &Tree, operation: &'static str, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
    tree.check_open(operation)?;
    tree.capabilities.check_key(operation, keyspace, key)
}
