//! Opening: empty, or from a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrokit_engine::{Error, ErrorKind, ExpiryClock, KeyspaceId, Result, Sequence, UnixMillis};
use ferrokit_storage::{File, Host, OpenMode};

use crate::config::MemoryConfig;
use crate::format::{
    BLOCK_HEADER_BYTES, FILE_NAME, HEADER_BYTES, Header, block_checksum, decode_block_header,
    decode_records,
};
use crate::state::{CAPABILITIES, Shared, State};
use crate::table::Table;

/// No engine comes so far; beyond it the numbers of later writes would run over.
const SEQUENCE_MAX: Sequence = Sequence(1 << 62);

pub(crate) fn open(host: &Host, config: &MemoryConfig) -> Result<Shared> {
    let (header, tables) = match &config.checkpoint {
        Some(directory) => load(host, directory)?,
        None => (Header { sequence: Sequence(0), clock: UnixMillis(0) }, BTreeMap::new()),
    };
    let clock = ExpiryClock::new(Arc::clone(&host.env.clock), header.clock);
    Ok(Shared::new(config, clock, State::new(config, tables, header.sequence)))
}

fn load(host: &Host, directory: &str) -> Result<(Header, BTreeMap<KeyspaceId, Table>)> {
    let path = format!("{directory}/{FILE_NAME}");
    if !host.fs.exists(&path)? {
        return Err(Error::new(
            ErrorKind::NotFound,
            "open",
            "there is no complete checkpoint of the memory engine here",
        )
        .with_file(&path));
    }
    let mut input = Input::open(host, &path)?;
    let header = Header::decode(&input.take(HEADER_BYTES)?, &path)?;
    if header.sequence > SEQUENCE_MAX {
        return Err(Error::corruption("open", "a sequence beyond all writes", &path, 0));
    }
    let mut tables: BTreeMap<KeyspaceId, Table> = BTreeMap::new();
    let mut invalid = false;
    for index in 0.. {
        let at = input.offset;
        let payload = input.block(index)?;
        if payload.is_empty() {
            break;
        }
        let complete = decode_records(&payload, |keyspace, key, record| {
            invalid |= CAPABILITIES.check_key("open", keyspace, &key).is_err()
                || record.sequence > header.sequence;
            tables.entry(keyspace).or_default().insert(key, record);
        });
        if complete.is_none() || invalid {
            return Err(Error::corruption("open", "a record makes no sense", &path, at));
        }
    }
    if input.offset != input.len {
        return Err(Error::corruption("open", "bytes after the end", &path, input.offset));
    }
    Ok((header, tables))
}

/// Reads a file from front to back; never more than it holds.
struct Input<'h> {
    host: &'h Host,
    file: Arc<dyn File>,
    offset: u64,
    len: u64,
}

impl<'h> Input<'h> {
    fn open(host: &'h Host, path: &str) -> Result<Self> {
        let file = host.fs.open(path, OpenMode::Read)?;
        let len = file.len()?;
        Ok(Self { host, file, offset: 0, len })
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>> {
        if self.len - self.offset < len as u64 {
            return Err(self.corruption("the file is cut short"));
        }
        let bytes = self.host.wait(self.file.read_at(self.offset, len))?;
        self.offset += len as u64;
        Ok(bytes)
    }

    fn block(&mut self, index: u64) -> Result<Vec<u8>> {
        let header = self.take(BLOCK_HEADER_BYTES)?;
        let (len, checksum) =
            decode_block_header(&header).ok_or_else(|| self.corruption("the file is cut short"))?;
        let payload = self.take(len)?;
        if block_checksum(index, &payload) != checksum {
            self.offset -= len as u64;
            return Err(self.corruption("a block's checksum does not match"));
        }
        Ok(payload)
    }

    fn corruption(&self, message: &'static str) -> Error {
        Error::corruption("open", message, self.file.path(), self.offset)
    }
}
