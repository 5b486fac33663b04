//! The small types of the contract: keyspaces, sequence numbers, time, entries, updates.

use std::fmt;

/// A namespace of keys inside one engine. Small: engines bound its value by
/// [`Capabilities::max_keyspaces`](crate::Capabilities::max_keyspaces).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyspaceId(pub u32);

impl KeyspaceId {
    /// The keyspace that always exists.
    pub const DEFAULT: Self = Self(0);
}

/// The number of a write in the order in which writes took effect in one engine instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(pub u64);

/// A point in time: milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This time plus `millis`, saturating.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// A stored value and its metadata, lent to a visitor.
///
/// The slice is never written while it is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The value.
    pub value: &'a [u8],
    /// When the entry ceases to exist, if ever.
    pub expire_at: Option<UnixMillis>,
    /// The write that made it, where the engine numbers writes.
    pub sequence: Option<Sequence>,
}

impl Entry<'_> {
    /// Whether an entry with this expiry is absent at `now`: from its expiry on, it is.
    #[inline]
    pub fn is_expired_at(expire_at: Option<UnixMillis>, now: UnixMillis) -> bool {
        expire_at.is_some_and(|at| at <= now)
    }
}

/// What an [`update`](crate::KvEngine::update) decides for its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// Leave the entry as it is.
    Keep,
    /// Store the bytes left in the scratch buffer, with this expiry.
    Put {
        /// When the new entry ceases to exist, if ever.
        expire_at: Option<UnixMillis>,
    },
    /// Remove the entry.
    Delete,
}
