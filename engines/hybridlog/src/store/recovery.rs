//! Opening a directory: the checkpoint in force, the newest of its pages in memory, and the log
//! replayed from there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ferrokit_engine::{Durability, Error, ErrorKind, Op, Result, UnixMillis, WriteBatch};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::object::open_tier;
use ferrokit_storage::{Appended, Fs, Host, Log, LogConfig, LogPosition, remove_temporary_files};

use super::checkpoint::{Base, CheckpointJob};
use super::drive::Step;
use super::migrate::Migration;
use super::tiers::{Tiers, TiersParts};
use super::{Intent, Store};
use crate::address::LogicalAddress;
use crate::config::{HybridLogConfig, MAX_BATCH_BYTES, MAX_BATCH_OPS};
use crate::disk::checkpoint_file::{self, Current, Facts, IndexShape, Records};
use crate::disk::image::{load_page, read_record};
use crate::disk::packed::{Packing, read_key};
use crate::disk::place::{Objects, Places};
use crate::disk::segment::{self, Layout, Segments};
use crate::epoch::{Epochs, SLOTS};
use crate::index::HashIndex;
use crate::index::entry::TagBits;
use crate::index::table::{Access, Table};
use crate::interrupt::Interrupt;
use crate::journal::{self, Change, Journal};
use crate::keyspaces::Keyspaces;
use crate::log::Span;
use crate::primitive::Ordering;
use crate::read_cache::ReadCache;

/// The directory of the log in that of the engine.
const LOG_DIRECTORY: &str = "log";
/// What the log may take beyond a batch's own bytes.
const LOG_RECORD_SPARE_BYTES: usize = 4096;

/// What a directory begins with.
struct Beginning {
    /// With the size of pages that it has.
    config: HybridLogConfig,
    facts: Facts,
    table: Table,
    segments: Segments,
    /// The checkpoint it was, if there was one.
    checkpoint: Option<Begun>,
}

/// The checkpoint that an opening begins from.
struct Begun {
    number: u64,
    base: Base,
    records: Records,
}

impl Store {
    /// Opens the store in the configured directory, or begins one; with it the configuration as it
    /// came to be. Blocks.
    ///
    /// # Errors
    /// `Locked`, `Corruption`, `VersionTooNew`, `InvalidArgument` for a page size it was not made
    /// with or fewer keyspaces than it has, `Io`, `OutOfSpace`.
    pub(crate) fn open(host: &Host, config: &HybridLogConfig) -> Result<(Self, HybridLogConfig)> {
        let fs = &host.fs;
        let directory = config.directory.as_str();
        fs.create_dir_all(directory)?;
        let directory_lock = fs.lock_dir(directory)?;
        remove_temporary_files(&**fs, directory)?;
        // What is found stays: a file that replaced another just before a crash may not have its name on
        // the device yet, and what it makes superfluous goes from here on.
        fs.sync_dir(directory)?;
        let beginning = match Current::read(&**fs, directory)? {
            Some(current) => begin_from(host, config, current)?,
            None => begin_anew(host, config)?,
        };
        let Beginning { config, facts, table, segments, checkpoint } = beginning;
        let config = &config;
        let epochs = Arc::new(Epochs::new(SLOTS));
        // A quarter of the frames is for what comes.
        let frames = config.frames_beside(table.bytes()) as u64;
        let loaded = (frames * 3 / 4).min(facts.end_page - facts.begin_page);
        let head = facts.end_page - loaded;
        let span = Span { begin: facts.begin_page, head, tail: facts.end_page };
        let (_, buckets_max) = config.buckets();
        let buckets_max = buckets_max.max(table.primaries());
        let index = HashIndex::of(table, buckets_max, facts.tag_bits, Arc::clone(&epochs));
        let mut spaces = facts.spaces.clone();
        let mut next_space = facts.next_space;
        while spaces.len() < config.keyspaces as usize {
            spaces.push((next_space, 0));
            next_space += 1;
        }
        let keyspaces = Keyspaces::of(&spaces, next_space, Arc::clone(&epochs));
        let mut job =
            CheckpointJob::new(config.checkpoint_bytes, facts.engine, facts.pages_per_segment);
        if let Some(checkpoint) = &checkpoint {
            job.current = checkpoint.number;
            job.base = Some(checkpoint.base);
        }
        let read_cache = ReadCache::new(config.read_cache_bytes()).map_err(|error| {
            Error::new(ErrorKind::OutOfSpace, "open", "no memory for the read cache")
                .with_source(error)
        })?;
        let tiers = Tiers::new(TiersParts {
            host: host.clone(),
            directory: directory.to_owned(),
            segments,
            config: config.clone(),
            read_cache,
            flushed_page: facts.end_page,
            checkpoints: job,
            migration: Migration::new(config.tier_limits(), (facts.begin_page, facts.end_page)),
            directory_lock,
        });
        let seed = facts.hash_seed;
        let store = Self::of(&host.env, config, seed, span, index, keyspaces, epochs, Some(tiers))?;
        if let Some(tiers) = &store.tiers {
            tiers.cold_dead_words.0.store(facts.dead_words, Ordering::Relaxed);
            store.long_values.set_keys(&facts.long_keys);
            tiers.expiring.set_counts(&facts.expiring);
            if facts.has_expiries {
                tiers.expired.note_expiries();
            }
        }
        store.collect_before_page.store(facts.collect_before_page, Ordering::Relaxed);
        store.load_pages(head, facts.end_page)?;
        store.clock.raise(facts.time);
        if checkpoint.is_some() {
            // Of its own index, too, which was copied while writes went on: the entries were counted
            // after that.
            store.index_pages(facts.scan_from.max(facts.begin_page)..facts.end_page)?;
        }
        let kept = checkpoint.as_ref().map(|it| (it.number, it.base.number));
        let log = store.replay(host, config, &facts, checkpoint.map(|it| it.records))?;
        store.remove_leavings(kept)?;
        let journal = Journal::new(log);
        let due = journal.log().end().0 + config.checkpoint_bytes;
        journal.set_checkpoint_due(LogPosition(due));
        if let Some(tiers) = &store.tiers {
            // Nobody else has the store yet.
            let _ = tiers.journal.set(journal);
        }
        Ok((store, config.clone()))
    }

