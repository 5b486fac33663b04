//! A checkpoint's file: the index and the bounds of the log at one moment.
//!
//! ```text
//! checkpoint-<number in hex>:  magic(8) format(4) zero(4) index-chunk* facts-chunk*
//! chunk   = len(4) checksum(8) bytes
//! CURRENT = name of the checkpoint in force, offset of its facts, checksum: one line of text
//! ```
//! The words of the index come first: the facts are only known when they are written. A file that
//! `CURRENT` does not name is left from a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrokit_engine::{Error, ErrorKind, Result, UnixMillis};
use ferrokit_storage::atomic_file::{join, read_file};
use ferrokit_storage::{File, Fs, LogPosition, OpenMode};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::image::PageFacts;
use crate::index::entry::TagBits;

const MAGIC: &[u8; 8] = b"FKHLCKPT";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 16;
const CHUNK_HEADER_BYTES: usize = 12;
/// Bytes of a full chunk.
const CHUNK_BYTES: usize = 1 << 20;
const PREFIX: &str = "checkpoint-";
/// The file that names the checkpoint in force.
pub(crate) const CURRENT: &str = "CURRENT";
const CURRENT_BYTES_MAX: usize = 128;
/// Numbers among the facts that are there once.
const NUMBERS: usize = 16;
/// Tells the byte order of the machine that wrote it.
const BYTE_ORDER: u64 = 0x0102_0304_0506_0708;

/// The name of a checkpoint's file.
pub(crate) fn file_name(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

/// The checkpoint a file name belongs to.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
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
    /// Primary buckets of the index, overflow buckets in use, and those that operations took.
    pub(crate) primaries: u64,
    pub(crate) overflow_used: u64,
    pub(crate) overflow_operations: u64,
    /// Words of records that are taken for dead.
    pub(crate) dead_words: u64,
    /// Pages before this one hold records of keyspaces that were cleared since.
    pub(crate) collect_before_page: u64,
}

impl Facts {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.spaces.len() * 16 + self.pages.len() * 16);
        let mut push = |number: u64| out.extend_from_slice(&number.to_le_bytes());
        push(u64::from_le_bytes(BYTE_ORDER.to_ne_bytes()));
        for number in self.numbers() {
            push(number);
        }
        push(self.spaces.len() as u64);
        for (id, entries) in &self.spaces {
            push(*id);
            push(*entries);
        }
        push(self.pages.len() as u64);
        for (page, facts) in &self.pages {
            push(*page);
            push(u64::from(facts.used_bytes) << 32 | u64::from(facts.checksum));
        }
        out
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
            self.primaries,
            self.overflow_used,
            self.overflow_operations,
            self.dead_words,
            self.collect_before_page,
        ]
    }

    fn read(reader: &mut Reader) -> Result<Self> {
        if reader.u64()? != u64::from_le_bytes(BYTE_ORDER.to_ne_bytes()) {
            return Err(Error::unsupported(
                "hybridlog.open",
                "the data was written by a machine of another byte order",
            ));
        }
        let mut numbers = [0; NUMBERS];
        for number in &mut numbers {
            *number = reader.u64()?;
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
            primaries,
            overflow_used,
            overflow_operations,
            dead_words,
            collect_before_page,
        ] = numbers;
        let count = reader.u64()?;
        let mut spaces = Vec::new();
        for _ in 0..count {
            spaces.push((reader.u64()?, reader.u64()?));
        }
        let count = reader.u64()?;
        let mut pages = BTreeMap::new();
        for _ in 0..count {
            let (page, facts) = (reader.u64()?, reader.u64()?);
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
            pages,
            primaries,
            overflow_used,
            overflow_operations,
            dead_words,
            collect_before_page,
        };
        let is_sound = facts.primaries.is_power_of_two()
            && facts.primaries <= 1 << 32
            && facts.overflow_used <= 1 << 28
            && facts.page_bytes.is_power_of_two()
            && facts.pages_per_segment > 0
            && facts.begin_page > 0
            && facts.begin_page <= facts.end_page
            && facts.pages.keys().copied().eq(facts.begin_page..facts.end_page)
            && facts.pages.values().all(|page| u64::from(page.used_bytes) <= facts.page_bytes);
        if is_sound { Ok(facts) } else { Err(reader.corruption("facts out of range")) }
    }
}

