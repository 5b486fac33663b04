//! [`DashConfig`]: the options of the engine.

use ferrokit_engine::{EngineUrl, Error, Result};

use crate::table::recovery::REGION_BYTES_MIN;

/// The largest region: record addresses have 48 bits.
const CAPACITY_BYTES_MAX: u64 = 1 << 46;

/// Options of a [`DashEngine`](crate::DashEngine).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DashConfig {
    /// The length of the region in bytes, and so the data limit: beyond it writes answer
    /// `OutOfSpace`. Memory is taken as it is used.
    pub capacity_bytes: u64,
}

impl Default for DashConfig {
    /// 1 GiB.
    fn default() -> Self {
        Self { capacity_bytes: 1 << 30 }
    }
}

impl DashConfig {
    /// The options of a URL: `dash:?capacity=4GiB`.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown option or a bad value; `Unsupported` for a path: what the
    /// engine keeps does not outlive the process.
    pub fn from_url(url: &EngineUrl) -> Result<Self> {
        if !url.path().is_empty() {
            return Err(Error::unsupported(
                "dash.open",
                "dash keeps its data in memory and takes no path; write dash:?capacity=1GiB",
            ));
        }
        let mut config = Self::default();
        if let Some(bytes) = url.take_bytes("capacity")? {
            config.capacity_bytes = bytes;
        }
        url.finish()?;
        config.check()?;
        Ok(config)
    }

    /// Refuses impossible options.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check(&self) -> Result<()> {
        if (REGION_BYTES_MIN..=CAPACITY_BYTES_MAX).contains(&self.capacity_bytes) {
            return Ok(());
        }
        Err(Error::invalid(
            "dash.open",
            format!(
                "capacity {} is not between {REGION_BYTES_MIN} and {CAPACITY_BYTES_MAX} bytes",
                self.capacity_bytes
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrokit_engine::ErrorKind;

    #[test]
    fn a_url_gives_the_options_or_says_what_is_wrong() {
        let parse = |url: &str| DashConfig::from_url(&EngineUrl::parse(url).unwrap());
        assert_eq!(parse("dash:").unwrap(), DashConfig::default());
        assert_eq!(parse("dash:?capacity=64MiB").unwrap().capacity_bytes, 64 << 20);
        assert_eq!(parse("dash:./data").unwrap_err().kind(), ErrorKind::Unsupported);
        for url in ["dash:?capacity=1", "dash:?capacity=9999TiB", "dash:?cache=1"] {
            assert_eq!(parse(url).unwrap_err().kind(), ErrorKind::InvalidArgument, "{url}");
        }
    }
}
