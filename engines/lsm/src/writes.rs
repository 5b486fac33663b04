//! The writing operations.
//!
//! A blind write goes straight to the log and the memtable. A write that depends on what is there
//! (an update, or one that reports or counts existence) looks under the write lock: a version in a
//! memtable is at hand; one in the tables was read before, outside the lock, and holds as long as
//! no flush came in between. So hot keys never retry.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ferrokit_engine::{
    BatchOp, CommitTicket, Completion, Durability, Entry, Error, ErrorKind, KeyspaceId, Op, Result,
    Sequence, UnixMillis, Update, WriteBatch, WriteOptions, Written,
};

use crate::key::{PhysicalKeyspace, StoredKey, stored_key};
use crate::memtable::Kind;
use crate::read::get::get_from_memtables;
use crate::read::{CachedBlocks, Fault, Found, get_from_tables};
use crate::sst::filter::filter_hash;
use crate::stats::count;
use crate::tree::{Tree, Writer};
use crate::version::View;
use crate::wal::LogChange;

/// How long a write is held back while level 0 is over its soft limit.
const SLOW_WRITE_DELAY: Duration = Duration::from_millis(1);

/// The answer of a write that took effect.
fn written<'a>(tree: &Tree, options: &WriteOptions, result: Result<Written>) -> Op<'a, Written> {
    let written = match result {
        Ok(written) => written,
        Err(error) => return Op::err(error),
    };
    match options.completion {
        Completion::Applied => Op::ok(written),
        Completion::Durable => crate::reads::when_committed(
            tree,
            written.ticket,
            Written { ticket: CommitTicket::NONE, ..written },
        ),
    }
}

/// Whether there is room for a write now: `None` if it has to wait.
fn room_now(tree: &Tree) -> Option<Result<()>> {
    if let Err(error) = tree.check_open("lsm.write") {
        return Some(Err(error));
    }
    if let Some(poison) = tree.poison() {
        return Some(Err(poison));
    }
    let view = tree.view.load();
    let is_full = view.sealed.len() >= tree.config.sealed_memtables_max
        || view.version.level(0).len() >= tree.config.level0_stop_files;
    if is_full {
        if let Some(error) = tree.background_error() {
            // Flushes or compactions cannot go on: say so instead of waiting, and have them try.
            tree.jobs.wake_flush();
            tree.jobs.wake_compact();
            return Some(Err(error));
        }
        return None;
    }
    if view.version.level(0).len() >= tree.config.level0_slow_files {
        return None;
    }
    match tree.log.room() {
        Op::Ready(result) => Some(result),
        _ => None,
    }
}

/// Waits until there is room for a write.
async fn room(tree: &Tree) -> Result<()> {
    let mut was_slowed = false;
    loop {
        let ticket = tree.progress.ticket();
        match room_now(tree) {
            Some(result) => return result,
            None if tree.view.load().sealed.len() >= tree.config.sealed_memtables_max
                || tree.view.load().version.level(0).len() >= tree.config.level0_stop_files =>
            {
                count(&tree.counters.stopped_writes);
                tree.jobs.wake_flush();
                tree.jobs.wake_compact();
                tree.progress.changed(ticket).await;
            }
            None => {
                tree.log.room().await?;
                if was_slowed {
                    return Ok(());
                }
                if tree.view.load().version.level(0).len() >= tree.config.level0_slow_files {
                    count(&tree.counters.slowed_writes);
                    was_slowed = true;
                    tree.host.env.timer.sleep(SLOW_WRITE_DELAY).await;
                }
            }
        }
    }
}

/// Whether every write has to learn what it replaces: to count it, or to tell a feed of an expired
/// entry that it collects.
fn looks_first(tree: &Tree) -> bool {
    tree.config.exact_len || tree.feeds.load(Ordering::SeqCst) > 0
}

/// A write that looks at nothing: applied when there is room.
fn blind<'a>(
    tree: &'a Tree,
    options: &WriteOptions,
    apply: impl Fn(&Tree) -> Result<Written> + Send + 'a,
) -> Op<'a, Written> {
    match room_now(tree) {
        Some(Ok(())) => written(tree, options, apply(tree)),
        Some(Err(error)) => Op::err(error),
        None => {
            let options = *options;
            Op::pending(async move {
                room(tree).await?;
                written(tree, &options, apply(tree)).await
            })
        }
    }
}