/// Writes a checkpoint's file. Blocks.
pub(crate) struct Writer {
    file: Arc<dyn File>,
    offset: u64,
    chunk: Vec<u8>,
}

impl Writer {
    /// Begins the file of checkpoint `number`.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn create(fs: &dyn Fs, directory: &str, number: u64) -> Result<Self> {
        let path = join(directory, &file_name(number));
        if fs.exists(&path)? {
            fs.remove_file(&path)?;
        }
        let file = fs.open(&path, OpenMode::CreateNew)?;
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        file.write_at(0, header).wait()?;
        Ok(Self { file, offset: HEADER_BYTES as u64, chunk: Vec::new() })
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(part);
            bytes = rest;
            if self.chunk.len() == CHUNK_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        let mut out = Vec::with_capacity(CHUNK_HEADER_BYTES + chunk.len());
        out.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
        out.extend_from_slice(&xxh3_64_with_seed(&chunk, self.offset).to_le_bytes());
        out.extend_from_slice(&chunk);
        let len = out.len() as u64;
        self.file.write_at(self.offset, out).wait()?;
        self.offset += len;
        Ok(())
    }

    /// Adds words of the index.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn words(&mut self, words: impl Iterator<Item = u64>) -> Result<()> {
        for word in words {
            self.bytes(&word.to_ne_bytes())?;
        }
        Ok(())
    }

    /// Adds the facts. Answers where they are, and the file, which is yet to be synced.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn finish(mut self, facts: &Facts) -> Result<(u64, Arc<dyn File>)> {
        if !self.chunk.is_empty() {
            self.flush()?;
        }
        let facts_offset = self.offset;
        self.bytes(&facts.encode())?;
        if !self.chunk.is_empty() {
            self.flush()?;
        }
        Ok((facts_offset, self.file))
    }
}

/// Reads a checkpoint's file. Blocks.
pub(crate) struct Reader {
    file: Arc<dyn File>,
    path: String,
    offset: u64,
    chunk: Vec<u8>,
    at: usize,
}

impl Reader {
    /// Opens the file of a checkpoint and reads its facts; the words of the index come next.
    ///
    /// # Errors
    /// `Corruption`, `VersionTooNew`, `Io`.
    pub(crate) fn open(fs: &dyn Fs, directory: &str, current: Current) -> Result<(Facts, Self)> {
        let path = join(directory, &file_name(current.number));
        let corrupt = |what| Error::corruption("hybridlog.open", what, &path, 0);
        let file = fs.open(&path, OpenMode::Read).map_err(|error| match error.kind() {
            ErrorKind::NotFound => corrupt("the checkpoint is missing"),
            _ => error,
        })?;
        if file.len()? < HEADER_BYTES as u64 {
            return Err(corrupt("a checkpoint without its header"));
        }
        let header = file.read_at(0, HEADER_BYTES).wait()?;
        if header.get(..8) != Some(MAGIC) {
            return Err(corrupt("not a checkpoint"));
        }
        let mut format = [0; 4];
        format.copy_from_slice(&header[8..12]);
        match u32::from_le_bytes(format) {
            FORMAT => {}
            newer if newer > FORMAT => {
                return Err(Error::new(
                    ErrorKind::VersionTooNew,
                    "hybridlog.open",
                    "the checkpoint was written by a newer version",
                ));
            }
            _ => return Err(corrupt("a checkpoint of an unknown format")),
        }
        let mut reader =
            Self { file, path, offset: current.facts_offset, chunk: Vec::new(), at: 0 };
        let facts = Facts::read(&mut reader)?;
        (reader.offset, reader.at) = (HEADER_BYTES as u64, 0);
        reader.chunk.clear();
        Ok((facts, reader))
    }

    /// The error of damage in the file.
    pub(crate) fn corruption(&self, what: &'static str) -> Error {
        Error::corruption("hybridlog.open", what, &self.path, self.offset)
    }

