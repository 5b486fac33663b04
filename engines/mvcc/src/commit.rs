//! The write path: what single writes, updates, batches and transactions have in common.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrokit_engine::{
    CommitTicket, Durability, Entry, Error, ErrorKind, KeyspaceId, Result, UnixMillis, Update,
    WriteBatch, WriteOptions, Written,
};

use crate::core::{Core, Driven, Head};
use crate::directory::{Slot, heads};
use crate::garbage::{DeadHead, OldVersion};
use crate::oracle::{Allocated, Commit, Reader, Request, SlotClock};
use crate::record::{HISTORY, Header, META, MetaKey, Timestamp, encode_meta, version_key};
use crate::stripes::StripeGuard;
use crate::wait::Shared;

/// Versions removed per write beyond the number it writes.
const COLLECT_EXTRA: usize = 2;

/// A write to one key.
pub(crate) struct Intent<'a> {
    pub(crate) slot: Arc<Slot>,
    pub(crate) key: &'a [u8],
    /// `None` deletes.
    pub(crate) value: Option<(&'a [u8], Option<UnixMillis>)>,
}

impl Intent<'_> {
    pub(crate) fn target(&self) -> (u32, &[u8]) {
        (self.slot.id, self.key)
    }
}

/// What a commit holds and depends on.
pub(crate) struct Held {
    pub(crate) gate: Shared,
    pub(crate) stripes: StripeGuard,
    /// The newest versions, if they were read: one for each intent.
    pub(crate) heads: Option<Vec<Option<Head>>>,
    /// Slots read as a whole, at the timestamp with them.
    pub(crate) unchanged: Vec<(Arc<SlotClock>, Timestamp)>,
    /// The transaction's own view, which keeps nothing from the commit on.
    pub(crate) reader: Option<Reader>,
}

/// What goes to the inner engine for one commit.
struct Plan {
    /// Written before: copies of replaced versions that do not fit the batch.
    copies: Vec<WriteBatch>,
    batch: WriteBatch,
    clock: Option<UnixMillis>,
    replaced: Vec<OldVersion>,
    tombstones: Vec<DeadHead>,
}

impl Core {
    /// Commits writes to different keys whose stripes are held.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        operation: &'static str,
        intents: &[Intent<'_>],
        mut held: Held,
        options: &WriteOptions,
    ) -> Result<Written> {
        let mut written: Vec<Arc<SlotClock>> = Vec::new();
        for intent in intents {
            if !written.iter().any(|clock| Arc::ptr_eq(clock, &intent.slot.clock)) {
                written.push(Arc::clone(&intent.slot.clock));
            }
        }
        self.check_version_room(operation).await?;
        drop(held.reader.take());
        let commit = loop {
            let request = Request {
                has_heads: held.heads.is_some(),
                unchanged: &held.unchanged,
                written: &written,
            };
            match self.oracle.allocate(&request) {
                Allocated::Commit(commit) => break commit,
                Allocated::Reserve => self.reserve().await?,
                Allocated::Conflict => return Err(conflict(operation)),
                Allocated::NeedHeads => {
                    let targets: Vec<_> = intents.iter().map(Intent::target).collect();
                    held.heads = Some(self.read_heads(&targets, true).await?.0);
                }
            }
        };
        let timestamp = commit.timestamp;
        let plan = self.plan(&commit, intents, held.heads.as_deref(), options.durability);
        let apply = apply(Arc::clone(self), plan, commit, held.gate, held.stripes, *options);
        let ticket = Driven::new(self, apply).await?;
        self.collect(intents.len() + COLLECT_EXTRA).await;
        let ticket = self.complete(options.completion, ticket).await?;
        Ok(Written { existed: None, sequence: Some(timestamp.sequence()), ticket })
    }

    /// Refuses to keep more versions than allowed.
    async fn check_version_room(self: &Arc<Self>, operation: &'static str) -> Result<()> {
        if self.garbage.len().0 < self.options.max_versions {
            return Ok(());
        }
        self.collect(64).await;
        if self.garbage.len().0 < self.options.max_versions {
            return Ok(());
        }
        let age_ms = self.views().1.map_or(0, |(_, age_ms)| age_ms);
        let message = format!(
            "{} older versions are kept, the limit: close the oldest snapshot or transaction, \
             open for {age_ms} ms",
            self.options.max_versions
        );
        Err(Error::new(ErrorKind::Busy, operation, message))
    }

    /// Open views, and the oldest one's timestamp and age in milliseconds.
    pub(crate) fn views(&self) -> (usize, Option<(Timestamp, u64)>) {
        let (open, oldest) = self.oracle.views();
        let now = self.monotonic.monotonic();
        let age = |opened| u64::try_from(now.saturating_sub(opened).as_millis());
        (open, oldest.map(|(at, opened)| (at, age(opened).unwrap_or(u64::MAX))))
    }

