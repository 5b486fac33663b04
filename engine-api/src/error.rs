//! The one error type of the contract: kind, operation, context, source.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// `Result` with the contract's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the terms a caller acts upon. [`ErrorKind::advice`] says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is outside the engine's limits or makes no sense.
    InvalidArgument,
    /// The engine does not have this capability.
    Unsupported,
    /// A transaction lost against a concurrent one.
    Conflict,
    /// A bounded resource is full; it empties by itself.
    Busy,
    /// The directory is open elsewhere.
    Locked,
    /// No space on the device, or the data limit is reached.
    OutOfSpace,
    /// What was asked for does not exist (a file, a log position that was already trimmed).
    NotFound,
    /// Stored bytes fail their checksum or their format.
    Corruption,
    /// The data was written by a newer version of the code.
    VersionTooNew,
    /// A sync failed earlier: what is in memory can no longer be trusted to become durable.
    Poisoned,
    /// The engine was closed.
    Closed,
    /// The operating system reported a failure.
    Io,
}

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Try again, possibly after a pause.
    Retry,
    /// Change the call, the options or the configuration.
    FixInput,
    /// Free space, or raise the limit.
    FreeSpace,
    /// Reopen; where that fails, restore from a checkpoint or a replica.
    Restore,
    /// Look at the source of the error; it is not expected in operation.
    Report,
}

impl ErrorKind {
    /// What a caller can do about an error of this kind.
    pub const fn advice(self) -> Advice {
        match self {
            Self::Conflict | Self::Busy | Self::Locked => Advice::Retry,
            Self::InvalidArgument | Self::Unsupported | Self::VersionTooNew | Self::NotFound => {
                Advice::FixInput
            }
            Self::OutOfSpace => Advice::FreeSpace,
            Self::Corruption | Self::Poisoned => Advice::Restore,
            Self::Closed | Self::Io => Advice::Report,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid argument",
            Self::Unsupported => "unsupported",
            Self::Conflict => "conflict",
            Self::Busy => "busy",
            Self::Locked => "locked",
            Self::OutOfSpace => "out of space",
            Self::NotFound => "not found",
            Self::Corruption => "corruption",
            Self::VersionTooNew => "version too new",
            Self::Poisoned => "poisoned",
            Self::Closed => "closed",
            Self::Io => "i/o error",
        }
    }
}

/// How many bytes of a key an error shows.
const KEY_PREFIX_BYTES: usize = 32;

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    message: Cow<'static, str>,
    key: Option<Box<[u8]>>,
    file: Option<Box<str>>,
    offset: Option<u64>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// An error of an engine or of what it stands on.
///
/// It is one pointer wide and cheap to clone: a poisoned engine answers its first failure to
/// every later caller.
#[derive(Debug, Clone)]
pub struct Error(Arc<Inner>);

impl Error {
    /// An error of `kind` in `operation` (`"put"`, `"log.append"`, ...); `message` says what to
    /// know or to do beyond the kind.
    #[cold]
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            operation,
            message: message.into(),
            key: None,
            file: None,
            offset: None,
            source: None,
        }))
    }

    /// [`ErrorKind::InvalidArgument`].
    #[cold]
    pub fn invalid(operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidArgument, operation, message)
    }

    /// [`ErrorKind::Unsupported`].
    #[cold]
    pub fn unsupported(operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, operation, message)
    }

    /// [`ErrorKind::Corruption`] found in `file` at `offset`.
    #[cold]
    pub fn corruption(
        operation: &'static str,
        message: impl Into<Cow<'static, str>>,
        file: &str,
        offset: u64,
    ) -> Self {
        Self::new(ErrorKind::Corruption, operation, message).with_file(file).with_offset(offset)
    }

    /// The failure of a system call, classified by its `std::io` kind.
    #[cold]
    pub fn io(operation: &'static str, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ErrorKind::OutOfSpace
            }
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Self::new(kind, operation, "").with_source(source)
    }

    /// Names the key concerned (its first bytes).
    #[must_use]
    pub fn with_key(mut self, key: &[u8]) -> Self {
        let prefix = key.get(..KEY_PREFIX_BYTES).unwrap_or(key);
        Arc::make_mut(&mut self.0).key = Some(prefix.into());
        self
    }

    /// Names the file concerned.
    #[must_use]
    pub fn with_file(mut self, file: &str) -> Self {
        Arc::make_mut(&mut self.0).file = Some(file.into());
        self
    }

    /// Names the byte offset in the file.
    #[must_use]
    pub fn with_offset(mut self, offset: u64) -> Self {
        Arc::make_mut(&mut self.0).offset = Some(offset);
        self
    }

    /// Keeps the underlying error.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::from(source.into()));
        self
    }

    /// This failure as the answer of a poisoned engine: kind [`ErrorKind::Poisoned`], the first
    /// failure as source.
    #[must_use]
    pub fn into_poison(self) -> Self {
        if self.kind() == ErrorKind::Poisoned {
            return self;
        }
        Self::new(
            ErrorKind::Poisoned,
            self.operation(),
            "an earlier failure made durability uncertain; reopen the engine",
        )
        .with_source(self)
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The file concerned, where one is.
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// The byte offset in that file, where one is known.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The first bytes of the key concerned, where one is.
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "{}: {}", inner.operation, inner.kind.text())?;
        if !inner.message.is_empty() {
            write!(f, ": {}", inner.message)?;
        }
        if let Some(key) = &inner.key {
            write!(f, " (key \"{}\")", key.escape_ascii())?;
        }
        match (&inner.file, inner.offset) {
            (Some(file), Some(offset)) => write!(f, " ({file} at byte {offset})")?,
            (Some(file), None) => write!(f, " ({file})")?,
            (None, Some(offset)) => write!(f, " (at byte {offset})")?,
            (None, None) => {}
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_operation_kind_context_and_source() {
        let error = Error::corruption("sst.read", "checksum mismatch", "000007.sst", 4096)
            .with_key(b"user:\x01")
            .with_source(std::io::Error::other("disk says no"));
        assert_eq!(
            error.to_string(),
            "sst.read: corruption: checksum mismatch (key \"user:\\x01\") \
             (000007.sst at byte 4096): disk says no"
        );
    }

    #[test]
    fn poison_keeps_the_first_failure() {
        let first = Error::io("log.sync", std::io::Error::other("EIO"));
        let poison = first.into_poison();
        assert_eq!(poison.kind(), ErrorKind::Poisoned);
        assert!(poison.to_string().contains("EIO"));
        assert_eq!(poison.clone().into_poison().to_string(), poison.to_string());
    }
}