    fn next_chunk(&mut self) -> Result<()> {
        let left = self.file.len()?.saturating_sub(self.offset);
        if left < CHUNK_HEADER_BYTES as u64 {
            return Err(self.corruption("the checkpoint ends too early"));
        }
        let header = self.file.read_at(self.offset, CHUNK_HEADER_BYTES).wait()?;
        let (mut len, mut checksum) = ([0; 4], [0; 8]);
        len.copy_from_slice(&header[..4]);
        checksum.copy_from_slice(&header[4..]);
        let len = u32::from_le_bytes(len) as usize;
        if len == 0 || len > CHUNK_BYTES || (len + CHUNK_HEADER_BYTES) as u64 > left {
            return Err(self.corruption("a chunk of a wrong length"));
        }
        let at = self.offset + CHUNK_HEADER_BYTES as u64;
        self.chunk = self.file.read_at(at, len).wait()?;
        if xxh3_64_with_seed(&self.chunk, self.offset) != u64::from_le_bytes(checksum) {
            return Err(self.corruption("a chunk does not match its checksum"));
        }
        self.offset = at + len as u64;
        self.at = 0;
        Ok(())
    }

    fn word(&mut self) -> Result<[u8; 8]> {
        let mut word = [0; 8];
        if self.at == self.chunk.len() {
            self.next_chunk()?;
        }
        match self.chunk.get(self.at..self.at + 8) {
            Some(bytes) => word.copy_from_slice(bytes),
            // Everything is words, and so is a chunk.
            None => return Err(self.corruption("a chunk of a wrong length")),
        }
        self.at += 8;
        Ok(word)
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.word()?))
    }

    /// The next word of the index.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(crate) fn index_word(&mut self) -> Result<u64> {
        Ok(u64::from_ne_bytes(self.word()?))
    }
}

/// What `CURRENT` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    /// The checkpoint in force.
    pub(crate) number: u64,
    /// Where in its file the facts are.
    pub(crate) facts_offset: u64,
}

impl Current {
    /// The content of the file.
    pub(crate) fn encode(self) -> Vec<u8> {
        let said = format!("{} {:016x}", file_name(self.number), self.facts_offset);
        format!("{said} {:016x}\n", xxh3_64_with_seed(said.as_bytes(), 0)).into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
        let number = number_of(words.next()?)?;
        let facts_offset = u64::from_str_radix(words.next()?, 16).ok()?;
        Some(Self { number, facts_offset }).filter(|current| current.encode() == bytes)
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
        let corrupt =
            || Error::corruption("hybridlog.open", "CURRENT does not name a checkpoint", &path, 0);
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
            pages: (3..5).map(|page| (page, PageFacts { used_bytes: 7, checksum: 8 })).collect(),
            primaries: 16,
            overflow_used: 1,
            overflow_operations: 1,
            dead_words: 2,
            collect_before_page: 4,
        }
    }

    #[test]
    fn what_was_written_is_read_and_damage_is_noticed() {
        let fs = SimMachine::new(1).host().fs;
        fs.create_dir_all("d").unwrap();
        let words = 300_000_u64;
        let mut writer = Writer::create(&*fs, "d", 12).unwrap();
        writer.words(0..words).unwrap();
        let current = Current { number: 12, facts_offset: writer.finish(&facts()).unwrap().0 };
        let (read, mut reader) = Reader::open(&*fs, "d", current).unwrap();
        assert_eq!(read, facts());
        assert!((0..words).all(|word| reader.index_word().unwrap() == word));
        assert_eq!(Current::decode(&current.encode()), Some(current));
        let path = join("d", &file_name(12));
        let file = fs.open(&path, OpenMode::ReadWrite).unwrap();
        let len = file.len().unwrap();
        for offset in [0, 9, 20, 1 << 20, len - 1] {
            let old = file.read_at(offset, 1).wait().unwrap();
            file.write_at(offset, vec![old[0] ^ 1]).wait().unwrap();
            let damage = Reader::open(&*fs, "d", current).and_then(|(_, mut reader)| {
                (0..words).try_for_each(|_| reader.index_word().map(drop))
            });
            assert!(damage.is_err(), "at {offset}");
            file.write_at(offset, old).wait().unwrap();
        }
    }

    #[test]
    fn a_damaged_current_names_nothing() {
        let encoded = Current { number: 3, facts_offset: 4096 }.encode();
        for at in 0..encoded.len() {
            let mut damaged = encoded.clone();
            damaged[at] ^= 1;
            assert_eq!(Current::decode(&damaged), None);
            assert_eq!(Current::decode(&encoded[..at]), None);
        }
    }
}
