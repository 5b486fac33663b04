//! [`Known`]: what an operation has learned of the part of the log that is not in memory, and of values
//! that are longer than a record.
//!
//! An attempt that needs a record from there is interrupted with what it [asks](Asked) for; the
//! answer, read outside any epoch, is there when it starts again. An answer is about the part of a
//! chain that begins at an address: records on disk do not change, so it is right for whoever comes
//! to that address again, however the chain has grown before it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrokit_engine::KeyspaceId;

use super::Name;
use super::chain::Cold;
use super::long::{Manifest, Unlinked};
use super::write::{Stored, blueprint};
use crate::address::LogicalAddress;

/// What has to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The newest record of a key from an address down.
    Key {
        /// Where the cold part of its chain begins.
        start: LogicalAddress,
        /// Where the log began when the chain was followed to there.
        begin: LogicalAddress,
        /// The space of the key.
        space: u64,
        /// The key.
        key: Box<[u8]>,
    },
    /// All records from an address down.
    Chain {
        /// Where they begin.
        start: LogicalAddress,
        /// Where the log began when the chain was followed to there.
        begin: LogicalAddress,
    },
    /// The value that a long record leads to.
    Whole {
        /// The space of its key.
        space: u64,
        /// What the record says.
        manifest: Manifest,
    },
    /// That the pieces of a value be written which a key is to have.
    Pieces {
        /// The key's keyspace.
        keyspace: KeyspaceId,
        /// The key.
        key: Box<[u8]>,
        /// The value.
        value: Vec<u8>,
    },
}

impl Asked {
    /// The newest record of `name` in the cold part of its chain.
    pub(super) fn key(cold: &Cold<'_>, name: &Name<'_>) -> Self {
        Self::Key {
            start: cold.address,
            begin: cold.begin,
            space: name.space,
            key: name.key.into(),
        }
    }
}

/// A value from disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColdValue {
    pub(crate) value: Vec<u8>,
    /// 0 = never.
    pub(crate) expire_at: u64,
    /// Whether that is a manifest in the place of the value.
    pub(crate) is_long: bool,
}

impl ColdValue {
    /// The words of its record.
    pub(super) fn words(&self, name: &Name<'_>) -> usize {
        blueprint(name, self.stored(), self.expire_at, self.value.len()).words()
    }

    pub(super) fn stored(&self) -> Stored<'_> {
        Stored { bytes: &self.value, is_long: self.is_long }
    }
}

/// The newest record of a key in the cold part of its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColdKey {
    pub(super) space: u64,
    pub(super) key: Box<[u8]>,
    /// Where the record lies; null if there is none.
    pub(crate) address: LogicalAddress,
    /// `None` if the key is absent.
    pub(crate) value: Option<ColdValue>,
    /// What a newer record of the key may link to in the place of the cold part: what lies behind
    /// the key's own record, if that is where the cold part begins.
    pub(crate) link: LogicalAddress,
}

/// A record of a cold chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainRecord {
    pub(crate) space: u64,
    pub(crate) hash_low: u32,
    pub(crate) key: Vec<u8>,
    /// `None` for a tombstone.
    pub(crate) value: Option<ColdValue>,
}

/// A long value, and whether an attempt has looked at it since others were added.
#[derive(Debug)]
struct Whole {
    value: Option<Vec<u8>>,
    was_used: AtomicBool,
}

/// The answers so far: nothing, for most operations.
#[derive(Debug, Default)]
pub(crate) struct Known(Option<Box<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    keys: HashMap<LogicalAddress, Vec<ColdKey>>,
    chains: HashMap<LogicalAddress, Vec<ChainRecord>>,
    /// By the ids of long values; nothing of one of which a piece is missing.
    wholes: HashMap<u64, Whole>,
    /// A value whose pieces were written last.
    written: Option<(Vec<u8>, Unlinked)>,
}

impl Known {
    /// The answer for a key whose chain's cold part begins at `start`.
    pub(super) fn key(&self, start: LogicalAddress, name: &Name<'_>) -> Option<&ColdKey> {
        let answers = self.0.as_ref()?.keys.get(&start)?;
        answers.iter().find(|answer| answer.space == name.space && *answer.key == *name.key)
    }

    /// The records of a chain's cold part, newest first.
    pub(super) fn chain(&self, start: LogicalAddress) -> Option<&[ChainRecord]> {
        self.0.as_ref()?.chains.get(&start).map(Vec::as_slice)
    }

    /// A long value; nothing if a piece of it is missing.
    pub(super) fn whole(&self, id: u64) -> Option<Option<&[u8]>> {
        let whole = self.0.as_ref()?.wholes.get(&id)?;
        whole.was_used.store(true, Ordering::Relaxed);
        Some(whole.value.as_deref())
    }

    /// Forgets the long values that the last attempt had no use for: they were replaced since.
    pub(super) fn forget_unused(&mut self) {
        if let Some(answers) = &mut self.0 {
            answers.wholes.retain(|_, whole| std::mem::take(whole.was_used.get_mut()));
        }
    }

    /// The pieces of a value that is to be linked in `space`, if they are written.
    pub(super) fn written(&self, space: u64, value: &[u8]) -> Option<&Unlinked> {
        let (written, unlinked) = self.0.as_ref()?.written.as_ref()?;
        (unlinked.space() == space && written == value).then_some(unlinked)
    }

    /// Takes note that the value whose pieces were written is linked.
    pub(super) fn set_linked(&self) {
        if let Some((_, unlinked)) = self.0.as_ref().and_then(|it| it.written.as_ref()) {
            unlinked.set_linked();
        }
    }

    /// Adds a long value.
    pub(super) fn add_whole(&mut self, id: u64, value: Option<Vec<u8>>) {
        // To be used by the next attempt.
        let whole = Whole { value, was_used: AtomicBool::new(true) };
        self.0.get_or_insert_default().wholes.insert(id, whole);
    }

    /// Adds a value whose pieces were written.
    pub(super) fn add_written(&mut self, value: Vec<u8>, unlinked: Unlinked) {
        self.0.get_or_insert_default().written = Some((value, unlinked));
    }

    /// Adds the answer for a key.
    pub(super) fn add_key(&mut self, start: LogicalAddress, answer: ColdKey) {
        let answers = self.0.get_or_insert_default();
        answers.keys.entry(start).or_default().push(answer);
    }

    /// Adds the answer for a chain.
    pub(super) fn add_chain(&mut self, start: LogicalAddress, records: Vec<ChainRecord>) {
        self.0.get_or_insert_default().chains.insert(start, records);
    }

    /// Forgets everything: an operation of several steps goes on to its next.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}
