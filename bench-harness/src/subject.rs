//! [`Subject`]: what is measured, and how it is opened.

use std::sync::Arc;

use ferrokit_engine::{Durability, EngineUrl, Error, KvEngine, Result};
use ferrokit_storage::Host;

/// The page size of `hybridlog`, of which its memory is a multiple.
const HYBRIDLOG_PAGE_BYTES: u64 = 4 << 20;

/// An open engine.
pub struct Subject {
    /// The engine.
    pub engine: Arc<dyn KvEngine>,
    /// The settings that bear on speed (memory, compression, what each durability means), for the
    /// report.
    pub settings: String,
    /// Whether no concurrent change of a key gets lost in an update.
    pub updates_are_atomic: bool,
}

/// What an engine is opened with; the same for all engines of a comparison.
#[derive(Debug, Clone)]
pub struct SubjectSettings {
    /// A directory for the engine alone: empty, or what it left there.
    pub directory: String,
    /// Bytes of memory for caches and buffers of writes together; half of it each where an engine
    /// has both.
    pub memory_bytes: u64,
    /// The durability of the measured writes. The records loaded before are written at
    /// [`Durability::Memory`].
    pub durability: Durability,
}

impl SubjectSettings {
    /// Bytes for the cache of an engine that buffers writes as well.
    pub fn cache_bytes(&self) -> u64 {
        self.memory_bytes / 2
    }

    /// Bytes of one write buffer, of [`WRITE_BUFFERS`](Self::WRITE_BUFFERS).
    pub fn write_buffer_bytes(&self) -> u64 {
        self.memory_bytes / 2 / Self::WRITE_BUFFERS
    }

    /// Write buffers of a log-structured engine: one that is written to, the others under way.
    pub const WRITE_BUFFERS: u64 = 4;
}

/// Opens a kind of foreign engine.
#[derive(Debug, Clone, Copy)]
pub struct Adapter {
    /// The engine name in the URLs that it opens: `rocksdb` for `rocksdb:?compression=none`.
    pub name: &'static str,
    /// What it is, in one line.
    pub description: &'static str,
    /// The groups of the conformance suite's point, batch and scan cases that the adapter passes
    /// only in part, and why.
    pub skips: &'static str,
    /// Opens it. The options in the URL are the adapter's own; unknown ones are refused.
    pub open: fn(&EngineUrl, &SubjectSettings) -> Result<Subject>,
}

/// Opens the engine that `url` names: one of `adapters` or, if none has the name, a ferrokit
/// engine, with the directory and the memory of `settings` unless the URL gives sizes itself.
///
/// # Errors
/// `InvalidArgument` for a URL with a path (each run has a directory of its own); those of opening
/// the engine.
pub fn open(
    host: &Host,
    adapters: &[Adapter],
    url: &str,
    settings: &SubjectSettings,
) -> Result<Subject> {
    let parsed = EngineUrl::parse(url)?;
    if !parsed.path().is_empty() {
        return Err(Error::invalid(
            "bench",
            format!("\"{url}\" names a path, but every run gets a fresh directory"),
        ));
    }
    if let Some(adapter) = adapters.iter().find(|adapter| adapter.name == parsed.engine()) {
        if let Some(wrapper) = parsed.wrapper() {
            let what = format!("{wrapper} wraps ferrokit's engines, and {} is none", adapter.name);
            return Err(Error::unsupported("bench", what));
        }
        return (adapter.open)(&parsed, settings);
    }
    let completed = complete_url(url, &parsed, settings);
    let engine = ferrokit_engines::open(host, &completed)?;
    let shown = completed.replace(&escape(&settings.directory), "");
    let settings = format!("{shown}, files through {}", host.fs.backend());
    Ok(Subject { engine, settings, updates_are_atomic: true })
}

/// A name, or a URL, as a URL: `lsm` is `lsm:`.
pub fn url_of(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}:") }
}

/// The URL with what the settings give: directory, memory.
fn complete_url(url: &str, parsed: &EngineUrl, settings: &SubjectSettings) -> String {
    let (path, options) = match parsed.engine() {
        "memory" => ("", vec![]),
        "hybridlog" => {
            let pages = settings.memory_bytes / HYBRIDLOG_PAGE_BYTES;
            // Without a directory it is in memory only, and as fast as it can be there.
            let is_durable = settings.durability > Durability::Memory;
            let directory = if is_durable { settings.directory.as_str() } else { "" };
            (directory, vec![("memory", pages * HYBRIDLOG_PAGE_BYTES)])
        }
        "dash" => ("", vec![("capacity", settings.memory_bytes)]),
        "lsm" => (
            settings.directory.as_str(),
            vec![
                ("cache", settings.cache_bytes()),
                ("memtable", settings.write_buffer_bytes()),
                ("sealed_memtables", SubjectSettings::WRITE_BUFFERS - 1),
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
    completed
}

/// A path as it stands in a URL.
fn escape(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3F")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SubjectSettings {
        SubjectSettings {
            directory: "/d%1".to_owned(),
            memory_bytes: 130 << 20,
            durability: Durability::Memory,
        }
    }

    #[test]
    fn a_url_is_completed_but_not_overruled() {
        for (url, completed) in [
            ("memory", "memory:".to_owned()),
            ("hybridlog:", format!("hybridlog:?memory={}", 128 << 20)),
            ("hybridlog:?memory=64MiB", "hybridlog:?memory=64MiB".to_owned()),
            ("dash", format!("dash:?capacity={}", 130 << 20)),
            (
                "lsm:?cache=1MiB",
                format!("lsm:/d%251?cache=1MiB&memtable={}&sealed_memtables=3", (130 << 20) / 8),
            ),
            ("mvcc+memory:", "mvcc+memory:".to_owned()),
        ] {
            let url = url_of(url);
            let answer = complete_url(&url, &EngineUrl::parse(&url).unwrap(), &settings());
            assert_eq!(answer, completed);
            EngineUrl::parse(&answer).unwrap();
        }
        let durable = SubjectSettings { durability: Durability::Os, ..settings() };
        let answer = complete_url("hybridlog:", &EngineUrl::parse("hybridlog:").unwrap(), &durable);
        assert_eq!(answer, format!("hybridlog:/d%251?memory={}", 128 << 20));
    }

    #[test]
    fn a_wrapper_that_would_be_left_out_is_refused() {
        let open = |_: &EngineUrl, _: &SubjectSettings| -> Result<Subject> {
            panic!("it is opened without its wrapper")
        };
        let adapter = Adapter { name: "foreign", description: "", skips: "", open };
        let host = Host::system(ferrokit_storage::IoBackend::Threads).unwrap();
        let opened = super::open(&host, &[adapter], "mvcc+foreign:", &settings());
        let Err(error) = opened else { panic!("it was opened") };
        assert!(error.to_string().contains("mvcc wraps"), "{error}");
    }
}
