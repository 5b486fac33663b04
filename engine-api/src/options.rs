//! Durability, completion, and what operations report.

use crate::entry::Sequence;

/// What a write survives once it has completed. Chosen per write, never weakened in silence: an
/// engine that cannot give a level answers `Unsupported`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Durability {
    /// Nothing beyond the process.
    Memory,
    /// The end of the process: the bytes are with the operating system.
    Os,
    /// The end of the machine's power: the bytes are on the device.
    #[default]
    Synced,
}

/// When an operation completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Completion {
    /// When the log is durable through everything the operation saw or did, each write at the
    /// level it asked for.
    #[default]
    Durable,
    /// As soon as it took effect. The caller must await the returned [`CommitTicket`] with
    /// [`KvEngine::committed`](crate::KvEngine::committed) before it shows the result to anyone:
    /// a server awaits one ticket per pipelined batch.
    Applied,
}

/// How far the log must be durable before a result may be shown.
///
/// Log positions of one engine instance, one per durability level. Tickets join: the ticket of a
/// group of operations covers each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CommitTicket {
    /// The log must have reached the operating system up to here.
    pub os: u64,
    /// The log must be on the device up to here.
    pub synced: u64,
}

impl CommitTicket {
    /// Nothing to wait for.
    pub const NONE: Self = Self { os: 0, synced: 0 };

    /// The ticket of a record that ends at log position `end`, written at `durability`.
    #[inline]
    pub const fn at(end: u64, durability: Durability) -> Self {
        match durability {
            Durability::Memory => Self::NONE,
            Durability::Os => Self { os: end, synced: 0 },
            Durability::Synced => Self { os: end, synced: end },
        }
    }

    /// A ticket that covers both.
    #[inline]
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self { os: self.os.max(other.os), synced: self.synced.max(other.synced) }
    }
}

/// Options of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// When the read completes.
    pub completion: Completion,
}

impl ReadOptions {
    /// Completes as soon as the value was read; see [`Completion::Applied`].
    pub const APPLIED: Self = Self { completion: Completion::Applied };
}

/// Options of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// What the write survives.
    pub durability: Durability,
    /// When the write completes.
    pub completion: Completion,
    /// Report in [`Written::existed`] whether the key was present before. May cost a read.
    pub report_existed: bool,
}

impl WriteOptions {
    /// Durability `level`, everything else by default.
    pub const fn with_durability(level: Durability) -> Self {
        Self { durability: level, completion: Completion::Durable, report_existed: false }
    }

    /// These options, reporting prior existence.
    #[must_use]
    pub const fn reporting_existed(mut self) -> Self {
        self.report_existed = true;
        self
    }

    /// These options, completing as soon as the write took effect.
    #[must_use]
    pub const fn applied(mut self) -> Self {
        self.completion = Completion::Applied;
        self
    }
}

/// The report of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// How many of the asked keys were present, and so visited.
    pub found: usize,
    /// What to wait for before showing the result; [`CommitTicket::NONE`] after
    /// [`Completion::Durable`].
    pub ticket: CommitTicket,
}

/// The report of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Whether the key was present before; `None` unless asked for (an update always tells).
    pub existed: Option<bool>,
    /// The number of the write, where the engine numbers writes and one took place.
    pub sequence: Option<Sequence>,
    /// What to wait for before showing the result; [`CommitTicket::NONE`] after
    /// [`Completion::Durable`].
    pub ticket: CommitTicket,
}

/// How many entries a keyspace holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyspaceLen {
    /// The number of entries. Those expired but not yet collected may count.
    pub entries: u64,
    /// Whether the number is exact, or an estimate.
    pub exact: bool,
}