    fn plan(
        &self,
        commit: &Commit,
        intents: &[Intent<'_>],
        heads: Option<&[Option<Head>]>,
        level: Durability,
    ) -> Plan {
        let now = self.now();
        let mut plan = Plan {
            copies: Vec::new(),
            batch: WriteBatch::new(),
            clock: None,
            replaced: Vec::new(),
            tombstones: Vec::new(),
        };
        let mut copies: Vec<(Vec<u8>, &[u8])> = Vec::new();
        let mut record = Vec::new();
        for (index, intent) in intents.iter().enumerate() {
            let old = heads.and_then(|heads| heads.get(index)).and_then(Option::as_ref);
            let value = intent.value.filter(|(_, at)| !Entry::is_expired_at(*at, now));
            let was_absent = heads.is_some() && old.is_none_or(|old| old.header.is_tombstone);
            if value.is_none() && was_absent {
                continue;
            }
            let (slot, key) = intent.target();
            let previous = match old {
                Some(old) if commit.is_needed(old.header.timestamp) => {
                    let timestamp = old.header.timestamp;
                    copies.push((version_key(slot, key, timestamp), &old.record));
                    let until = commit.timestamp;
                    plan.replaced.push(OldVersion { until, timestamp, slot, key: key.to_vec() });
                    timestamp
                }
                // Nobody needs the one replaced, somebody may need those below it.
                Some(old) if commit.has_view_before(old.header.timestamp) => old.header.previous,
                _ => Timestamp::NONE,
            };
            let timestamp = commit.timestamp;
            let header =
                |expire_at, is_tombstone| Header { timestamp, previous, expire_at, is_tombstone };
            record.clear();
            match value {
                Some((value, expire_at)) => header(expire_at, false).encode(value, &mut record),
                None if commit.has_view_before(timestamp) => {
                    header(None, true).encode(b"", &mut record);
                    let key = key.to_vec();
                    plan.tombstones.push(DeadHead { from: timestamp, timestamp, slot, key });
                }
                None => {
                    plan.batch.delete(intent.slot.heads(), key);
                    continue;
                }
            }
            plan.batch.put(intent.slot.heads(), key, &record, None);
        }
        self.add_clock(&mut plan, level);
        self.add_copies(&mut plan, &copies);
        plan
    }

    fn add_clock(&self, plan: &mut Plan, level: Durability) {
        plan.clock = self.clock_to_store(level);
        let Some(now) = plan.clock else { return };
        let mut alone = WriteBatch::new();
        let limits = self.inner.capabilities();
        let fits = plan.batch.bytes() + 64 <= limits.max_batch_bytes;
        let batch = if fits { &mut plan.batch } else { &mut alone };
        batch.put(META, &MetaKey::Clock.encode(), &encode_meta(now.0), None);
        if !alone.is_empty() {
            plan.copies.push(alone);
        }
    }

    /// One batch, if the inner engine takes it; else the copies first: until the new versions link
    /// to them, nobody reads them.
    fn add_copies(&self, plan: &mut Plan, copies: &[(Vec<u8>, &[u8])]) {
        let limits = self.inner.capabilities();
        let bytes: usize = copies.iter().map(|(key, record)| key.len() + record.len()).sum();
        if plan.batch.len() + copies.len() <= limits.max_batch_ops
            && plan.batch.bytes() + bytes <= limits.max_batch_bytes
        {
            for (key, record) in copies {
                plan.batch.put(HISTORY, key, record, None);
            }
            return;
        }
        let mut chunk = WriteBatch::new();
        for (key, record) in copies {
            let is_full = chunk.len() >= limits.max_batch_ops
                || chunk.bytes() + key.len() + record.len() > limits.max_batch_bytes;
            if is_full && !chunk.is_empty() {
                plan.copies.push(std::mem::take(&mut chunk));
            }
            chunk.put(HISTORY, key, record, None);
        }
        plan.copies.push(chunk);
    }

    // ---- Collection.

    /// Removes up to `budget` versions that no view needs, and empties slots that none sees. What
    /// fails is tried again by a later one.
    pub(crate) async fn collect(self: &Arc<Self>, budget: usize) -> usize {
        let mut collected = 0;
        let watermark = || self.oracle.watermark();
        let options = self.logged(Durability::Memory);
        let limits = self.inner.capabilities();
        let versions = self.garbage.take_versions(watermark, budget.min(limits.max_batch_ops));
        if !versions.is_empty() {
            let mut taken = Taken { core: self, versions };
            let mut batch = WriteBatch::new();
            for version in &taken.versions {
                let key = version_key(version.slot, &version.key, version.timestamp);
                if batch.bytes() + key.len() > limits.max_batch_bytes {
                    break;
                }
                batch.delete(HISTORY, &key);
            }
            if self.write_inner(&batch, &options).await.is_ok() {
                collected += batch.len();
                taken.versions.drain(..batch.len());
            }
        }
        for head in self.garbage.take_heads(watermark, budget) {
            collected += usize::from(self.remove_head(&head, &options).await.unwrap_or(false));
        }
        self.empty_retired_slots().await;
        self.collected.fetch_add(collected as u64, Ordering::Relaxed);
        collected
    }

    /// Removes a newest version if it is still that one. One missed is found again by a read.
    async fn remove_head(&self, head: &DeadHead, options: &WriteOptions) -> Result<bool> {
        let now = self.now();
        let mut is_removed = false;
        let mut change = |entry: Option<Entry<'_>>, _: &mut Vec<u8>| {
            let header = entry.and_then(|entry| Header::decode(entry.value).ok());
            is_removed = header.is_some_and(|(header, _)| {
                header.timestamp == head.timestamp && !header.is_live_at(now)
            });
            if is_removed { Update::Delete } else { Update::Keep }
        };
        self.inner.update(heads(head.slot), &head.key, options, &mut change).await?;
        Ok(is_removed)
    }

