//! [`CommitGate`]: what a reader must wait for before it shows what it saw.
//!
//! Engines make a write visible before it is durable, so that updates of one hot key share a sync
//! instead of waiting for each other's. No operation may complete before what it saw is durable;
//! the gate remembers, for stripes of keys, how far the log must be durable for that. Stripes and
//! maxima only ever make a reader wait for more than it must, never for less.
//!
//! # Memory ordering
//! A writer *notes* its ticket, then makes the value visible with a release store (or under
//! a lock); a reader reads the value with an acquire load (or under the lock), then asks for the
//! *ticket*. If the reader saw the value, the release/acquire pair of the engine orders the note
//! before the question, so by coherence the question finds the noted maximum or a later one. The
//! gate's own accesses can therefore be relaxed. A reader that asks *before* it reads gets no such
//! promise.

use ferrokit_engine::CommitTicket;

use super::atomics::{AtomicU64, Ordering};

/// The most stripes; two cache lines each (neighbours are fetched in pairs).
const STRIPES_MAX: usize = 1 << 16;

/// The tickets of recent writes, by stripes of keys.
pub struct CommitGate {
    stripes: Box<[Stripe]>,
    all: Stripe,
}

#[repr(align(128))]
struct Stripe {
    os: AtomicU64,
    synced: AtomicU64,
}

impl CommitGate {
    /// A gate with 1024 stripes.
    pub fn new() -> Self {
        Self::with_stripes(1024)
    }

    /// A gate with about this many stripes: the next power of two, at most 65536.
    pub fn with_stripes(count: usize) -> Self {
        let count = count.clamp(1, STRIPES_MAX).next_power_of_two();
        Self { stripes: (0..count).map(|_| Stripe::new()).collect(), all: Stripe::new() }
    }

    /// Remembers what readers of a key must wait for. To be called before the write is visible.
    #[inline]
    pub fn note(&self, key_hash: u64, ticket: CommitTicket) {
        if ticket == CommitTicket::NONE {
            return;
        }
        self.stripe(key_hash).raise(ticket);
        self.all.raise(ticket);
    }

    /// What a reader of a key must wait for. To be asked after the value was read.
    #[inline]
    pub fn ticket(&self, key_hash: u64) -> CommitTicket {
        self.stripe(key_hash).ticket()
    }

    /// What a reader of any keys must wait for: scans, snapshots. To be asked after the read.
    #[inline]
    pub fn ticket_all(&self) -> CommitTicket {
        self.all.ticket()
    }

    fn stripe(&self, key_hash: u64) -> &Stripe {
        // The count is a power of two. High bits: low ones often pick the engine's bucket already.
        let index = (key_hash >> 32) as usize & (self.stripes.len() - 1);
        &self.stripes[index]
    }
}

impl Default for CommitGate {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for CommitGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitGate")
            .field("stripes", &self.stripes.len())
            .field("all", &self.all.ticket())
            .finish()
    }
}

impl Stripe {
    fn new() -> Self {
        Self { os: AtomicU64::new(0), synced: AtomicU64::new(0) }
    }

    #[inline]
    fn raise(&self, ticket: CommitTicket) {
        raise(&self.os, ticket.os);
        raise(&self.synced, ticket.synced);
    }

    #[inline]
    fn ticket(&self) -> CommitTicket {
        CommitTicket {
            os: self.os.load(Ordering::Relaxed),
            synced: self.synced.load(Ordering::Relaxed),
        }
    }
}

/// The load spares the cache line a write when the maximum is beyond `to` already. It may read an
/// old maximum, never a future one: maxima only grow, so skipping is right whenever it happens.
#[inline]
fn raise(maximum: &AtomicU64, to: u64) {
    if maximum.load(Ordering::Relaxed) < to {
        maximum.fetch_max(to, Ordering::Relaxed);
    }
}
