//! [`Error`]: why an operation was refused, or failed.

use std::borrow::Cow;
use std::fmt;

use ferrokit_redis::{Refusal, RefusalKind};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the terms a caller acts upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The key holds a value of another type.
    WrongType,
    /// The value is no 64-bit integer.
    NotAnInteger,
    /// The value is no number.
    NotAFloat,
    /// A counter would leave the range of 64 bits.
    Overflow,
    /// A floating-point counter would become infinite, or no number.
    NotFinite,
    /// A string would become longer than the limit.
    TooLong,
    /// There is no such key to rename.
    NoSuchKey,
    /// There is no database of that number.
    NoSuchDatabase,
    /// The key is none of those the transaction was begun with.
    NotInTransaction,
    /// There are as many watches as there may be.
    TooManyWatches,
    /// Redis refuses it for a reason that has no kind of its own; the text says which.
    Refused,
    /// The engine refused, or failed: see the [source](std::error::Error::source).
    Engine(ferrokit_engine::ErrorKind),
}

/// Why an operation was refused, or failed.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<ferrokit_engine::Error>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The engine's error, where it was the engine's.
    pub fn engine_error(&self) -> Option<&ferrokit_engine::Error> {
        self.source.as_ref()
    }

    /// Whether the engine does not have what was asked of it: order, snapshots, checkpoints, a
    /// durability.
    pub fn is_unsupported(&self) -> bool {
        self.kind == ErrorKind::Engine(ferrokit_engine::ErrorKind::Unsupported)
    }

    /// Whether the store was closed.
    pub fn is_closed(&self) -> bool {
        self.kind == ErrorKind::Engine(ferrokit_engine::ErrorKind::Closed)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(engine_error) => engine_error.fmt(f),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl From<ferrokit_engine::Error> for Error {
    fn from(source: ferrokit_engine::Error) -> Self {
        let kind = ErrorKind::Engine(source.kind());
        Self { kind, message: Cow::Borrowed(""), source: Some(source) }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let (kind, message) = match refusal.kind() {
            RefusalKind::WrongType => {
                (ErrorKind::WrongType, "the key holds a value of another type")
            }
            RefusalKind::NotAnInteger => {
                (ErrorKind::NotAnInteger, "the value is no 64-bit integer")
            }
            RefusalKind::NotAFloat => (ErrorKind::NotAFloat, "the value is no number"),
            RefusalKind::Overflow => {
                (ErrorKind::Overflow, "the counter would leave the range of 64 bits")
            }
            RefusalKind::NotFinite => {
                (ErrorKind::NotFinite, "the counter would become infinite, or no number")
            }
            RefusalKind::TooLong => {
                (ErrorKind::TooLong, "the string would become longer than the limit")
            }
            RefusalKind::NoSuchKey => (ErrorKind::NoSuchKey, "there is no such key"),
            RefusalKind::NoSuchDatabase => {
                (ErrorKind::NoSuchDatabase, "there is no database of that number")
            }
            _ => {
                return match refusal {
                    Refusal::Engine(error) => error.into(),
                    Refusal::Text(text) => Self::new(ErrorKind::Refused, text),
                };
            }
        };
        Self::new(kind, message)
    }
}