fn apply_blind<'c>(
    tree: &Tree,
    changes: impl ExactSizeIterator<Item = LogChange<'c>> + Clone,
    durability: Durability,
) -> Result<Written> {
    let mut writer = tree.lock_writer();
    let (sequence, ticket) = tree.apply(&mut writer, changes, durability)?;
    Ok(Written { existed: None, sequence: Some(sequence), ticket })
}

fn check_write(
    tree: &Tree,
    operation: &'static str,
    keyspace: KeyspaceId,
    key: &[u8],
    options: &WriteOptions,
) -> Result<()> {
    tree.check_open(operation)?;
    tree.capabilities.check_key(operation, keyspace, key)?;
    tree.capabilities.check_durability(operation, options.durability)
}

pub(crate) fn put<'a>(
    tree: &'a Tree,
    keyspace: KeyspaceId,
    key: &'a [u8],
    value: &'a [u8],
    expire_at: Option<UnixMillis>,
    options: &WriteOptions,
) -> Op<'a, Written> {
    if let Err(error) = check_write(tree, "lsm.put", keyspace, key, options)
        .and_then(|()| tree.capabilities.check_value("lsm.put", key, value))
    {
        return Op::err(error);
    }
    if options.report_existed || looks_first(tree) {
        return read_modify_write(tree, keyspace, key, options, move |_, out: &mut Vec<u8>| {
            out.extend_from_slice(value);
            Update::Put { expire_at }
        });
    }
    let durability = options.durability;
    blind(tree, options, move |tree| {
        let change = LogChange::Put { keyspace, key, value, expire_at };
        apply_blind(tree, std::iter::once(change), durability)
    })
}

pub(crate) fn delete<'a>(
    tree: &'a Tree,
    keyspace: KeyspaceId,
    key: &'a [u8],
    options: &WriteOptions,
) -> Op<'a, Written> {
    if let Err(error) = check_write(tree, "lsm.delete", keyspace, key, options) {
        return Op::err(error);
    }
    if options.report_existed || looks_first(tree) {
        return read_modify_write(tree, keyspace, key, options, |_, _: &mut Vec<u8>| {
            Update::Delete
        });
    }
    let durability = options.durability;
    blind(tree, options, move |tree| {
        apply_blind(tree, std::iter::once(LogChange::Delete { keyspace, key }), durability)
    })
}

pub(crate) fn update<'a>(
    tree: &'a Tree,
    keyspace: KeyspaceId,
    key: &'a [u8],
    options: &WriteOptions,
    change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
) -> Op<'a, Written> {
    if let Err(error) = check_write(tree, "lsm.update", keyspace, key, options) {
        return Op::err(error);
    }
    let options = WriteOptions { report_existed: true, ..*options };
    read_modify_write(tree, keyspace, key, &options, change)
}

pub(crate) fn write<'a>(
    tree: &'a Tree,
    batch: &'a WriteBatch,
    options: &WriteOptions,
) -> Op<'a, Written> {
    if let Err(error) = tree
        .check_open("lsm.write")
        .and_then(|()| tree.capabilities.check_durability("lsm.write", options.durability))
        .and_then(|()| tree.capabilities.check_batch("lsm.write", batch))
    {
        return Op::err(error);
    }
    if batch.is_empty() {
        return Op::ok(Written::default());
    }
    if looks_first(tree) {
        return write_looking(tree, batch, options);
    }
    let durability = options.durability;
    blind(tree, options, move |tree| {
        apply_blind(tree, batch.iter().map(LogChange::from), durability)
    })
}

pub(crate) fn clear_keyspace<'a>(
    tree: &'a Tree,
    keyspace: KeyspaceId,
    options: &WriteOptions,
) -> Op<'a, Written> {
    if let Err(error) = check_write(tree, "lsm.clear_keyspace", keyspace, &[], options) {
        return Op::err(error);
    }
    let durability = options.durability;
    blind(tree, options, move |tree| {
        let mut writer = tree.lock_writer();
        let next = tree.view.load().keyspaces.next;
        if next == u32::MAX {
            return Err(Error::new(
                ErrorKind::OutOfSpace,
                "lsm.clear_keyspace",
                "no fresh keyspace number is left",
            ));
        }
        let change = LogChange::Clear { keyspace, fresh: PhysicalKeyspace(next) };
        let (sequence, ticket) = tree.apply(&mut writer, std::iter::once(change), durability)?;
        drop(writer);
        // Whole tables may be garbage now.
        tree.jobs.wake_compact();
        Ok(Written { existed: None, sequence: Some(sequence), ticket })
    })
}

