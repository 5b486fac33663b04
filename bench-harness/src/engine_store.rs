//! [`EngineStore`]: every ferrokit engine as a [`Store`].

use std::sync::Arc;

use ferrokit_engine::{
    Direction, Durability, EngineUrl, Entry, Error, KeyRange, KeyspaceId, KvEngine, ReadOptions,
    Result, ScanLimits, Update, WriteOptions,
};
use ferrokit_storage::Host;

use crate::store::{ChangeValue, Store, StoreSettings, VisitEntry};

const KEYSPACE: KeyspaceId = KeyspaceId::DEFAULT;

/// The page size of `hybridlog`, of which its memory is a multiple.
const HYBRIDLOG_PAGE_BYTES: u64 = 4 << 20;

/// An engine, opened by its URL.
pub struct EngineStore {
    engine: Arc<dyn KvEngine>,
    settings: String,
}

impl EngineStore {
    /// Opens the engine that `url` names, with the directory and the memory of `settings` unless
    /// the URL gives sizes itself.
    ///
    /// # Errors
    /// `InvalidArgument` for a URL with a path (each run has a directory of its own); those of
    /// opening the engine.
    pub fn open(host: &Host, url: &str, settings: &StoreSettings) -> Result<Self> {
        let url = complete_url(url, settings)?;
        let engine = ferrokit_engines::open(host, &url)?;
        let shown = url.replace(&settings.directory, "");
        let settings = format!("{shown}, files through {}", host.fs.backend());
        Ok(Self { engine, settings })
    }
}

/// The URL with what the settings give: directory, memory.
fn complete_url(url: &str, settings: &StoreSettings) -> Result<String> {
    let parsed = EngineUrl::parse(url)?;
    if !parsed.path().is_empty() {
        return Err(Error::invalid(
            "bench",
            format!("\"{url}\" names a path, but every run gets a fresh directory"),
        ));
    }
    let (path, options) = match parsed.engine() {
        "memory" => ("", vec![]),
        "hybridlog" => {
            let pages = settings.memory_bytes / HYBRIDLOG_PAGE_BYTES;
            ("", vec![("memory", pages * HYBRIDLOG_PAGE_BYTES)])
        }
        "dash" => ("", vec![("capacity", settings.memory_bytes)]),
        "lsm" => (
            settings.directory.as_str(),
            vec![
                ("cache", settings.cache_bytes()),
                ("memtable", settings.write_buffer_bytes()),
                ("sealed_memtables", StoreSettings::WRITE_BUFFERS - 1),
            ],
        ),
        _ => (settings.directory.as_str(), vec![]),
    };
    let (scheme, query) = url.split_once(':').unwrap_or((url, ""));
    let mut completed = format!("{scheme}:{}", escape(path));
    let query = query.trim_start_matches('?');
    let mut separator = '?';
    if !query.is_empty() {
        completed.push(separator);
        completed.push_str(query);
        separator = '&';
    }
    for (option, value) in options {
        if parsed.take(option).is_none() {
            completed.push_str(&format!("{separator}{option}={value}"));
            separator = '&';
        }
    }
    Ok(completed)
}

/// A path as it stands in a URL.
fn escape(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3F")
}

impl Store for EngineStore {
    #[inline]
    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        let options = WriteOptions::with_durability(durability);
        self.engine.put(KEYSPACE, key, value, None, &options).wait().map(drop)
    }

    #[inline]
    fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let mut visit = |entry: Entry<'_>| value.extend_from_slice(entry.value);
        let seen =
            self.engine.get_with(KEYSPACE, key, &ReadOptions::default(), &mut visit).wait()?;
        Ok(seen.found > 0)
    }

    #[inline]
    fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        let options = WriteOptions::with_durability(durability);
        self.engine.delete(KEYSPACE, key, &options).wait().map(drop)
    }

    #[inline]
    fn rmw(
        &self,
        key: &[u8],
        durability: Durability,
        change: &mut ChangeValue<'_>,
    ) -> Result<bool> {
        let options = WriteOptions::with_durability(durability);
        let mut existed = false;
        let mut update = |entry: Option<Entry<'_>>, new: &mut Vec<u8>| {
            existed = entry.is_some();
            match entry {
                None => Update::Keep,
                Some(entry) => {
                    change(entry.value, new);
                    Update::Put { expire_at: entry.expire_at }
                }
            }
        };
        self.engine.update(KEYSPACE, key, &options, &mut update).wait()?;
        Ok(existed)
    }

    fn rmw_is_atomic(&self) -> bool {
        true
    }

    fn scan(&self, start: &[u8], entries: usize, visit: &mut VisitEntry<'_>) -> Result<()> {
        let Some(ordered) = self.engine.as_ordered() else {
            return Err(Error::unsupported("scan", "the engine keeps its keys in no order"));
        };
        let mut left = entries;
        let mut range = KeyRange {
            start: std::ops::Bound::Included(start.to_vec()),
            end: std::ops::Bound::Unbounded,
        };
        while left > 0 {
            let mut lend = |key: &[u8], entry: Entry<'_>| visit(key, entry.value);
            let scanned = ordered
                .scan_with(
                    KEYSPACE,
                    &range,
                    Direction::Forward,
                    ScanLimits::entries(left),
                    &ReadOptions::default(),
                    &mut lend,
                )
                .wait()?;
            left = left.saturating_sub(scanned.visited);
            match scanned.rest {
                Some(rest) => range = rest,
                None => break,
            }
        }
        Ok(())
    }

    fn supports_scan(&self) -> bool {
        self.engine.as_ordered().is_some()
    }

    fn flush(&self) -> Result<()> {
        self.engine.sync(self.engine.capabilities().strongest_durability).wait()
    }

    fn close(&self) -> Result<()> {
        self.engine.close().wait()
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> StoreSettings {
        StoreSettings {
            directory: "/d%1".to_owned(),
            memory_bytes: 130 << 20,
            durability: Durability::Memory,
        }
    }

    #[test]
    fn a_url_is_completed_but_not_overruled() {
        for (url, completed) in [
            ("memory:", "memory:".to_owned()),
            ("hybridlog:", format!("hybridlog:?memory={}", 128 << 20)),
            ("hybridlog:?memory=64MiB", "hybridlog:?memory=64MiB".to_owned()),
            ("dash:", format!("dash:?capacity={}", 130 << 20)),
            (
                "lsm:?cache=1MiB",
                format!("lsm:/d%251?cache=1MiB&memtable={}&sealed_memtables=3", (130 << 20) / 8),
            ),
            ("mvcc+memory:", "mvcc+memory:".to_owned()),
        ] {
            let answer = complete_url(url, &settings()).unwrap();
            assert_eq!(answer, completed);
            EngineUrl::parse(&answer).unwrap();
        }
        assert!(complete_url("lsm:/data", &settings()).is_err());
    }
}
