//! Collecting expired entries: whoever meets one reports it, and a maintenance job turns it into a
//! tombstone, if it is still the newest version of its key. That happens once per version, so that
//! the change feed tells of each expiry exactly once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ferrokit_engine::{Durability, Entry, Result};
use ferrokit_storage::Progress as JobProgress;

use crate::key::{StoredKey, split_stored_key};
use crate::memtable::Kind;
use crate::read::{Found, LoadedBlocks, get_from_tables};
use crate::stats::count;
use crate::tables::unfault;
use crate::tree::Tree;
use crate::wal::LogChange;

/// Reports that may wait; further ones are dropped, and made again when the entry is met again.
const REPORTS_MAX: usize = 4096;

/// Entries that are waiting to be collected.
#[derive(Debug, Default)]
pub(crate) struct ExpiryQueue {
    reports: Mutex<VecDeque<(StoredKey, u64)>>,
}

impl ExpiryQueue {
    /// Reports that the version `sequence` of `key` has expired.
    pub(crate) fn report(&self, tree: &Tree, key: StoredKey, sequence: u64) {
        {
            let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
            if reports.len() >= REPORTS_MAX {
                return;
            }
            reports.push_back((key, sequence));
        }
        tree.jobs.wake_expire();
    }

    fn pop(&self) -> Option<(StoredKey, u64)> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// One step of the expiry job: one entry.
pub(crate) fn run(tree: &Arc<Tree>) -> JobProgress {
    let Some((key, sequence)) = tree.expiry.pop() else { return JobProgress::Idle };
    if let Err(error) = collect(tree, &key, sequence) {
        // The entry stays absent to readers; whoever meets it next reports it again.
        tracing::debug!(%error, "an expired entry was not collected");
    }
    JobProgress::More
}

fn collect(tree: &Tree, key: &StoredKey, sequence: u64) -> Result<()> {
    let is_it = |found: Found<'_>| found.sequence == sequence && found.kind == Kind::Put;
    loop {
        // What lies in the tables is read outside the write lock; no flush may come in between.
        let view = tree.view.load_full();
        let in_tables =
            unfault(get_from_tables(&view.version, key, u64::MAX, &mut LoadedBlocks, |found| {
                is_it(found) && Entry::is_expired_at(found.expire_at, tree.clock.now())
            }))?;
        let mut writer = tree.lock_writer();
        let now = tree.view.load_full();
        let in_memtables =
            crate::read::get::get_from_memtables(now.memtables(), key, u64::MAX, |found| {
                is_it(found) && Entry::is_expired_at(found.expire_at, tree.clock.now())
            });
        let is_newest = match in_memtables {
            Some(is_it) => is_it,
            None if now.flushes == view.flushes => in_tables.unwrap_or(false),
            None => continue,
        };
        let Some((physical, user_key)) = split_stored_key(key) else { return Ok(()) };
        let Some(keyspace) = now.keyspaces.logical(physical) else { return Ok(()) };
        if is_newest {
            let change = LogChange::Expired { keyspace, key: user_key };
            tree.apply(&mut writer, std::iter::once(change), Durability::Os)?;
            writer.count(physical, -1);
            count(&tree.counters.expired_keys);
        }
        return Ok(());
    }
}
