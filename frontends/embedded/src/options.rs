//! What operations are told, and answer, beyond keys and values.

use std::time::Duration;

use bytes::Bytes;
use ferrokit_engine::UnixMillis;
use ferrokit_redis::{Condition, Expiry};

/// When a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Never,
    Kept,
    In(Duration),
    At(UnixMillis),
}

/// How [`set_with`](crate::Ferrokit::set_with) writes. Without options it is a plain `set`.
///
/// ```
/// # ferrokit::block_on(async {
/// use ferrokit::SetOptions;
/// use std::time::Duration;
///
/// let kv = ferrokit::open("memory:").await?;
/// let lock = SetOptions::new().if_absent().expire_in(Duration::from_secs(30));
/// assert!(kv.set_with("lock", "me", lock).await?.is_set);
/// assert!(!kv.set_with("lock", "you", lock).await?.is_set);
/// # kv.close().await
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetOptions {
    condition: Condition,
    until: Until,
    gets: bool,
}

impl Default for SetOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SetOptions {
    /// Write always; the key never expires.
    pub const fn new() -> Self {
        Self { condition: Condition::Always, until: Until::Never, gets: false }
    }

    /// NX: only if the key is absent.
    #[must_use]
    pub const fn if_absent(mut self) -> Self {
        self.condition = Condition::IfAbsent;
        self
    }

    /// XX: only if it is there.
    #[must_use]
    pub const fn if_present(mut self) -> Self {
        self.condition = Condition::IfPresent;
        self
    }

    /// GET: answer the value before, which must be a string.
    #[must_use]
    pub const fn get(mut self) -> Self {
        self.gets = true;
        self
    }

    /// KEEPTTL: the key expires when it would have.
    #[must_use]
    pub const fn keep_ttl(mut self) -> Self {
        self.until = Until::Kept;
        self
    }

    /// EX, PX: the key expires after that time.
    #[must_use]
    pub const fn expire_in(mut self, ttl: Duration) -> Self {
        self.until = Until::In(ttl);
        self
    }

    /// EXAT, PXAT: the key expires then.
    #[must_use]
    pub const fn expire_at(mut self, at: UnixMillis) -> Self {
        self.until = Until::At(at);
        self
    }

    pub(crate) fn resolved(self, now: UnixMillis) -> ferrokit_redis::SetOptions {
        let expiry = match self.until {
            Until::Never => Expiry::Remove,
            Until::Kept => Expiry::Keep,
            Until::In(ttl) => Expiry::At(after(now, ttl)),
            Until::At(at) => Expiry::At(at),
        };
        ferrokit_redis::SetOptions { condition: self.condition, expiry, gets: self.gets }
    }
}

/// What [`set_with`](crate::Ferrokit::set_with) came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetOutcome {
    /// Whether it wrote.
    pub is_set: bool,
    /// The value before, if it was asked for and there was one.
    pub previous: Option<Bytes>,
}

/// How long a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// There is no such key.
    Absent,
    /// It does not expire.
    Forever,
    /// It expires after that time.
    Left(Duration),
}

/// What an [`update`](crate::Ferrokit::update) makes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// It is left as it is.
    Keep,
    /// This is its value, with the expiry it had.
    Set(Bytes),
    /// This is its value, until then.
    SetUntil(Bytes, UnixMillis),
    /// It is removed.
    Delete,
}

impl Update {
    /// This is its value, with the expiry it had.
    pub fn set(value: impl Into<Bytes>) -> Self {
        Self::Set(value.into())
    }
}

/// What a [`compare_and_swap`](crate::Ferrokit::compare_and_swap) came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// The value was the expected one, and is the new one now.
    Done,
    /// It was this one, and still is.
    Found(Option<Bytes>),
}

impl Swap {
    /// Whether it swapped.
    pub fn is_done(&self) -> bool {
        *self == Self::Done
    }
}

/// `ttl` after `now`; a part of a millisecond counts as a whole one.
pub(crate) fn after(now: UnixMillis, ttl: Duration) -> UnixMillis {
    now.plus(u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}
