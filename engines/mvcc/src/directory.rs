//! [`Directory`]: which slot of the inner engine holds which keyspace.
//!
//! A clear gives a keyspace an empty slot, a swap exchanges two; views keep the directory of their
//! moment, and with it the slots. A slot that the last directory has let go is emptied and free.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ferrokit_engine::{
    Error, KeyspaceId, KvEngine, ReadOptions, Result, SweepCursor, UnixMillis, WriteBatch,
};

use crate::oracle::SlotClock;
use crate::record::{
    META, MetaKey, RESERVED_KEYSPACES, Timestamp, corrupt, decode_meta, encode_meta,
};

/// Keyspaces there are at most, so that a directory is small enough to copy.
const MAX_KEYSPACES: u32 = 1024;

/// The numbers of keyspaces and slots; fixed when the store is first written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) keyspaces: u32,
    pub(crate) slots: u32,
}

impl Geometry {
    /// Three of four slots are keyspaces; the others take turns when keyspaces are cleared.
    pub(crate) fn of(inner_keyspaces: u32) -> Result<Self> {
        let slots = inner_keyspaces.saturating_sub(RESERVED_KEYSPACES).min(MAX_KEYSPACES / 3 * 4);
        if slots < 2 {
            return Err(Error::invalid("mvcc", "the inner engine has fewer than 4 keyspaces"));
        }
        Ok(Self { keyspaces: (slots / 4 * 3).max(1), slots })
    }

    fn encode(self) -> u64 {
        u64::from(self.keyspaces) | u64::from(self.slots) << 32
    }

    fn decode(number: u64) -> Self {
        Self { keyspaces: number as u32, slots: (number >> 32) as u32 }
    }
}

type Retired = Arc<Mutex<Vec<u32>>>;

/// An inner keyspace of newest versions.
pub(crate) struct Slot {
    pub(crate) id: u32,
    pub(crate) clock: Arc<SlotClock>,
    retired: Retired,
}

impl Slot {
    fn new(id: u32, retired: &Retired) -> Arc<Self> {
        Arc::new(Self { id, clock: Arc::default(), retired: Arc::clone(retired) })
    }

    /// The inner keyspace.
    pub(crate) fn heads(&self) -> KeyspaceId {
        heads(self.id)
    }
}

/// The inner keyspace of a slot.
pub(crate) fn heads(slot: u32) -> KeyspaceId {
    KeyspaceId(RESERVED_KEYSPACES + slot)
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
    }
}

/// The slot of each keyspace. Never changed; replaced.
#[derive(Clone)]
pub(crate) struct Directory {
    slots: Box<[Arc<Slot>]>,
}

impl Directory {
    /// The slot of a keyspace that was checked to be below the limit.
    pub(crate) fn slot(&self, keyspace: KeyspaceId) -> &Arc<Slot> {
        &self.slots[keyspace.0 as usize]
    }
}

/// The directory of now, and the slots that are in none.
pub(crate) struct Directories {
    pub(crate) geometry: Geometry,
    current: RwLock<Arc<Directory>>,
    /// To be emptied.
    retired: Retired,
    /// Empty. Those that were used before still have their `Retired` entry, so that a crash cannot
    /// make a half-emptied one a keyspace.
    free: Mutex<Vec<u32>>,
}

/// What the meta keyspace says.
pub(crate) struct Recovered {
    pub(crate) directories: Directories,
    pub(crate) last: Timestamp,
    pub(crate) clock: UnixMillis,
}

