//! [`FaultPlan`]: which I/O fails, and how.

use super::rng::Rng;

/// What an operation on the simulated disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// `File::read_at`.
    Read,
    /// `File::map`.
    Map,
    /// `Fs::open` of an existing file.
    Open,
    /// `Fs::list`.
    List,
    /// `Fs::open` that creates a file.
    Create,
    /// `File::write_at`.
    Write,
    /// `File::sync_data`, `File::sync_all`.
    Sync,
    /// `File::set_len`.
    SetLen,
    /// `File::allocate`.
    Allocate,
    /// `File::punch_hole`.
    PunchHole,
    /// `Fs::create_dir_all` that creates something.
    CreateDir,
    /// `Fs::rename`.
    Rename,
    /// `Fs::hard_link`.
    Link,
    /// `Fs::remove_file`.
    Remove,
    /// `Fs::remove_dir_all` of an existing directory.
    RemoveDir,
    /// `Fs::sync_dir`.
    SyncDir,
}

impl OpKind {
    /// Whether it changes nothing. Such operations have numbers of their own.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::Map | Self::Open | Self::List)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Read => "file.read_at",
            Self::Map => "file.map",
            Self::Open | Self::Create => "fs.open",
            Self::List => "fs.list",
            Self::Write => "file.write_at",
            Self::Sync => "file.sync",
            Self::SetLen => "file.set_len",
            Self::Allocate => "file.allocate",
            Self::PunchHole => "file.punch_hole",
            Self::CreateDir => "fs.create_dir_all",
            Self::Rename => "fs.rename",
            Self::Link => "fs.hard_link",
            Self::Remove => "fs.remove_file",
            Self::RemoveDir => "fs.remove_dir_all",
            Self::SyncDir => "fs.sync_dir",
        }
    }
}

/// How an operation fails. A kind that makes no sense for the operation it meets (a bit flip on a
/// sync) is taken as [`Error`](Self::Error).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// `EIO`; nothing happens.
    Error,
    /// `ENOSPC`; nothing happens.
    NoSpace,
    /// Only the first bytes of a write land (at most all but one), then `EIO`.
    ShortWrite {
        /// How many bytes land.
        bytes: usize,
    },
    /// One bit of what is read is inverted; the stored bytes stay as they are.
    FlipBit {
        /// The byte, counted from the start of what is read; `None` picks one at random.
        byte: Option<usize>,
        /// The bit, 0 to 7.
        bit: u8,
    },
    /// A sync fails and the kernel forgets that the bytes were dirty: reads still show them, later
    /// syncs succeed, and the device never gets them (Rebello et al., USENIX ATC 2020).
    SyncLosesWrites,
    /// The operation takes effect only after being polled this many times. Dropped before, it
    /// happens or not, as the seed decides.
    Slow {
        /// How often it is pending.
        polls: u32,
    },
}

#[derive(Debug, Clone)]
enum When {
    Io(u64),
    Read(u64),
    Matching { kind: Option<OpKind>, path_part: String, per_million: u32 },
}

#[derive(Debug, Clone)]
struct Fault {
    when: When,
    what: FaultKind,
    times_left: u64,
}

/// Which I/O fails, and how. The first fault that matches an operation decides; a machine has one
/// plan at a time ([`SimMachine::set_faults`](super::SimMachine::set_faults)).
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    faults: Vec<Fault>,
}

impl FaultPlan {
    /// No faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fails the changing operation with this number (see
    /// [`SimMachine::io_count`](super::SimMachine::io_count)).
    #[must_use]
    pub fn at_io(self, number: u64, what: FaultKind) -> Self {
        self.with(When::Io(number), what, 1)
    }

    /// Fails the reading operation with this number (see
    /// [`SimMachine::read_count`](super::SimMachine::read_count)).
    #[must_use]
    pub fn at_read(self, number: u64, what: FaultKind) -> Self {
        self.with(When::Read(number), what, 1)
    }

    /// Fails the first `times` operations of a kind (`None`: any) on paths that contain a text.
    #[must_use]
    pub fn on(
        self,
        kind: impl Into<Option<OpKind>>,
        path_part: &str,
        what: FaultKind,
        times: u64,
    ) -> Self {
        let when = When::Matching {
            kind: kind.into(),
            path_part: path_part.to_owned(),
            per_million: 1_000_000,
        };
        self.with(when, what, times)
    }

    /// Fails operations of a kind (`None`: any) on paths that contain a text, each with a chance.
    #[must_use]
    pub fn sometimes(
        self,
        kind: impl Into<Option<OpKind>>,
        path_part: &str,
        what: FaultKind,
        per_million: u32,
    ) -> Self {
        let when =
            When::Matching { kind: kind.into(), path_part: path_part.to_owned(), per_million };
        self.with(when, what, u64::MAX)
    }

    fn with(mut self, when: When, what: FaultKind, times_left: u64) -> Self {
        self.faults.push(Fault { when, what, times_left });
        self
    }

    pub(super) fn take(
        &mut self,
        kind: OpKind,
        path: &str,
        number: u64,
        rng: &mut Rng,
    ) -> Option<FaultKind> {
        for fault in &mut self.faults {
            let matches = fault.times_left > 0
                && match &fault.when {
                    When::Io(n) => !kind.is_read() && *n == number,
                    When::Read(n) => kind.is_read() && *n == number,
                    When::Matching { kind: only, path_part, per_million } => {
                        only.is_none_or(|only| only == kind)
                            && path.contains(path_part.as_str())
                            && rng.chance(*per_million)
                    }
                };
            if matches {
                fault.times_left -= 1;
                return Some(fault.what);
            }
        }
        None
    }
}
