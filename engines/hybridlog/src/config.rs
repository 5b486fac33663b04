//! [`HybridLogConfig`]: sizes of an engine, and how they are named in a URL.

use ferrokit_engine::{EngineUrl, Error, Result, Tier};
use ferrokit_storage::Compression;

use crate::store::migrate::TierLimits;

use crate::log::RESERVED_FRAMES;

/// Frames a log has at least: those kept for compaction, and as many again to write to.
const MIN_FRAMES: u64 = 8;
const MIN_PAGE_BYTES: u64 = 4 << 10;
const MAX_PAGE_BYTES: u64 = 64 << 20;
/// Pages that a new directory's memory is divided into, as far as their size allows.
const DEFAULT_PAGES: u64 = 128;
const DEFAULT_PAGE_BYTES_MIN: u64 = 64 << 10;
const DEFAULT_PAGE_BYTES_MAX: u64 = 4 << 20;
const MAX_MEMORY_BYTES: u64 = 1 << 46;
const BUCKET_BYTES: u64 = 64;
const MAX_BUCKETS: u64 = 1 << 32;
const MAX_KEYSPACES: u64 = 1 << 16;
/// As long as a string of Redis may be, and what is kept with it.
const MAX_VALUE_BYTES: u64 = (512 << 20) + (64 << 10);
/// A longest value and its key; a batch is one record of the log.
pub(crate) const MAX_BATCH_BYTES: u64 = MAX_VALUE_BYTES + (64 << 10);
pub(crate) const MAX_BATCH_OPS: usize = 1 << 16;
const MAX_SEGMENT_BYTES: u64 = 1 << 40;
const MIN_CHECKPOINT_BYTES: u64 = 4 << 10;
const MIN_LOG_SEGMENT_BYTES: u64 = 4 << 10;
/// The index of a packed segment is one block, and read at once.
const MAX_PACKED_SEGMENT_BYTES: u64 = 4 << 30;
const MIN_OBJECT_CACHE_BYTES: u64 = 64 << 10;
const DEFAULT_MAPPED_BYTES: u64 = 256 << 20;
/// Of records of 150 bytes in chunks of 32 KiB, level 3 saves 2 % more and takes half as long again; lz4
/// leaves half as much again, which a store is paid for, and a request takes far longer than either.
const ZSTD_LEVEL: i32 = 1;
const DEFAULT_OBJECT_CODEC: Compression = Compression::Zstd(ZSTD_LEVEL);

/// Sizes of an engine. `hybridlog:?memory=4GiB&page=2MiB` sets them in a URL, each under the name
/// given with it here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HybridLogConfig {
    /// The directory of the data: what a URL has before its options. Empty: everything is in memory
    /// only, and nothing survives the process.
    pub directory: String,
    /// `memory`: bytes of record pages in memory: without a directory the limit of the data with its
    /// records' overhead. With one, of pages, index and read cache together: pages give way to the
    /// other two, but for a quarter. A multiple of `page`, at least eight of them.
    pub memory_bytes: u64,
    /// `page`: bytes of a page, a power of two from 4 KiB to 64 MiB. A key and its value take at
    /// most half a page. 0, and where a URL names none: as the directory has it; for a new one a
    /// 128th of `memory`, from 64 KiB to 4 MiB; in memory only, 4 MiB.
    pub page_bytes: u64,
    /// `index`: bytes of hash buckets at first, a power of two of at least 64.
    pub index_bytes: u64,
    /// `index_max`: bytes the buckets may grow to by doubling; overflow buckets add a fraction, and
    /// while the index grows the next smaller one is kept beside it.
    pub index_bytes_max: u64,
    /// `slack`: percent of room that a value gets beyond its length when it outgrew its record.
    pub slack_percent: u32,
    /// `garbage`: percent of dead bytes in the pages (on disk, where there is a directory; else in
    /// memory) from which on they are compacted in the background, however much room is left.
    pub garbage_percent: u32,
    /// `keyspaces`: how many there are.
    pub keyspaces: u32,
    /// `read_cache`: percent of `memory` that copies of records read from disk may take; 0 for none.
    /// Taken as it fills.
    pub read_cache_percent: u32,
    /// `segment`: bytes of pages in a file, at least one page. For a new directory; an old one keeps
    /// its own.
    pub segment_bytes: u64,
    /// `checkpoint`: bytes of the log after which a checkpoint is taken, so that an opening replays
    /// about as much at most.
    pub checkpoint_bytes: u64,
    /// `log_segment`: bytes of a file of the log, which is allocated ahead.
    pub log_segment_bytes: u64,
    /// `mapped`: bytes of the newest segments that are memory mapped, so that their records are read
    /// without a system call; 0 for none. By default a quarter of `memory`: what left it last is in
    /// the system's cache as a rule, where a read of more would wait for the device on its thread. A
    /// device that fails under a mapping ends the process.
    pub mapped_bytes: u64,
    /// `object`: the object tier, where the oldest segments go: a directory, or the URL of a store
    /// (`s3://bucket/prefix`; with the feature `object-store`, which takes credentials from the
    /// environment). Empty: none. It takes a `disk`.
    pub object: String,
    /// `disk`: bytes of segments that stay on the local disk; older ones move to the object tier, as
    /// long as that works: if it does not, more stays. `u64::MAX`: everything stays.
    pub disk_bytes: u64,
    /// `object_codec`: how segments in the object tier are compressed: `none`, `lz4`, `zstd`. For
    /// those to be moved; all are read.
    pub object_codec: Compression,
    /// `object_key`: a file of 32 bytes, the key that segments in the object tier are encrypted with
    /// from now on. Empty: none. The local disk has them in the clear.
    pub object_key: String,
}

