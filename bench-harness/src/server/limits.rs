//! How many files this process may have open.

use ferrokit_engine::{Error, ErrorKind, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files to at least `needed`; the servers inherit it.
///
/// # Errors
/// `Unsupported` if the system does not allow so many.
pub(super) fn raise_descriptors(needed: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "bench.server",
            format!(
                "{needed} open files are needed and {} allowed; take fewer --connections or raise \
                 the hard limit (ulimit -Hn)",
                limit.maximum.unwrap_or_default()
            ),
        ));
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| Error::io("bench.server.limits", error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_the_system_allows() {
        let before = getrlimit(Resource::Nofile);
        raise_descriptors(1).unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, before.current, "never lowered");
        let needed = before.maximum.map_or(4096, |maximum| maximum);
        raise_descriptors(needed).unwrap();
        assert!(getrlimit(Resource::Nofile).current.is_none_or(|current| current >= needed));
        if before.maximum.is_some() {
            let error = raise_descriptors(u64::MAX).unwrap_err();
            assert!(error.to_string().contains("ulimit"), "{error}");
        }
    }
}
