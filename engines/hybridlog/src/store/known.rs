//! [`Known`]: what an operation has learned of the part of the log that is not in memory.
//!
//! An attempt that needs a record from there is interrupted with what it [asks](Asked) for; the
//! answer, read outside any epoch, is there when it starts again. An answer is about the part of a
//! chain that begins at an address: records on disk do not change, so it is right for whoever comes
//! to that address again, however the chain has grown before it.

use std::collections::HashMap;

use super::Name;
use super::chain::Cold;
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

/// The answers so far: nothing, for most operations.
#[derive(Debug, Default)]
pub(crate) struct Known(Option<Box<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    keys: HashMap<LogicalAddress, Vec<ColdKey>>,
    chains: HashMap<LogicalAddress, Vec<ChainRecord>>,
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
