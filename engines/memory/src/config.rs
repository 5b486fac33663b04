//! [`MemoryConfig`].

use ferrokit_engine::{EngineUrl, Error, Result};

/// How a [`MemoryEngine`](crate::MemoryEngine) is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryConfig {
    /// The directory of a checkpoint to start from; `None` starts empty.
    pub checkpoint: Option<String>,
    /// Bytes of changes kept for open feeds. A writer that would exceed it is answered `Busy`
    /// until the slowest feed has moved on.
    pub change_log_bytes: usize,
    /// Snapshots and transactions open at a time; one more is answered `Busy`.
    pub max_views: usize,
    /// Keys whose last write is remembered to validate open transactions. Beyond it the
    /// transactions open at that moment conflict.
    pub max_tracked_keys: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            checkpoint: None,
            change_log_bytes: 64 << 20,
            max_views: 1024,
            max_tracked_keys: 1 << 20,
        }
    }
}

impl MemoryConfig {
    /// The configuration in a URL: `memory:` or `memory:CHECKPOINT_DIRECTORY`, with the options
    /// `change_log` (a size), `max_views` and `max_tracked_keys` (numbers, at least 1).
    ///
    /// # Errors
    /// `InvalidArgument` for an option that is unknown or out of its range.
    pub fn from_url(url: &EngineUrl) -> Result<Self> {
        let mut config = Self::default();
        if !url.path().is_empty() {
            config.checkpoint = Some(url.path().to_owned());
        }
        if let Some(bytes) = url.take_bytes("change_log")? {
            config.change_log_bytes = to_usize("change_log", bytes)?;
        }
        if let Some(number) = url.take_number("max_views")? {
            config.max_views = to_usize("max_views", number)?;
        }
        if let Some(number) = url.take_number("max_tracked_keys")? {
            config.max_tracked_keys = to_usize("max_tracked_keys", number)?;
        }
        url.finish()?;
        Ok(config)
    }
}

fn to_usize(option: &str, number: u64) -> Result<usize> {
    match usize::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Error::invalid("engine url", format!("option \"{option}\" is out of range"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_sets_every_option_and_refuses_others() {
        let url =
            EngineUrl::parse("memory:./backup?change_log=1MiB&max_views=3&max_tracked_keys=9")
                .unwrap();
        let config = MemoryConfig::from_url(&url).unwrap();
        let expected = MemoryConfig {
            checkpoint: Some("./backup".to_owned()),
            change_log_bytes: 1 << 20,
            max_views: 3,
            max_tracked_keys: 9,
        };
        assert_eq!(config, expected);
        for text in ["memory:?cache=1MiB", "memory:?max_views=0"] {
            assert!(MemoryConfig::from_url(&EngineUrl::parse(text).unwrap()).is_err(), "{text}");
        }
    }
}
