//! [`Workload`]: writes of all kinds and durabilities, and what may be left of them.

use std::collections::BTreeMap;

use ferrokit_engine::{
    Capabilities, Durability, Entry, KeyspaceId, Op, Update, WriteBatch, WriteOptions, Written,
};

use crate::random::Rng;
use crate::world::{Contents, World, key, poll_once, value};

/// The keyspace of writes at [`Durability::Memory`], which nothing orders with the others.
const MEMORY: KeyspaceId = KeyspaceId(2);

/// One write of the workload.
#[derive(Debug, Clone)]
enum Write {
    Put { keyspace: u32, n: usize, len: usize },
    Delete { keyspace: u32, n: usize },
    Batch(Vec<(u32, usize, Option<usize>)>),
    Append { keyspace: u32, n: usize },
    Clear { keyspace: u32 },
    Swap,
    Sync,
    Memory { n: usize },
}

/// A write with its durability, and whether the next one starts before it is awaited.
#[derive(Debug, Clone)]
struct Item {
    write: Write,
    level: Durability,
    pipelined: bool,
}

type State = [Contents; 2];

/// A fixed sequence of writes and the states they lead through.
pub(crate) struct Workload {
    items: Vec<Item>,
    /// `states[i]` is the state after the first `i` items.
    states: Vec<State>,
    has_memory_keyspace: bool,
}

/// How far a run got: numbers of items.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Acknowledged {
    /// Items whose effect is promised to survive the machine.
    synced: usize,
    /// Items whose effect is promised to survive the process.
    os: usize,
    /// Items that were started.
    started: usize,
}

/// The number of writes of a workload.
const ITEMS: usize = 170;
const KEYS: usize = 20;

impl Workload {
    pub(crate) fn new(seed: u64, facts: &Capabilities) -> Self {
        let mut rng = Rng::new(seed);
        let keyspaces = facts.max_keyspaces.min(2);
        let has_memory_keyspace = facts.max_keyspaces > MEMORY.0;
        let mut items = Vec::new();
        for _ in 0..ITEMS {
            let keyspace = rng.below(keyspaces as usize) as u32;
            let n = rng.below(KEYS);
            let write = match rng.below(24) {
                0..=8 => Write::Put { keyspace, n, len: rng.below(250) },
                9..=12 => Write::Delete { keyspace, n },
                13..=16 => Write::Batch(
                    (0..2 + rng.below(9))
                        .map(|_| {
                            let len = (!rng.one_in(4)).then(|| rng.below(150));
                            (rng.below(keyspaces as usize) as u32, rng.below(KEYS), len)
                        })
                        .collect(),
                ),
                17..=19 => Write::Append { keyspace, n },
                20 if rng.one_in(3) => Write::Clear { keyspace },
                21 if keyspaces == 2 => Write::Swap,
                22 => Write::Sync,
                23 if has_memory_keyspace => Write::Memory { n },
                _ => Write::Put { keyspace, n, len: rng.below(60) },
            };
            let strongest = facts.strongest_durability;
            let level = if rng.one_in(2) { strongest } else { strongest.min(Durability::Os) };
            items.push(Item { write, level, pipelined: rng.one_in(3) });
        }
        let mut states = vec![State::default()];
        for (index, item) in items.iter().enumerate() {
            let mut state = states.last().cloned().unwrap_or_default();
            apply(&mut state, index, &item.write);
            states.push(state);
        }
        Self { items, states, has_memory_keyspace }
    }

    /// Runs the items in order until one fails.
    pub(crate) fn run(&self, world: &World) -> Acknowledged {
        let mut acknowledged = Acknowledged::default();
        let mut index = 0;
        while index < self.items.len() {
            let mut end = index + 1;
            while self.items[end - 1].pipelined && end < self.items.len() && end - index < 4 {
                end += 1;
            }
            if !self.run_group(world, index, end, &mut acknowledged) {
                break;
            }
            index = end;
        }
        acknowledged
    }

