//! Files that are written once from beginning to end, in chunks with a checksum each.
//!
//! ```text
//! file  = magic(8) format(4) checksum(4) chunk*
//! chunk = len(4) checksum(8) bytes         words of 8 bytes only; seed of the checksum: its offset
//! ```

use std::sync::Arc;

use ferrokit_engine::{Error, ErrorKind, Result};
use ferrokit_storage::{File, Fs, OpenMode};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The format of these files. Nothing reads an older one.
const FORMAT: u32 = 3;
const HEADER_BYTES: usize = 16;
const CHUNK_HEADER_BYTES: usize = 12;
/// Bytes of a full chunk.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// The checksum of magic and format.
fn header_checksum(header: &[u8]) -> [u8; 4] {
    (xxh3_64_with_seed(header, 0) as u32).to_le_bytes()
}

/// Writes a file of chunks. Blocks.
pub(crate) struct Writer {
    file: Arc<dyn File>,
    offset: u64,
    chunk: Vec<u8>,
}

impl Writer {
    /// Begins the file at `path`, in the place of one that may be left there.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn create(fs: &dyn Fs, path: &str, magic: &[u8; 8]) -> Result<Self> {
        if fs.exists(path)? {
            fs.remove_file(path)?;
        }
        let file = fs.open(path, OpenMode::CreateNew)?;
        let mut header = magic.to_vec();
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&header_checksum(&header));
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

    /// Adds words in the byte order of the machine.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn words(&mut self, words: impl Iterator<Item = u64>) -> Result<()> {
        for word in words {
            self.bytes(&word.to_ne_bytes())?;
        }
        Ok(())
    }

    /// Adds a number.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn number(&mut self, number: u64) -> Result<()> {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds bytes behind their number, and fills up the last word.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn blob(&mut self, bytes: &[u8]) -> Result<()> {
        self.number(bytes.len() as u64)?;
        self.bytes(bytes)?;
        self.bytes(&[0; 7][..bytes.len().next_multiple_of(8) - bytes.len()])
    }

    /// Ends the file. Answers it, yet to be synced, and its length.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn finish(mut self) -> Result<(Arc<dyn File>, u64)> {
        if !self.chunk.is_empty() {
            self.flush()?;
        }
        Ok((self.file, self.offset))
    }
}

/// Reads a file of chunks. Blocks.
pub(crate) struct Reader {
    file: Arc<dyn File>,
    path: String,
    offset: u64,
    chunk: Vec<u8>,
    at: usize,
}

impl Reader {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// `Corruption` if it is missing or another kind of file, `VersionTooNew`, `Unsupported` for one
    /// of an older format, `Io`.
    pub(crate) fn open(fs: &dyn Fs, path: &str, magic: &[u8; 8]) -> Result<Self> {
        let corrupt = |what| Error::corruption("hybridlog.open", what, path, 0);
        let file = fs.open(path, OpenMode::Read).map_err(|error| match error.kind() {
            ErrorKind::NotFound => corrupt("a file of the checkpoint is missing"),
            _ => error,
        })?;
        if file.len()? < HEADER_BYTES as u64 {
            return Err(corrupt("a file without its header"));
        }
        let header = file.read_at(0, HEADER_BYTES).wait()?;
        if header.get(..8) != Some(magic) {
            return Err(corrupt("not a file of that kind"));
        }
        let mut format = [0; 4];
        format.copy_from_slice(&header[8..12]);
        let checksum = header.get(12..).unwrap_or_default();
        let is_sound = checksum == header_checksum(&header[..12]);
        match u32::from_le_bytes(format) {
            // Format 1 had none.
            1 if checksum == [0; 4] => {
                let message = "the checkpoint has a format that no released version wrote";
                return Err(Error::unsupported("hybridlog.open", message).with_file(path));
            }
            _ if !is_sound => return Err(corrupt("a header does not match its checksum")),
            FORMAT => {}
            newer if newer > FORMAT => {
                return Err(Error::new(
                    ErrorKind::VersionTooNew,
                    "hybridlog.open",
                    "the checkpoint was written by a newer version",
                ));
            }
            _ => return Err(corrupt("a file of an unknown format")),
        }
        let (path, offset) = (path.to_owned(), HEADER_BYTES as u64);
        Ok(Self { file, path, offset, chunk: Vec::new(), at: 0 })
    }