    /// Empties the slots that no directory has, so that they can be used again.
    pub(crate) async fn empty_retired_slots(self: &Arc<Self>) {
        while let Some(slot) = self.directories.take_retired() {
            let core = Arc::clone(self);
            let empty = async move {
                let options = core.logged(Durability::Memory);
                match core.inner.clear_keyspace(heads(slot), &options).await {
                    Ok(_) => core.directories.free(slot),
                    Err(_) => core.directories.retire_again(slot),
                }
                core.directories.has_retired()
            };
            let failed = Driven::new(self, empty).await;
            if failed {
                return;
            }
        }
    }

    // ---- Changes of the directory.

    /// Empties a keyspace.
    pub(crate) async fn clear(
        self: &Arc<Self>,
        keyspace: KeyspaceId,
        options: WriteOptions,
    ) -> Result<Written> {
        self.change_directory("clear_keyspace", options, keyspace, None).await
    }

    /// Exchanges two keyspaces.
    pub(crate) async fn swap(
        self: &Arc<Self>,
        a: KeyspaceId,
        b: KeyspaceId,
        options: WriteOptions,
    ) -> Result<Written> {
        self.change_directory("swap_keyspaces", options, a, Some(b)).await
    }

    async fn change_directory(
        self: &Arc<Self>,
        operation: &'static str,
        options: WriteOptions,
        keyspace: KeyspaceId,
        swap_with: Option<KeyspaceId>,
    ) -> Result<Written> {
        let alone = self.gate.enter_alone(|| self.help()).await;
        self.check_writable(operation, &options)?;
        let request = Request { has_heads: true, unchanged: &[], written: &[] };
        let commit = loop {
            match self.oracle.allocate(&request) {
                Allocated::Commit(commit) => break commit,
                _ => self.reserve().await?,
            }
        };
        let timestamp = commit.timestamp;
        let (next, batch) = match swap_with {
            Some(other) => self.directories.swapped(keyspace, other),
            None => {
                self.empty_retired_slots().await;
                let Some(fresh) = self.directories.take_free() else {
                    let message = "open snapshots and transactions hold every spare keyspace";
                    return Err(Error::new(ErrorKind::Busy, operation, message));
                };
                self.directories.cleared(keyspace, fresh)
            }
        };
        let core = Arc::clone(self);
        let logged = self.logged(options.durability);
        let change = async move {
            let result = core.write_inner(&batch, &logged).await;
            match &result {
                Ok(ticket) => {
                    core.directories.replace(next);
                    commit.applied(*ticket);
                }
                // The store may hold the new directory while this one goes on.
                Err(error) => core.poison(error),
            }
            drop((commit, alone));
            result
        };
        let ticket = Driven::new(self, change).await?;
        self.empty_retired_slots().await;
        let ticket = self.complete(options.completion, ticket).await?;
        Ok(Written { existed: None, sequence: Some(timestamp.sequence()), ticket })
    }
}

/// Versions taken for removal; what is left of them goes back.
struct Taken<'c> {
    core: &'c Core,
    versions: Vec<OldVersion>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.core.garbage.add_versions(self.versions.drain(..));
    }
}

async fn apply(
    core: Arc<Core>,
    plan: Plan,
    commit: Commit,
    gate: Shared,
    stripes: StripeGuard,
    options: WriteOptions,
) -> Result<CommitTicket> {
    let options = options.applied();
    let mut ticket = CommitTicket::NONE;
    for batch in plan.copies.iter().chain([&plan.batch]) {
        ticket = ticket.join(core.write_inner(batch, &options).await?);
    }
    commit.applied(ticket);
    if let Some(now) = plan.clock {
        core.clock_was_stored(now);
    }
    core.garbage.add_versions(plan.replaced);
    plan.tombstones.into_iter().for_each(|head| core.garbage.add_head(head));
    drop((commit, stripes, gate));
    Ok(ticket)
}

#[cold]
pub(crate) fn conflict(operation: &'static str) -> Error {
    let message = "a concurrent write won; begin the transaction again";
    Error::new(ErrorKind::Conflict, operation, message)
}
