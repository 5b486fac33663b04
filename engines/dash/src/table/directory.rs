//! [`Directory`]: from the most significant bits of a hash to its segment.
//!
//! An array of `2^depth` segment addresses, and one root word with its address and depth. Readers
//! load the root, then the entry; doubling builds another array, makes it persistent, and replaces
//! the root. The old array is retired; readers are pinned. A reader of a stale entry reaches a
//! segment that no longer holds its hash, which the segment's identity tells.

use std::sync::{Mutex, PoisonError};

use crossbeam_epoch::Guard;
use ferrokit_engine::{Error, ErrorKind, Result};
use ferrokit_storage::PmemRegion;

use super::layout::header;
use super::segment::{Identity, Segment};
use crate::alloc::Allocator;
use crate::hash::KeyHash;

/// Deeper than any table of 64-byte records in 47 bits of space needs.
pub(crate) const DEPTH_MAX: u32 = 36;

/// The root word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) depth: u32,
    pub(crate) at: u64,
}

impl Root {
    #[inline]
    pub(crate) fn from_word(word: u64) -> Self {
        Self { depth: (word >> 56) as u32 & 63, at: word & ((1 << 56) - 1) }
    }

    pub(crate) fn word(self) -> u64 {
        u64::from(self.depth) << 56 | self.at
    }

    pub(crate) fn entries(self) -> u64 {
        1 << self.depth
    }
}

/// The directory of a region.
pub(crate) struct Directory {
    region: PmemRegion,
    /// Held while entries or the root change.
    changing: Mutex<()>,
}

impl Directory {
    pub(crate) fn new(region: &PmemRegion) -> Self {
        Self { region: region.clone(), changing: Mutex::new(()) }
    }

    pub(crate) fn root(&self) -> Root {
        Root::from_word(self.region.load(header::ROOT))
    }

    /// The segment that holds a hash, or held it a moment ago. The caller is pinned.
    #[inline]
    pub(crate) fn segment(&self, hash: KeyHash, _pinned: &Guard) -> Segment<'_> {
        let root = self.root();
        let entry = self.region.load(root.at + hash.prefix(root.depth) * 8);
        Segment::new(&self.region, entry)
    }

    /// Doubles the directory until it is `depth` deep.
    pub(crate) fn ensure_depth(&self, depth: u32, alloc: &Allocator, pinned: &Guard) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::new(
                ErrorKind::OutOfSpace,
                "dash.split",
                "the directory is at its greatest depth",
            ));
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let old = self.root();
            if old.depth >= depth {
                return Ok(());
            }
            let new = Root { depth: old.depth + 1, at: alloc.allocate(old.entries() * 16)? };
            for index in 0..old.entries() {
                let entry = self.region.load(old.at + index * 8);
                self.region.store(new.at + index * 16, entry);
                self.region.store(new.at + index * 16 + 8, entry);
            }
            self.region.persist(new.at, new.entries() * 8)?;
            self.region.store_persist(header::ROOT, new.word())?;
            alloc.retire(pinned, old.at, old.entries() * 8);
        }
    }

    /// Points all entries of `identity` to its segment, durably. The directory is deep enough.
    pub(crate) fn point(&self, identity: Identity, segment: u64) -> Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let root = self.root();
        let count = 1_u64 << (root.depth - identity.depth);
        let first = root.at + identity.prefix * count * 8;
        for index in 0..count {
            self.region.store(first + index * 8, segment);
        }
        self.region.persist(first, count * 8)
    }
}
