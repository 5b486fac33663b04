//! [`Requests`]: the requests of one client thread, as they go over the wire, made before the run.

use ferrokit_engine::{Error, Result};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::command::ServerCommand;
use super::protocol::Protocol;
use crate::dataset::{Dataset, Stamp};
use crate::distribution::{Choice, Chooser};

/// What requests do, and so which replies are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Writes each record's first value.
    Load,
    /// Writes a zero.
    LoadCounter,
    /// What is measured.
    Measure(ServerCommand),
    /// Reads a record that was overwritten.
    ReadOverwritten,
    /// Reads a number.
    ReadCounter,
}

impl Purpose {
    /// How many keys one request names.
    pub(super) const fn keys(self) -> usize {
        match self {
            Self::Measure(command) => command.keys(),
            _ => 1,
        }
    }
}

/// Requests of one length, one after the other. A run longer than they are goes through them again.
pub(super) struct Requests {
    purpose: Purpose,
    bytes: Vec<u8>,
    request_bytes: usize,
    /// The items of all requests, [`Purpose::keys`] of each.
    items: Vec<u32>,
}

impl Requests {
    /// Requests on `items`, for the client thread `thread`.
    ///
    /// # Errors
    /// `Unsupported` if the protocol has no such request.
    pub(super) fn on_items(
        protocol: &dyn Protocol,
        dataset: &Dataset,
        purpose: Purpose,
        thread: usize,
        items: Vec<u32>,
    ) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut request_bytes = 0;
        let mut value = Vec::new();
        for (index, request_items) in items.chunks_exact(purpose.keys()).enumerate() {
            write(
                protocol,
                dataset,
                purpose,
                thread,
                index,
                request_items,
                &mut value,
                &mut bytes,
            )?;
            if index == 0 {
                request_bytes = bytes.len();
                bytes.reserve_exact(request_bytes * (items.len() / purpose.keys() - 1));
            }
        }
        if bytes.len() * purpose.keys() != request_bytes * items.len() {
            return Err(Error::invalid("bench.server", "requests of unequal length"));
        }
        Ok(Self { purpose, bytes, request_bytes, items })
    }

    /// Requests to be measured, on items drawn as `draw` says.
    ///
    /// # Errors
    /// As [`on_items`](Self::on_items).
    pub(super) fn drawn(
        protocol: &dyn Protocol,
        dataset: &Dataset,
        command: ServerCommand,
        draw: &Draw<'_>,
    ) -> Result<Self> {
        let purpose = Purpose::Measure(command);
        let one = Self::on_items(protocol, dataset, purpose, 0, vec![0; purpose.keys()])?;
        let within = (draw.budget_bytes / one.request_bytes.max(1)).max(1);
        let count = usize::try_from(draw.count).unwrap_or(usize::MAX).clamp(1, within);
        let mut rng = SmallRng::seed_from_u64(draw.seed ^ (draw.thread as u64 + 1).rotate_left(32));
        let items = (0..(count * purpose.keys()) as u64)
            .map(|number| draw_item(draw.chooser, &mut rng, number))
            .collect();
        Self::on_items(protocol, dataset, purpose, draw.thread, items)
    }

    /// What they do.
    pub(super) fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.items.len() / self.purpose.keys()
    }

    /// All of them, as they go over the wire.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The length of one.
    pub(super) fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// The first item of a request.
    pub(super) fn item(&self, request: usize) -> u64 {
        self.items.get(request * self.purpose.keys()).copied().map_or(u64::MAX, u64::from)
    }

    /// The items of all requests. A run goes through all of them at least once.
    pub(super) fn items(&self) -> &[u32] {
        &self.items
    }
}

/// What [`Requests::drawn`] draws.
pub(super) struct Draw<'a> {
    /// From where items come.
    pub(super) chooser: &'a Chooser,
    /// Of the choice.
    pub(super) seed: u64,
    /// The client thread that sends them.
    pub(super) thread: usize,
    /// How many requests, at most.
    pub(super) count: u64,
    /// Their memory, at most; there is at least one.
    pub(super) budget_bytes: usize,
}