    /// The length of the file.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn file_bytes(&self) -> Result<u64> {
        self.file.len()
    }

    /// The error of damage in the file.
    pub(crate) fn corruption(&self, what: &'static str) -> Error {
        Error::corruption("hybridlog.open", what, &self.path, self.offset)
    }

    fn next_chunk(&mut self) -> Result<()> {
        let left = self.file.len()?.saturating_sub(self.offset);
        if left < CHUNK_HEADER_BYTES as u64 {
            return Err(self.corruption("the file ends too early"));
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

    fn bytes(&mut self) -> Result<[u8; 8]> {
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

    /// The next number.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(crate) fn number(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// The next word in the byte order of the machine.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(crate) fn word(&mut self) -> Result<u64> {
        Ok(u64::from_ne_bytes(self.bytes()?))
    }

    /// The next bytes that stand behind their number, into `out`; `false` if in the place of that
    /// there is `u64::MAX`.
    ///
    /// # Errors
    /// `Corruption`, also of more than `most`; `Io`.
    pub(crate) fn blob(&mut self, most: usize, out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        let number = self.number()?;
        if number == u64::MAX {
            return Ok(false);
        }
        let len = usize::try_from(number).ok().filter(|len| *len <= most);
        let Some(len) = len else { return Err(self.corruption("a record out of range")) };
        while out.len() < len {
            out.extend_from_slice(&self.bytes()?);
        }
        out.truncate(len);
        Ok(true)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use ferrokit_storage::sim::SimMachine;

    use super::*;

    const MAGIC: &[u8; 8] = b"a magic!";

    #[test]
    fn what_was_written_is_read_and_damage_is_noticed() {
        let fs = SimMachine::new(1).host().fs;
        let words = 300_000_u64;
        let mut writer = Writer::create(&*fs, "f", MAGIC).unwrap();
        writer.blob(b"twelve chars").unwrap();
        writer.words(0..words).unwrap();
        writer.number(7).unwrap();
        writer.finish().unwrap();
        let read = || -> Result<()> {
            let (mut reader, mut blob) = (Reader::open(&*fs, "f", MAGIC)?, Vec::new());
            assert!(reader.blob(12, &mut blob)?);
            assert_eq!(blob, b"twelve chars");
            for word in 0..words {
                assert_eq!(reader.word()?, word);
            }
            assert_eq!(reader.number()?, 7);
            assert!(reader.number().is_err(), "there is no more");
            Ok(())
        };
        read().unwrap();
        assert!(Reader::open(&*fs, "f", b"another!").is_err());
        let refused = |header: Vec<u8>| {
            fs.open("g", OpenMode::OpenOrCreate).unwrap().write_at(0, header).wait().unwrap();
            Reader::open(&*fs, "g", MAGIC).err().unwrap().kind()
        };
        let mut newer = [&MAGIC[..], &(FORMAT + 1).to_le_bytes()].concat();
        assert_eq!(refused([&newer[..], &[1; 4]].concat()), ErrorKind::Corruption);
        newer.extend_from_slice(&header_checksum(&newer));
        assert_eq!(refused(newer), ErrorKind::VersionTooNew);
        let older = [&MAGIC[..], &1_u32.to_le_bytes(), &[0; 4]].concat();
        assert_eq!(refused(older), ErrorKind::Unsupported);
        let mut blob = Vec::new();
        assert!(Reader::open(&*fs, "f", MAGIC).unwrap().blob(11, &mut blob).is_err());
        let file = fs.open("f", OpenMode::ReadWrite).unwrap();
        let len = file.len().unwrap();
        for offset in [0, 9, 20, 1 << 20, len - 1] {
            let old = file.read_at(offset, 1).wait().unwrap();
            file.write_at(offset, vec![old[0] ^ 1]).wait().unwrap();
            assert!(read().is_err(), "at {offset}");
            file.write_at(offset, old).wait().unwrap();
        }
    }
}
