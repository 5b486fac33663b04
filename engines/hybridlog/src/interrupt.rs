//! [`Interrupt`]: why an attempt at an operation has to leave its epoch and start again.

use ferrokit_engine::Error;

use crate::store::known::Asked;

/// Why an attempt stopped. No attempt ever waits for another thread while it is in an epoch and
/// needs that thread to see a later one: it stops, and whoever runs it waits outside.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// Somebody holds a latch on the way, or moved what was found.
    Again,
    /// The log has no room for so many words.
    NoSpace {
        /// Words asked for.
        words: u64,
    },
    /// The index has no room for another entry.
    IndexFull,
    /// It has to know what lies in a part of a chain that is not in memory, or has to do with a value
    /// that is longer than a record.
    Cold(Vec<Asked>),
    /// Keys it is to write, each with its space, have expired, and a feed is to hear of that first.
    Expired(Vec<(u64, Box<[u8]>)>),
    /// It failed for good.
    Failed(Error),
}

impl From<Error> for Interrupt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The result of an attempt.
pub(crate) type Attempt<T> = Result<T, Interrupt>;
