//! DashMap: what a hash map in memory does, with owned keys and values and reads that copy out.

use dashmap::DashMap;
use ferrokit_bench::store::{ChangeValue, VisitEntry};
use ferrokit_bench::{Store, StoreSettings};
use ferrokit_engine::{Durability, EngineUrl, Error, Result};

struct DashMapStore {
    map: DashMap<Box<[u8]>, Box<[u8]>>,
}

/// Opens an empty map.
pub(crate) fn open(url: &EngineUrl, _: &StoreSettings) -> Result<Box<dyn Store>> {
    url.finish()?;
    Ok(Box::new(DashMapStore { map: DashMap::new() }))
}

fn check(durability: Durability) -> Result<()> {
    match durability {
        Durability::Memory => Ok(()),
        _ => Err(Error::unsupported("dashmap", "a map in memory makes nothing durable")),
    }
}

impl Store for DashMapStore {
    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        check(durability)?;
        self.map.insert(key.into(), value.into());
        Ok(())
    }

    fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let Some(entry) = self.map.get(key) else { return Ok(false) };
        value.extend_from_slice(&entry);
        Ok(true)
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        check(durability)?;
        self.map.remove(key);
        Ok(())
    }

    fn rmw(
        &self,
        key: &[u8],
        durability: Durability,
        change: &mut ChangeValue<'_>,
    ) -> Result<bool> {
        check(durability)?;
        let Some(mut entry) = self.map.get_mut(key) else { return Ok(false) };
        let mut new = Vec::with_capacity(entry.len());
        change(&entry, &mut new);
        *entry = new.into();
        Ok(true)
    }

    fn rmw_is_atomic(&self) -> bool {
        true
    }

    fn scan(&self, _: &[u8], _: usize, _: &mut VisitEntry<'_>) -> Result<()> {
        Err(Error::unsupported("scan", "the map keeps its keys in no order"))
    }

    fn supports_scan(&self) -> bool {
        false
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }

    fn settings(&self) -> String {
        "DashMap with SipHash and its default shards, no limit of memory".to_owned()
    }
}