/// Reads the meta keyspace.
pub(crate) fn recover(inner: &dyn KvEngine) -> Result<Recovered> {
    let inner_keyspaces = inner.capabilities().max_keyspaces;
    let wanted = Geometry::of(inner_keyspaces)?;
    let mut geometry = None;
    let (mut last, mut clock) = (Timestamp::NONE, UnixMillis(0));
    let (mut mappings, mut retired) = (Vec::new(), Vec::new());
    for (key, number) in read_meta(inner)? {
        match key {
            MetaKey::Geometry => geometry = Some(Geometry::decode(number)),
            MetaKey::ReservedTimestamps => last = Timestamp(number),
            MetaKey::Clock => clock = UnixMillis(number),
            MetaKey::Mapping(id) => mappings.push((id, number)),
            MetaKey::Retired(slot) => retired.push(slot),
        }
    }
    let is_new = geometry.is_none();
    let geometry = geometry.unwrap_or(wanted);
    if geometry.slots > inner_keyspaces.saturating_sub(RESERVED_KEYSPACES) {
        let message = format!(
            "the store uses {} keyspaces of the inner engine, which now has {inner_keyspaces}",
            u64::from(geometry.slots) + u64::from(RESERVED_KEYSPACES),
        );
        return Err(Error::invalid("mvcc.open", message));
    }
    if is_new && !(mappings.is_empty() && retired.is_empty()) {
        return Err(corrupt("the meta keyspace has a directory but no geometry"));
    }
    let directories = Directories::new(geometry, &mappings, retired)?;
    Ok(Recovered { directories, last, clock })
}

fn read_meta(inner: &dyn KvEngine) -> Result<Vec<(MetaKey, u64)>> {
    let mut entries = Vec::new();
    let mut cursor = Some(SweepCursor::start());
    while let Some(at) = cursor {
        let mut failed = None;
        let mut visit = |key: &[u8], entry: ferrokit_engine::Entry<'_>| {
            let decoded = MetaKey::decode(key)
                .and_then(|key| decode_meta(entry.value).map(|number| (key, number)));
            match decoded {
                Ok(decoded) => entries.push(decoded),
                Err(error) => failed = Some(error),
            }
        };
        let options = ReadOptions::default();
        cursor = inner.sweep(META, &at, 1024, &options, &mut visit).wait()?.next;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    // A sweep may visit an entry twice.
    entries.sort_unstable_by_key(|(key, _)| key.encode());
    entries.dedup();
    Ok(entries)
}

impl Directories {
    fn new(geometry: Geometry, mappings: &[(u32, u64)], retired: Vec<u32>) -> Result<Self> {
        let Geometry { keyspaces, slots } = geometry;
        if keyspaces == 0 || keyspaces >= slots || slots > MAX_KEYSPACES * 2 {
            return Err(corrupt("the stored numbers of keyspaces and slots make no sense"));
        }
        let mut ids: Vec<u32> = (0..keyspaces).collect();
        for &(keyspace, slot) in mappings {
            let slot = u32::try_from(slot).ok().filter(|slot| *slot < slots);
            match (ids.get_mut(keyspace as usize), slot) {
                (Some(id), Some(slot)) => *id = slot,
                _ => return Err(corrupt("a keyspace is mapped to a slot that is not there")),
            }
        }
        let mut is_used = vec![false; slots as usize];
        for slot in ids.iter().chain(&retired) {
            match is_used.get_mut(*slot as usize) {
                Some(used) if !*used => *used = true,
                _ => return Err(corrupt("a slot is used twice")),
            }
        }
        let free = (0..slots).filter(|slot| !is_used[*slot as usize]).collect();
        let retired = Arc::new(Mutex::new(retired));
        let slots = ids.into_iter().map(|id| Slot::new(id, &retired)).collect();
        let current = RwLock::new(Arc::new(Directory { slots }));
        Ok(Self { geometry, current, retired, free: Mutex::new(free) })
    }

    /// The directory of now: of the whole operation, inside the gate.
    pub(crate) fn current(&self) -> Arc<Directory> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn put_geometry(&self, batch: &mut WriteBatch) {
        let number = encode_meta(self.geometry.encode());
        batch.put(META, &MetaKey::Geometry.encode(), &number, None);
    }

