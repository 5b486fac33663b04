//! The mapped tier: the pages of the newest segments that left memory, mapped.
//!
//! What is read lately written is in the system's cache as a rule: from a mapping it is read without a
//! system call. A segment is mapped when all its pages are written, so a mapped file does not change;
//! files have their whole length from the beginning, and are never cut short but at opening. Of a page
//! only what was written is touched, never a hole. A reader holds its mapping. What is read is checked
//! by its checksum, as everything that comes from a file.

use std::ops::Range;
use std::sync::Arc;

use ferrokit_storage::Mapping;

use super::segment::{HEADER_BYTES, Segments};

impl Segments {
    /// Maps the newest complete segments that are not wholly in memory (where pages from `head_page`
    /// on are), as many as fit in `limit_bytes`, and no others.
    pub(crate) fn remap(&self, head_page: u64, limit_bytes: u64) {
        let most = usize::try_from(limit_bytes / self.pages_bytes()).unwrap_or(usize::MAX);
        let missing: Vec<_> = {
            let state = self.read_state();
            let is_wanted = |segment: u64| {
                segment * self.layout.pages_per_segment < head_page
                    && self.is_complete(&state, segment)
            };
            let newest = state.files.iter().rev().filter(|(segment, _)| is_wanted(**segment));
            let wanted: Vec<_> = newest.take(most).collect();
            let missing =
                wanted.iter().filter(|(segment, _)| !state.mappings.contains_key(segment));
            let missing: Vec<_> =
                missing.map(|(segment, file)| (**segment, Arc::clone(file))).collect();
            if missing.is_empty() && wanted.len() == state.mappings.len() {
                return;
            }
            let oldest = wanted.last().map_or(u64::MAX, |(segment, _)| **segment);
            drop(state);
            let mut state = self.write_state();
            // What a reader holds stays for it.
            state.mappings = state.mappings.split_off(&oldest);
            missing
        };
        let Ok(len) = usize::try_from(self.pages_bytes()) else { return };
        for (segment, file) in missing {
            match file.map(HEADER_BYTES, len) {
                Ok(mapping) => {
                    mapping.expect_random_reads();
                    self.write_state().mappings.insert(segment, Arc::from(mapping));
                }
                // It is read as a file.
                Err(error) => {
                    tracing::debug!(%error, "a segment is not mapped; it is tried again");
                    self.counts.failures.add(1);
                }
            }
        }
    }

    /// `len` bytes of a page, those in `there` and then zeros.
    pub(super) fn read_mapping(
        &self,
        mapping: &dyn Mapping,
        page: u64,
        there: Range<u64>,
        len: usize,
    ) -> Vec<u8> {
        let base = self.offset_of(page) - HEADER_BYTES;
        // Both lie in the mapping, which was made with its length as a usize.
        let (begin, end) = ((base + there.start) as usize, (base + there.end) as usize);
        let end = end.min(begin.saturating_add(len));
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(mapping.get(begin..end).unwrap_or_default());
        bytes.resize(len, 0);
        bytes
    }
}
