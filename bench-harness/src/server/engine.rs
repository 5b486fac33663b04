//! [`EngineTemplate`]: the URL of an engine for a server, with a place for the run's directory.

use ferrokit_engine::{Durability, EngineUrl, Error, ErrorKind, Result};
use ferrokit_storage::Host;

/// An engine's URL before and after the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineTemplate {
    scheme: String,
    query: String,
    has_directory: bool,
}

impl EngineTemplate {
    /// Finds out by opening it how the engine gives `durability`: in memory alone if that is all that
    /// is asked and the engine can, in a directory otherwise. `scratch` is a directory that is not
    /// there, and is not there afterwards.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad URL, or one with a path; `Unsupported` if the engine cannot keep
    /// the promise; those of the engine.
    pub(super) fn find(
        host: &Host,
        url: &str,
        durability: Durability,
        scratch: &str,
    ) -> Result<Self> {
        let url = if url.contains(':') { url.to_owned() } else { format!("{url}:") };
        if !EngineUrl::parse(&url)?.path().is_empty() {
            return Err(Error::invalid(
                "bench.server",
                format!("\"{url}\" names a path, but every run gets a fresh directory"),
            ));
        }
        let (scheme, query) = url.split_once(':').unwrap_or((&url, ""));
        let places = if durability == Durability::Memory { [false, true] } else { [true, false] };
        let mut refusal = None;
        for has_directory in places {
            let (scheme, query) = (scheme.to_owned(), query.to_owned());
            let template = Self { scheme, query, has_directory };
            match strongest_durability(host, &template.url(scratch), scratch) {
                Ok(strongest) if strongest >= durability => return Ok(template),
                Ok(strongest) => {
                    let message = format!("{url} gives at most {strongest:?}");
                    refusal = Some(Error::unsupported("bench.server", message));
                }
                // It knows no such place.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::InvalidArgument | ErrorKind::NotFound | ErrorKind::Unsupported
                    ) =>
                {
                    refusal = refusal.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(refusal.unwrap_or_else(|| Error::invalid("bench.server", "no place for an engine")))
    }

    /// The URL, in a directory.
    pub(super) fn url(&self, directory: &str) -> String {
        let path = if self.has_directory { directory } else { "" };
        let path = path.replace('%', "%25").replace('?', "%3F");
        format!("{}:{path}{}", self.scheme, self.query)
    }
}

fn strongest_durability(host: &Host, url: &str, scratch: &str) -> Result<Durability> {
    let opened = ferrokit_engines::open(host, url).and_then(|engine| {
        let strongest = engine.capabilities().strongest_durability;
        host.wait(engine.close())?;
        Ok(strongest)
    });
    host.fs.remove_dir_all(scratch)?;
    opened
}

#[cfg(test)]
mod tests {
    use ferrokit_storage::IoBackend;

    use super::*;

    fn find(url: &str, durability: Durability) -> Result<EngineTemplate> {
        let host = Host::system(IoBackend::Threads).unwrap();
        let scratch =
            std::env::temp_dir().join(format!("ferrokit-bench-engine-{}", std::process::id()));
        let scratch = format!("{}-{durability:?}", scratch.display());
        let found = EngineTemplate::find(&host, url, durability, &scratch);
        assert!(!std::path::Path::new(&scratch).exists());
        found
    }

    #[test]
    fn a_durable_engine_gets_a_directory_and_one_of_memory_none() {
        let lsm = find("lsm:?memtable=8MiB", Durability::Synced).unwrap();
        assert_eq!(lsm.url("/tmp/a?b%c"), "lsm:/tmp/a%3Fb%25c?memtable=8MiB");
        let memory = find("memory", Durability::Memory).unwrap();
        assert_eq!(memory.url("/tmp/x"), "memory:");
    }

    #[test]
    fn what_an_engine_cannot_keep_is_not_promised() {
        let kind = |url, durability| find(url, durability).unwrap_err().kind();
        assert_eq!(kind("memory", Durability::Os), ErrorKind::Unsupported);
        assert_eq!(kind("memory:/tmp/x", Durability::Memory), ErrorKind::InvalidArgument);
        assert_eq!(kind("nosuch", Durability::Memory), ErrorKind::InvalidArgument);
        assert_eq!(kind("lsm:?nosuch=1", Durability::Os), ErrorKind::InvalidArgument);
    }
}
