//! [`Segments`]: the files of the log's pages.
//!
//! ```text
//! segment-<number in hex>:  header (4 KiB) | page | page | ...     each page at its own offset
//! header = magic(8) format(4) page_bytes(4) pages(4) zero(4) number(8) engine(8) checksum(8)
//! ```
//! Numbers are little-endian. A page takes `page_bytes` of the file, of which it fills what its
//! records need; the rest is a hole. What is in a segment counts only as far as a checkpoint says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ferrokit_engine::{Error, ErrorKind, Op, Result};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::{File, Fs, OpenMode};
use xxhash_rust::xxh3::xxh3_64;

use super::image::PageFacts;

const MAGIC: &[u8; 8] = b"FKHLSEGM";
const FORMAT: u32 = 1;
/// Bytes of a file before its first page.
const HEADER_BYTES: u64 = 4096;
const PREFIX: &str = "segment-";

/// How pages are laid out in files, and whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) page_bytes: u64,
    pub(crate) pages_per_segment: u64,
    /// A number of the engine's own: a segment of another one is not taken for its.
    pub(crate) engine: u64,
}

/// The files, from the oldest one that is kept.
pub(crate) struct Segments {
    fs: Arc<dyn Fs>,
    directory: String,
    layout: Layout,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u64, Arc<dyn File>>,
    pages: BTreeMap<u64, PageFacts>,
    /// Segments with writes that are not known to be on the device.
    unsynced: BTreeSet<u64>,
    /// Whether names were added since the directory was last synced.
    has_new_names: bool,
}

/// The name of a segment's file.
pub(crate) fn file_name(segment: u64) -> String {
    format!("{PREFIX}{segment:016x}")
}

/// The segment a file name belongs to.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

impl Segments {
    /// No files yet.
    pub(crate) fn new(fs: Arc<dyn Fs>, directory: &str, layout: Layout) -> Self {
        Self { fs, directory: directory.to_owned(), layout, state: RwLock::default() }
    }

