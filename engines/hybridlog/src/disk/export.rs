//! Segments for a backup: linked where they are never written again, copied page by page where not.
//!
//! A link is a second name of the same bytes, so only a file whose last page was written may be
//! linked: its engine does not write to it any more, and neither does one that opens the backup. A
//! page is copied from wherever it lies, the object tier too: a backup has all of its segments itself.

use std::sync::Arc;

use ferrokit_engine::{ErrorKind, Result};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::{File, OpenMode};

use super::segment::{Segments, file_name};

impl Segments {
    /// Links the file of a segment into another directory; its length, or `None` if it has to be
    /// copied: there is no file, or it cannot be linked.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn link(&self, segment: u64, directory: &str) -> Result<Option<u64>> {
        let name = file_name(segment);
        if !self.read_state().files.contains_key(&segment) {
            return Ok(None);
        }
        let from = join(&self.directory, &name);
        match self.fs.hard_link(&from, &join(directory, &name)) {
            Ok(()) => Ok(Some(self.file_bytes())),
            // Other devices cannot be linked to; copying tells whether anything else is wrong.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Io) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins a copy of a segment in another directory: all but its pages.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub(crate) fn begin_copy(&self, segment: u64, directory: &str) -> Result<Arc<dyn File>> {
        let path = join(directory, &file_name(segment));
        if self.fs.exists(&path)? {
            // What a link that failed has left.
            self.fs.remove_file(&path)?;
        }
        let file = self.fs.open(&path, OpenMode::CreateNew)?;
        file.set_len(self.file_bytes()).wait()?;
        file.write_at(0, self.header(segment)).wait()?;
        Ok(file)
    }

    /// Writes a page that was [read](Self::begin_page_read) into a copy; its bytes.
    ///
    /// # Errors
    /// `Corruption`, `Io`, `OutOfSpace`.
    pub(crate) fn copy_page(&self, page: u64, bytes: Vec<u8>, file: &Arc<dyn File>) -> Result<u64> {
        let bytes = self.check_page(page, bytes)?;
        let len = bytes.len() as u64;
        file.write_at(self.offset_of(page), bytes).wait()?;
        Ok(len)
    }
}
