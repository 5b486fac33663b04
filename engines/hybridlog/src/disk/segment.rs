//! [`Segments`]: the files of the log's pages.
//!
//! ```text
//! segment-<number in hex>:  header (4 KiB) | page | page | ...     each page at its own offset
//! header = magic(8) format(4) page_bytes(4) pages(4) zero(4) number(8) engine(8) checksum(8)
//! ```
//! Numbers are little-endian. A page takes `page_bytes` of the file, of which it fills what its
//! records need; the rest is a hole. What is in a segment counts only as far as a checkpoint says.
//!
//! The newest segments may be mapped ([`mapped`](super::mapped)), the oldest ones be in the object
//! tier ([`place`](super::place)) and have no file here. A reader holds what it reads from: a file
//! lives on until its last reader is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ferrokit_engine::{Error, ErrorKind, Op, Result};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::{File, Fs, Mapping, OpenMode};
use xxhash_rust::xxh3::xxh3_64;

use super::image::PageFacts;
use super::packed::PackedSegment;
use super::place::{Objects, PLACES, Places};
use super::tier_counts::{TierCounts, TierSizes};

const MAGIC: &[u8; 8] = b"FKHLSEGM";
const FORMAT: u32 = 1;
/// Bytes of a file before its first page.
pub(super) const HEADER_BYTES: u64 = 4096;
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
    pub(super) fs: Arc<dyn Fs>,
    pub(super) directory: String,
    pub(super) layout: Layout,
    /// The object tier; none without one.
    pub(super) objects: Option<Objects>,
    pub(crate) counts: TierCounts,
    state: RwLock<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) files: BTreeMap<u64, Arc<dyn File>>,
    /// Of some of the files, their pages in memory that the system may take away.
    pub(super) mappings: BTreeMap<u64, Arc<dyn Mapping>>,
    /// Segments in the object tier; none of them has a file.
    pub(super) packed: BTreeMap<u64, Arc<PackedSegment>>,
    /// Objects that nobody needs any more, but for readers who came before.
    pub(super) unneeded: Vec<(String, Arc<PackedSegment>)>,
    pub(super) pages: BTreeMap<u64, PageFacts>,
    /// Segments with writes that are not known to be on the device, each with the last of them.
    pub(super) unsynced: BTreeMap<u64, u64>,
    /// Counts writes.
    writes: u64,
}

