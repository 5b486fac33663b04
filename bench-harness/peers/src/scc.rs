//! scc's `HashMap`: a hash map in memory, locked by bucket.
//!
//! Durability: `memory` alone. An update is atomic: it holds the lock of the key's bucket.

use ::scc::HashMap;
use ::scc::hash_map::Entry;
use ferrokit_bench::peer::{ChangeValue, Facts, Peer, VisitEntry, refuse_expiry};
use ferrokit_bench::subject::{Adapter, Subject, SubjectSettings};
use ferrokit_engine::{Durability, EngineUrl, Result, Update};
use foldhash::fast::RandomState;

use crate::{LONGEST_KEY_BYTES, LONGEST_VALUE_BYTES, SKIPS_OF_MAPS, subject};

pub(crate) const VERSION: &str = "3.8.8";

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "scc",
    description: "scc's HashMap, a hash map in memory, locked by bucket",
    skips: SKIPS_OF_MAPS,
    open,
};

struct Map(HashMap<Box<[u8]>, Box<[u8]>, RandomState>);

fn open(url: &EngineUrl, _: &SubjectSettings) -> Result<Subject> {
    url.finish()?;
    let text = format!(
        "scc {VERSION} HashMap with foldhash, no limit of memory; memory: the only durability; \
         updates: atomic, under the bucket's lock"
    );
    Ok(subject(Map(HashMap::with_hasher(RandomState::default())), text))
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
        if self.0.update_sync(key, |_, present| replace(present, value)).is_none() {
            self.0.upsert_sync(key.into(), value.into());
        }
        Ok(())
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.0.read_sync(key, |_, value| visit(value)).is_some())
    }

    fn delete(&self, key: &[u8], _: Durability) -> Result<()> {
        self.0.remove_sync(key);
        Ok(())
    }

    fn update(&self, key: &[u8], _: Durability, change: &mut ChangeValue<'_>) -> Result<()> {
        let mut new = Vec::new();
        if let Some(mut present) = self.0.get_sync(key) {
            match change(Some(present.get()), &mut new) {
                Update::Keep => {}
                Update::Put { expire_at } => {
                    refuse_expiry(expire_at)?;
                    replace(present.get_mut(), &new);
                }
                Update::Delete => drop(present.remove_entry()),
            }
            return Ok(());
        }
        match self.0.entry_sync(key.into()) {
            Entry::Occupied(mut present) => match change(Some(present.get()), &mut new) {
                Update::Keep => {}
                Update::Put { expire_at } => {
                    refuse_expiry(expire_at)?;
                    replace(present.get_mut(), &new);
                }
                Update::Delete => drop(present.remove_entry()),
            },
            Entry::Vacant(absent) => {
                if let Update::Put { expire_at } = change(None, &mut new) {
                    refuse_expiry(expire_at)?;
                    absent.insert_entry(new.into());
                }
            }
        }
        Ok(())
    }

    fn visit_all(&self, visit: &mut VisitEntry<'_>) -> Result<()> {
        self.0.iter_sync(|key, value| visit(key, value));
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
