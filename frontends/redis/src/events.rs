//! [`Observer`]: who is told of what happens to keys.
//!
//! Nothing is told unless somebody asked: an [`Interest`] of nothing costs one relaxed load.

use ferrokit_engine::KeyspaceId;

/// Who did something: the client's id, 0 for the server itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ClientId(pub u64);

/// The class of an event: a bit of `notify-keyspace-events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventClass(u32);

impl EventClass {
    /// `g`: commands of keys of any type.
    pub const GENERIC: Self = Self(1 << 0);
    /// `$`: strings.
    pub const STRING: Self = Self(1 << 1);
    /// `l`: lists.
    pub const LIST: Self = Self(1 << 2);
    /// `s`: sets.
    pub const SET: Self = Self(1 << 3);
    /// `h`: hashes.
    pub const HASH: Self = Self(1 << 4);
    /// `z`: sorted sets.
    pub const SORTED_SET: Self = Self(1 << 5);
    /// `x`: a key expired.
    pub const EXPIRED: Self = Self(1 << 6);
    /// `e`: a key was evicted.
    pub const EVICTED: Self = Self(1 << 7);
    /// `t`: streams.
    pub const STREAM: Self = Self(1 << 8);
    /// `m`: a key was read that is not there.
    pub const KEY_MISS: Self = Self(1 << 9);
    /// `n`: a key is new.
    pub const NEW: Self = Self(1 << 10);

    /// The letters of `notify-keyspace-events`, with their classes.
    pub const LETTERS: &[(u8, Self)] = &[
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::SORTED_SET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'm', Self::KEY_MISS),
        (b'n', Self::NEW),
    ];
}

/// What an observer wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest(u32);

impl Interest {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Every key that is modified.
    pub const MODIFICATIONS: Self = Self(1 << 31);

    /// The interest in events of a class.
    #[must_use]
    pub const fn in_events(class: EventClass) -> Self {
        Self(class.0)
    }

    /// Both interests.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it includes all of `other`.
    #[inline]
    pub const fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it is in nothing.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// An event: what happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Its class.
    pub class: EventClass,
    /// Its name, as in a keyevent's channel.
    pub name: &'static str,
}

impl Event {
    /// An event of a class.
    pub const fn new(class: EventClass, name: &'static str) -> Self {
        Self { class, name }
    }

    /// An event of strings.
    pub const fn string(name: &'static str) -> Self {
        Self::new(EventClass::STRING, name)
    }

    /// An event of keys of any type.
    pub const fn generic(name: &'static str) -> Self {
        Self::new(EventClass::GENERIC, name)
    }
}

/// Is told of what happens to keys, once it has taken effect. Called on the thread that runs the
/// command: it must not block, and must not call the store.
pub trait Observer: Send + Sync {
    /// Something happened to a key.
    fn event(&self, event: Event, database: KeyspaceId, key: &[u8]);

    /// A key was modified by `client`.
    fn modified(&self, database: KeyspaceId, key: &[u8], client: ClientId);

    /// A database was emptied, or all.
    fn flushed(&self, database: Option<KeyspaceId>, client: ClientId);
}
