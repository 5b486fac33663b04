//! [`Run`]: a sequence on an engine and on the reference, step by step.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrokit_engine::{
    Direction, Durability, Entry, ErrorKind, Isolation, KeyRange, KeyspaceId, KvRead, Snapshot,
    TransactionOptions, UnixMillis, Update, WriteBatch, WriteOptions,
};
use ferrokit_storage::sim::CrashMode;

use super::ops::{Change, KEYSPACES, Step, UpdateKind};
use super::reference::{Reference, Stored};
use crate::world::{Contents, World, key, read_entry, read_many, scan_all, sweep_all, value};

/// What a failing comparison says.
type Outcome = Result<(), String>;

/// Compares what the engine answered with what it should have.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: the engine answered {found:?}, the reference {expected:?}"))
    }
}

/// Where the wall clock of every run starts, so that runs can be compared: in 2033.
const START: UnixMillis = UnixMillis(2_000_000_000_000);

/// An engine and its reference.
pub(crate) struct Run {
    world: World,
    reference: Reference,
    /// The reference after each write that a power cut may take back, oldest first; the last one
    /// is the present.
    uncertain: Vec<Reference>,
    /// The latest time any operation saw: expiry never goes back behind it.
    now: UnixMillis,
    snapshots: Vec<(Arc<dyn Snapshot>, Reference)>,
    keyspaces: usize,
    step: usize,
    seed: u64,
    /// What was answered, for comparison between runs.
    pub(crate) trace: Vec<String>,
}

impl Run {
    pub(crate) fn new(world: World, seed: u64) -> Self {
        let keyspaces = KEYSPACES.min(world.capabilities().max_keyspaces as usize);
        world.set_clock(START);
        let now = world.now();
        Self {
            world,
            reference: Reference::default(),
            uncertain: vec![Reference::default()],
            now,
            snapshots: Vec::new(),
            keyspaces,
            step: 0,
            seed,
            trace: Vec::new(),
        }
    }

    pub(crate) fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// Runs all steps, and compares everything at the end.
    pub(crate) fn all(&mut self, steps: &[Step]) -> Outcome {
        for step in steps {
            self.step += 1;
            self.now = self.now.max(self.world.now());
            self.one(step).map_err(|why| format!("step {} ({step:?}): {why}", self.step))?;
        }
        self.compare_everything()
    }