impl Default for HybridLogConfig {
    /// 1 GiB in pages of 4 MiB, an index of 1 MiB to 512 MiB, 25 % slack, 50 % garbage, 1024
    /// keyspaces; in memory only (with a directory, a quarter of the memory may become read cache,
    /// segments of 64 MiB, and a checkpoint for each 256 MiB of the log).
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            page_bytes: 0,
            index_bytes: 1 << 20,
            index_bytes_max: 512 << 20,
            slack_percent: 25,
            garbage_percent: 50,
            keyspaces: 1024,
            directory: String::new(),
            read_cache_percent: 25,
            segment_bytes: 64 << 20,
            checkpoint_bytes: 256 << 20,
            log_segment_bytes: 64 << 20,
            mapped_bytes: DEFAULT_MAPPED_BYTES,
            object: String::new(),
            disk_bytes: u64::MAX,
            object_codec: DEFAULT_OBJECT_CODEC,
            object_key: String::new(),
        }
    }
}

impl HybridLogConfig {
    /// The sizes an engine URL names; the others by default (`index_max` is about half of `memory`).
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown option or a size out of range.
    pub fn from_url(url: &EngineUrl) -> Result<Self> {
        let mut config = Self { directory: url.path().to_owned(), ..Self::default() };
        if let Some(bytes) = url.take_bytes("memory")? {
            config.memory_bytes = bytes;
            let half = (bytes / 2).clamp(BUCKET_BYTES, MAX_MEMORY_BYTES);
            // With a directory it is a part of the memory, and while it grows half as much again.
            config.index_bytes_max = match config.directory.is_empty() {
                true => half.next_power_of_two(),
                false => 1 << half.ilog2(),
            };
            config.index_bytes = config.index_bytes.min(config.index_bytes_max);
            config.mapped_bytes = bytes / 4;
        }
        if let Some(bytes) = url.take_bytes("page")? {
            config.page_bytes = bytes;
        }
        if let Some(bytes) = url.take_bytes("index")? {
            config.index_bytes = bytes;
            config.index_bytes_max = config.index_bytes_max.max(bytes);
        }
        if let Some(bytes) = url.take_bytes("index_max")? {
            config.index_bytes_max = bytes;
        }
        config.slack_percent = take_u32(url, "slack", config.slack_percent)?;
        config.garbage_percent = take_u32(url, "garbage", config.garbage_percent)?;
        config.keyspaces = take_u32(url, "keyspaces", config.keyspaces)?;
        if !config.directory.is_empty() {
            config.read_cache_percent = take_u32(url, "read_cache", config.read_cache_percent)?;
            if let Some(bytes) = url.take_bytes("segment")? {
                config.segment_bytes = bytes;
            }
            if let Some(bytes) = url.take_bytes("checkpoint")? {
                config.checkpoint_bytes = bytes;
            }
            if let Some(bytes) = url.take_bytes("log_segment")? {
                config.log_segment_bytes = bytes;
            }
            config.take_tiers(url)?;
        }
        url.finish()?;
        config.check()?;
        Ok(config)
    }