fn draw_item(chooser: &Chooser, rng: &mut SmallRng, number: u64) -> u32 {
    let (Choice::Loaded(item) | Choice::Inserted(item)) = chooser.choose(rng, number, 0);
    item as u32
}

#[expect(clippy::too_many_arguments, reason = "two of them are buffers")]
fn write(
    protocol: &dyn Protocol,
    dataset: &Dataset,
    purpose: Purpose,
    thread: usize,
    index: usize,
    items: &[u32],
    value: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let first = items.first().copied().map_or(0, u64::from);
    let key = dataset.key(first);
    match purpose {
        Purpose::Load => {
            dataset.write_value(first, Stamp::LOADED, dataset.value_bytes_max(), value);
            protocol.write_set(&key, value, out);
        }
        Purpose::LoadCounter => protocol.write_set(&key, b"0", out),
        Purpose::Measure(ServerCommand::Set) => {
            dataset.write_value(first, Stamp::of(thread, index), dataset.value_bytes_max(), value);
            protocol.write_set(&key, value, out);
        }
        Purpose::Measure(ServerCommand::Mset) => {
            if !protocol.write_set_many(items.len(), out) {
                return Err(Error::unsupported("bench.server", "it has no write of several keys"));
            }
            for &item in items {
                let item = u64::from(item);
                dataset.write_value(
                    item,
                    Stamp::of(thread, index),
                    dataset.value_bytes_max(),
                    value,
                );
                protocol.write_pair(&dataset.key(item), value, out);
            }
        }
        Purpose::Measure(ServerCommand::Incr) => protocol.write_increment(&key, out),
        Purpose::Measure(ServerCommand::Get) | Purpose::ReadOverwritten | Purpose::ReadCounter => {
            protocol.write_get(&key, out)
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::KeyOrder;
    use crate::distribution::Distribution;
    use crate::server::memcached::Memcached;
    use crate::server::resp::Resp;

    fn drawn(command: ServerCommand, thread: usize, count: u64, budget_bytes: usize) -> Requests {
        let dataset = Dataset::new(1, KeyOrder::Hashed, 64);
        let chooser = Chooser::new(Distribution::Zipfian, 1000);
        let draw = Draw { chooser: &chooser, seed: 7, thread, count, budget_bytes };
        Requests::drawn(&Resp, &dataset, command, &draw).unwrap()
    }

    #[test]
    fn every_command_has_requests_of_one_length() {
        for command in
            [ServerCommand::Get, ServerCommand::Set, ServerCommand::Incr, ServerCommand::Mset]
        {
            let requests = drawn(command, 0, 300, 1 << 20);
            assert_eq!(requests.len(), 300);
            assert_eq!(requests.bytes().len(), 300 * requests.request_bytes());
            for request in requests.bytes().chunks(requests.request_bytes()) {
                assert!(request.starts_with(b"*") && request.ends_with(b"\r\n"));
            }
        }
    }

    #[test]
    fn the_seed_gives_the_same_requests_and_threads_differ() {
        let requests = drawn(ServerCommand::Set, 0, 100, 1 << 20);
        assert_eq!(requests.bytes(), drawn(ServerCommand::Set, 0, 100, 1 << 20).bytes());
        assert_ne!(requests.bytes(), drawn(ServerCommand::Set, 1, 100, 1 << 20).bytes());
    }

    #[test]
    fn memory_bounds_their_number() {
        let one = drawn(ServerCommand::Set, 0, 1, 1 << 20).request_bytes();
        assert_eq!(drawn(ServerCommand::Set, 0, 1 << 40, 10 * one).len(), 10);
        assert_eq!(drawn(ServerCommand::Set, 0, 100, 0).len(), 1);
    }

    #[test]
    fn a_protocol_without_the_command_is_said() {
        let dataset = Dataset::new(1, KeyOrder::Hashed, 64);
        let purpose = Purpose::Measure(ServerCommand::Mset);
        let error =
            Requests::on_items(&Memcached, &dataset, purpose, 0, vec![0; 10]).err().unwrap();
        assert_eq!(error.kind(), ferrokit_engine::ErrorKind::Unsupported);
    }
}