    /// Prepares to give `keyspace` the empty slot `fresh`.
    pub(crate) fn cleared(&self, keyspace: KeyspaceId, fresh: u32) -> (Directory, WriteBatch) {
        let mut next = Directory::clone(&self.current());
        let old = next.slot(keyspace).id;
        next.slots[keyspace.0 as usize] = Slot::new(fresh, &self.retired);
        let mut batch = WriteBatch::new();
        put_mapping(&mut batch, keyspace, fresh);
        batch.delete(META, &MetaKey::Retired(fresh).encode());
        batch.put(META, &MetaKey::Retired(old).encode(), &encode_meta(0), None);
        (next, batch)
    }

    /// Prepares to exchange two keyspaces.
    pub(crate) fn swapped(&self, a: KeyspaceId, b: KeyspaceId) -> (Directory, WriteBatch) {
        let mut next = Directory::clone(&self.current());
        next.slots.swap(a.0 as usize, b.0 as usize);
        let mut batch = WriteBatch::new();
        put_mapping(&mut batch, a, next.slot(a).id);
        put_mapping(&mut batch, b, next.slot(b).id);
        (next, batch)
    }

    /// Makes `next` the directory of now.
    pub(crate) fn replace(&self, next: Directory) {
        let old = {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, Arc::new(next))
        };
        drop(old);
    }

    /// A slot to empty, which then goes to [`free`](Self::free).
    pub(crate) fn take_retired(&self) -> Option<u32> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(crate) fn retire_again(&self, slot: u32) {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
    }

    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn free(&self, slot: u32) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
    }

    pub(crate) fn take_free(&self) -> Option<u32> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

fn put_mapping(batch: &mut WriteBatch, keyspace: KeyspaceId, slot: u32) {
    let number = encode_meta(u64::from(slot));
    batch.put(META, &MetaKey::Mapping(keyspace.0).encode(), &number, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_geometry_fits_its_inner_engine() {
        for inner in [4, 5, 6, 16, 64, 1024, 65_536, u32::MAX] {
            let geometry = Geometry::of(inner).unwrap();
            assert!(geometry.keyspaces >= 1 && geometry.keyspaces < geometry.slots);
            assert!(geometry.slots + RESERVED_KEYSPACES <= inner);
            assert_eq!(Geometry::decode(geometry.encode()), geometry);
            Directories::new(geometry, &[], Vec::new()).unwrap();
        }
        assert!(Geometry::of(3).is_err());
    }

    #[test]
    fn a_damaged_directory_is_refused() {
        let geometry = Geometry { keyspaces: 3, slots: 5 };
        let refused = |mappings: &[(u32, u64)], retired: &[u32]| {
            Directories::new(geometry, mappings, retired.to_vec()).is_err()
        };
        assert!(refused(&[(0, 1)], &[]), "a slot of two keyspaces");
        assert!(refused(&[(3, 4)], &[]), "a keyspace that is not there");
        assert!(refused(&[(0, 5)], &[]), "a slot that is not there");
        assert!(refused(&[(0, 1 << 32)], &[]));
        assert!(refused(&[], &[2]), "a retired slot in use");
        assert!(!refused(&[(0, 1), (1, 0)], &[3]));
        assert!(Directories::new(Geometry { keyspaces: 5, slots: 5 }, &[], Vec::new()).is_err());
    }

    #[test]
    fn a_slot_is_retired_when_the_last_view_of_it_is_gone() {
        let geometry = Geometry { keyspaces: 1, slots: 2 };
        let directories = Directories::new(geometry, &[], Vec::new()).unwrap();
        let view = directories.current();
        let fresh = directories.take_free().unwrap();
        let (next, _) = directories.cleared(KeyspaceId(0), fresh);
        directories.replace(next);
        assert_eq!(directories.take_retired(), None);
        drop(view);
        assert_eq!(directories.take_retired(), Some(0));
    }
}