pub(crate) fn swap_keyspaces<'a>(
    tree: &'a Tree,
    a: KeyspaceId,
    b: KeyspaceId,
    options: &WriteOptions,
) -> Op<'a, Written> {
    if let Err(error) = check_write(tree, "lsm.swap_keyspaces", a, &[], options)
        .and_then(|()| tree.capabilities.check_keyspace("lsm.swap_keyspaces", b))
    {
        return Op::err(error);
    }
    let durability = options.durability;
    blind(tree, options, move |tree| {
        apply_blind(tree, std::iter::once(LogChange::Swap { a, b }), durability)
    })
}

/// What the tables say of a key: valid as long as no flush takes a memtable out of the view.
struct Base {
    flushes: u64,
    keyspace: PhysicalKeyspace,
    version: Option<OwnedVersion>,
}

struct OwnedVersion {
    kind: Kind,
    sequence: u64,
    expire_at: Option<UnixMillis>,
    value: Vec<u8>,
}

impl OwnedVersion {
    fn of(found: Found<'_>) -> Self {
        Self {
            kind: found.kind,
            sequence: found.sequence,
            expire_at: found.expire_at,
            value: found.value.to_vec(),
        }
    }

    fn as_found(&self) -> Found<'_> {
        Found {
            sequence: self.sequence,
            kind: self.kind,
            expire_at: self.expire_at,
            value: &self.value,
        }
    }
}

fn try_base(
    view: &Arc<View>,
    keyspace: KeyspaceId,
    key: &[u8],
    blocks: &mut CachedBlocks<'_>,
) -> Result<Base, Fault> {
    let physical = view.keyspaces.physical(keyspace);
    let stored = stored_key(physical, key);
    let version = get_from_tables(&view.version, &stored, u64::MAX, blocks, OwnedVersion::of)?;
    Ok(Base { flushes: view.flushes, keyspace: physical, version })
}

async fn base(tree: &Tree, keyspace: KeyspaceId, key: &[u8]) -> Result<Base> {
    let view = tree.view.load_full();
    let mut blocks = CachedBlocks::new(&tree.cache);
    loop {
        match try_base(&view, keyspace, key, &mut blocks) {
            Ok(base) => return Ok(base),
            Err(Fault::Failed(error)) => return Err(error),
            Err(Fault::Missing(missing)) => blocks.fetch(missing).await?,
        }
    }
}

fn read_modify_write<'a>(
    tree: &'a Tree,
    keyspace: KeyspaceId,
    key: &'a [u8],
    options: &WriteOptions,
    mut change: impl FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a,
) -> Op<'a, Written> {
    let options = *options;
    match room_now(tree) {
        Some(Ok(())) => {}
        Some(Err(error)) => return Op::err(error),
        None => {
            return Op::pending(async move {
                room(tree).await?;
                modify_cold(tree, keyspace, key, &options, change).await
            });
        }
    }
    // Everything at hand: no future is boxed.
    if let Some(result) = try_modify(tree, keyspace, key, &options, None, &mut change) {
        return written(tree, &options, result);
    }
    let view = tree.view.load_full();
    match try_base(&view, keyspace, key, &mut CachedBlocks::new(&tree.cache)) {
        Ok(base) => {
            let result = try_modify(tree, keyspace, key, &options, Some(&base), &mut change);
            if let Some(result) = result {
                return written(tree, &options, result);
            }
        }
        Err(Fault::Failed(error)) => return Op::err(error),
        Err(Fault::Missing(_)) => count(&tree.counters.cold_reads),
    }
    Op::pending(async move { modify_cold(tree, keyspace, key, &options, change).await })
}

async fn modify_cold(
    tree: &Tree,
    keyspace: KeyspaceId,
    key: &[u8],
    options: &WriteOptions,
    mut change: impl FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send,
) -> Result<Written> {
    let mut base = self::base(tree, keyspace, key).await?;
    loop {
        let done = try_modify(tree, keyspace, key, options, Some(&base), &mut change);
        match done {
            Some(result) => return written(tree, options, result).await,
            // A flush took the newest version into the tables: read it there.
            None => base = self::base(tree, keyspace, key).await?,
        }
    }
}

