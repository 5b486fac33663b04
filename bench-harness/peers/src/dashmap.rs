//! DashMap: what a hash map in memory does, with owned keys and values and reads that copy out.
//!
//! Durability: `memory` alone. An update is atomic: it holds the lock of the key's shard.

use ::dashmap::DashMap;
use ::dashmap::mapref::entry::Entry;
use ferrokit_bench::peer::{ChangeValue, Facts, Peer, VisitEntry, refuse_expiry};
use ferrokit_bench::subject::{Adapter, Subject, SubjectSettings};
use ferrokit_engine::{Durability, EngineUrl, Result, Update};
use foldhash::fast::RandomState;

use crate::{LONGEST_KEY_BYTES, LONGEST_VALUE_BYTES, SKIPS_OF_MAPS, subject};

pub(crate) const VERSION: &str = "6.2.1";

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "dashmap",
    description: "DashMap, a hash map in memory, locked in shards",
    skips: SKIPS_OF_MAPS,
    open,
};

struct Map(DashMap<Box<[u8]>, Box<[u8]>, RandomState>);

fn open(url: &EngineUrl, _: &SubjectSettings) -> Result<Subject> {
    url.finish()?;
    let text = format!(
        "DashMap {VERSION} with foldhash and its default shards, no limit of memory; memory: the \
         only durability; updates: atomic, under the shard's lock"
    );
    Ok(subject(Map(DashMap::with_hasher(RandomState::default())), text))
}

impl Peer for Map {
    fn facts(&self) -> Facts {
        Facts {
            name: ADAPTER.name,
            is_ordered: false,
            has_batches: false,
            updates_are_atomic: true,
            strongest_durability: Durability::Memory,
            max_key_bytes: LONGEST_KEY_BYTES,
            max_value_bytes: LONGEST_VALUE_BYTES,
        }
    }

    fn put(&self, key: &[u8], value: &[u8], _: Durability) -> Result<()> {
        // A present key is not allocated again.
        if let Some(mut present) = self.0.get_mut(key) {
            replace(&mut present, value);
            return Ok(());
        }
        self.0.insert(key.into(), value.into());
        Ok(())
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self.0.get(key);
        if let Some(value) = &found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn delete(&self, key: &[u8], _: Durability) -> Result<()> {
        self.0.remove(key);
        Ok(())
    }

    fn update(&self, key: &[u8], _: Durability, change: &mut ChangeValue<'_>) -> Result<()> {
        let mut new = Vec::new();
        if let Some(mut present) = self.0.get_mut(key) {
            match change(Some(&present), &mut new) {
                Update::Keep => return Ok(()),
                Update::Put { expire_at } => {
                    refuse_expiry(expire_at)?;
                    replace(&mut present, &new);
                    return Ok(());
                }
                // Once more below, where the entry can be removed.
                Update::Delete => {}
            }
        }
        match self.0.entry(key.into()) {
            Entry::Occupied(mut present) => match change(Some(present.get()), &mut new) {
                Update::Keep => {}
                Update::Put { expire_at } => {
                    refuse_expiry(expire_at)?;
                    replace(present.get_mut(), &new);
                }
                Update::Delete => drop(present.remove()),
            },
            Entry::Vacant(absent) => {
                if let Update::Put { expire_at } = change(None, &mut new) {
                    refuse_expiry(expire_at)?;
                    absent.insert(new.into());
                }
            }
        }
        Ok(())
    }

    fn visit_all(&self, visit: &mut VisitEntry<'_>) -> Result<()> {
        for entry in &self.0 {
            if !visit(entry.key(), entry.value()) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// Overwrites a value, in place where the length is the same.
fn replace(old: &mut Box<[u8]>, new: &[u8]) {
    if old.len() == new.len() {
        old.copy_from_slice(new);
    } else {
        *old = new.into();
    }
}
