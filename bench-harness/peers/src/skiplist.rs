//! crossbeam's `SkipMap`: an ordered map in memory.
//!
//! An insert of a present key first takes the old entry out and then puts the new one in, so that
//! a reader between the two finds none. The map's nodes therefore hold a cell that puts change in
//! place, under a lock of its own. A cell that a delete has marked as removed takes no value any
//! more: whoever finds one looks for the key again.
//!
//! Durability: `memory` alone. An update is atomic: it holds the lock of the key's cell.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;
use ferrokit_bench::peer::{ChangeValue, Facts, Peer, VisitEntry, refuse_expiry};
use ferrokit_bench::subject::{Adapter, Subject, SubjectSettings};
use ferrokit_engine::{Direction, Durability, EngineUrl, KeyRange, Result, Update};

use crate::{LONGEST_KEY_BYTES, LONGEST_VALUE_BYTES, SKIPS_OF_MAPS, bounds, subject};

pub(crate) const VERSION: &str = "0.1.3";

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "skiplist",
    description: "crossbeam's SkipMap, an ordered map in memory",
    skips: SKIPS_OF_MAPS,
    open,
};

enum State {
    /// Put into the map by a writer that has not stored its value yet: absent.
    Empty,
    Live(Box<[u8]>),
    /// No longer in the map, or about to be taken out.
    Removed,
}

struct Cell(RwLock<State>);

impl Cell {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Map(SkipMap<Box<[u8]>, Cell>);

fn open(url: &EngineUrl, _: &SubjectSettings) -> Result<Subject> {
    url.finish()?;
    let text = format!(
        "crossbeam-skiplist {VERSION} SkipMap with a lock per value, which an overwrite without a \
         gap needs, no limit of memory; memory: the only durability; updates: atomic"
    );
    Ok(subject(Map(SkipMap::new()), text))
}

impl Map {
    /// The entry of `key`, which may be one made for it.
    fn entry(&self, key: &[u8]) -> Entry<'_, Box<[u8]>, Cell> {
        let new = || Cell(RwLock::new(State::Empty));
        self.0.get(key).unwrap_or_else(|| self.0.get_or_insert_with(key.into(), new))
    }
}

impl Peer for Map {
    fn facts(&self) -> Facts {
        Facts {
            name: ADAPTER.name,
            is_ordered: true,
            has_batches: false,
            updates_are_atomic: true,
            strongest_durability: Durability::Memory,
            max_key_bytes: LONGEST_KEY_BYTES,
            max_value_bytes: LONGEST_VALUE_BYTES,
        }
    }

    fn put(&self, key: &[u8], value: &[u8], _: Durability) -> Result<()> {
        loop {
            let entry = self.entry(key);
            let mut state = entry.value().write();
            match &mut *state {
                State::Removed => continue,
                State::Live(old) if old.len() == value.len() => old.copy_from_slice(value),
                State::Live(_) | State::Empty => *state = State::Live(value.into()),
            }
            return Ok(());
        }
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        loop {
            let Some(entry) = self.0.get(key) else { return Ok(false) };
            match &*entry.value().read() {
                State::Live(value) => {
                    visit(value);
                    return Ok(true);
                }
                State::Empty => return Ok(false),
                // The key may be in the map again.
                State::Removed => {}
            }
        }
    }

    fn delete(&self, key: &[u8], _: Durability) -> Result<()> {
        loop {
            let Some(entry) = self.0.get(key) else { return Ok(()) };
            let mut state = entry.value().write();
            match *state {
                State::Live(_) => {
                    *state = State::Removed;
                    entry.remove();
                    return Ok(());
                }
                State::Empty => return Ok(()),
                State::Removed => {}
            }
        }
    }

    fn update(&self, key: &[u8], _: Durability, change: &mut ChangeValue<'_>) -> Result<()> {
        let mut new = Vec::new();
        loop {
            let entry = self.entry(key);
            let mut state = entry.value().write();
            let old = match &*state {
                State::Live(value) => Some(&**value),
                State::Empty => None,
                State::Removed => continue,
            };
            let is_absent = old.is_none();
            match change(old, &mut new) {
                Update::Put { expire_at } => {
                    refuse_expiry(expire_at)?;
                    *state = State::Live(new.into());
                }
                // An entry made for this update must not stay.
                Update::Keep if !is_absent => {}
                Update::Keep | Update::Delete => {
                    *state = State::Removed;
                    entry.remove();
                }
            }
            return Ok(());
        }
    }

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        visit: &mut VisitEntry<'_>,
    ) -> Result<()> {
        let mut entries = self.0.range::<[u8], _>(bounds(range));
        loop {
            let entry = match direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.next_back(),
            };
            let Some(entry) = entry else { return Ok(()) };
            if let State::Live(value) = &*entry.value().read()
                && !visit(entry.key(), value)
            {
                return Ok(());
            }
        }
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}