    fn one(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Write { keyspace, change, synced } => self.write(*keyspace, change, *synced),
            Step::Batch { changes, synced } => self.batch(changes, *synced),
            Step::Update { keyspace, key, kind } => self.update(*keyspace, *key, *kind),
            Step::Clear { keyspace } => self.clear(*keyspace),
            Step::Swap { a, b } => self.swap(*a, *b),
            Step::Get { keyspace, key } => self.get(*keyspace, *key),
            Step::GetMany { keyspace, keys } => self.get_many(*keyspace, keys),
            Step::Scan { keyspace, from, to, direction, entries } => {
                self.scan(*keyspace, *from, *to, *direction, *entries)
            }
            Step::Sweep { keyspace, budget } => self.sweep(*keyspace, *budget),
            Step::Len { keyspace } => self.len(*keyspace),
            Step::PassMillis(millis) => {
                self.world.pass_millis(*millis);
                Ok(())
            }
            Step::ClockBack(millis) => {
                self.show_clock()?;
                self.world.set_clock(UnixMillis(self.world.now().0 - millis));
                Ok(())
            }
            Step::Sync => {
                self.world.settle();
                self.settled();
                Ok(())
            }
            Step::Churn { keyspace } => {
                self.world.churn(self.id(*keyspace));
                self.settled();
                Ok(())
            }
            Step::Reopen => self.reopen(),
            Step::Crash { mode } => self.crash(*mode),
            Step::OpenSnapshot => self.open_snapshot(),
            Step::ReadSnapshot { which } => self.read_snapshot(*which),
            Step::DropSnapshot { which } => {
                if !self.snapshots.is_empty() {
                    self.snapshots.swap_remove(which % self.snapshots.len());
                }
                Ok(())
            }
            Step::Transaction { changes, reads, meddle, commit } => {
                self.transaction(changes, reads, meddle.as_ref(), *commit)
            }
        }
    }

    /// Makes the engine look at the clock, and write durably after it did: from then on its time
    /// may not go back.
    fn show_clock(&mut self) -> Outcome {
        self.write(0, &Change::Put { key: 0, len: 0, ttl: Some(1000) }, true)?;
        self.get(0, 0)?;
        self.write(0, &Change::Delete { key: 0 }, true)
    }

    /// The keyspace to use where the engine has fewer than sequences ask for.
    fn index(&self, keyspace: usize) -> usize {
        keyspace % self.keyspaces
    }

    fn id(&self, keyspace: usize) -> KeyspaceId {
        KeyspaceId(self.index(keyspace) as u32)
    }

    fn options(&self, synced: bool) -> WriteOptions {
        let strongest = self.world.strongest();
        let level = if synced { strongest } else { strongest.min(Durability::Os) };
        WriteOptions::with_durability(level).reporting_existed()
    }

    fn stored(&self, len: usize, ttl: Option<u64>) -> Stored {
        let mut value = value(self.step, len);
        value.truncate(self.world.capabilities().max_value_bytes);
        (value, ttl.map(|ttl| self.world.now().plus(ttl)))
    }

    /// Notes that the reference has changed by a write of this level.
    fn changed(&mut self, level: Durability) {
        // A write that changed nothing need not reach the log, nor take others along.
        if self.uncertain.last() == Some(&self.reference) {
            return;
        }
        if level == Durability::Synced {
            self.uncertain.clear();
        }
        self.uncertain.push(self.reference.clone());
    }

    /// Everything is as durable as can be.
    fn settled(&mut self) {
        self.uncertain.clear();
        self.uncertain.push(self.reference.clone());
    }

    fn apply(&mut self, keyspace: usize, change: &Change) {
        let keyspace = self.index(keyspace);
        match change {
            Change::Put { key: n, len, ttl } if !self.deletes(change) => {
                let stored = self.stored(*len, *ttl);
                self.reference.put(keyspace, key(*n), stored);
            }
            Change::Put { key: n, .. } | Change::Delete { key: n } => {
                self.reference.delete(keyspace, &key(*n));
            }
        }
    }

    /// Whether a change removes its key: a put that has already expired does.
    fn deletes(&self, change: &Change) -> bool {
        match change {
            Change::Delete { .. } | Change::Put { ttl: Some(0), .. } => true,
            Change::Put { ttl: Some(ttl), .. } => self.world.now().plus(*ttl) <= self.now,
            Change::Put { ttl: None, .. } => false,
        }
    }

    fn is_there(&self, keyspace: usize, n: usize) -> bool {
        self.reference.get(self.index(keyspace), &key(n), self.now).is_some()
    }

    fn write(&mut self, keyspace: usize, change: &Change, synced: bool) -> Outcome {
        let options = self.options(synced);
        let (Change::Put { key: n, .. } | Change::Delete { key: n }) = change;
        let existed = self.is_there(keyspace, *n);
        let op_key = key(*n);
        let id = self.id(keyspace);
        let written = match change {
            Change::Put { len, ttl, .. } => {
                let (value, expire_at) = self.stored(*len, *ttl);
                let op = self.world.engine().put(id, &op_key, &value, expire_at, &options);
                self.world.wait(op)
            }
            Change::Delete { .. } => {
                self.world.wait(self.world.engine().delete(id, &op_key, &options))
            }
        };
        let written = written.map_err(|error| error.to_string())?;
        self.apply(keyspace, change);
        self.changed(options.durability);
        self.trace.push(format!("existed {:?}", written.existed));
        same("existed", &written.existed, &Some(existed))
    }

    fn batch(&mut self, changes: &[(usize, Change)], synced: bool) -> Outcome {
        let options = self.options(synced);
        let mut batch = WriteBatch::new();
        for (keyspace, change) in changes {
            let id = self.id(*keyspace);
            match change {
                Change::Put { key: n, len, ttl } => {
                    let (value, expire_at) = self.stored(*len, *ttl);
                    batch.put(id, &key(*n), &value, expire_at);
                }
                Change::Delete { key: n } => {
                    batch.delete(id, &key(*n));
                }
            }
        }
        let op = self.world.engine().write(&batch, &options);
        self.world.wait(op).map_err(|error| error.to_string())?;
        for (keyspace, change) in changes {
            self.apply(*keyspace, change);
        }
        if !batch.is_empty() {
            self.changed(options.durability);
        }
        Ok(())
    }

    fn update(&mut self, keyspace: usize, n: usize, kind: UpdateKind) -> Outcome {
        let options = self.options(true);
        let before = self.reference.get(self.index(keyspace), &key(n), self.now).cloned();
        let expiry = match kind {
            UpdateKind::Expire(millis) => Some(self.world.now().plus(millis)),
            _ => before.as_ref().and_then(|(_, at)| *at),
        };
        let mut offered = None;
        let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
            offered = current.map(|entry| (entry.value.to_vec(), entry.expire_at));
            let old = current.map_or(&b""[..], |entry| entry.value);
            match kind {
                UpdateKind::Keep => return Update::Keep,
                UpdateKind::Delete => return Update::Delete,
                UpdateKind::Append => {
                    out.extend_from_slice(&old[..old.len().min(400)]);
                    out.extend_from_slice(b"+appended");
                }
                UpdateKind::Shrink => out.extend_from_slice(&old[..old.len() / 2]),
                UpdateKind::Expire(_) => out.extend_from_slice(old),
            }
            Update::Put { expire_at: expiry }
        };
        let op_key = key(n);
        let op = self.world.engine().update(self.id(keyspace), &op_key, &options, &mut change);
        let written = self.world.wait(op).map_err(|error| error.to_string())?;
        same("what update was offered", &offered, &before)?;
        same("existed", &written.existed, &Some(before.is_some()))?;
        let old = before.map_or(Vec::new(), |(value, _)| value);
        let keyspace = self.index(keyspace);
        match kind {
            UpdateKind::Keep => return Ok(()),
            UpdateKind::Delete => self.reference.delete(keyspace, &key(n)),
            UpdateKind::Append => {
                let mut new = old[..old.len().min(400)].to_vec();
                new.extend_from_slice(b"+appended");
                self.reference.put(keyspace, key(n), (new, expiry));
            }
            UpdateKind::Shrink => {
                let new = old[..old.len() / 2].to_vec();
                self.reference.put(keyspace, key(n), (new, expiry));
            }
            UpdateKind::Expire(_) => self.reference.put(keyspace, key(n), (old, expiry)),
        }
        self.changed(options.durability);
        Ok(())
    }

    fn clear(&mut self, keyspace: usize) -> Outcome {
        let options = self.options(true);
        let op = self.world.engine().clear_keyspace(self.id(keyspace), &options);
        self.world.wait(op).map_err(|error| error.to_string())?;
        self.reference.clear(self.index(keyspace));
        self.changed(options.durability);
        Ok(())
    }

    fn swap(&mut self, a: usize, b: usize) -> Outcome {
        let options = self.options(true);
        let op = self.world.engine().swap_keyspaces(self.id(a), self.id(b), &options);
        self.world.wait(op).map_err(|error| error.to_string())?;
        self.reference.swap(self.index(a), self.index(b));
        self.changed(options.durability);
        Ok(())
    }

    fn get(&mut self, keyspace: usize, n: usize) -> Outcome {
        let found = self.world.entry(self.id(keyspace), &key(n));
        let found = found.map(|entry| (entry.value, entry.expire_at));
        let expected = self.reference.get(self.index(keyspace), &key(n), self.now).cloned();
        self.trace.push(format!("{found:?}"));
        same("get", &found, &expected)
    }

    fn get_many(&mut self, keyspace: usize, numbers: &[usize]) -> Outcome {
        let keys: Vec<Vec<u8>> = numbers.iter().map(|n| key(*n)).collect();
        let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let id = self.id(keyspace);
        let found = read_many(&self.world, self.world.engine(), id, &slices);
        let expected: Vec<Option<Vec<u8>>> = keys
            .iter()
            .map(|key| self.reference.get(self.index(keyspace), key, self.now))
            .map(|stored| stored.map(|(value, _)| value.clone()))
            .collect();
        self.trace.push(format!("{found:?}"));
        same("get_many", &found, &expected)
    }

    fn scan(
        &mut self,
        keyspace: usize,
        from: usize,
        to: usize,
        direction: Direction,
        entries: usize,
    ) -> Outcome {
        if self.world.engine().as_ordered().is_none() {
            return Ok(());
        }
        let range = KeyRange::half_open(&key(from), &key(to));
        let contents = self.reference.contents(self.index(keyspace), self.now);
        let id = self.id(keyspace);
        let engine = self.world.engine();
        let found = scan_all(&self.world, engine, id, &range, direction, entries);
        let mut expected: Vec<_> =
            contents.into_iter().filter(|(key, _)| range.contains(key)).collect();
        if direction == Direction::Backward {
            expected.reverse();
        }
        self.trace.push(format!("{found:?}"));
        same("scan", &found, &expected)
    }

    fn sweep(&mut self, keyspace: usize, budget: usize) -> Outcome {
        let id = self.id(keyspace);
        let found = sweep_all(&self.world, self.world.engine(), id, budget);
        let expected = self.reference.contents(self.index(keyspace), self.now);
        self.trace.push(format!("{found:?}"));
        same("sweep", &found, &expected)
    }

    fn len(&mut self, keyspace: usize) -> Outcome {
        let op = self.world.engine().keyspace_len(self.id(keyspace));
        let len = self.world.wait(op).map_err(|error| error.to_string())?;
        same("exact", &len.exact, &self.world.capabilities().exact_len)?;
        let keyspace = self.index(keyspace);
        let present = self.reference.contents(keyspace, self.now).len() as u64;
        let stored = self.reference.stored(keyspace) as u64;
        if len.exact && !(present..=stored).contains(&len.entries) {
            return Err(format!("len {} is not in {present}..={stored}", len.entries));
        }
        Ok(())
    }

    fn reopen(&mut self) -> Outcome {
        self.show_clock()?;
        self.snapshots.clear();
        self.world.reopen();
        self.settled();
        self.compare_everything()
    }

    fn crash(&mut self, mode: u8) -> Outcome {
        self.snapshots.clear();
        self.world.set_clock(self.now);
        let mode = match mode % 4 {
            0 => CrashMode::DropUnsynced,
            1 => CrashMode::KeepAll,
            2 => CrashMode::ProcessKill,
            _ => CrashMode::Random(self.seed ^ self.step as u64),
        };
        self.world.crash(mode);
        let found: Vec<BTreeMap<Vec<u8>, Stored>> =
            (0..self.keyspaces).map(|n| self.present(n)).collect();
        let matches = |reference: &Reference| {
            (0..self.keyspaces).all(|n| reference.present(n, self.now) == found[n])
        };
        // What the process wrote survives its death, so only a power cut may go back.
        let first = if mode == CrashMode::ProcessKill { self.uncertain.len() - 1 } else { 0 };
        match self.uncertain[first..].iter().rev().find(|reference| matches(reference)) {
            Some(reference) => self.reference = reference.clone(),
            None => {
                return Err(format!(
                    "after {mode:?} the engine holds {found:?}, which is none of the {} states \
                     it may hold; the newest is {:?}",
                    self.uncertain.len() - first,
                    self.reference
                ));
            }
        }
        // States with the same present entries differ only in what has expired.
        self.reference.expire(self.now);
        self.settled();
        self.compare_everything()
    }

    /// The keys of a keyspace that can be read, with their expiries.
    fn present(&self, keyspace: usize) -> BTreeMap<Vec<u8>, Stored> {
        let entries = (0..super::ops::KEYS).filter_map(|n| {
            let entry = self.world.entry(KeyspaceId(keyspace as u32), &key(n))?;
            Some((key(n), (entry.value, entry.expire_at)))
        });
        entries.collect()
    }

    fn open_snapshot(&mut self) -> Outcome {
        let Some(snapshots) = self.world.engine().as_snapshots() else { return Ok(()) };
        if self.snapshots.len() < 4 {
            let op = snapshots.snapshot();
            let snapshot = self.world.wait(op).map_err(|error| error.to_string())?;
            self.snapshots.push((snapshot, self.reference.clone()));
        }
        Ok(())
    }

    fn read_snapshot(&mut self, which: usize) -> Outcome {
        if self.snapshots.is_empty() {
            return Ok(());
        }
        let (snapshot, reference) = &self.snapshots[which % self.snapshots.len()];
        let opened_at = snapshot.opened_at();
        for n in 0..self.keyspaces {
            let expected = reference.contents(n, opened_at);
            let id = KeyspaceId(n as u32);
            self.compare_reader(&**snapshot, id, &expected)
                .map_err(|why| format!("snapshot of {opened_at}: {why}"))?;
        }
        Ok(())
    }

    fn compare_reader(&self, reader: &dyn KvRead, id: KeyspaceId, expected: &Contents) -> Outcome {
        same("sweep", &sweep_all(&self.world, reader, id, 7), expected)?;
        if reader.as_ordered().is_some() {
            for direction in [Direction::Forward, Direction::Backward] {
                let found = scan_all(&self.world, reader, id, &KeyRange::ALL, direction, 5);
                let found: BTreeMap<_, _> = found.into_iter().collect();
                same("scan", &found, expected)?;
            }
        }
        for n in 0..super::ops::KEYS {
            let found = read_entry(&self.world, reader, id, &key(n)).map(|entry| entry.value);
            same("get", &found.as_ref(), &expected.get(&key(n)))?;
        }
        Ok(())
    }

    fn compare_everything(&mut self) -> Outcome {
        self.now = self.now.max(self.world.now());
        for n in 0..self.keyspaces {
            let expected = self.reference.contents(n, self.now);
            self.compare_reader(self.world.engine(), KeyspaceId(n as u32), &expected)
                .map_err(|why| format!("keyspace {n}: {why}"))?;
        }
        Ok(())
    }

    fn transaction(
        &mut self,
        changes: &[(usize, Change)],
        reads: &[usize],
        meddle: Option<&Change>,
        commit: bool,
    ) -> Outcome {
        let isolation = self.world.capabilities().transactions;
        let (Some(transactions), Some(isolation)) =
            (self.world.engine().as_transactions(), isolation)
        else {
            return Ok(());
        };
        let op = transactions.begin(&TransactionOptions { isolation });
        let mut transaction = self.world.wait(op).map_err(|error| error.to_string())?;
        let before = self.reference.clone();
        for (keyspace, change) in changes {
            let id = self.id(*keyspace);
            let result = match change {
                Change::Put { key: n, len, ttl } => {
                    let (value, expire_at) = self.stored(*len, *ttl);
                    transaction.put(id, &key(*n), &value, expire_at)
                }
                Change::Delete { key: n } => transaction.delete(id, &key(*n)),
            };
            result.map_err(|error| error.to_string())?;
            self.apply(*keyspace, change);
        }
        for n in reads {
            let found = read_entry(&self.world, &*transaction, KeyspaceId(0), &key(*n));
            let expected = self.reference.get(0, &key(*n), self.now).map(|stored| &stored.0);
            same("a transaction's get", &found.map(|entry| entry.value).as_ref(), &expected)?;
        }
        let found = sweep_all(&self.world, &*transaction, KeyspaceId(0), 5);
        same("a transaction's sweep", &found, &self.reference.contents(0, self.now))?;
        let with_own = std::mem::replace(&mut self.reference, before);
        let mut is_noop = true;
        if let Some(change) = meddle {
            let (Change::Put { key: n, .. } | Change::Delete { key: n }) = change;
            is_noop = self.deletes(change) && !self.is_there(0, *n);
            self.write(0, change, true)?;
        }
        if !commit {
            return Ok(());
        }
        let options = self.options(true);
        let committed = self.world.wait(transaction.commit(&options));
        // The sweep above read all of keyspace 0, which is where others meddled.
        let touched = |n: usize| {
            changes.iter().any(|(keyspace, change)| {
                let (Change::Put { key, .. } | Change::Delete { key }) = change;
                self.index(*keyspace) == 0 && *key == n
            })
        };
        let must_conflict = meddle.is_some_and(|change| {
            let (Change::Put { key, .. } | Change::Delete { key }) = change;
            !changes.is_empty()
                && !is_noop
                && (touched(*key) || isolation == Isolation::Serializable)
        });
        match committed {
            Ok(_) if must_conflict => Err("a conflict was not noticed".to_owned()),
            Ok(_) if meddle.is_some() => {
                // Allowed: what was written meanwhile is no conflict. Both are in effect.
                for (keyspace, change) in changes {
                    self.apply(*keyspace, change);
                }
                self.changed(options.durability);
                Ok(())
            }
            Ok(_) => {
                self.reference = with_own;
                self.changed(options.durability);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Conflict && meddle.is_some() => Ok(()),
            Err(error) => Err(format!("commit: {error}")),
        }
    }
}
