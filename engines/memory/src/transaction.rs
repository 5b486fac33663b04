//! [`MemoryTransaction`]: optimistic, first committer wins.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use ferrokit_engine::{
    Change, CommitTicket, Direction, Entry, Error, ErrorKind, Isolation, KeyRange, KeyspaceId,
    KvRead, Op, Ordered, ReadOptions, Result, Savepoint, ScanLimits, Scanned, Seen, Sequence,
    SweepCursor, Swept, Transaction, UnixMillis, WriteOptions, Written,
};

use crate::read::{bounds, live, live_range, scan_chunk, sweep_chunk, sweep_range};
use crate::state::{CAPABILITIES, State, View, ViewGuard, wake};

/// A write of the transaction; `value` is `None` for a delete.
#[derive(Debug, Clone)]
struct PendingWrite {
    keyspace: KeyspaceId,
    key: Vec<u8>,
    value: Option<(Vec<u8>, Option<UnixMillis>)>,
}

impl PendingWrite {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |(value, _)| value.len())
    }
}

/// What was read, to be validated at commit.
#[derive(Debug, Default)]
struct ReadSet {
    keys: BTreeMap<KeyspaceId, std::collections::BTreeSet<Vec<u8>>>,
    ranges: Vec<(KeyspaceId, KeyRange)>,
}

/// Keys and ranges one transaction may read before it is refused: the read set is bounded.
const MAX_READ_SET: usize = 1 << 20;

/// A transaction: its view, its writes over it, and what it read.
pub(crate) struct MemoryTransaction {
    guard: ViewGuard,
    view: View,
    isolation: Isolation,
    /// In the order they were made.
    writes: Vec<PendingWrite>,
    /// The savepoints one can go back to, with the number of writes before each.
    savepoints: BTreeMap<usize, usize>,
    next_savepoint: usize,
    write_bytes: usize,
    /// For each key written, the index of its last write in `writes`.
    overlay: BTreeMap<KeyspaceId, BTreeMap<Vec<u8>, usize>>,
    reads: Mutex<ReadSet>,
}

impl MemoryTransaction {
    pub(crate) fn new(guard: ViewGuard, view: View, isolation: Isolation) -> Self {
        Self {
            guard,
            view,
            isolation,
            writes: Vec::new(),
            savepoints: BTreeMap::new(),
            next_savepoint: 0,
            write_bytes: 0,
            overlay: BTreeMap::new(),
            reads: Mutex::new(ReadSet::default()),
        }
    }

    fn began(&self) -> Sequence {
        self.view.sequence
    }

    /// The own write of `key`: `None` if there is none, `Some(None)` if it removes the key.
    fn own(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Option<Entry<'_>>> {
        let index = *self.overlay.get(&keyspace)?.get(key)?;
        Some(self.own_entry(index))
    }