/// Reads the key, asks `change` and applies what it says, under the write lock. `None` if the
/// newest version lies in the tables and `base` does not tell it.
fn try_modify(
    tree: &Tree,
    keyspace: KeyspaceId,
    key: &[u8],
    options: &WriteOptions,
    base: Option<&Base>,
    change: &mut (impl FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send),
) -> Option<Result<Written>> {
    let mut writer = tree.lock_writer();
    let view = tree.view.load_full();
    let physical = view.keyspaces.physical(keyspace);
    let stored = stored_key(physical, key);
    let mut decide = |found: Option<Found<'_>>| {
        modify(tree, &mut writer, &view, keyspace, key, &stored, options, found, change)
    };
    for memtable in view.memtables() {
        if let Some(entry) = memtable.get(&stored, u64::MAX) {
            let version = entry.value();
            return Some(decide(Some(Found {
                sequence: entry.key().sequence,
                kind: version.kind,
                expire_at: version.expire_at,
                value: &version.value,
            })));
        }
    }
    let base = base.filter(|base| base.flushes == view.flushes && base.keyspace == physical)?;
    Some(decide(base.version.as_ref().map(OwnedVersion::as_found)))
}

#[expect(clippy::too_many_arguments, reason = "one call; a struct would only rename them")]
fn modify(
    tree: &Tree,
    writer: &mut Writer,
    view: &View,
    keyspace: KeyspaceId,
    key: &[u8],
    stored: &StoredKey,
    options: &WriteOptions,
    found: Option<Found<'_>>,
    change: &mut (impl FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send),
) -> Result<Written> {
    let stored_put = found.filter(|found| found.kind == Kind::Put);
    let is_expired = stored_put.is_some_and(|found| {
        found.expire_at.is_some() && Entry::is_expired_at(found.expire_at, tree.clock.now())
    });
    let current = stored_put.filter(|_| !is_expired);
    let entry = current.map(|found| Entry {
        value: found.value,
        expire_at: found.expire_at,
        sequence: Some(Sequence(found.sequence)),
    });
    let mut out = std::mem::take(&mut writer.scratch);
    out.clear();
    let update = change(entry, &mut out);
    // What the update saw must be durable before it completes.
    let saw = tree.gate.ticket(filter_hash(stored)).join(view.keyspaces.ticket);
    let physical = view.keyspaces.physical(keyspace);
    let expired = is_expired.then_some(LogChange::Expired { keyspace, key });
    let result = match update {
        Update::Keep => {
            if let (true, Some(found)) = (is_expired, found) {
                tree.expiry.report(tree, stored.clone(), found.sequence);
            }
            Ok(None)
        }
        Update::Put { expire_at } => {
            tree.capabilities.check_value("lsm.update", key, &out).and_then(|()| {
                let put = LogChange::Put { keyspace, key, value: &out, expire_at };
                apply_some(tree, writer, expired, Some(put), options.durability)
            })
        }
        // Nothing is there to be deleted: an expired entry goes as such.
        Update::Delete if current.is_none() => {
            apply_some(tree, writer, expired, None, options.durability)
        }
        Update::Delete => {
            let delete = LogChange::Delete { keyspace, key };
            apply_some(tree, writer, None, Some(delete), options.durability)
        }
    };
    out.clear();
    if out.capacity() <= 1 << 20 {
        writer.scratch = out;
    }
    let applied = result?;
    match update {
        Update::Put { .. } if stored_put.is_none() => writer.count(physical, 1),
        Update::Delete if stored_put.is_some() => writer.count(physical, -1),
        _ => {}
    }
    Ok(Written {
        existed: options.report_existed.then_some(current.is_some()),
        sequence: applied.map(|(sequence, _)| sequence),
        ticket: applied.map_or(saw, |(_, ticket)| ticket.join(saw)),
    })
}

/// Applies the changes there are, together.
fn apply_some(
    tree: &Tree,
    writer: &mut Writer,
    first: Option<LogChange<'_>>,
    second: Option<LogChange<'_>>,
    durability: Durability,
) -> Result<Option<(Sequence, CommitTicket)>> {
    let changes: smallvec::SmallVec<[LogChange<'_>; 2]> = first.into_iter().chain(second).collect();
    if changes.is_empty() {
        return Ok(None);
    }
    tree.apply(writer, changes.iter().copied(), durability).map(Some)
}

/// What is stored under a key that a batch writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stored {
    Nothing,
    Entry,
    ExpiredEntry,
}

