//! papaya: a lock-free hash map in memory. Its values never change in place: a put allocates a new
//! one, and the old one is freed when no reader can hold it.
//!
//! Durability: `memory` alone. An update is atomic: it runs again if the value changed meanwhile.

use ::papaya::{HashMap, Operation};
use ferrokit_bench::peer::{ChangeValue, Facts, Peer, VisitEntry, refuse_expiry};
use ferrokit_bench::subject::{Adapter, Subject, SubjectSettings};
use ferrokit_engine::{Durability, EngineUrl, Result, Update};
use foldhash::fast::RandomState;

use crate::{LONGEST_KEY_BYTES, LONGEST_VALUE_BYTES, SKIPS_OF_MAPS, subject};

pub(crate) const VERSION: &str = "0.2.5";

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "papaya",
    description: "papaya, a lock-free hash map in memory",
    skips: SKIPS_OF_MAPS,
    open,
};

struct Map(HashMap<Box<[u8]>, Box<[u8]>, RandomState>);

fn open(url: &EngineUrl, _: &SubjectSettings) -> Result<Subject> {
    url.finish()?;
    let text = format!(
        "papaya {VERSION} with foldhash and incremental resizing, no limit of memory; memory: the \
         only durability; updates: atomic, by compare and exchange"
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
        self.0.pin().insert(key.into(), value.into());
        Ok(())
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let map = self.0.pin();
        let found = map.get(key);
        if let Some(value) = found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn get_many(&self, keys: &[&[u8]], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let map = self.0.pin();
        for (index, key) in keys.iter().enumerate() {
            if let Some(value) = map.get(*key) {
                visit(index, value);
            }
        }
        Ok(())
    }

    fn delete(&self, key: &[u8], _: Durability) -> Result<()> {
        self.0.pin().remove(key);
        Ok(())
    }

    fn update(&self, key: &[u8], _: Durability, change: &mut ChangeValue<'_>) -> Result<()> {
        let mut refused = Ok(());
        let mut new = Vec::new();
        self.0.pin().compute(key.into(), |present| {
            let old = present.map(|(_, value)| &**value);
            match change(old, &mut new) {
                Update::Put { expire_at } => {
                    refused = refuse_expiry(expire_at);
                    match refused {
                        Ok(()) => Operation::Insert(new.as_slice().into()),
                        Err(_) => Operation::Abort(()),
                    }
                }
                Update::Delete if old.is_some() => Operation::Remove,
                Update::Keep | Update::Delete => Operation::Abort(()),
            }
        });
        refused
    }

    fn visit_all(&self, visit: &mut VisitEntry<'_>) -> Result<()> {
        for (key, value) in &self.0.pin() {
            if !visit(key, value) {
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