    /// Opens the files of `pages`, and cuts off what follows the last page.
    ///
    /// # Errors
    /// `Corruption` if one is missing or another's, `VersionTooNew`, `Io`.
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        directory: &str,
        layout: Layout,
        pages: BTreeMap<u64, PageFacts>,
    ) -> Result<Self> {
        let segments = Self::new(fs, directory, layout);
        let wanted: BTreeSet<u64> = pages.keys().map(|page| segments.segment_of(*page)).collect();
        let mut files = BTreeMap::new();
        for number in wanted {
            files.insert(number, segments.open_file(number)?);
        }
        if let Some((&page, _)) = pages.last_key_value()
            && let Some(file) = files.get(&segments.segment_of(page))
        {
            // What was written there before a crash must not be met behind what is written now.
            file.set_len(segments.offset_of(page) + layout.page_bytes).wait()?;
            file.set_len(segments.file_bytes()).wait()?;
        }
        segments.write_state().files = files;
        segments.write_state().pages = pages;
        Ok(segments)
    }

    fn open_file(&self, number: u64) -> Result<Arc<dyn File>> {
        let path = join(&self.directory, &file_name(number));
        let corrupt = |what| Error::corruption("hybridlog.open", what, &path, 0);
        let file =
            self.fs.open(&path, OpenMode::ReadWrite).map_err(|error| match error.kind() {
                ErrorKind::NotFound => corrupt("a segment is missing"),
                _ => error,
            })?;
        if file.len()? < HEADER_BYTES {
            return Err(corrupt("a segment without its header"));
        }
        let header = file.read_at(0, HEADER_BYTES as usize).wait()?;
        if header.get(..8) != Some(MAGIC) {
            return Err(corrupt("not a segment"));
        }
        if header.get(8..12).is_some_and(|format| format > &FORMAT.to_le_bytes()[..]) {
            return Err(Error::new(
                ErrorKind::VersionTooNew,
                "hybridlog.open",
                "the segment was written by a newer version",
            ));
        }
        if header != self.header(number) {
            return Err(corrupt("a segment of another engine, or damaged"));
        }
        Ok(file)
    }

    fn header(&self, number: u64) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&(self.layout.page_bytes as u32).to_le_bytes());
        header.extend_from_slice(&(self.layout.pages_per_segment as u32).to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&number.to_le_bytes());
        header.extend_from_slice(&self.layout.engine.to_le_bytes());
        header.extend_from_slice(&xxh3_64(&header).to_le_bytes());
        header.resize(HEADER_BYTES as usize, 0);
        header
    }

    /// The segment of a page.
    pub(crate) fn segment_of(&self, page: u64) -> u64 {
        page / self.layout.pages_per_segment
    }

    fn offset_of(&self, page: u64) -> u64 {
        HEADER_BYTES + page % self.layout.pages_per_segment * self.layout.page_bytes
    }

    fn file_bytes(&self) -> u64 {
        HEADER_BYTES + self.layout.pages_per_segment * self.layout.page_bytes
    }

    /// Writes a page that follows all pages there are. Blocks.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`; the page may be written again.
    pub(crate) fn write_page(&self, page: u64, bytes: Vec<u8>) -> Result<()> {
        let facts = PageFacts::of(&bytes);
        let number = self.segment_of(page);
        let known = self.read_state().files.get(&number).cloned();
        let file = match known {
            Some(file) => file,
            None => self.create(number)?,
        };
        self.write_state().unsynced.insert(number);
        file.write_at(self.offset_of(page), bytes).wait()?;
        self.write_state().pages.insert(page, facts);
        Ok(())
    }

    fn create(&self, number: u64) -> Result<Arc<dyn File>> {
        let path = join(&self.directory, &file_name(number));
        if self.fs.exists(&path)? {
            // Left by an attempt that failed halfway, or by a crash.
            self.fs.remove_file(&path)?;
        }
        let file = self.fs.open(&path, OpenMode::CreateNew)?;
        file.set_len(self.file_bytes()).wait()?;
        file.write_at(0, self.header(number)).wait()?;
        let mut state = self.write_state();
        state.files.insert(number, Arc::clone(&file));
        state.has_new_names = true;
        Ok(file)
    }

    /// Brings everything written to the device. Blocks. A failure is final for what it covers.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn sync(&self) -> Result<()> {
        let (files, has_new_names) = {
            let state = self.read_state();
            let files: Vec<_> = state
                .unsynced
                .iter()
                .filter_map(|number| Some((*number, Arc::clone(state.files.get(number)?))))
                .collect();
            (files, state.has_new_names)
        };
        for (number, file) in files {
            file.sync_data().wait()?;
            self.write_state().unsynced.remove(&number);
        }
        if has_new_names {
            self.fs.sync_dir(&self.directory)?;
            self.write_state().has_new_names = false;
        }
        Ok(())
    }

    /// `len` bytes of a page from `offset` on; `None` if its segment was given up.
    pub(crate) fn read(&self, page: u64, offset: u64, len: usize) -> Option<Op<'static, Vec<u8>>> {
        let file = self.read_state().files.get(&self.segment_of(page)).cloned()?;
        Some(file.read_at(self.offset_of(page) + offset, len))
    }

    /// As [`read`](Self::read), on the calling thread, which is held up by it.
    pub(crate) fn read_now(&self, page: u64, offset: u64, len: usize) -> Option<Result<Vec<u8>>> {
        let file = self.read_state().files.get(&self.segment_of(page)).cloned()?;
        Some(file.read_now(self.offset_of(page) + offset, len))
    }

    /// All records of a page. Blocks.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(crate) fn read_page(&self, page: u64) -> Result<Vec<u8>> {
        let missing = || self.corruption(page, 0, "a page is missing");
        let facts = self.facts(page).ok_or_else(missing)?;
        let read = self.read(page, 0, facts.used_bytes as usize).ok_or_else(missing)?;
        let bytes = read.wait()?;
        if PageFacts::of(&bytes) == facts {
            Ok(bytes)
        } else {
            Err(self.corruption(page, 0, "a page does not match its checksum"))
        }
    }

    /// The error of damage at an offset in a page.
    pub(crate) fn corruption(&self, page: u64, offset: u64, what: &'static str) -> Error {
        let path = join(&self.directory, &file_name(self.segment_of(page)));
        Error::corruption("hybridlog.read", what, &path, self.offset_of(page) + offset)
    }

    /// What is known of a page.
    pub(crate) fn facts(&self, page: u64) -> Option<PageFacts> {
        self.read_state().pages.get(&page).copied()
    }

    /// What is known of the pages from `begin` up to `end`.
    pub(crate) fn facts_between(&self, begin: u64, end: u64) -> Vec<(u64, PageFacts)> {
        self.read_state().pages.range(begin..end).map(|(page, facts)| (*page, *facts)).collect()
    }

    /// Bytes of all pages.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.read_state().pages.values().map(|facts| u64::from(facts.used_bytes)).sum()
    }

    /// The files there are, by segment.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.read_state().files.keys().copied().collect()
    }

    /// Removes the files of which every page lies before `page`. Blocks.
    ///
    /// # Errors
    /// `Io`; the file is removed at the next opening.
    pub(crate) fn remove_before(&self, page: u64) -> Result<()> {
        let first_kept = self.segment_of(page);
        let removed: Vec<u64> = {
            let mut state = self.write_state();
            state.pages = state.pages.split_off(&page);
            let kept = state.files.split_off(&first_kept);
            let removed = std::mem::replace(&mut state.files, kept);
            state.unsynced.retain(|number| *number >= first_kept);
            removed.into_keys().collect()
        };
        for number in removed {
            self.fs.remove_file(&join(&self.directory, &file_name(number)))?;
        }
        Ok(())
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use ferrokit_storage::sim::SimMachine;

    use super::*;

    const LAYOUT: Layout = Layout { page_bytes: 4096, pages_per_segment: 4, engine: 77 };

    #[test]
    fn pages_come_back_and_files_go_when_all_their_pages_did() {
        let machine = SimMachine::new(1);
        let fs = machine.host().fs;
        fs.create_dir_all("d").unwrap();
        let segments = Segments::new(Arc::clone(&fs), "d", LAYOUT);
        for page in 1..10 {
            segments.write_page(page, vec![page as u8; 100 * page as usize]).unwrap();
        }
        segments.sync().unwrap();
        assert_eq!(segments.numbers(), [0, 1, 2]);
        let again: BTreeMap<u64, PageFacts> = segments.facts_between(4, 9).into_iter().collect();
        drop(segments);
        let segments = Segments::open(Arc::clone(&fs), "d", LAYOUT, again.clone()).unwrap();
        assert_eq!(segments.numbers(), [1, 2], "of the first no page is wanted");
        assert_eq!(segments.read_page(8).unwrap(), vec![8; 800]);
        assert_eq!(segments.read_page(9).unwrap_err().kind(), ErrorKind::Corruption);
        segments.remove_before(8).unwrap();
        assert_eq!(segments.numbers(), [2]);
        assert!(segments.read(4, 0, 1).is_none());
        drop(segments);
        let other = Layout { engine: 78, ..LAYOUT };
        let wanted: BTreeMap<_, _> = again.into_iter().filter(|(page, _)| *page == 8).collect();
        let error = Segments::open(fs, "d", other, wanted).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corruption);
    }
}
