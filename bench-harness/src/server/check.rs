//! [`Checker`]: whether a reply is the right one.

use ferrokit_engine::{Error, ErrorKind, Result};

use super::command::ServerCommand;
use super::protocol::{Protocol, Reply, number};
use super::requests::{Purpose, Requests};
use crate::dataset::{Dataset, Stamp};

/// The longest number in a reply, in bytes.
const NUMBER_BYTES_MAX: usize = 20;

/// Compares replies with the requests they answer.
pub(super) struct Checker<'a> {
    pub(super) protocol: &'static dyn Protocol,
    pub(super) dataset: &'a Dataset,
    pub(super) requests: &'a Requests,
    pub(super) value_bytes: usize,
    /// The sum of the numbers read by [`Purpose::ReadCounter`].
    pub(super) counted: u64,
}

impl Checker<'_> {
    /// The longest value that can be right, in bytes.
    pub(super) fn value_bytes_max(&self) -> usize {
        self.value_bytes.max(NUMBER_BYTES_MAX)
    }

    /// Checks the reply to a request.
    ///
    /// # Errors
    /// `Corruption`, naming the key, if it is a wrong one; `Io` if the server refused.
    pub(super) fn check(&mut self, request: usize, reply: Reply<'_>) -> Result<()> {
        let right = match (self.requests.purpose(), reply) {
            (_, Reply::Error(text)) => return Err(self.refused(request, text)),
            (
                Purpose::Load
                | Purpose::LoadCounter
                | Purpose::Measure(ServerCommand::Set | ServerCommand::Mset),
                Reply::Stored,
            ) => Ok(()),
            (Purpose::Measure(ServerCommand::Incr), Reply::Integer(number)) => match number {
                0 => Err("nothing added"),
                _ => Ok(()),
            },
            (Purpose::Measure(ServerCommand::Get), Reply::Value { key, value }) => {
                self.value(request, key, value, |stamp| stamp == Stamp::LOADED)
            }
            (Purpose::ReadOverwritten, Reply::Value { key, value }) => {
                self.value(request, key, value, |stamp| stamp != Stamp::LOADED)
            }
            (Purpose::ReadCounter, Reply::Value { key: _, value }) => {
                match number(value.trim_ascii_end()) {
                    Some(count) => {
                        self.counted = self.counted.wrapping_add(count);
                        Ok(())
                    }
                    None => Err("a counter that is no number"),
                }
            }
            (_, Reply::Missing) => Err("a record that was written is not there"),
            _ => Err("a reply to another command"),
        };
        right.map_err(|what| self.wrong(request, what))
    }

    fn value(
        &self,
        request: usize,
        key: Option<&[u8]>,
        value: &[u8],
        may_be: impl FnOnce(Stamp) -> bool,
    ) -> Result<(), &'static str> {
        let item = self.requests.item(request);
        if key.is_some_and(|key| key != self.dataset.key(item)) {
            return Err("the value of another key");
        }
        let header = self.dataset.check_value(item, value)?;
        if may_be(header.stamp) { Ok(()) } else { Err("a value of another time") }
    }

    #[cold]
    fn wrong(&self, request: usize, what: &'static str) -> Error {
        let key = self.dataset.key(self.requests.item(request));
        wrong_answer(what).with_key(&key)
    }

    #[cold]
    fn refused(&self, request: usize, text: &[u8]) -> Error {
        let key = self.dataset.key(self.requests.item(request));
        let text = String::from_utf8_lossy(text);
        Error::new(ErrorKind::Io, "bench.server", format!("the server answered \"{text}\""))
            .with_key(&key)
    }
}

/// The error of a wrong answer.
#[cold]
pub(super) fn wrong_answer(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corruption, "bench.server", format!("wrong answer: {what}"))
}
