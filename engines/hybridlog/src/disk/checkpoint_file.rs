//! A checkpoint's files: the facts about the log at one moment, and the index.
//!
//! ```text
//! checkpoint-<number in hex>:  facts, and in a backup the records of the Log that are to be replayed
//! index-<number in hex>:       engine, primary buckets, overflow buckets in use, those that
//!                              operations took; then the words of all buckets
//! CURRENT = name of the checkpoint in force, checksum: one line of text
//! ```
//! Both are files of [`chunks`](super::chunks). A file that neither `CURRENT` nor the checkpoint it
//! names has the name of is left from a crash.

use std::collections::BTreeMap;

use ferrokit_engine::{Error, ErrorKind, Result, UnixMillis};
use ferrokit_storage::atomic_file::{join, read_file};
use ferrokit_storage::{Fs, LogPosition};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::chunks::{Reader, Writer};
use super::image::PageFacts;
use crate::index::entry::TagBits;

const CHECKPOINT_MAGIC: &[u8; 8] = b"FKHLCKPT";
const INDEX_MAGIC: &[u8; 8] = b"FKHLINDX";
const CHECKPOINT_PREFIX: &str = "checkpoint-";
const INDEX_PREFIX: &str = "index-";
/// The file that names the checkpoint in force.
pub(crate) const CURRENT: &str = "CURRENT";
const CURRENT_BYTES_MAX: usize = 128;
/// Numbers among the facts that are there once.
const NUMBERS: usize = 17;
/// Tells the byte order of the machine that wrote it.
const BYTE_ORDER: u64 = 0x0102_0304_0506_0708;
/// Stands behind the last record to be replayed, in the place of a length.
const NO_RECORD: u64 = u64::MAX;

/// The name of a checkpoint's file.
pub(crate) fn file_name(number: u64) -> String {
    format!("{CHECKPOINT_PREFIX}{number:016x}")
}

/// The name of the file of an index.
pub(crate) fn index_name(number: u64) -> String {
    format!("{INDEX_PREFIX}{number:016x}")
}

/// The checkpoint a file name belongs to.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    number_behind(CHECKPOINT_PREFIX, name)
}

/// The index a file name belongs to.
pub(crate) fn index_of(name: &str) -> Option<u64> {
    number_behind(INDEX_PREFIX, name)
}

fn number_behind(prefix: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Everything a checkpoint says beside the words of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The engine's own number.
    pub(crate) engine: u64,
    pub(crate) hash_seed: u64,
    /// The bits of the hashes that are the entries' tags.
    pub(crate) tag_bits: TagBits,
    pub(crate) page_bytes: u64,
    pub(crate) pages_per_segment: u64,
    /// The oldest page that is kept.
    pub(crate) begin_page: u64,
    /// The page after the last one it covers.
    pub(crate) end_page: u64,
    /// Records of the log from here on are to be replayed.
    pub(crate) replay_from: LogPosition,
    /// The log must reach this far: what the checkpoint may hold in part is in it as a whole.
    pub(crate) log_end: LogPosition,
    /// No expiry before this time was ever seen as to come.
    pub(crate) time: UnixMillis,
    /// The next number of a space.
    pub(crate) next_space: u64,
    /// Of each keyspace the number of its space and of its entries.
    pub(crate) spaces: Vec<(u64, u64)>,
    /// The pages, from `begin_page` on.
    pub(crate) pages: BTreeMap<u64, PageFacts>,
    /// Of the keys with long values the space, the hash, and how often they were counted.
    pub(crate) long_keys: Vec<[u64; 3]>,
    /// Of the records that are to expire, when (in the units of that count), and how many words.
    pub(crate) expiring: Vec<(u64, u64)>,
    /// Words of records that are taken for dead.
    pub(crate) dead_words: u64,
    /// Pages before this one hold records of keyspaces that were cleared since.
    pub(crate) collect_before_page: u64,
    /// The number of the index it begins from: its own if that was written with it.
    pub(crate) index: u64,
    /// Every record linked since that index was copied, or meanwhile, is in this page or a later one.
    pub(crate) scan_from: u64,
    /// Whether there may be records with an expiry.
    pub(crate) has_expiries: bool,
    /// Whether records of the Log up to `replay_from` follow the facts: it is a backup.
    pub(crate) has_records: bool,
}

