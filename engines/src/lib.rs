//! Opens ferrokit engines by URL: the one place that names concrete engines.
//!
//! Each engine is behind one cargo feature of its name. [`engines`] lists those compiled in,
//! [`open`] opens one: `lsm:./data?memtable=64MiB`, `memory:`, `mvcc+hybridlog:`.

#![forbid(unsafe_code)]

use std::sync::Arc;

use ferrokit_engine::{EngineUrl, Error, KvEngine, Result};
use ferrokit_storage::Host;

/// An engine, or a wrapper around engines, that can be opened by URL.
#[derive(Debug, Clone, Copy)]
pub struct EngineInfo {
    /// Its name in a URL.
    pub name: &'static str,
    /// What it is, in one line.
    pub description: &'static str,
    /// An example of its URL.
    pub example: &'static str,
    open: Open,
}

#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "each is made by the engines that are compiled in")]
enum Open {
    /// Opens an engine.
    Engine(fn(&Host, &EngineUrl) -> Result<Arc<dyn KvEngine>>),
    /// Takes the wrapper's options, and gives what puts it around an engine.
    Wrapper(fn(&Host, &EngineUrl) -> Result<Wrap>),
}

/// Puts a wrapper around an engine.
type Wrap = Box<dyn FnOnce(Arc<dyn KvEngine>) -> Result<Arc<dyn KvEngine>>>;

const ENGINES: &[EngineInfo] = &[
    #[cfg(feature = "dash")]
    EngineInfo {
        name: "dash",
        description: "Dash extendible hashing laid out on persistent memory",
        example: "dash:",
        open: Open::Engine(|host, url| {
            use ferrokit_dash::{DashConfig, DashEngine};
            Ok(DashEngine::open(host, DashConfig::from_url(url)?)?)
        }),
    },
    #[cfg(feature = "hybridlog")]
    EngineInfo {
        name: "hybridlog",
        description: "a hybrid log with a latch-free hash index and updates in place, in memory or \
                      with a directory: durable, larger than memory",
        example: "hybridlog:./data?memory=1GiB",
        open: Open::Engine(|host, url| {
            use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
            Ok(HybridLogEngine::open(host, HybridLogConfig::from_url(url)?)?)
        }),
    },
    #[cfg(feature = "lsm")]
    EngineInfo {
        name: "lsm",
        description: "a log-structured merge-tree: durable, ordered, larger than memory",
        example: "lsm:./data",
        open: Open::Engine(|host, url| {
            use ferrokit_lsm::{LsmConfig, LsmEngine};
            Ok(LsmEngine::open(host, LsmConfig::from_url(url)?)?)
        }),
    },
    #[cfg(feature = "memory")]
    EngineInfo {
        name: "memory",
        description: "the ordered in-memory model, complete and untuned",
        example: "memory:",
        open: Open::Engine(|host, url| {
            use ferrokit_memory::{MemoryConfig, MemoryEngine};
            Ok(MemoryEngine::open(host, MemoryConfig::from_url(url)?)?)
        }),
    },
    #[cfg(feature = "mvcc")]
    EngineInfo {
        name: "mvcc",
        description: "wraps an engine: versions, snapshots, serializable transactions",
        example: "mvcc+memory:",
        open: Open::Wrapper(|host, url| {
            use ferrokit_mvcc::{Mvcc, MvccOptions};
            let options = MvccOptions::from_url(url, Arc::clone(&host.env.clock))?;
            Ok(Box::new(|engine| Ok(Mvcc::new(engine, options)?)))
        }),
    },
];

/// The engines and wrappers compiled in.
pub fn engines() -> impl Iterator<Item = &'static EngineInfo> {
    ENGINES.iter()
}

/// Opens the engine a URL names.
///
/// # Errors
/// `InvalidArgument` for a URL that is none, an engine that is not compiled in (the error lists
/// those that are), an option nobody knows; those of the engine.
pub fn open(host: &Host, url: &str) -> Result<Arc<dyn KvEngine>> {
    let url = EngineUrl::parse(url)?;
    let open_engine = match find(url.engine(), "engine")?.open {
        Open::Engine(open_engine) => open_engine,
        Open::Wrapper(_) => return Err(unknown("engine", url.engine())),
    };
    let wrap = match url.wrapper() {
        None => None,
        Some(name) => match find(name, "wrapper")?.open {
            // Its options first: the engine refuses those it does not know.
            Open::Wrapper(prepare) => Some(prepare(host, &url)?),
            Open::Engine(_) => return Err(unknown("wrapper", name)),
        },
    };
    let engine = open_engine(host, &url)?;
    match wrap {
        Some(wrap) => wrap(engine),
        None => Ok(engine),
    }
}

