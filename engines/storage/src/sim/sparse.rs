//! [`SparseBytes`]: the content of a file, as shared pages, so that an image costs little.

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const PAGE_BYTES: u64 = 4096;
const PAGE: usize = PAGE_BYTES as usize;
type Page = Arc<[u8; PAGE]>;

/// Bytes with holes. A missing page reads as zeros; bytes beyond `len` are never stored.
#[derive(Debug, Clone, Default)]
pub(super) struct SparseBytes {
    len: u64,
    pages: BTreeMap<u64, Page>,
}

impl SparseBytes {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of the pages that exist.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE_BYTES
    }

    /// Bytes that touching this range would add to [`stored_bytes`](Self::stored_bytes).
    pub(super) fn missing_bytes(&self, offset: u64, len: u64) -> u64 {
        if len == 0 {
            return 0;
        }
        let (first, last) = (offset / PAGE_BYTES, (offset + len - 1) / PAGE_BYTES);
        let present = self.pages.range(first..=last).count() as u64;
        (last - first + 1 - present) * PAGE_BYTES
    }

    /// Reads bytes; those beyond the end are zeros.
    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        for (at, page, within, count) in pieces(offset, len) {
            if let Some(bytes) = self.pages.get(&page) {
                out[at..at + count].copy_from_slice(&bytes[within..within + count]);
            }
        }
        out
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        for (at, page, within, count) in pieces(offset, data.len()) {
            let bytes = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(bytes)[within..within + count].copy_from_slice(&data[at..at + count]);
        }
        if !data.is_empty() {
            self.len = self.len.max(offset + data.len() as u64);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let _beyond = self.pages.split_off(&len.div_ceil(PAGE_BYTES));
            let within = (len % PAGE_BYTES) as usize;
            if let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES)) {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// Makes the length at least `len`.
    pub(super) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Gives the range pages, all of them zero where there were none.
    pub(super) fn allocate(&mut self, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        let zeros: Page = Arc::new([0; PAGE]);
        for page in offset / PAGE_BYTES..=(offset + len - 1) / PAGE_BYTES {
            self.pages.entry(page).or_insert_with(|| Arc::clone(&zeros));
        }
        self.extend(offset + len);
    }

    /// Zeros the range within the length and gives whole pages back.
    pub(super) fn punch(&mut self, offset: u64, len: u64) {
        let end = (offset + len).min(self.len);
        if offset >= end {
            return;
        }
        let touched: Vec<u64> = self
            .pages
            .range(offset / PAGE_BYTES..=(end - 1) / PAGE_BYTES)
            .map(|(page, _)| *page)
            .collect();
        for page in touched {
            let start = page * PAGE_BYTES;
            if offset <= start && start + PAGE_BYTES <= end {
                self.pages.remove(&page);
            } else if let Some(bytes) = self.pages.get_mut(&page) {
                let from = offset.max(start) - start;
                let to = end.min(start + PAGE_BYTES) - start;
                Arc::make_mut(bytes)[from as usize..to as usize].fill(0);
            }
        }
    }
}

/// Cuts a range at page boundaries: (index in the range, page, offset in the page, length).
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (usize, u64, usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == len {
            return None;
        }
        let position = offset + at as u64;
        let within = (position % PAGE_BYTES) as usize;
        let count = (PAGE - within).min(len - at);
        let piece = (at, position / PAGE_BYTES, within, count);
        at += count;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, u8, usize),
        SetLen(u64),
        Allocate(u64, u64),
        Punch(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20_000u64, any::<u8>(), 0..9000usize).prop_map(|(o, b, l)| Step::Write(o, b, l)),
            (0..25_000u64).prop_map(Step::SetLen),
            (0..20_000u64, 0..9000u64).prop_map(|(o, l)| Step::Allocate(o, l)),
            (0..20_000u64, 0..12_000u64).prop_map(|(o, l)| Step::Punch(o, l)),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_vector_of_bytes(steps in proptest::collection::vec(step(), 0..20)) {
            let mut model: Vec<u8> = Vec::new();
            let mut bytes = SparseBytes::default();
            for step in steps {
                match step {
                    Step::Write(offset, byte, len) => {
                        bytes.write(offset, &vec![byte; len]);
                        let end = offset as usize + len;
                        if len > 0 {
                            model.resize(model.len().max(end), 0);
                            model[offset as usize..end].fill(byte);
                        }
                    }
                    Step::SetLen(len) => {
                        bytes.set_len(len);
                        model.resize(len as usize, 0);
                    }
                    Step::Allocate(offset, len) => {
                        bytes.allocate(offset, len);
                        if len > 0 {
                            model.resize(model.len().max((offset + len) as usize), 0);
                        }
                    }
                    Step::Punch(offset, len) => {
                        bytes.punch(offset, len);
                        let end = model.len().min((offset + len) as usize);
                        if (offset as usize) < end {
                            model[offset as usize..end].fill(0);
                        }
                    }
                }
                prop_assert_eq!(bytes.len(), model.len() as u64);
                prop_assert_eq!(&bytes.read(0, model.len()), &model);
            }
        }
    }
}
