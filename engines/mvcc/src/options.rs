//! [`MvccOptions`].

use std::fmt;
use std::sync::Arc;

use ferrokit_engine::{Clock, EngineUrl, Env, Error, Result};

const MAX_STRIPES: usize = 1 << 16;

/// How an engine is wrapped.
#[derive(Clone)]
pub struct MvccOptions {
    /// The wall clock that expiry goes by.
    pub clock: Arc<dyn Clock>,
    /// Lock stripes that keys are spread over, from 1 to 65536. More stripes, fewer writers of
    /// different keys that wait for each other.
    pub stripes: usize,
    /// Writers that may wait for one stripe; one more is answered `Busy`.
    pub max_waiters: usize,
    /// Snapshots and transactions open at a time; one more is answered `Busy`.
    pub max_views: usize,
    /// Older versions kept for open views. A write that would keep more is answered `Busy` until
    /// the oldest view is closed.
    pub max_versions: usize,
    /// Keys a transaction remembers to have read. Beyond it, it depends on the whole keyspaces it
    /// has read from.
    pub max_reads: usize,
}

impl Default for MvccOptions {
    fn default() -> Self {
        Self {
            clock: Env::system().clock,
            stripes: 1024,
            max_waiters: 1 << 16,
            max_views: 1024,
            max_versions: 1 << 20,
            max_reads: 1 << 16,
        }
    }
}

impl fmt::Debug for MvccOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MvccOptions")
            .field("stripes", &self.stripes)
            .field("max_waiters", &self.max_waiters)
            .field("max_views", &self.max_views)
            .field("max_versions", &self.max_versions)
            .field("max_reads", &self.max_reads)
            .finish_non_exhaustive()
    }
}

impl MvccOptions {
    /// Takes the wrapper's options out of the URL of a wrapped engine (`mvcc+lsm:./data?...`):
    /// `mvcc_stripes`, `mvcc_waiters`, `mvcc_views`, `mvcc_versions`, `mvcc_reads`, all numbers of
    /// at least 1. What is left is the inner engine's, which refuses what nobody knows.
    ///
    /// # Errors
    /// `InvalidArgument` for a number out of its range.
    pub fn from_url(url: &EngineUrl, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut options = Self { clock, ..Self::default() };
        for (name, field) in [
            ("mvcc_stripes", &mut options.stripes),
            ("mvcc_waiters", &mut options.max_waiters),
            ("mvcc_views", &mut options.max_views),
            ("mvcc_versions", &mut options.max_versions),
            ("mvcc_reads", &mut options.max_reads),
        ] {
            if let Some(number) = url.take_number(name)? {
                *field = usize::try_from(number).unwrap_or(usize::MAX);
            }
        }
        options.check()?;
        Ok(options)
    }

    /// Refuses numbers out of their range.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub fn check(&self) -> Result<()> {
        let in_range = |name: &str, number: usize, max: usize| {
            if (1..=max).contains(&number) {
                return Ok(());
            }
            Err(Error::invalid("mvcc options", format!("{name} is {number}, not 1 to {max}")))
        };
        in_range("mvcc_stripes", self.stripes, MAX_STRIPES)?;
        in_range("mvcc_waiters", self.max_waiters, 1 << 24)?;
        in_range("mvcc_views", self.max_views, 1 << 20)?;
        in_range("mvcc_versions", self.max_versions, 1 << 32)?;
        in_range("mvcc_reads", self.max_reads, 1 << 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<MvccOptions> {
        let url = EngineUrl::parse(text).unwrap();
        let options = MvccOptions::from_url(&url, Env::system().clock)?;
        url.finish()?;
        Ok(options)
    }

    #[test]
    fn a_url_sets_every_number_and_leaves_the_rest() {
        let options = from(
            "mvcc+memory:?mvcc_stripes=2&mvcc_waiters=3&mvcc_views=4&mvcc_versions=5&mvcc_reads=6",
        )
        .unwrap();
        assert_eq!((options.stripes, options.max_waiters, options.max_views), (2, 3, 4));
        assert_eq!((options.max_versions, options.max_reads), (5, 6));
        for (text, part) in [
            ("mvcc+memory:?mvcc_stripes=0", "mvcc_stripes"),
            ("mvcc+memory:?mvcc_stripes=99999999999", "mvcc_stripes"),
            ("mvcc+memory:?mvcc_views=0", "mvcc_views"),
            ("mvcc+memory:?max_views=3", "no option \"max_views\""),
        ] {
            let error = from(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