fn find(name: &str, kind: &'static str) -> Result<&'static EngineInfo> {
    ENGINES.iter().find(|info| info.name == name).ok_or_else(|| unknown(kind, name))
}

fn unknown(kind: &'static str, name: &str) -> Error {
    let known: Vec<&str> =
        ENGINES.iter().filter(|info| info.kind() == kind).map(|info| info.name).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Error::invalid("engine url", format!("no {kind} \"{name}\"; compiled in: {known}"))
}

impl EngineInfo {
    fn kind(&self) -> &'static str {
        match self.open {
            Open::Engine(_) => "engine",
            Open::Wrapper(_) => "wrapper",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrokit_engine::ErrorKind;
    use ferrokit_storage::IoBackend;

    fn host() -> Host {
        Host::system(IoBackend::Threads).unwrap()
    }

    fn refusal(url: &str) -> String {
        let error = open(&host(), url).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        error.to_string()
    }

    #[test]
    fn an_unknown_engine_or_wrapper_is_answered_with_the_known_ones() {
        let error = refusal("rocks:./data");
        assert!(error.contains("no engine \"rocks\""), "{error}");
        for info in engines() {
            assert_eq!(error.contains(info.name), info.kind() == "engine", "{error}");
        }
        #[cfg(feature = "memory")]
        {
            assert!(refusal("cache+memory:").contains("no wrapper \"cache\""));
            assert!(refusal("memory+memory:").contains("no wrapper \"memory\""));
        }
        #[cfg(feature = "mvcc")]
        assert!(refusal("mvcc:").contains("no engine \"mvcc\""));
    }

    #[cfg(feature = "memory")]
    #[test]
    fn an_engine_opens_and_an_option_nobody_took_is_refused() {
        let host = host();
        let engine = open(&host, "memory:").unwrap();
        assert_eq!(engine.capabilities().engine, "memory");
        host.wait(engine.close()).unwrap();
        assert!(refusal("memory:?speed=9").contains("no option \"speed\""));
    }

    #[cfg(all(feature = "memory", feature = "mvcc"))]
    #[test]
    fn a_wrapper_takes_its_own_options_and_leaves_the_engine_its_own() {
        let host = host();
        let engine = open(&host, "mvcc+memory:?mvcc_views=3&max_views=9").unwrap();
        assert!(engine.as_transactions().is_some());
        host.wait(engine.close()).unwrap();
        assert!(refusal("mvcc+memory:?mvcc_speed=9").contains("no option \"mvcc_speed\""));
    }

    #[cfg(feature = "lsm")]
    #[test]
    fn an_engine_of_files_is_there_again_after_closing() {
        use ferrokit_engine::KvEngineExt;

        let host = host();
        let directory =
            std::env::temp_dir().join(format!("ferrokit-engines-{}", std::process::id()));
        let url = format!("lsm:{}", directory.display());
        let keyspace = ferrokit_engine::KeyspaceId::DEFAULT;
        let engine = open(&host, &url).unwrap();
        host.wait(engine.set(keyspace, b"k", b"v")).unwrap();
        let locked = open(&host, &url).map(|_| ()).unwrap_err();
        assert_eq!(locked.kind(), ErrorKind::Locked);
        host.wait(engine.close()).unwrap();
        let engine = open(&host, &url).unwrap();
        assert_eq!(host.wait(engine.get(keyspace, b"k")).unwrap(), Some(b"v".to_vec()));
        host.wait(engine.close()).unwrap();
        host.fs.remove_dir_all(&directory.display().to_string()).unwrap();
    }

    #[test]
    fn every_engine_has_one_line_and_an_example_of_its_own() {
        for info in engines() {
            assert!(!info.description.is_empty() && !info.description.contains('\n'));
            assert!(info.example.contains(info.name), "{}", info.example);
        }
    }
}