    fn take_tiers(&mut self, url: &EngineUrl) -> Result<()> {
        if let Some(bytes) = url.take_bytes("mapped")? {
            self.mapped_bytes = bytes;
        }
        let Some(object) = url.take("object") else { return Ok(()) };
        self.object = object;
        self.disk_bytes = url.take_bytes("disk")?.unwrap_or(u64::MAX);
        let codecs = [
            ("none", Compression::None),
            ("lz4", Compression::Lz4),
            ("zstd", Compression::Zstd(ZSTD_LEVEL)),
        ];
        if let Some(codec) = url.take_choice("object_codec", &codecs)? {
            self.object_codec = codec;
        }
        if let Some(path) = url.take("object_key") {
            require(!path.is_empty(), "object_key: the path of a file")?;
            self.object_key = path;
        }
        require(!self.object.is_empty(), "object: a directory or a URL")?;
        require(self.disk_bytes != u64::MAX, "disk: with object, how much stays on the local disk")
    }

    /// With the size of pages chosen, if it is not named; `known` is that of the directory's data.
    #[must_use]
    pub(crate) fn with_pages(mut self, known: Option<u64>) -> Self {
        if self.page_bytes == 0 {
            let part = 1 << (self.memory_bytes / DEFAULT_PAGES).max(1).ilog2();
            self.page_bytes = match known {
                Some(bytes) => bytes,
                None if self.directory.is_empty() => DEFAULT_PAGE_BYTES_MAX,
                None => part.clamp(DEFAULT_PAGE_BYTES_MIN, DEFAULT_PAGE_BYTES_MAX),
            };
        }
        self
    }

    /// Refuses sizes out of range.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub fn check(&self) -> Result<()> {
        if self.page_bytes == 0 {
            return self.clone().with_pages(None).check();
        }
        require(
            self.page_bytes.is_power_of_two()
                && (MIN_PAGE_BYTES..=MAX_PAGE_BYTES).contains(&self.page_bytes),
            "page: a power of two from 4KiB to 64MiB",
        )?;
        require(
            self.memory_bytes.is_multiple_of(self.page_bytes)
                && self.memory_bytes >= MIN_FRAMES * self.page_bytes
                && self.memory_bytes <= MAX_MEMORY_BYTES,
            "memory: a multiple of page, at least eight of them, at most 64TiB",
        )?;
        let is_index_size = |bytes: u64| {
            bytes.is_power_of_two() && (BUCKET_BYTES..=MAX_BUCKETS * BUCKET_BYTES).contains(&bytes)
        };
        require(is_index_size(self.index_bytes), "index: a power of two from 64 to 256GiB")?;
        require(
            is_index_size(self.index_bytes_max) && self.index_bytes_max >= self.index_bytes,
            "index_max: a power of two from index to 256GiB",
        )?;
        require(self.read_cache_percent <= 50, "read_cache: at most 50 percent of memory")?;
        require(self.slack_percent <= 400, "slack: at most 400 percent")?;
        require((1..=99).contains(&self.garbage_percent), "garbage: from 1 to 99 percent")?;
        require(
            self.segment_bytes >= self.page_bytes && self.segment_bytes <= MAX_SEGMENT_BYTES,
            "segment: from a page to 1TiB",
        )?;
        require(
            (MIN_CHECKPOINT_BYTES..=MAX_MEMORY_BYTES).contains(&self.checkpoint_bytes),
            "checkpoint: from 4KiB to 64TiB",
        )?;
        require(
            (MIN_LOG_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.log_segment_bytes),
            "log_segment: from 4KiB to 1TiB",
        )?;
        let needs_object = self.disk_bytes != u64::MAX || !self.object_key.is_empty();
        require(
            !self.object.is_empty() || !needs_object,
            "disk, object_key: for an object tier; name one with object",
        )?;
        require(
            self.object.is_empty()
                || (!self.directory.is_empty() && self.segment_bytes <= MAX_PACKED_SEGMENT_BYTES),
            "object: with a directory, and segments of at most 4GiB",
        )?;
        require(
            (1..=MAX_KEYSPACES).contains(&u64::from(self.keyspaces)),
            "keyspaces: from 1 to 65536",
        )
    }

    /// How much may be in each tier.
    pub(crate) fn tier_limits(&self) -> TierLimits {
        TierLimits { mapped_bytes: self.mapped_bytes, disk_bytes: self.disk_bytes }
    }

    /// Bytes of what was read from the object tier that are kept: a 64th of the memory beside it.
    pub(crate) fn object_cache_bytes(&self) -> u64 {
        (self.memory_bytes / 64).max(MIN_OBJECT_CACHE_BYTES)
    }

    /// The tiers there are.
    pub(crate) fn tiers(&self) -> &'static [Tier] {
        match (self.mapped_bytes > 0, !self.object.is_empty()) {
            _ if self.directory.is_empty() => &[Tier::Memory],
            (false, false) => &[Tier::Memory, Tier::Disk],
            (true, false) => &[Tier::Memory, Tier::Mapped, Tier::Disk],
            (false, true) => &[Tier::Memory, Tier::Disk, Tier::Object],
            (true, true) => &[Tier::Memory, Tier::Mapped, Tier::Disk, Tier::Object],
        }
    }

    /// Bits of an address that are its offset in a page, in words.
    pub(crate) fn page_words_log2(&self) -> u32 {
        (self.page_bytes / 8).trailing_zeros()
    }

    /// The number of page frames.
    pub(crate) fn frames(&self) -> usize {
        (self.memory_bytes / self.page_bytes) as usize
    }

    /// The number of page frames that are left to the pages, whatever else takes memory: enough for
    /// the largest batch.
    pub(crate) fn frames_min(&self) -> usize {
        let frames = self.frames();
        (frames / 4 + RESERVED_FRAMES + 4).min(frames)
    }

    /// The number of page frames beside an index and a read cache of that many bytes.
    pub(crate) fn frames_beside(&self, bytes: u64) -> usize {
        let frames = (self.memory_bytes.saturating_sub(bytes) / self.page_bytes) as usize;
        frames.max(self.frames_min())
    }

    /// Bytes the read cache may take.
    pub(crate) fn read_cache_bytes(&self) -> u64 {
        self.memory_bytes / 100 * u64::from(self.read_cache_percent)
    }

    /// Buckets at first, and at most.
    pub(crate) fn buckets(&self) -> (u64, u64) {
        (self.index_bytes / BUCKET_BYTES, self.index_bytes_max / BUCKET_BYTES)
    }

    /// The longest key in bytes.
    pub(crate) fn max_key_bytes(&self) -> usize {
        (self.page_bytes as usize / 16).min(usize::from(u16::MAX))
    }

    /// The longest value of one record: half a page, less a key and the record's own words.
    pub(crate) fn record_value_bytes(&self) -> usize {
        self.page_bytes as usize / 2 - self.max_key_bytes() - 64
    }

    /// Bytes of the pieces that longer values are cut into: five of them fill a page but for a 16th, if
    /// their key is short.
    pub(crate) fn piece_bytes(&self) -> usize {
        self.page_bytes as usize / 16 * 3
    }

    /// The longest value in bytes, far from what the memory can have at a time: without a directory it
    /// has the value that a write replaces, too.
    pub(crate) fn max_value_bytes(&self) -> usize {
        let part = match self.directory.is_empty() {
            true => self.memory_bytes / 8,
            false => self.memory_bytes / 8 * 5,
        };
        (part.min(MAX_VALUE_BYTES) as usize).max(self.record_value_bytes())
    }

    /// Bytes of the keys and values of a batch that the memory has at a time; of a larger batch most
    /// values are cut into pieces.
    pub(crate) fn batch_record_bytes(&self) -> usize {
        (self.memory_bytes / 16).min(MAX_BATCH_BYTES) as usize
    }

    /// The most key and value bytes of a batch.
    pub(crate) fn max_batch_bytes(&self) -> usize {
        self.batch_record_bytes().max(self.max_value_bytes() + self.max_key_bytes())
    }

    /// The most writes of a batch: as much again for their records' own words.
    pub(crate) fn max_batch_ops(&self) -> usize {
        (self.batch_record_bytes() / 64).min(MAX_BATCH_OPS)
    }
}

