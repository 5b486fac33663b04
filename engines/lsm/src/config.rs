//! Options of the engine.

use ferrokit_engine::{EngineUrl, Error, Result};
use ferrokit_storage::Compression;

/// The longest key in bytes.
pub const MAX_KEY_BYTES: usize = 1 << 16;
/// The longest value in bytes, at most: 512 MiB, and room for what its user marks it with.
pub const MAX_VALUE_BYTES: usize = (512 << 20) + (64 << 10);

/// How the tree is laid out and how much memory it may use. Every option acts; [`Self::validate`]
/// refuses what cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LsmConfig {
    /// The directory; created if absent.
    pub directory: String,
    /// Bytes a memtable holds before it is sealed and flushed.
    pub memtable_bytes: usize,
    /// Sealed memtables that may wait for their flush before writers stop.
    pub sealed_memtables_max: usize,
    /// Bytes of decoded blocks kept in the block cache.
    pub cache_bytes: u64,
    /// Bytes of a data block before compression.
    pub block_bytes: usize,
    /// Records between two restart points of a block.
    pub restart_interval: usize,
    /// Bits per key of the bloom filters; 0 writes none.
    pub filter_bits_per_key: usize,
    /// Compression of data blocks.
    pub compression: Compression,
    /// Bytes of index above which a table's index is split into two levels.
    pub index_split_bytes: usize,
    /// Level 0 files that start a compaction.
    pub level0_compact_files: usize,
    /// Level 0 files from which on writers are slowed.
    pub level0_slow_files: usize,
    /// Level 0 files at which writers stop.
    pub level0_stop_files: usize,
    /// Bytes of level 1; each level below holds [`Self::level_multiplier`] times as much.
    pub level_base_bytes: u64,
    /// Growth from level to level.
    pub level_multiplier: u64,
    /// Bytes at which a compaction begins a new file.
    pub file_bytes: u64,
    /// Bytes of a log segment.
    pub log_segment_bytes: u64,
    /// Bytes of log waiting to be written before writers wait.
    pub log_buffer_bytes: usize,
    /// The longest value in bytes.
    pub value_bytes_max: usize,
    /// Count every keyspace exactly; each write then learns whether its key exists.
    pub exact_len: bool,
}

impl LsmConfig {
    /// The default options for `directory`.
    pub fn new(directory: impl Into<String>) -> Self {
        Self {
            directory: directory.into(),
            memtable_bytes: 64 << 20,
            sealed_memtables_max: 4,
            cache_bytes: 256 << 20,
            block_bytes: 4096,
            restart_interval: 16,
            filter_bits_per_key: 10,
            compression: Compression::Lz4,
            index_split_bytes: 64 << 10,
            level0_compact_files: 4,
            level0_slow_files: 12,
            level0_stop_files: 24,
            level_base_bytes: 256 << 20,
            level_multiplier: 10,
            file_bytes: 64 << 20,
            log_segment_bytes: 64 << 20,
            log_buffer_bytes: 8 << 20,
            value_bytes_max: MAX_VALUE_BYTES,
            exact_len: false,
        }
    }