    /// Brings pages back into memory.
    fn load_pages(&self, first: u64, end: u64) -> Result<()> {
        let Some(tiers) = &self.tiers else { return Ok(()) };
        for page in first..end {
            let bytes = tiers.segments.read_page(page)?;
            load_page(&bytes, self.log.page_words_of(page));
        }
        Ok(())
    }

    /// Adds the records of pages to an index that was copied before they were written.
    ///
    /// As they were linked: each at the head of its chain, and a later one at a later address. What
    /// was given up before its page was written had no effect. See `docs/design.md`, "Incremental
    /// checkpoints".
    fn index_pages(&self, pages: Range<u64>) -> Result<()> {
        let Some(tiers) = &self.tiers else { return Ok(()) };
        for page in pages {
            let bytes = tiers.segments.read_page(page)?;
            let mut at = 0;
            while at < bytes.len() {
                let address = LogicalAddress::new(page, at as u64 / 8, tiers.page_words_log2);
                let record = read_record(&bytes[at..], address).ok_or_else(|| {
                    let what = "a record does not match its checksum";
                    tiers.segments.corruption(page, at as u64, what)
                })?;
                at += record.size_bytes;
                if record.header.is_removed() {
                    continue;
                }
                let name = self.name(record.space, record.key);
                let linked = self.run_now("hybridlog.open", |guard| {
                    let table = self.table_for(&name, guard)?;
                    let begin = self.log.begin();
                    let (slot, head) = table.find_or_create(name.hash, Access::Shared, begin)?;
                    if head.address() < address && !slot.exchange(head, head.with_address(address))
                    {
                        return Err(Interrupt::Again);
                    }
                    self.help_index(guard);
                    Ok(())
                })?;
                let Step::Done(()) = linked else {
                    return Err(Error::new(
                        ErrorKind::Busy,
                        "hybridlog.open",
                        "an index had to wait for others",
                    ));
                };
            }
        }
        Ok(())
    }

