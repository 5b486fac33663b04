//! [`Store`]: the log's directory. Blocking; for opening and for jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferrokit_engine::{Error, ErrorKind, Result};

use super::format::{BadHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::segment::{Segment, Spare};
use crate::fs::{File, Fs, OpenMode};

/// The most of a new file that is filled by one write.
const FILL_BYTES: u64 = 1 << 20;

pub(super) struct Store {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) directory: String,
    pub(super) segment_bytes: u64,
    pub(super) next_spare: AtomicU64,
}

/// What lies in the directory.
#[derive(Default)]
pub(super) struct Found {
    /// Start positions, by name, in order.
    pub(super) segments: Vec<u64>,
    pub(super) spares: Vec<u64>,
}

impl Store {
    pub(super) fn segment_path(&self, start: u64) -> String {
        format!("{}/log-{start:016x}.log", self.directory)
    }

    /// A path that no spare file has.
    pub(super) fn new_spare_path(&self) -> String {
        self.spare_path(self.next_spare.fetch_add(1, Ordering::Relaxed))
    }

    fn spare_path(&self, number: u64) -> String {
        format!("{}/spare-{number}.log", self.directory)
    }

    pub(super) fn find(&self) -> Result<Found> {
        let mut found = Found::default();
        for entry in self.fs.list(&self.directory)? {
            let Some(stem) = entry.name.strip_suffix(".log") else { continue };
            if let Some(digits) = stem.strip_prefix("log-").filter(|digits| digits.len() == 16) {
                found.segments.extend(u64::from_str_radix(digits, 16).ok());
            } else if let Some(number) = stem.strip_prefix("spare-") {
                found.spares.extend(number.parse::<u64>().ok());
            }
        }
        found.segments.sort_unstable();
        Ok(found)
    }

    /// Opens an existing segment and checks its header.
    pub(super) fn open_segment(&self, start: u64) -> Result<Segment> {
        let path = self.segment_path(start);
        let file = self.fs.open(&path, OpenMode::ReadWrite)?;
        let file_bytes = file.len()?;
        let head = file_bytes.min(SEGMENT_HEADER_BYTES as u64) as usize;
        let head = file.read_at(0, head).wait()?;
        let header = SegmentHeader::decode(&head).map_err(|bad| bad_header(bad, &path))?;
        if header.start != start {
            let bad = BadHeader::Damaged("the segment header is of another position");
            return Err(bad_header(bad, &path));
        }
        Ok(Segment { start, epoch: header.epoch, file_bytes, file })
    }

    /// Makes a file of the given size.
    pub(super) fn create_spare(&self, file_bytes: u64) -> Result<Spare> {
        let path = self.new_spare_path();
        let made = self.fs.open(&path, OpenMode::OpenOrCreate).and_then(|file| {
            file.allocate(0, file_bytes).wait()?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Spare { path, file, file_bytes }),
            Err(error) => {
                // It holds nothing: whether it can be removed changes nothing either.
                let _unneeded = self.fs.remove_file(&path);
                Err(error)
            }
        }
    }

    /// Removes a file that holds nothing; if that fails, the next opening tries again.
    pub(super) fn discard_spare(&self, spare: &Spare) {
        if let Err(error) = self.fs.remove_file(&spare.path) {
            tracing::debug!(%error, "a spare log segment could not be removed");
        }
    }

    /// Writes zeros into `[from, ..)` of a spare, one piece; the next place to fill, or `None`
    /// when the file is whole and synced.
    pub(super) fn fill_spare(&self, spare: &Spare, from: u64) -> Result<Option<u64>> {
        let len = FILL_BYTES.min(spare.file_bytes - from);
        if len == 0 {
            spare.file.sync_all().wait()?;
            return Ok(None);
        }
        let zeros = vec![0; usize::try_from(len).unwrap_or(0)];
        spare.file.write_at(from, zeros).wait()?;
        Ok(Some(from + len))
    }

    /// Turns a spare file into the segment that starts at `start`, durably, replacing one of the
    /// same name.
    pub(super) fn become_segment(&self, spare: &Spare, start: u64, epoch: u32) -> Result<Segment> {
        let header = SegmentHeader { start, epoch };
        spare.file.write_at(0, header.encode().to_vec()).wait()?;
        // The name must never appear before the header that belongs to it.
        spare.file.sync_all().wait()?;
        self.fs.rename(&spare.path, &self.segment_path(start))?;
        self.fs.sync_dir(&self.directory)?;
        let file = self.fs.open(&self.segment_path(start), OpenMode::ReadWrite)?;
        Ok(Segment { start, epoch, file_bytes: spare.file_bytes, file })
    }

    pub(super) fn open_spare(&self, number: u64) -> Result<Spare> {
        self.open_spare_at(self.spare_path(number))
    }

    pub(super) fn open_spare_at(&self, path: String) -> Result<Spare> {
        let file: Arc<dyn File> = self.fs.open(&path, OpenMode::ReadWrite)?;
        let file_bytes = file.len()?;
        Ok(Spare { path, file, file_bytes })
    }
}

pub(super) fn bad_header(bad: BadHeader, path: &str) -> Error {
    match bad {
        BadHeader::Damaged(what) => Error::corruption("log.open", what, path, 0),
        BadHeader::TooNew(version) => Error::new(
            ErrorKind::VersionTooNew,
            "log.open",
            format!("the segment has format version {version}; this code knows up to 1"),
        )
        .with_file(path),
    }
}