fn take_u32(url: &EngineUrl, option: &'static str, default: u32) -> Result<u32> {
    match url.take_number(option)? {
        None => Ok(default),
        Some(number) => u32::try_from(number).map_err(|_| {
            Error::invalid("engine url", format!("option \"{option}\" is out of range: {number}"))
        }),
    }
}

fn require(holds: bool, rule: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::invalid("hybridlog config", rule)) }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn from(url: &str) -> Result<HybridLogConfig> {
        HybridLogConfig::from_url(&EngineUrl::parse(url).unwrap())
    }

    #[test]
    fn a_url_sets_every_size() {
        let config = from(
            "hybridlog:?memory=64MiB&page=1MiB&index=64KiB&index_max=1MiB&slack=10&garbage=30\
             &keyspaces=16",
        )
        .unwrap();
        let expected = HybridLogConfig {
            memory_bytes: 64 << 20,
            mapped_bytes: 16 << 20,
            page_bytes: 1 << 20,
            index_bytes: 64 << 10,
            index_bytes_max: 1 << 20,
            slack_percent: 10,
            garbage_percent: 30,
            keyspaces: 16,
            ..HybridLogConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!(from("hybridlog:").unwrap(), HybridLogConfig::default());
        let config =
            from("hybridlog:./data?segment=16MiB&checkpoint=1GiB&log_segment=1MiB&read_cache=10")
                .unwrap();
        let expected = HybridLogConfig {
            directory: "./data".to_owned(),
            read_cache_percent: 10,
            segment_bytes: 16 << 20,
            checkpoint_bytes: 1 << 30,
            log_segment_bytes: 1 << 20,
            ..HybridLogConfig::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn a_url_sets_the_tiers() {
        let config = from(
            "hybridlog:./data?memory=64MiB&mapped=1MiB&object=s3%3A%2F%2Fbucket%2Fprefix&disk=0\
             &object_codec=lz4&object_key=./key",
        )
        .unwrap();
        assert_eq!(config.object, "s3://bucket/prefix");
        assert_eq!((config.mapped_bytes, config.disk_bytes), (1 << 20, 0));
        assert_eq!(config.object_codec, Compression::Lz4);
        assert_eq!(config.object_key, "./key");
        assert_eq!(config.tiers(), [Tier::Memory, Tier::Mapped, Tier::Disk, Tier::Object]);
        let config = from("hybridlog:./data?mapped=0").unwrap();
        assert_eq!(config.tiers(), [Tier::Memory, Tier::Disk]);
        assert_eq!(from("hybridlog:").unwrap().tiers(), [Tier::Memory]);
    }

    #[test]
    fn pages_are_as_the_directory_has_them_or_in_proportion_to_the_memory() {
        for (url, known, expected) in [
            ("hybridlog:", None, 4 << 20),
            ("hybridlog:?memory=64MiB", None, 4 << 20),
            ("hybridlog:d?memory=64MiB", None, 512 << 10),
            ("hybridlog:d?memory=65MiB", None, 512 << 10),
            ("hybridlog:d?memory=1MiB", None, 64 << 10),
            ("hybridlog:d?memory=1GiB", None, 4 << 20),
            ("hybridlog:d?memory=1GiB", Some(64 << 10), 64 << 10),
            ("hybridlog:d?memory=1GiB&page=1MiB", Some(64 << 10), 1 << 20),
        ] {
            let config = from(url).unwrap().with_pages(known);
            assert_eq!(config.page_bytes, expected, "{url}");
            assert!(config.check().is_ok());
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for (url, part) in [
            ("hybridlog:?segment=1GiB", "no option \"segment\""),
            ("hybridlog:./data?segment=1MiB", "segment:"),
            ("hybridlog:./data?checkpoint=1", "checkpoint:"),
            ("hybridlog:./data?log_segment=1", "log_segment:"),
            ("hybridlog:?read_cache=1", "no option \"read_cache\""),
            ("hybridlog:./data?read_cache=51", "read_cache:"),
            ("hybridlog:?mapped=0", "no option \"mapped\""),
            ("hybridlog:?object=./o&disk=0", "no option \""),
            ("hybridlog:./data?object=./o", "disk:"),
            ("hybridlog:./data?object=&disk=0", "object:"),
            ("hybridlog:./data?disk=1GiB", "no option \"disk\""),
            ("hybridlog:./data?object_key=./k", "no option \"object_key\""),
            ("hybridlog:./data?object=./o&disk=0&object_key=", "object_key:"),
            ("hybridlog:./data?object=./o&disk=0&object_codec=gzip", "object_codec"),
            ("hybridlog:./data?object=./o&disk=0&segment=5GiB", "object:"),
            ("hybridlog:?page=3MiB", "page:"),
            ("hybridlog:?page=2KiB", "page:"),
            ("hybridlog:?memory=5MiB", "memory:"),
            ("hybridlog:?memory=16777215TiB", "memory:"),
            ("hybridlog:?index=100", "index:"),
            ("hybridlog:?index=1MiB&index_max=64KiB", "index_max:"),
            ("hybridlog:?slack=401", "slack:"),
            ("hybridlog:?slack=4294967296", "out of range"),
            ("hybridlog:?garbage=0", "garbage:"),
            ("hybridlog:?keyspaces=0", "keyspaces:"),
            ("hybridlog:?cache=1", "no option \"cache\""),
        ] {
            let error = from(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn the_largest_record_fits_half_a_page() {
        for log2 in 12..=26 {
            let page_bytes = 1_u64 << log2;
            let config = HybridLogConfig {
                page_bytes,
                memory_bytes: page_bytes * 8,
                ..HybridLogConfig::default()
            };
            config.check().unwrap();
            let record = 5 * 8 + config.max_key_bytes() + config.record_value_bytes() + 2 * 7;
            assert!(record as u64 <= page_bytes / 2);
        }
    }
}