    fn replay(
        &self,
        host: &Host,
        config: &HybridLogConfig,
        facts: &Facts,
        records: Option<Records>,
    ) -> Result<Arc<Log>> {
        // A backup has what it needs of the log with it.
        let expects_log = records.is_some() && !facts.has_records;
        let is_begun = records.is_some();
        let directory = join(&config.directory, LOG_DIRECTORY);
        let holds_segments = host.fs.exists(&directory)?
            && host.fs.list(&directory)?.iter().any(|entry| entry.name.ends_with(".log"));
        let is_damaged = !is_begun && !holds_segments && has_data(&host.fs, &config.directory)?;
        if is_damaged {
            return Err(Error::corruption(
                "hybridlog.open",
                "there are data, but neither CURRENT nor a log",
                &config.directory,
                0,
            ));
        }
        if expects_log && !holds_segments {
            return Err(Error::corruption("hybridlog.open", "the log is missing", &directory, 0));
        }
        let log_config = LogConfig {
            segment_bytes: config.log_segment_bytes,
            // That of any configuration: the log may have been written with more memory.
            max_record_bytes: MAX_BATCH_BYTES as usize
                + journal::overhead_bytes(MAX_BATCH_OPS)
                + LOG_RECORD_SPARE_BYTES,
            ..LogConfig::default()
        };
        let apply = |at: LogPosition, bytes: &[u8]| {
            let record = journal::decode(at, bytes)?;
            self.clock.raise(record.time);
            self.apply(&record.changes)
        };
        if let Some(mut records) = records {
            let mut bytes = Vec::new();
            while records.next(log_config.max_record_bytes, &mut bytes)? {
                apply(facts.replay_from, &bytes)?;
            }
        }
        let mut replay = |at: Appended, bytes: &[u8]| apply(at.start, bytes);
        let from = facts.replay_from;
        let log = Log::open(host, &directory, log_config, from, &mut replay);
        let log = log.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::corruption(
                "hybridlog.open",
                "the log lacks what the checkpoint lacks",
                &directory,
                0,
            )
            .with_source(error),
            _ => error,
        })?;
        if log.end() < facts.log_end {
            return Err(Error::corruption(
                "hybridlog.open",
                "the log ends before the checkpoint does",
                &directory,
                log.end().0,
            ));
        }
        Ok(log)
    }

    /// Removes the files that belong to no checkpoint in force.
    fn remove_leavings(&self, kept: Option<(u64, u64)>) -> Result<()> {
        let Some(tiers) = &self.tiers else { return Ok(()) };
        let (fs, directory) = (&tiers.host.fs, tiers.directory.as_str());
        let segments = tiers.segments.numbers();
        for entry in fs.list(directory)? {
            let name = &entry.name;
            let is_left = |number: Option<u64>, kept: Option<u64>| {
                number.is_some_and(|number| Some(number) != kept)
            };
            if segment::number_of(name).is_some_and(|number| !segments.contains(&number))
                || is_left(checkpoint_file::number_of(name), kept.map(|kept| kept.0))
                || is_left(checkpoint_file::index_of(name), kept.map(|kept| kept.1))
            {
                fs.remove_file(&join(directory, &entry.name))?;
            }
        }
        Ok(())
    }

    /// Applies the changes of a record.
    fn apply(&self, changes: &[Change<'_>]) -> Result<()> {
        // Nothing is asked of what is on disk, and space is made at once: all are as good as ready.
        let now = |op: Op<'_, super::Outcome>| op.wait().map(drop);
        let intent = |keyspace, key| Intent {
            operation: "hybridlog.replay",
            keyspace,
            key,
            durability: Durability::Memory,
            reports_existed: false,
        };
        for change in changes {
            if let Change::Put { key, .. } = change
                && key.len() > self.max_key_bytes
            {
                return Err(Error::invalid(
                    "hybridlog.open",
                    "page: the log has keys for larger pages than these",
                ));
            }
        }
        if let [change] = changes {
            return match *change {
                Change::Put { keyspace, key, value, expire_at } => {
                    now(self.put(intent(keyspace, key), value, expire_at))
                }
                Change::Delete { keyspace, key } | Change::Expired { keyspace, key } => {
                    now(self.delete(intent(keyspace, key)))
                }
                Change::Clear { keyspace } => {
                    self.clear_keyspace(keyspace, Durability::Memory).map(drop)
                }
                Change::Swap { a, b } => self.swap_keyspaces(a, b, Durability::Memory).map(drop),
            };
        }
        let mut batch = WriteBatch::new();
        for change in changes {
            match *change {
                Change::Put { keyspace, key, value, expire_at } => {
                    batch.put(keyspace, key, value, expire_at);
                }
                Change::Delete { keyspace, key } | Change::Expired { keyspace, key } => {
                    batch.delete(keyspace, key);
                }
                Change::Clear { .. } | Change::Swap { .. } => {
                    // Each has a record of its own.
                    return Err(Error::corruption(
                        "hybridlog.replay",
                        "a change of keyspaces among others",
                        "log",
                        0,
                    ));
                }
            }
        }
        now(self.write(&batch, Durability::Memory, false))
    }
}

/// Whether a directory has files of pages or checkpoints.
fn has_data(fs: &Arc<dyn Fs>, directory: &str) -> Result<bool> {
    Ok(fs.list(directory)?.iter().any(|entry| {
        checkpoint_file::number_of(&entry.name).is_some()
            || checkpoint_file::index_of(&entry.name).is_some()
            || segment::number_of(&entry.name).is_some()
    }))
}