    /// Starts items `from..to`, one after the other, then waits for them; `false` at a failure.
    fn run_group(
        &self,
        world: &World,
        from: usize,
        to: usize,
        acknowledged: &mut Acknowledged,
    ) -> bool {
        let prepared: Vec<Prepared> =
            (from..to).map(|index| Prepared::new(index, &self.items[index])).collect();
        let mut changes: Vec<_> = prepared.iter().map(|p| append(p.index)).collect();
        let mut running: Vec<(usize, Op<'_, Written>)> = Vec::new();
        let mut results = Vec::new();
        for (prepared, change) in prepared.iter().zip(&mut changes) {
            acknowledged.started = prepared.index + 1;
            let mut op = prepared.start(world, change);
            // The first poll is what makes it take effect, where starting it did not.
            match poll_once(&mut op) {
                std::task::Poll::Ready(result) => results.push((prepared.index, result)),
                std::task::Poll::Pending => running.push((prepared.index, op)),
            }
        }
        for (index, op) in running {
            results.push((index, world.wait(op)));
        }
        results.sort_by_key(|(index, _)| *index);
        for (index, result) in results {
            if result.is_err() {
                return false;
            }
            self.acknowledge(index, acknowledged);
        }
        true
    }

    fn acknowledge(&self, index: usize, acknowledged: &mut Acknowledged) {
        let item = &self.items[index];
        if matches!(item.write, Write::Memory { .. }) {
            return;
        }
        // A write that changed nothing need not reach the log, nor take others along.
        let is_noop = self.states[index] == self.states[index + 1];
        if is_noop && !matches!(item.write, Write::Sync) {
            return;
        }
        let through = index + 1;
        if item.level == Durability::Synced {
            acknowledged.synced = acknowledged.synced.max(through);
        }
        if item.level >= Durability::Os {
            acknowledged.os = acknowledged.os.max(through);
        }
    }

    /// The recovered engine holds one of the states it may hold after a crash that spares writes
    /// at `level`.
    pub(crate) fn check(
        &self,
        world: &World,
        acknowledged: &Acknowledged,
        level: Durability,
        what: &str,
    ) {
        let found: State = [world.contents(KeyspaceId(0)), self.second(world)];
        let least = match level {
            Durability::Synced => acknowledged.synced,
            _ => acknowledged.os.max(acknowledged.synced),
        };
        let allowed = &self.states[least..=acknowledged.started];
        if !allowed.contains(&found) {
            let of_any = self.states.iter().position(|state| *state == found);
            panic!(
                "{what}: {acknowledged:?}; the recovered state is {}; it differs from the newest \
                 allowed one in {}",
                of_any.map_or("none the workload passed through".to_owned(), |index| format!(
                    "that after {index} writes"
                )),
                difference(&found, &self.states[acknowledged.started]),
            );
        }
        for (id, contents) in found.iter().enumerate() {
            for n in 0..KEYS {
                let by_get = world.get_in(KeyspaceId(id as u32), &key(n));
                assert_eq!(by_get.as_ref(), contents.get(&key(n)), "{what}: get and sweep differ");
            }
            self.check_scan(world, id, contents, what);
        }
        self.check_memory(world, what);
    }

    fn second(&self, world: &World) -> Contents {
        if world.capabilities().max_keyspaces > 1 {
            world.contents(KeyspaceId(1))
        } else {
            Contents::new()
        }
    }

    fn check_scan(&self, world: &World, id: usize, contents: &Contents, what: &str) {
        if world.engine().as_ordered().is_none() || id as u32 >= world.capabilities().max_keyspaces
        {
            return;
        }
        let keyspace = KeyspaceId(id as u32);
        let all = ferrokit_engine::KeyRange::ALL;
        let direction = ferrokit_engine::Direction::Backward;
        let found = crate::world::scan_all(world, world.engine(), keyspace, &all, direction, 7);
        let found: Contents = found.into_iter().collect();
        assert_eq!(&found, contents, "{what}: scan and sweep differ");
    }

    /// Writes at `Memory` may be lost one by one, but nothing is there that nobody wrote.
    fn check_memory(&self, world: &World, what: &str) {
        if !self.has_memory_keyspace {
            return;
        }
        for (found_key, found) in world.contents(MEMORY) {
            let was_written = self.items.iter().enumerate().any(|(index, item)| match item.write {
                Write::Memory { n } => key(n) == found_key && value(index, 20) == found,
                _ => false,
            });
            assert!(was_written, "{what}: nobody wrote {found:?} under {found_key:?}");
        }
    }
}

/// The keys in which two states differ.
fn difference(found: &State, expected: &State) -> String {
    let mut differing = Vec::new();
    for id in 0..found.len() {
        let keys: BTreeMap<_, ()> =
            found[id].keys().chain(expected[id].keys()).map(|key| (key.clone(), ())).collect();
        for (key, ()) in keys {
            let (found, expected) = (found[id].get(&key), expected[id].get(&key));
            if found != expected {
                let show = |value: Option<&Vec<u8>>| {
                    value.map(|v| v[..v.len().min(12)].escape_ascii().to_string())
                };
                differing.push(format!(
                    "{id}/{}: found {:?}, expected {:?}",
                    key.escape_ascii(),
                    show(found),
                    show(expected)
                ));
            }
        }
    }
    format!("{differing:#?}")
}

fn appended(old: &[u8], index: usize) -> Vec<u8> {
    let mut new = old[..old.len().min(300)].to_vec();
    new.extend_from_slice(format!("+{index}").as_bytes());
    new
}

/// What [`Write::Append`] of this index does.
fn append(index: usize) -> impl FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send {
    move |current, out| {
        out.extend_from_slice(&appended(current.map_or(b"", |entry| entry.value), index));
        Update::Put { expire_at: None }
    }
}

fn apply(state: &mut State, index: usize, write: &Write) {
    match write {
        Write::Put { keyspace, n, len } => {
            state[*keyspace as usize].insert(key(*n), value(index, *len));
        }
        Write::Delete { keyspace, n } => {
            state[*keyspace as usize].remove(&key(*n));
        }
        Write::Batch(changes) => {
            for (keyspace, n, len) in changes {
                match len {
                    Some(len) => state[*keyspace as usize].insert(key(*n), value(index, *len)),
                    None => state[*keyspace as usize].remove(&key(*n)),
                };
            }
        }
        Write::Append { keyspace, n } => {
            let old = state[*keyspace as usize].get(&key(*n)).cloned().unwrap_or_default();
            state[*keyspace as usize].insert(key(*n), appended(&old, index));
        }
        Write::Clear { keyspace } => state[*keyspace as usize].clear(),
        Write::Swap => state.swap(0, 1),
        Write::Sync | Write::Memory { .. } => {}
    }
}

/// An item with the bytes its operation borrows.
struct Prepared {
    index: usize,
    write: Write,
    options: WriteOptions,
    key: Vec<u8>,
    value: Vec<u8>,
    batch: WriteBatch,
}

impl Prepared {
    fn new(index: usize, item: &Item) -> Self {
        let options = WriteOptions::with_durability(item.level);
        let mut prepared = Self {
            index,
            write: item.write.clone(),
            options,
            key: Vec::new(),
            value: Vec::new(),
            batch: WriteBatch::new(),
        };
        match &item.write {
            Write::Put { n, len, .. } => {
                prepared.key = key(*n);
                prepared.value = value(index, *len);
            }
            Write::Delete { n, .. } | Write::Append { n, .. } => prepared.key = key(*n),
            Write::Memory { n } => {
                prepared.key = key(*n);
                prepared.value = value(index, 20);
                prepared.options = WriteOptions::with_durability(Durability::Memory);
            }
            Write::Batch(changes) => {
                for (keyspace, n, len) in changes {
                    let keyspace = KeyspaceId(*keyspace);
                    match len {
                        Some(len) => {
                            prepared.batch.put(keyspace, &key(*n), &value(index, *len), None)
                        }
                        None => prepared.batch.delete(keyspace, &key(*n)),
                    };
                }
            }
            Write::Clear { .. } | Write::Swap | Write::Sync => {}
        }
        prepared
    }

    fn start<'a>(
        &'a self,
        world: &'a World,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written> {
        let engine = world.engine();
        let options = &self.options;
        match &self.write {
            Write::Put { keyspace, .. } => {
                engine.put(KeyspaceId(*keyspace), &self.key, &self.value, None, options)
            }
            Write::Memory { .. } => engine.put(MEMORY, &self.key, &self.value, None, options),
            Write::Delete { keyspace, .. } => {
                engine.delete(KeyspaceId(*keyspace), &self.key, options)
            }
            Write::Append { keyspace, .. } => {
                engine.update(KeyspaceId(*keyspace), &self.key, options, change)
            }
            Write::Batch(_) => engine.write(&self.batch, options),
            Write::Clear { keyspace } => engine.clear_keyspace(KeyspaceId(*keyspace), options),
            Write::Swap => engine.swap_keyspaces(KeyspaceId(0), KeyspaceId(1), options),
            Write::Sync => engine.sync(options.durability).map(|()| Written::default()),
        }
    }
}