    /// The options of a URL: `lsm:DIRECTORY?memtable=64MiB&cache=1GiB&...`.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown option or a bad value.
    pub fn from_url(url: &EngineUrl) -> Result<Self> {
        if url.path().is_empty() {
            return Err(Error::invalid("lsm.open", "the URL names no directory; try lsm:./data"));
        }
        let mut config = Self::new(url.path());
        set(&mut config.memtable_bytes, bytes(url.take_bytes("memtable")?)?);
        set(&mut config.sealed_memtables_max, bytes(url.take_number("sealed_memtables")?)?);
        set(&mut config.cache_bytes, url.take_bytes("cache")?);
        set(&mut config.block_bytes, bytes(url.take_bytes("block")?)?);
        set(&mut config.restart_interval, bytes(url.take_number("restart_interval")?)?);
        set(&mut config.filter_bits_per_key, bytes(url.take_number("filter_bits")?)?);
        set(&mut config.index_split_bytes, bytes(url.take_bytes("index_split")?)?);
        set(&mut config.level0_compact_files, bytes(url.take_number("level0_compact")?)?);
        set(&mut config.level0_slow_files, bytes(url.take_number("level0_slow")?)?);
        set(&mut config.level0_stop_files, bytes(url.take_number("level0_stop")?)?);
        set(&mut config.level_base_bytes, url.take_bytes("level_base")?);
        set(&mut config.level_multiplier, url.take_number("level_multiplier")?);
        set(&mut config.file_bytes, url.take_bytes("file")?);
        set(&mut config.log_segment_bytes, url.take_bytes("log_segment")?);
        set(&mut config.log_buffer_bytes, bytes(url.take_bytes("log_buffer")?)?);
        set(&mut config.value_bytes_max, bytes(url.take_bytes("value_max")?)?);
        set(&mut config.exact_len, url.take_bool("exact_len")?);
        let compressions = [
            ("none", Compression::None),
            ("lz4", Compression::Lz4),
            ("zstd", Compression::Zstd(3)),
        ];
        set(&mut config.compression, url.take_choice("compression", &compressions)?);
        url.finish()?;
        config.validate()?;
        Ok(config)
    }

    /// Refuses options that cannot work together.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub fn validate(&self) -> Result<()> {
        let checks = [
            (self.memtable_bytes >= 1024, "memtable must be at least 1KiB"),
            (self.sealed_memtables_max >= 1, "sealed_memtables must be at least 1"),
            ((64..=16 << 20).contains(&self.block_bytes), "block must be 64B to 16MiB"),
            ((1..=1024).contains(&self.restart_interval), "restart_interval must be 1 to 1024"),
            (self.filter_bits_per_key <= 64, "filter_bits must be at most 64"),
            (self.index_split_bytes >= 256, "index_split must be at least 256B"),
            (self.level0_compact_files >= 1, "level0_compact must be at least 1"),
            (
                self.level0_slow_files >= self.level0_compact_files,
                "level0_slow must be at least level0_compact",
            ),
            (
                self.level0_stop_files >= self.level0_slow_files
                    && self.level0_stop_files > self.level0_compact_files,
                "level0_stop must be at least level0_slow and above level0_compact",
            ),
            (self.level_base_bytes >= 1024, "level_base must be at least 1KiB"),
            ((2..=100).contains(&self.level_multiplier), "level_multiplier must be 2 to 100"),
            (self.file_bytes >= 1024, "file must be at least 1KiB"),
            (self.log_segment_bytes >= 4096, "log_segment must be at least 4KiB"),
            (self.log_buffer_bytes >= 4096, "log_buffer must be at least 4KiB"),
            (
                (1..=MAX_VALUE_BYTES).contains(&self.value_bytes_max),
                "value_max must be 1B to 512MiB and 64KiB",
            ),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, what)) => Err(Error::invalid("lsm.open", *what)),
        }
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn bytes(value: Option<u64>) -> Result<Option<usize>> {
    value
        .map(|value| {
            usize::try_from(value)
                .map_err(|_| Error::invalid("lsm.open", "a size is beyond the address space"))
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_act_and_nonsense_is_refused() {
        let url = EngineUrl::parse("lsm:d?memtable=1MiB&compression=zstd&exact_len=true").unwrap();
        let config = LsmConfig::from_url(&url).unwrap();
        assert_eq!(config.memtable_bytes, 1 << 20);
        assert_eq!(config.compression, Compression::Zstd(3));
        assert!(config.exact_len);
        for bad in ["lsm:", "lsm:d?memtable=3", "lsm:d?what=1", "lsm:d?level0_stop=1"] {
            assert!(LsmConfig::from_url(&EngineUrl::parse(bad).unwrap()).is_err(), "{bad}");
        }
    }
}