impl Facts {
    /// Begins the file of checkpoint `number` with these facts.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn write(&self, fs: &dyn Fs, directory: &str, number: u64) -> Result<Writer> {
        let path = join(directory, &file_name(number));
        let mut writer = Writer::create(fs, &path, CHECKPOINT_MAGIC)?;
        writer.words(std::iter::once(BYTE_ORDER))?;
        for number in self.numbers() {
            writer.number(number)?;
        }
        writer.number(self.spaces.len() as u64)?;
        for (id, entries) in &self.spaces {
            writer.number(*id)?;
            writer.number(*entries)?;
        }
        writer.number(self.long_keys.len() as u64)?;
        for number in self.long_keys.as_flattened() {
            writer.number(*number)?;
        }
        writer.number(self.expiring.len() as u64)?;
        for (moment, words) in &self.expiring {
            writer.number(*moment)?;
            writer.number(*words)?;
        }
        writer.number(self.pages.len() as u64)?;
        for (page, facts) in &self.pages {
            writer.number(*page)?;
            writer.number(u64::from(facts.used_bytes) << 32 | u64::from(facts.checksum))?;
        }
        Ok(writer)
    }

    /// Opens the file of a checkpoint and reads its facts; the records to be replayed come next.
    ///
    /// # Errors
    /// `Corruption`, `VersionTooNew`, `Unsupported`, `Io`.
    pub(crate) fn open(fs: &dyn Fs, directory: &str, number: u64) -> Result<(Self, Records)> {
        let path = join(directory, &file_name(number));
        let mut reader = Reader::open(fs, &path, CHECKPOINT_MAGIC)?;
        let facts = Self::read(&mut reader)?;
        let has_more = facts.has_records;
        Ok((facts, Records { reader, has_more }))
    }

    fn numbers(&self) -> [u64; NUMBERS] {
        [
            self.engine,
            self.hash_seed,
            self.tag_bits.get(),
            self.page_bytes,
            self.pages_per_segment,
            self.begin_page,
            self.end_page,
            self.replay_from.0,
            self.log_end.0,
            self.time.0,
            self.next_space,
            self.dead_words,
            self.collect_before_page,
            self.index,
            self.scan_from,
            u64::from(self.has_expiries),
            u64::from(self.has_records),
        ]
    }

    fn read(reader: &mut Reader) -> Result<Self> {
        if reader.word()? != BYTE_ORDER {
            return Err(Error::unsupported(
                "hybridlog.open",
                "the data was written by a machine of another byte order",
            ));
        }
        let mut numbers = [0; NUMBERS];
        for number in &mut numbers {
            *number = reader.number()?;
        }
        let [
            engine,
            hash_seed,
            tag_bits,
            page_bytes,
            pages_per_segment,
            begin_page,
            end_page,
            replay_from,
            log_end,
            time,
            next_space,
            dead_words,
            collect_before_page,
            index,
            scan_from,
            has_expiries,
            has_records,
        ] = numbers;
        let mut spaces = Vec::new();
        for _ in 0..reader.number()? {
            spaces.push((reader.number()?, reader.number()?));
        }
        let mut long_keys = Vec::new();
        for _ in 0..reader.number()? {
            long_keys.push([reader.number()?, reader.number()?, reader.number()?]);
        }
        let mut expiring = Vec::new();
        for _ in 0..reader.number()? {
            expiring.push((reader.number()?, reader.number()?));
        }
        let count = reader.number()?;
        let mut pages = BTreeMap::new();
        for _ in 0..count {
            let (page, facts) = (reader.number()?, reader.number()?);
            let facts = PageFacts { used_bytes: (facts >> 32) as u32, checksum: facts as u32 };
            pages.insert(page, facts);
        }
        let (replay_from, log_end) = (LogPosition(replay_from), LogPosition(log_end));
        let facts = Self {
            engine,
            hash_seed,
            tag_bits: TagBits::from_first(tag_bits)
                .ok_or_else(|| reader.corruption("facts out of range"))?,
            page_bytes,
            pages_per_segment,
            begin_page,
            end_page,
            replay_from,
            log_end,
            time: UnixMillis(time),
            next_space,
            spaces,
            long_keys,
            expiring,
            pages,
            dead_words,
            collect_before_page,
            index,
            scan_from,
            has_expiries: has_expiries != 0,
            has_records: has_records != 0,
        };
        let is_sound = facts.page_bytes.is_power_of_two()
            && facts.pages_per_segment > 0
            && facts.begin_page > 0
            && facts.begin_page <= facts.end_page
            && facts.scan_from <= facts.end_page
            && has_expiries <= 1
            && has_records <= 1
            && facts.pages.keys().copied().eq(facts.begin_page..facts.end_page)
            && facts.pages.values().all(|page| u64::from(page.used_bytes) <= facts.page_bytes);
        if is_sound { Ok(facts) } else { Err(reader.corruption("facts out of range")) }
    }
}