impl Stored {
    fn of(tree: &Tree, found: Found<'_>) -> Self {
        match found.kind {
            Kind::Delete => Self::Nothing,
            Kind::Put if Entry::is_expired_at(found.expire_at, tree.clock.now()) => {
                Self::ExpiredEntry
            }
            Kind::Put => Self::Entry,
        }
    }
}

/// A batch that learns of every key what it replaces.
fn write_looking<'a>(
    tree: &'a Tree,
    batch: &'a WriteBatch,
    options: &WriteOptions,
) -> Op<'a, Written> {
    let options = *options;
    Op::pending(async move {
        room(tree).await?;
        let mut bases: HashMap<StoredKey, Base> = HashMap::new();
        loop {
            let unknown = match try_write_looking(tree, batch, &options, &bases) {
                Ok(result) => return written(tree, &options, result).await,
                Err(unknown) => unknown,
            };
            for op in unknown {
                let base = self::base(tree, op.keyspace(), op.key()).await?;
                bases.insert(stored_key(base.keyspace, op.key()), base);
            }
        }
    })
}

/// Applies the batch, or answers the operations of whose keys too little is known.
fn try_write_looking<'b>(
    tree: &Tree,
    batch: &'b WriteBatch,
    options: &WriteOptions,
    bases: &HashMap<StoredKey, Base>,
) -> std::result::Result<Result<Written>, Vec<BatchOp<'b>>> {
    let mut writer = tree.lock_writer();
    let view = tree.view.load_full();
    let key_of = |op: &BatchOp<'_>| stored_key(view.keyspaces.physical(op.keyspace()), op.key());
    let mut stored: HashMap<StoredKey, Stored> = HashMap::new();
    let mut unknown = Vec::new();
    for op in batch.iter() {
        let key = key_of(&op);
        let in_memtables =
            get_from_memtables(view.memtables(), &key, u64::MAX, |found| Stored::of(tree, found));
        let base = || {
            let base = bases.get(&key).filter(|base| base.flushes == view.flushes)?;
            let version = base.version.as_ref();
            Some(version.map_or(Stored::Nothing, |version| Stored::of(tree, version.as_found())))
        };
        match in_memtables.or_else(base) {
            Some(found) => {
                stored.insert(key, found);
            }
            None => unknown.push(op),
        }
    }
    if !unknown.is_empty() {
        return Err(unknown);
    }
    // Expired entries are collected in a record of their own, so that a batch of the greatest size
    // does not outgrow the log's. No reader can tell a collection from the expiry itself.
    let mut expired: Vec<LogChange<'_>> = Vec::new();
    for op in batch.iter() {
        let found = stored.entry(key_of(&op)).or_insert(Stored::Nothing);
        if *found == Stored::ExpiredEntry {
            expired.push(LogChange::Expired { keyspace: op.keyspace(), key: op.key() });
            *found = Stored::Nothing;
        }
    }
    if !expired.is_empty() {
        if let Err(error) = tree.apply(&mut writer, expired.iter().copied(), options.durability) {
            return Ok(Err(error));
        }
        for change in &expired {
            if let LogChange::Expired { keyspace, .. } = change {
                writer.count(view.keyspaces.physical(*keyspace), -1);
            }
        }
    }
    let mut counts: Vec<(PhysicalKeyspace, i64)> = Vec::with_capacity(batch.len());
    for op in batch.iter() {
        let found = stored.entry(key_of(&op)).or_insert(Stored::Nothing);
        let is_put = matches!(op, BatchOp::Put { .. });
        let change = i64::from(is_put) - i64::from(*found != Stored::Nothing);
        counts.push((view.keyspaces.physical(op.keyspace()), change));
        *found = if is_put { Stored::Entry } else { Stored::Nothing };
    }
    let changes = batch.iter().map(LogChange::from);
    let applied = tree.apply(&mut writer, changes, options.durability);
    Ok(applied.map(|(sequence, ticket)| {
        for (keyspace, change) in counts {
            writer.count(keyspace, change);
        }
        Written { existed: None, sequence: Some(sequence), ticket }
    }))
}
