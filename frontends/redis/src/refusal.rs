//! [`Refusal`]: why a command was refused.

use std::borrow::Cow;
use std::fmt;

use ferrokit_engine::{Error, ErrorKind};

/// `Result` of an operation.
pub type Result<T, E = Refusal> = std::result::Result<T, E>;

/// Why a command was refused, or failed.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// In Redis' words, the code first.
    Text(Cow<'static, str>),
    /// By the engine.
    Engine(Error),
}

impl Refusal {
    /// The key holds a value of another type.
    pub const WRONG_TYPE: Self =
        Self::text("WRONGTYPE Operation against a key holding the wrong kind of value");
    /// Options that do not go together, or are none.
    pub const SYNTAX: Self = Self::text("ERR syntax error");
    /// Not a 64-bit integer.
    pub const NOT_AN_INTEGER: Self = Self::text("ERR value is not an integer or out of range");
    /// Not a number.
    pub const NOT_A_FLOAT: Self = Self::text("ERR value is not a valid float");
    /// No database of that number.
    pub const NO_SUCH_DATABASE: Self = Self::text("ERR DB index is out of range");
    /// RENAME and its like without a source.
    pub const NO_SUCH_KEY: Self = Self::text("ERR no such key");
    /// A string would become longer than the limit.
    pub const TOO_LONG: Self =
        Self::text("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

    /// INCRBY and its like beyond 64 bits.
    pub const OVERFLOW: Self = Self::text("ERR increment or decrement would overflow");
    /// INCRBYFLOAT to what is no number.
    pub const NOT_FINITE: Self = Self::text("ERR increment would produce NaN or Infinity");

    /// What was wrong, for callers that act upon it.
    pub fn kind(&self) -> RefusalKind {
        let Self::Text(text) = self else { return RefusalKind::Engine };
        let is = |known: &Self| matches!(known, Self::Text(known) if known == text);
        let known = RefusalKind::KNOWN.iter().find(|(refusal, _)| is(refusal));
        known.map_or(RefusalKind::Other, |(_, kind)| *kind)
    }

    /// A refusal in these words, the code first.
    pub const fn text(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// A wrong number of arguments for a command.
    pub fn wrong_arity(name: &str) -> Self {
        Self::Text(format!("ERR wrong number of arguments for '{name}' command").into())
    }

    /// As a client sees it.
    pub fn into_text(self) -> Cow<'static, str> {
        match self {
            Self::Text(text) => text,
            Self::Engine(error) => engine_error_text(&error).into(),
        }
    }
}

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// [`Refusal::WRONG_TYPE`].
    WrongType,
    /// [`Refusal::SYNTAX`].
    Syntax,
    /// [`Refusal::NOT_AN_INTEGER`].
    NotAnInteger,
    /// [`Refusal::NOT_A_FLOAT`].
    NotAFloat,
    /// [`Refusal::OVERFLOW`].
    Overflow,
    /// [`Refusal::NOT_FINITE`].
    NotFinite,
    /// [`Refusal::TOO_LONG`].
    TooLong,
    /// [`Refusal::NO_SUCH_KEY`].
    NoSuchKey,
    /// [`Refusal::NO_SUCH_DATABASE`].
    NoSuchDatabase,
    /// Anything else that is said in words alone.
    Other,
    /// The engine refused, or failed.
    Engine,
}

impl RefusalKind {
    const KNOWN: &[(Refusal, Self)] = &[
        (Refusal::WRONG_TYPE, Self::WrongType),
        (Refusal::SYNTAX, Self::Syntax),
        (Refusal::NOT_AN_INTEGER, Self::NotAnInteger),
        (Refusal::NOT_A_FLOAT, Self::NotAFloat),
        (Refusal::OVERFLOW, Self::Overflow),
        (Refusal::NOT_FINITE, Self::NotFinite),
        (Refusal::TOO_LONG, Self::TooLong),
        (Refusal::NO_SUCH_KEY, Self::NoSuchKey),
        (Refusal::NO_SUCH_DATABASE, Self::NoSuchDatabase),
    ];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Engine(error) => f.write_str(&engine_error_text(error)),
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Text(_) => None,
            Self::Engine(error) => Some(error),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

const DEVICE_FULL: &str = "MISCONF There is no space left on the device that the data is on: \
    commands that may modify the data are refused until there is. The server's log says more.";

/// Whether the device of the data is full; a limit of the engine's own is another matter.
pub fn is_device_full(error: &Error) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    let mut sources = std::iter::successors(Some(first), |error| error.source());
    error.kind() == ErrorKind::OutOfSpace && sources.any(|it| it.is::<std::io::Error>())
}

/// An engine's error as a client sees it.
pub fn engine_error_text(error: &Error) -> String {
    if is_device_full(error) {
        return DEVICE_FULL.to_owned();
    }
    let code = match error.kind() {
        ErrorKind::Poisoned | ErrorKind::Corruption | ErrorKind::Io => "MISCONF",
        // A limit of its own, as of the memory that it may have.
        ErrorKind::OutOfSpace => "OOM",
        ErrorKind::Busy | ErrorKind::Conflict => "TRYAGAIN",
        _ => "ERR",
    };
    format!("{code} {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_words() {
        for (refusal, kind) in RefusalKind::KNOWN {
            assert_eq!(refusal.kind(), *kind, "{refusal}");
        }
        assert_eq!(Refusal::text("ERR of another kind").kind(), RefusalKind::Other);
        let failed = Refusal::from(Error::invalid("put", "too long"));
        assert_eq!(failed.kind(), RefusalKind::Engine);
    }

    #[test]
    fn a_full_device_is_no_lack_of_memory_and_its_paths_are_the_servers_own() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Error::io("file.write", full()).with_file("/srv/data/log");
        let text = engine_error_text(&error);
        assert!(text.starts_with("MISCONF There is no space left on the device"), "{text}");
        assert!(!text.contains("/srv"), "{text}");
        let within = Error::new(ErrorKind::OutOfSpace, "put", "the flush").with_source(error);
        assert!(is_device_full(&within));
        let limit = Error::new(ErrorKind::OutOfSpace, "put", "the budget is used up");
        assert!(engine_error_text(&limit).starts_with("OOM "));
        assert!(!is_device_full(&Error::io("put", full()).into_poison()));
    }
}