/// Adds a record of the Log to a backup.
///
/// # Errors
/// `Io`, `OutOfSpace`.
pub(crate) fn add_record(writer: &mut Writer, record: &[u8]) -> Result<()> {
    writer.blob(record)
}

/// Ends the records of a backup.
///
/// # Errors
/// `Io`, `OutOfSpace`.
pub(crate) fn end_records(writer: &mut Writer) -> Result<()> {
    writer.number(NO_RECORD)
}

/// The records of a backup, one after the other. Blocks.
pub(crate) struct Records {
    reader: Reader,
    has_more: bool,
}

impl Records {
    /// The next one, of at most so many bytes, into `out`; `false` behind the last.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(crate) fn next(&mut self, most: usize, out: &mut Vec<u8>) -> Result<bool> {
        if self.has_more {
            self.has_more = self.reader.blob(most, out)?;
        }
        Ok(self.has_more)
    }
}

/// What the file of an index says beside its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexShape {
    /// The engine's own number.
    pub(crate) engine: u64,
    /// Primary buckets, overflow buckets in use, and those that operations took.
    pub(crate) primaries: u64,
    pub(crate) overflow_used: u64,
    pub(crate) overflow_operations: u64,
}

impl IndexShape {
    /// Bytes of the words.
    pub(crate) fn bytes(&self) -> u64 {
        (self.primaries + self.overflow_used) * 64
    }

    /// Begins the file of an index, whose words come next.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn write(&self, fs: &dyn Fs, directory: &str, number: u64) -> Result<Writer> {
        let mut writer = Writer::create(fs, &join(directory, &index_name(number)), INDEX_MAGIC)?;
        for number in [self.engine, self.primaries, self.overflow_used, self.overflow_operations] {
            writer.number(number)?;
        }
        Ok(writer)
    }

    /// Opens the file of an index; its words come next.
    ///
    /// # Errors
    /// `Corruption`, `VersionTooNew`, `Unsupported`, `Io`.
    pub(crate) fn open(
        fs: &dyn Fs,
        directory: &str,
        number: u64,
        engine: u64,
    ) -> Result<(Self, Reader)> {
        let mut reader = Reader::open(fs, &join(directory, &index_name(number)), INDEX_MAGIC)?;
        let shape = Self {
            engine: reader.number()?,
            primaries: reader.number()?,
            overflow_used: reader.number()?,
            overflow_operations: reader.number()?,
        };
        let is_sound = shape.engine == engine
            && shape.primaries.is_power_of_two()
            && shape.primaries <= 1 << 32
            && shape.overflow_used <= 1 << 28
            // Not even that much memory is taken for a file that cannot fill it.
            && shape.bytes() <= reader.file_bytes()?;
        if is_sound { Ok((shape, reader)) } else { Err(reader.corruption("an index out of range")) }
    }
}

/// What `CURRENT` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    /// The checkpoint in force.
    pub(crate) number: u64,
}

impl Current {
    /// The content of the file.
    pub(crate) fn encode(self) -> Vec<u8> {
        let said = file_name(self.number);
        format!("{said} {:016x}\n", xxh3_64_with_seed(said.as_bytes(), 0)).into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = number_of(std::str::from_utf8(bytes).ok()?.split(' ').next()?)?;
        Some(Self { number }).filter(|current| current.encode() == bytes)
    }