    fn own_entry(&self, index: usize) -> Option<Entry<'_>> {
        let (value, expire_at) = self.writes.get(index)?.value.as_ref()?;
        let entry = Entry { value, expire_at: *expire_at, sequence: None };
        (!Entry::is_expired_at(*expire_at, self.view.opened_at)).then_some(entry)
    }

    fn note_key(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        if self.isolation == Isolation::Serializable {
            let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
            let keys = reads.keys.entry(keyspace).or_default();
            if keys.len() >= MAX_READ_SET {
                return Err(read_set_full());
            }
            keys.insert(key.to_vec());
        }
        Ok(())
    }

    fn note_range(&self, keyspace: KeyspaceId, range: KeyRange) -> Result<()> {
        if self.isolation == Isolation::Serializable {
            let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
            if reads.ranges.len() >= MAX_READ_SET {
                return Err(read_set_full());
            }
            reads.ranges.push((keyspace, range));
        }
        Ok(())
    }

    fn read_many(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        visit: &mut (dyn FnMut(usize, Entry<'_>) + Send + '_),
    ) -> Result<Seen> {
        self.guard.shared.check_open("transaction.get")?;
        for key in keys {
            CAPABILITIES.check_key("transaction.get", keyspace, key)?;
        }
        let records = self.view.keyspaces.get(&keyspace);
        let mut found = 0;
        for (index, key) in keys.iter().enumerate() {
            let entry = match self.own(keyspace, key) {
                Some(own) => own,
                None => {
                    self.note_key(keyspace, key)?;
                    records
                        .and_then(|records| live(records, key, self.view.opened_at))
                        .map(|record| record.entry())
                }
            };
            if let Some(entry) = entry {
                found += 1;
                visit(index, entry);
            }
        }
        Ok(Seen { found, ticket: CommitTicket::NONE })
    }

    /// The entries of `range` as the transaction sees them, in `direction`.
    fn merged<'t>(
        &'t self,
        keyspace: KeyspaceId,
        range: &KeyRange,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = (&'t [u8], Entry<'t>)> + 't> {
        let stored =
            self.view.keyspaces.get(&keyspace).map(|r| live_range(r, range, self.view.opened_at));
        let stored = stored.into_iter().flatten();
        let own = self.overlay.get(&keyspace).map(|o| o.range::<[u8], _>(bounds(range)));
        let own =
            own.into_iter().flatten().map(|(key, index)| (key.as_slice(), self.own_entry(*index)));
        match direction {
            Direction::Forward => Box::new(merge(stored, own, <[u8]>::cmp)),
            Direction::Backward => {
                Box::new(merge(stored.rev(), own.rev(), |a: &[u8], b: &[u8]| b.cmp(a)))
            }
        }
    }

    fn push(&mut self, write: PendingWrite) -> Result<()> {
        let bytes = self.write_bytes.saturating_add(write.bytes());
        if self.writes.len() >= CAPABILITIES.max_batch_ops || bytes > CAPABILITIES.max_batch_bytes {
            return Err(Error::invalid(
                "transaction",
                "the transaction is beyond the largest batch",
            ));
        }
        self.write_bytes = bytes;
        self.index(self.writes.len(), write.keyspace, write.key.clone());
        self.writes.push(write);
        Ok(())
    }

    fn index(&mut self, index: usize, keyspace: KeyspaceId, key: Vec<u8>) {
        self.overlay.entry(keyspace).or_default().insert(key, index);
    }

    fn validate(&self, state: &State) -> Result<()> {
        let conflicts = &state.conflicts;
        let conflict = |message: &'static str| Error::new(ErrorKind::Conflict, "commit", message);
        if conflicts.is_too_old(self.began()) {
            return Err(conflict("too much was written since the transaction began"));
        }
        for (keyspace, keys) in &self.overlay {
            if let Some(key) =
                keys.keys().find(|key| conflicts.key_changed(*keyspace, key, self.began()))
            {
                return Err(conflict("a key it writes was written meanwhile").with_key(key));
            }
        }
        let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        for (keyspace, keys) in &reads.keys {
            if let Some(key) =
                keys.iter().find(|key| conflicts.key_changed(*keyspace, key, self.began()))
            {
                return Err(conflict("a key it read was written meanwhile").with_key(key));
            }
        }
        for (keyspace, range) in &reads.ranges {
            if conflicts.range_changed(*keyspace, range, self.began()) {
                return Err(conflict("a range it read was written meanwhile"));
            }
        }
        Ok(())
    }

    fn commit_now(&self, options: &WriteOptions) -> Result<Written> {
        CAPABILITIES.check_durability("commit", options.durability)?;
        let shared = &self.guard.shared;
        let mut state = shared.open_state("commit")?;
        if self.writes.is_empty() {
            return Ok(Written::default());
        }
        self.validate(&state)?;
        let changes: Vec<Change<'_>> = self.writes.iter().map(change_of).collect();
        let committed = state.commit("commit", &changes, shared.clock.now())?;
        drop(state);
        wake(committed.wakers);
        Ok(Written { existed: None, sequence: committed.sequence, ticket: CommitTicket::NONE })
    }
}

fn read_set_full() -> Error {
    Error::invalid("transaction", format!("more than {MAX_READ_SET} reads in one transaction"))
}

fn change_of(write: &PendingWrite) -> Change<'_> {
    let (keyspace, key) = (write.keyspace, write.key.as_slice());
    match &write.value {
        Some((value, expire_at)) => Change::Put { keyspace, key, value, expire_at: *expire_at },
        None => Change::Delete { keyspace, key },
    }
}

impl Drop for MemoryTransaction {
    fn drop(&mut self) {
        self.guard.shared.state().conflicts.end(self.view.sequence);
    }
}

/// Merges stored entries with own writes, both in the order of `compare`; own ones win.
fn merge<'t>(
    stored: impl Iterator<Item = (&'t [u8], Entry<'t>)>,
    own: impl Iterator<Item = (&'t [u8], Option<Entry<'t>>)>,
    compare: impl Fn(&[u8], &[u8]) -> Ordering,
) -> impl Iterator<Item = (&'t [u8], Entry<'t>)> {
    let mut stored: Peekable<_> = stored.peekable();
    let mut own: Peekable<_> = own.peekable();
    std::iter::from_fn(move || {
        loop {
            let order = match (stored.peek(), own.peek()) {
                (Some((stored, _)), Some((own, _))) => compare(stored, own),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return None,
            };
            if order == Ordering::Less {
                return stored.next();
            }
            if order == Ordering::Equal {
                stored.next();
            }
            if let Some((key, Some(entry))) = own.next() {
                return Some((key, entry));
            }
        }
    })
}