fn begin_from(host: &Host, config: &HybridLogConfig, current: Current) -> Result<Beginning> {
    let (fs, directory) = (&host.fs, config.directory.as_str());
    let (facts, records) = Facts::open(&**fs, directory, current.number)?;
    let config = config.clone().with_pages(Some(facts.page_bytes));
    config.check()?;
    if facts.page_bytes != config.page_bytes {
        let message = format!("page: the data was written with {}", facts.page_bytes);
        return Err(Error::invalid("hybridlog.open", message).with_file(directory));
    }
    if facts.spaces.len() > config.keyspaces as usize {
        let message = format!("keyspaces: the data has {}", facts.spaces.len());
        return Err(Error::invalid("hybridlog.open", message).with_file(directory));
    }
    let end = LogicalAddress::new(facts.end_page, 0, config.page_words_log2());
    let (shape, mut index) = IndexShape::open(&**fs, directory, facts.index, facts.engine)?;
    let path = join(directory, &checkpoint_file::index_name(facts.index));
    let damaged = |what| Error::corruption("hybridlog.open", what, &path, 0);
    let table = Table::of_image(
        shape.primaries,
        shape.overflow_used,
        shape.overflow_operations,
        end,
        || index.word(),
        damaged,
    )?;
    let base = Base {
        number: facts.index,
        primaries: shape.primaries,
        bytes: shape.bytes(),
        scan_from: facts.scan_from,
    };
    let layout = Layout {
        page_bytes: facts.page_bytes,
        pages_per_segment: facts.pages_per_segment,
        engine: facts.engine,
    };
    let tier = open_objects(host, &config, layout)?;
    let segments = Segments::open(Arc::clone(fs), directory, layout, facts.pages.clone(), tier)?;
    let checkpoint = Some(Begun { number: current.number, base, records });
    Ok(Beginning { config, facts, table, segments, checkpoint })
}

/// The object tier, if there is to be one, and which segments are in it.
fn open_objects(
    host: &Host,
    config: &HybridLogConfig,
    layout: Layout,
) -> Result<(Option<Objects>, Option<Places>)> {
    let (fs, directory) = (&*host.fs, config.directory.as_str());
    let mut places = Places::read(fs, directory)?;
    if config.object.is_empty() {
        return Ok((None, places));
    }
    let key = match config.object_key.as_str() {
        "" => None,
        path => Some(read_key(fs, path)?),
    };
    let packing = Packing::new(config.object_codec, key.as_ref(), layout)?;
    let tier = open_tier(host, &config.object)?;
    let store = host.env.random.next_u64();
    let places_and_store = (&mut places, store);
    let cache = config.object_cache_bytes();
    let objects = Objects::open(fs, directory, tier, packing, layout, cache, places_and_store)?;
    Ok((Some(objects), places))
}

fn begin_anew(host: &Host, config: &HybridLogConfig) -> Result<Beginning> {
    let config = config.clone().with_pages(None);
    let (fs, directory) = (&host.fs, config.directory.as_str());
    let engine = host.env.random.next_u64();
    let (primaries, primaries_max) = config.buckets();
    let pages_per_segment = (config.segment_bytes / config.page_bytes).max(1);
    let facts = Facts {
        engine,
        hash_seed: host.env.random.next_u64(),
        tag_bits: TagBits::for_tables_up_to(primaries_max),
        page_bytes: config.page_bytes,
        pages_per_segment,
        begin_page: Span::EMPTY.begin,
        end_page: Span::EMPTY.tail,
        replay_from: LogPosition(0),
        log_end: LogPosition(0),
        time: UnixMillis(0),
        next_space: u64::from(config.keyspaces),
        spaces: (0..u64::from(config.keyspaces)).map(|id| (id, 0)).collect(),
        pages: BTreeMap::new(),
        long_keys: Vec::new(),
        expiring: Vec::new(),
        dead_words: 0,
        collect_before_page: 0,
        index: 0,
        scan_from: 0,
        has_expiries: false,
        has_records: false,
    };
    // What else is there may be a crash's leavings, or all that is left of a damaged directory: it
    // stays until the log has shown which.
    let layout = Layout { page_bytes: config.page_bytes, pages_per_segment, engine };
    let (objects, _) = open_objects(host, &config, layout)?;
    let segments = Segments::new(Arc::clone(fs), directory, layout).with_objects(objects);
    Ok(Beginning { config, facts, table: Table::new(primaries, 0)?, segments, checkpoint: None })
}