    /// What the file in `directory` says; `None` where no checkpoint was ever taken.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(crate) fn read(fs: &dyn Fs, directory: &str) -> Result<Option<Self>> {
        let path = join(directory, CURRENT);
        if !fs.exists(&path)? {
            return Ok(None);
        }
        let message = "CURRENT does not name a checkpoint; if another engine wrote the directory, open it \
                       with that one";
        let corrupt = || Error::corruption("hybridlog.open", message, &path, 0);
        let read = ferrokit_engine::block_on(read_file(fs, &path, CURRENT_BYTES_MAX));
        let bytes = read.map_err(|error| match error.kind() {
            ErrorKind::InvalidArgument => corrupt(),
            _ => error,
        })?;
        Self::decode(&bytes).map(Some).ok_or_else(corrupt)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use ferrokit_storage::sim::SimMachine;

    use super::*;

    fn facts() -> Facts {
        Facts {
            engine: 1,
            hash_seed: 2,
            tag_bits: TagBits::for_tables_up_to(1 << 20),
            page_bytes: 4096,
            pages_per_segment: 4,
            begin_page: 3,
            end_page: 5,
            replay_from: LogPosition(6),
            log_end: LogPosition(7),
            time: UnixMillis(8),
            next_space: 9,
            spaces: vec![(1, 2), (3, 4)],
            long_keys: vec![[1, u64::MAX, 1], [3, 7, 2]],
            expiring: vec![(70, 80), (90, 100)],
            pages: (3..5).map(|page| (page, PageFacts { used_bytes: 7, checksum: 8 })).collect(),
            dead_words: 2,
            collect_before_page: 4,
            index: 5,
            scan_from: 4,
            has_expiries: true,
            has_records: false,
        }
    }

    #[test]
    fn facts_and_records_come_back() {
        let fs = SimMachine::new(1).host().fs;
        facts().write(&*fs, "", 12).unwrap().finish().unwrap();
        let (read, mut records) = Facts::open(&*fs, "", 12).unwrap();
        let mut record = Vec::new();
        assert_eq!(read, facts());
        assert!(!records.next(100, &mut record).unwrap());
        let facts = Facts { has_records: true, ..facts() };
        let mut writer = facts.write(&*fs, "", 13).unwrap();
        for record in [&b"one"[..], b"", b"three and more"] {
            add_record(&mut writer, record).unwrap();
        }
        end_records(&mut writer).unwrap();
        writer.finish().unwrap();
        let (read, mut records) = Facts::open(&*fs, "", 13).unwrap();
        assert_eq!(read, facts);
        for expected in [&b"one"[..], b"", b"three and more"] {
            assert!(records.next(100, &mut record).unwrap());
            assert_eq!(record, expected);
        }
        assert!(!records.next(100, &mut record).unwrap());
        assert!(!records.next(100, &mut record).unwrap());
    }

    #[test]
    fn facts_out_of_range_and_another_engines_index_are_refused() {
        let fs = SimMachine::new(1).host().fs;
        let unsound = Facts { scan_from: 6, ..facts() };
        unsound.write(&*fs, "", 1).unwrap().finish().unwrap();
        assert_eq!(Facts::open(&*fs, "", 1).err().unwrap().kind(), ErrorKind::Corruption);
        let shape =
            IndexShape { engine: 7, primaries: 2, overflow_used: 1, overflow_operations: 1 };
        let mut writer = shape.write(&*fs, "", 1).unwrap();
        writer.words(0..24).unwrap();
        writer.finish().unwrap();
        let (read, mut words) = IndexShape::open(&*fs, "", 1, 7).unwrap();
        assert_eq!(read, shape);
        assert!((0..24).all(|word| words.word().unwrap() == word));
        assert_eq!(IndexShape::open(&*fs, "", 1, 8).err().unwrap().kind(), ErrorKind::Corruption);
        let longer = IndexShape { primaries: 1 << 20, ..shape };
        longer.write(&*fs, "", 2).unwrap().finish().unwrap();
        assert_eq!(IndexShape::open(&*fs, "", 2, 7).err().unwrap().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn a_damaged_current_names_nothing() {
        let encoded = Current { number: 3 }.encode();
        assert_eq!(Current::decode(&encoded), Some(Current { number: 3 }));
        for at in 0..encoded.len() {
            let mut damaged = encoded.clone();
            damaged[at] ^= 1;
            assert_eq!(Current::decode(&damaged), None);
            assert_eq!(Current::decode(&encoded[..at]), None);
        }
    }
}