/// The part of `range` that a chunk has observed.
fn observed(range: &KeyRange, rest: Option<&KeyRange>, direction: Direction) -> KeyRange {
    let Some(rest) = rest else { return range.clone() };
    let include = |bound: &Bound<Vec<u8>>| match bound {
        Bound::Excluded(key) | Bound::Included(key) => Bound::Included(key.clone()),
        Bound::Unbounded => Bound::Unbounded,
    };
    match direction {
        Direction::Forward => KeyRange { start: range.start.clone(), end: include(&rest.start) },
        Direction::Backward => KeyRange { start: include(&rest.end), end: range.end.clone() },
    }
}

impl KvRead for MemoryTransaction {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let mut visit_many = |_: usize, entry: Entry<'_>| visit(entry);
        self.read_many(keyspace, &[key], &mut visit_many).into()
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        self.read_many(keyspace, keys, visit).into()
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        let mut step = || {
            CAPABILITIES.check_key("transaction.sweep", keyspace, &[])?;
            self.guard.shared.check_open("transaction.sweep")?;
            let greatest = || {
                let mut all = self.merged(keyspace, &KeyRange::ALL, Direction::Backward);
                all.next().map(|(key, _)| key.to_vec())
            };
            // A sweep depends on the whole keyspace.
            self.note_range(keyspace, KeyRange::ALL)?;
            let Some(range) = sweep_range(cursor, greatest)? else { return Ok(Swept::default()) };
            let entries = self.merged(keyspace, &range, Direction::Forward);
            Ok(sweep_chunk(entries, &range, budget, visit))
        };
        step().into()
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        Some(self)
    }
}

impl Ordered for MemoryTransaction {
    fn scan_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        range: &'a KeyRange,
        direction: Direction,
        limits: ScanLimits,
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Scanned> {
        let mut scan = || {
            CAPABILITIES.check_key("transaction.scan", keyspace, &[])?;
            self.guard.shared.check_open("transaction.scan")?;
            let entries = self.merged(keyspace, range, direction);
            let scanned = scan_chunk(entries, range, direction, limits, visit);
            self.note_range(keyspace, observed(range, scanned.rest.as_ref(), direction))?;
            Ok(scanned)
        };
        scan().into()
    }
}

impl Transaction for MemoryTransaction {
    fn put(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
        expire_at: Option<UnixMillis>,
    ) -> Result<()> {
        CAPABILITIES.check_key("transaction.put", keyspace, key)?;
        CAPABILITIES.check_value("transaction.put", key, value)?;
        let value = Some((value.to_vec(), expire_at));
        self.push(PendingWrite { keyspace, key: key.to_vec(), value })
    }

    fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        CAPABILITIES.check_key("transaction.delete", keyspace, key)?;
        self.push(PendingWrite { keyspace, key: key.to_vec(), value: None })
    }

    fn savepoint(&mut self) -> Savepoint {
        // A second mark at the same place is the same one: there are never more than writes.
        if let Some((mark, writes)) = self.savepoints.last_key_value()
            && *writes == self.writes.len()
        {
            return Savepoint(*mark);
        }
        let mark = self.next_savepoint;
        self.next_savepoint += 1;
        self.savepoints.insert(mark, self.writes.len());
        Savepoint(mark)
    }

    fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let Some(writes) = self.savepoints.get(&savepoint.0).copied() else {
            return Err(Error::invalid("rollback_to", "a rollback has passed this savepoint"));
        };
        self.savepoints.split_off(&(savepoint.0 + 1));
        self.writes.truncate(writes);
        self.write_bytes = self.writes.iter().map(PendingWrite::bytes).sum();
        self.overlay.clear();
        for index in 0..self.writes.len() {
            let PendingWrite { keyspace, key, .. } = &self.writes[index];
            let (keyspace, key) = (*keyspace, key.clone());
            self.index(index, keyspace, key);
        }
        Ok(())
    }

    fn commit(self: Box<Self>, options: &WriteOptions) -> Op<'static, Written> {
        self.commit_now(options).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_observes_up_to_its_last_key() {
        let range = KeyRange::half_open(b"a", b"z");
        let rest = range.after(b"m", Direction::Forward);
        let seen = observed(&range, Some(&rest), Direction::Forward);
        assert!(seen.contains(b"a") && seen.contains(b"m") && !seen.contains(b"n"));
        let rest = range.after(b"m", Direction::Backward);
        let seen = observed(&range, Some(&rest), Direction::Backward);
        assert!(seen.contains(b"y") && seen.contains(b"m") && !seen.contains(b"l"));
        assert_eq!(observed(&range, None, Direction::Forward), range);
    }
}
