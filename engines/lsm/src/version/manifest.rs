//! The manifest: a log of edits. `CURRENT` names the manifest in force and is replaced atomically.
//!
//! ```text
//! manifest = header record*
//! header   = "FerroMAN"(8) version(4) crc32c(4) of what precedes
//! record   = crc32c(4) of what follows, length(4), edit
//! ```
//! Each record is synced before anything depends on it, so that only the last one can be torn. A
//! broken record with an intact one behind it is corruption; so is one that the tables or the log
//! show to be missing (see `recovery`). The first record holds the whole state.

use std::sync::Arc;

use ferrokit_engine::{Error, ErrorKind, Result};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::{File, Fs, OpenMode, replace_file};

use super::edit::{Edit, TreeState};
use crate::encoding::{Malformed, Reader};

/// The file that names the manifest in force.
pub(crate) const CURRENT_FILE_NAME: &str = "CURRENT";
const MAGIC: [u8; 8] = *b"FerroMAN";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const RECORD_HEADER_BYTES: usize = 8;
/// Bytes at which a manifest is begun anew with the state alone.
const BYTES_MAX: u64 = 4 << 20;
/// The largest manifest that is read.
const READ_BYTES_MAX: u64 = 1 << 30;

pub(crate) fn is_manifest_name(name: &str) -> bool {
    name.starts_with("MANIFEST-")
}

fn manifest_name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

pub(crate) struct Manifest {
    fs: Arc<dyn Fs>,
    directory: String,
    number: u64,
    file: Arc<dyn File>,
    bytes: u64,
    state: TreeState,
}

/// The state that the manifest in force holds, and its number; `None` where there is no `CURRENT`.
pub(crate) fn read_current(fs: &dyn Fs, directory: &str) -> Result<Option<(TreeState, u64)>> {
    let current = join(directory, CURRENT_FILE_NAME);
    if !fs.exists(&current)? {
        return Ok(None);
    }
    let bad_current = || {
        Error::corruption(
            "manifest.open",
            "CURRENT names no manifest; if another engine wrote the directory, open it with that one",
            &current,
            0,
        )
    };
    let name = read_whole(fs, &current, 64)?;
    let name = std::str::from_utf8(&name).ok().and_then(|text| text.strip_suffix('\n'));
    let number = name
        .and_then(|name| name.strip_prefix("MANIFEST-"))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(bad_current)?;
    let path = join(directory, &manifest_name(number));
    if !fs.exists(&path)? {
        return Err(Error::corruption("manifest.open", "the manifest is missing", &path, 0));
    }
    let bytes = read_whole(fs, &path, READ_BYTES_MAX)?;
    Ok(Some((replay(&path, &bytes)?, number)))
}

fn read_whole(fs: &dyn Fs, path: &str, bytes_max: u64) -> Result<Vec<u8>> {
    let file = fs.open(path, OpenMode::Read)?;
    let bytes = file.len()?;
    match usize::try_from(bytes) {
        Ok(len) if bytes <= bytes_max => file.read_at(0, len).wait(),
        _ => Err(Error::corruption("manifest.open", "the file is far too long", path, 0)),
    }
}

/// Adds up the edits of a manifest image.
pub(super) fn replay(path: &str, bytes: &[u8]) -> Result<TreeState> {
    let corrupt = |offset: usize, Malformed(what): Malformed| {
        Error::corruption("manifest.open", what, path, offset as u64)
    };
    check_header(path, bytes)?;
    let mut state = TreeState::empty();
    let mut at = HEADER_BYTES;
    let mut edits = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some((edit, len)) = read_record(rest) else {
            if edits == 0 || holds_record(rest) {
                return Err(corrupt(at, Malformed("a record fails its checksum")));
            }
            break;
        };
        let edit = Edit::decode(edit).map_err(|malformed| corrupt(at, malformed))?;
        state.apply(&edit).map_err(|malformed| corrupt(at, malformed))?;
        at += len;
        edits += 1;
    }
    if edits == 0 {
        return Err(corrupt(at, Malformed("no state")));
    }
    Ok(state)
}

fn check_header(path: &str, bytes: &[u8]) -> Result<()> {
    let header = || -> std::result::Result<(u32, u32), Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(Malformed("no manifest"));
        }
        Ok((reader.u32()?, reader.u32()?))
    };
    let (version, stored) =
        header().map_err(|Malformed(what)| Error::corruption("manifest.open", what, path, 0))?;
    if version > VERSION {
        return Err(Error::new(
            ErrorKind::VersionTooNew,
            "manifest.open",
            format!("manifest version {version}"),
        )
        .with_file(path));
    }
    if version == 0 || stored != crc32c::crc32c(bytes.get(..12).unwrap_or_default()) {
        return Err(Error::corruption("manifest.open", "header checksum mismatch", path, 0));
    }
    Ok(())
}