/// From where a record is read.
enum Source {
    /// Pages of which that one has so many bytes.
    Mapping(Arc<dyn Mapping>, u64),
    File(Arc<dyn File>),
    Packed(Arc<PackedSegment>),
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
        Self {
            fs,
            directory: directory.to_owned(),
            layout,
            objects: None,
            counts: TierCounts::default(),
            state: RwLock::default(),
        }
    }

    /// The same with an object tier for the oldest ones, of which none is there yet.
    pub(crate) fn with_objects(mut self, objects: Option<Objects>) -> Self {
        self.objects = objects;
        self
    }

    /// Opens the files of `pages`, and the objects of those that moved to the object tier, and cuts
    /// off what follows the last page.
    ///
    /// # Errors
    /// `Corruption` if one is missing or another's, `InvalidArgument` if one moved to an object tier
    /// that is not given, `VersionTooNew`, `Io`.
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        directory: &str,
        layout: Layout,
        pages: BTreeMap<u64, PageFacts>,
        (objects, places): (Option<Objects>, Option<Places>),
    ) -> Result<Self> {
        let segments = Self::new(fs, directory, layout).with_objects(objects);
        let wanted: BTreeSet<u64> = pages.keys().map(|page| segments.segment_of(*page)).collect();
        let (mut files, mut packed) = (BTreeMap::new(), BTreeMap::new());
        for number in wanted {
            let moved = places.as_ref().and_then(|places| places.segments.get(&number));
            match (moved, &segments.objects) {
                (None, _) => {
                    files.insert(number, segments.open_file(number)?);
                }
                (Some(facts), Some(objects)) => {
                    packed.insert(number, objects.segment(number, *facts)?);
                }
                (Some(_), None) => {
                    let what = "object: segments were moved to an object tier; name it";
                    let path = join(directory, PLACES);
                    return Err(Error::invalid("hybridlog.open", what).with_file(&path));
                }
            }
        }
        if let Some((&page, _)) = pages.last_key_value()
            && let Some(file) = files.get(&segments.segment_of(page))
        {
            // What was written there before a crash must not be met behind what is written now.
            file.set_len(segments.offset_of(page) + layout.page_bytes).wait()?;
            file.set_len(segments.file_bytes()).wait()?;
        }
        {
            let mut state = segments.write_state();
            (state.files, state.packed, state.pages) = (files, packed, pages);
        }
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

    pub(super) fn header(&self, number: u64) -> Vec<u8> {
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

    pub(super) fn offset_of(&self, page: u64) -> u64 {
        HEADER_BYTES + page % self.layout.pages_per_segment * self.layout.page_bytes
    }

    pub(super) fn file_bytes(&self) -> u64 {
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
        {
            let mut state = self.write_state();
            state.writes += 1;
            let write = state.writes;
            state.unsynced.insert(number, write);
        }
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
        Ok(file)
    }

    /// Begins to bring everything written to the device: of each file, what is to be
    /// [noted](Self::note_synced) when it is there. A failure is final for what it covers. The
    /// names are the directory's.
    pub(crate) fn begin_sync(&self) -> Vec<((u64, u64), Op<'static, ()>)> {
        let state = self.read_state();
        let syncs = state.unsynced.iter().filter_map(|(number, write)| {
            let file = state.files.get(number)?;
            Some(((*number, *write), file.sync_data()))
        });
        syncs.collect()
    }

    /// Takes note of files that are on the device as far as they were written when that was begun.
    pub(crate) fn note_synced(&self, synced: &[(u64, u64)]) {
        let mut state = self.write_state();
        for (number, write) in synced {
            if state.unsynced.get(number) == Some(write) {
                state.unsynced.remove(number);
            }
        }
    }

    /// `len` bytes of a page from `offset` on, where a record begins; `None` if its segment was given
    /// up. Behind that record (in the object tier: the records that are stored with it) zeros may
    /// stand in the place of others.
    pub(crate) fn read(&self, page: u64, offset: u64, len: usize) -> Option<Op<'static, Vec<u8>>> {
        Some(match self.source(page)? {
            Source::Mapping(mapping, used_bytes) => {
                self.counts.mapped.add(1);
                Op::ok(self.read_mapping(&*mapping, page, offset..used_bytes, len))
            }
            Source::File(file) => {
                self.counts.disk.add(1);
                file.read_at(self.offset_of(page) + offset, len)
            }
            Source::Packed(packed) => {
                self.counts.object.add(1);
                packed.read(page, offset, len)
            }
        })
    }

    fn source(&self, page: u64) -> Option<Source> {
        let segment = self.segment_of(page);
        let state = self.read_state();
        if let Some(mapping) = state.mappings.get(&segment) {
            // The page may be given up before the others of its segment: nothing tells then what of
            // it is no hole.
            let used_bytes = state.pages.get(&page)?.used_bytes;
            return Some(Source::Mapping(Arc::clone(mapping), u64::from(used_bytes)));
        }
        if let Some(file) = state.files.get(&segment) {
            return Some(Source::File(Arc::clone(file)));
        }
        state.packed.get(&segment).cloned().map(Source::Packed)
    }

    /// As [`read`](Self::read), on the calling thread, which is held up by it.
    pub(crate) fn read_now(&self, page: u64, offset: u64, len: usize) -> Option<Result<Vec<u8>>> {
        match self.source(page)? {
            Source::File(file) => {
                self.counts.disk.add(1);
                Some(file.read_now(self.offset_of(page) + offset, len))
            }
            Source::Mapping(..) | Source::Packed(_) => self.read(page, offset, len).map(Op::wait),
        }
    }

    /// All records of a page. Blocks.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(crate) fn read_page(&self, page: u64) -> Result<Vec<u8>> {
        self.check_page(page, self.begin_page_read(page)?.wait()?)
    }

    /// Begins to read all records of a page, for [`check_page`](Self::check_page).
    ///
    /// # Errors
    /// `Corruption` if it is not there.
    pub(crate) fn begin_page_read(&self, page: u64) -> Result<Op<'static, Vec<u8>>> {
        let missing = || self.corruption(page, 0, "a page is missing");
        let facts = self.facts(page).ok_or_else(missing)?;
        Ok(match self.source(page).ok_or_else(missing)? {
            Source::Mapping(mapping, used_bytes) => {
                let len = facts.used_bytes as usize;
                Op::ok(self.read_mapping(&*mapping, page, 0..used_bytes, len))
            }
            Source::File(file) => file.read_at(self.offset_of(page), facts.used_bytes as usize),
            Source::Packed(packed) => packed.read_page(page, facts.used_bytes),
        })
    }

    /// The bytes of a page that was read, if they are.
    ///
    /// # Errors
    /// `Corruption`.
    pub(crate) fn check_page(&self, page: u64, bytes: Vec<u8>) -> Result<Vec<u8>> {
        match self.facts(page) {
            Some(facts) if PageFacts::of(&bytes) == facts => Ok(bytes),
            _ => Err(self.corruption(page, 0, "a page does not match its checksum")),
        }
    }

    /// The error of damage at an offset in a page (in the object tier: in the page as it was before
    /// it was packed).
    pub(crate) fn corruption(&self, page: u64, offset: u64, what: &'static str) -> Error {
        if let Some(packed) = self.read_state().packed.get(&self.segment_of(page)) {
            return Error::corruption("hybridlog.read", what, packed.path(), offset);
        }
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

    /// Removes the files of which every page lies before `page`; objects are noted to be deleted.
    /// Blocks.
    ///
    /// # Errors
    /// `Io`; the file is removed at the next opening.
    pub(crate) fn remove_before(&self, page: u64) -> Result<()> {
        let first_kept = self.segment_of(page);
        let removed: Vec<u64> = {
            let mut state = self.write_state();
            state.pages = state.pages.split_off(&page);
            state.mappings = state.mappings.split_off(&first_kept);
            let kept = state.packed.split_off(&first_kept);
            for (number, packed) in std::mem::replace(&mut state.packed, kept) {
                if let Some(objects) = &self.objects {
                    let name = objects.name(number, packed.facts().identity);
                    state.unneeded.push((name, packed));
                }
            }
            let kept = state.files.split_off(&first_kept);
            let removed = std::mem::replace(&mut state.files, kept);
            state.unsynced.retain(|number, _| *number >= first_kept);
            removed.into_keys().collect()
        };
        for number in removed {
            self.fs.remove_file(&join(&self.directory, &file_name(number)))?;
        }
        Ok(())
    }

    /// How much is where.
    pub(crate) fn sizes(&self) -> TierSizes {
        let state = self.read_state();
        TierSizes {
            segments_mapped: state.mappings.len() as u64,
            segments_on_disk: state.files.len() as u64,
            segments_in_objects: state.packed.len() as u64,
            segment_bytes: self.pages_bytes(),
            object_bytes: state.packed.values().map(|packed| packed.facts().bytes).sum(),
            decoded_bytes: self.objects.as_ref().map_or(0, Objects::decoded_bytes),
        }
    }

    /// Bytes of a segment's pages.
    pub(super) fn pages_bytes(&self) -> u64 {
        self.layout.pages_per_segment * self.layout.page_bytes
    }

    /// Whether all pages of a segment are written: its file does not change any more.
    pub(super) fn is_complete(&self, state: &State, segment: u64) -> bool {
        state.pages.contains_key(&((segment + 1) * self.layout.pages_per_segment - 1))
    }

    pub(super) fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_state(&self) -> RwLockWriteGuard<'_, State> {
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
        let synced: Vec<_> = segments
            .begin_sync()
            .into_iter()
            .map(|(noted, sync)| {
                sync.wait().unwrap();
                noted
            })
            .collect();
        assert_eq!(synced.len(), 3);
        segments.write_page(10, vec![1; 8]).unwrap();
        segments.note_synced(&synced);
        assert_eq!(segments.begin_sync().len(), 1, "what was written since is to be synced");
        assert_eq!(segments.numbers(), [0, 1, 2]);
        let again: BTreeMap<u64, PageFacts> = segments.facts_between(4, 9).into_iter().collect();
        drop(segments);
        let segments =
            Segments::open(Arc::clone(&fs), "d", LAYOUT, again.clone(), (None, None)).unwrap();
        assert_eq!(segments.numbers(), [1, 2], "of the first no page is wanted");
        assert_eq!(segments.read_page(8).unwrap(), vec![8; 800]);
        assert_eq!(segments.read_page(9).unwrap_err().kind(), ErrorKind::Corruption);
        segments.remove_before(8).unwrap();
        assert_eq!(segments.numbers(), [2]);
        assert!(segments.read(4, 0, 1).is_none());
        drop(segments);
        let other = Layout { engine: 78, ..LAYOUT };
        let wanted: BTreeMap<_, _> = again.into_iter().filter(|(page, _)| *page == 8).collect();
        let error = Segments::open(fs, "d", other, wanted, (None, None)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corruption);
    }

    /// Who comes late for a page that was given up learns that, and reads no zeros.
    #[test]
    fn a_page_that_was_given_up_is_gone_though_its_segment_is_mapped() {
        let machine = SimMachine::new(1);
        let fs = machine.host().fs;
        fs.create_dir_all("d").unwrap();
        let segments = Segments::new(fs, "d", LAYOUT);
        for page in 4..9 {
            segments.write_page(page, vec![page as u8; 100]).unwrap();
        }
        segments.remap(8, u64::MAX);
        assert_eq!(segments.sizes().segments_mapped, 1);
        assert_eq!(segments.read(5, 0, 8).unwrap().wait().unwrap(), [5; 8]);
        segments.remove_before(6).unwrap();
        assert!(segments.read(5, 0, 8).is_none() && segments.read_now(5, 0, 8).is_none());
        assert_eq!(segments.read(6, 0, 8).unwrap().wait().unwrap(), [6; 8]);
    }
}