/// The edit of the record at the front, and the record's length, if it is intact.
fn read_record(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let mut reader = Reader::new(bytes);
    let stored = reader.u32().ok()?;
    let len = reader.u32().ok()? as usize;
    let edit = reader.take(len).ok()?;
    let covered = bytes.get(4..RECORD_HEADER_BYTES + len)?;
    // An edit is never empty; zeros are no record.
    (len > 0 && crc32c::crc32c(covered) == stored).then_some((edit, RECORD_HEADER_BYTES + len))
}

/// Whether an intact record begins anywhere behind the first byte.
fn holds_record(bytes: &[u8]) -> bool {
    (1..bytes.len()).any(|at| read_record(bytes.get(at..).unwrap_or_default()).is_some())
}

impl Manifest {
    /// Begins a manifest with `state` and puts it in force. Blocks.
    pub(crate) fn create(
        fs: &Arc<dyn Fs>,
        directory: &str,
        number: u64,
        state: TreeState,
    ) -> Result<Self> {
        let name = manifest_name(number);
        let path = join(directory, &name);
        if fs.exists(&path)? {
            // Left by an attempt that never came into force.
            fs.remove_file(&path)?;
        }
        let file = fs.open(&path, OpenMode::CreateNew)?;
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(&encode_record(&state.to_edit()));
        let len = bytes.len() as u64;
        file.write_at(0, bytes).wait()?;
        file.sync_all().wait()?;
        fs.sync_dir(directory)?;
        let current = format!("{name}\n").into_bytes();
        ferrokit_engine::block_on(replace_file(&**fs, directory, CURRENT_FILE_NAME, current))?;
        Ok(Self {
            fs: Arc::clone(fs),
            directory: directory.to_owned(),
            number,
            file,
            bytes: len,
            state,
        })
    }

    pub(crate) fn state(&self) -> &TreeState {
        &self.state
    }

    /// Makes an edit durable. Blocks. After a failure the manifest is not to be used again: what
    /// is on the device is unknown.
    pub(crate) fn append(&mut self, edit: &Edit) -> Result<()> {
        let mut state = self.state.clone();
        state.apply(edit).map_err(|Malformed(what)| {
            Error::corruption("manifest.append", what, self.file.path(), self.bytes)
        })?;
        if self.bytes >= BYTES_MAX {
            let old = join(&self.directory, &manifest_name(self.number));
            *self = Self::create(&self.fs, &self.directory, self.number + 1, state)?;
            if let Err(error) = self.fs.remove_file(&old) {
                // The new manifest is in force; the old file goes at the next opening.
                tracing::warn!(%error, "an old manifest stays behind");
            }
            return Ok(());
        }
        let record = encode_record(edit);
        let len = record.len() as u64;
        self.file.write_at(self.bytes, record).wait()?;
        self.file.sync_data().wait()?;
        self.bytes += len;
        self.state = state;
        Ok(())
    }
}

fn encode_record(edit: &Edit) -> Vec<u8> {
    let edit = edit.encode();
    let len = u32::try_from(edit.len()).unwrap_or(u32::MAX);
    let mut covered = len.to_le_bytes().to_vec();
    covered.extend_from_slice(&edit);
    let mut record = crc32c::crc32c(&covered).to_le_bytes().to_vec();
    record.extend_from_slice(&covered);
    record
}

#[cfg(test)]
mod tests {
    use super::super::edit::TableRecord;
    use super::*;
    use ferrokit_storage::sim::SimMachine;

    fn three_edits() -> (Vec<u8>, TreeState) {
        let host = SimMachine::new(1).host();
        host.fs.create_dir_all("d").unwrap();
        let mut manifest = Manifest::create(&host.fs, "d", 1, TreeState::empty()).unwrap();
        for id in 1..4 {
            let mut edit = Edit::default();
            edit.added.push(TableRecord { level: 0, id, bytes: 10 });
            manifest.append(&edit).unwrap();
        }
        let bytes = read_whole(&*host.fs, "d/MANIFEST-000001", 1 << 20).unwrap();
        (bytes, manifest.state.clone())
    }

    #[test]
    fn edits_come_back_and_only_a_torn_end_is_cut() {
        let (bytes, state) = three_edits();
        assert_eq!(replay("m", &bytes).unwrap(), state);
        let cut = replay("m", &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(cut.tables.len(), 2);
        for bit in 0..(bytes.len() - 12) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(replay("m", &flipped).is_err(), "bit {bit}");
        }
    }
}
