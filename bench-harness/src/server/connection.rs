//! [`Connection`]: a socket, the requests under way on it, and the part of a reply that has arrived.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use ferrokit_engine::{Clock, Error, Result};
use hdrhistogram::Histogram;

use super::check::{Checker, wrong_answer};

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// One connection, never blocking.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Where in the requests' bytes what is to be sent lies; no more than is in flight.
    unsent: VecDeque<Range<usize>>,
    in_flight: VecDeque<Batch>,
    requests_in_flight: usize,
    /// The start of a reply whose end has not arrived.
    partial: Vec<u8>,
    /// Whether the socket's buffer was full, and its having room is waited for.
    pub(super) is_blocked: bool,
    /// Open loop: the number, within its client, of the operation it does next.
    pub(super) next_operation: u64,
}

/// Neighbouring requests that began at one time.
struct Batch {
    first: usize,
    count: usize,
    begun: Duration,
}

impl Connection {
    /// Connects to a server.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let failed = |error| Error::io("bench.server.connect", error);
        let stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            stream,
            unsent: VecDeque::new(),
            in_flight: VecDeque::new(),
            requests_in_flight: 0,
            partial: Vec::new(),
            is_blocked: false,
            next_operation: 0,
        })
    }

    /// Requests that have no reply yet.
    pub(super) fn requests_in_flight(&self) -> usize {
        self.requests_in_flight
    }

    /// Begins `count` requests from number `first` on, `request_bytes` each, whose latency counts
    /// from `begun`. [`flush`](Self::flush) sends them.
    pub(super) fn begin(
        &mut self,
        first: usize,
        count: usize,
        request_bytes: usize,
        begun: Duration,
    ) {
        self.in_flight.push_back(Batch { first, count, begun });
        self.requests_in_flight += count;
        let bytes = first * request_bytes..(first + count) * request_bytes;
        match self.unsent.back_mut() {
            Some(last) if last.end == bytes.start => last.end = bytes.end,
            _ => self.unsent.push_back(bytes),
        }
    }

    /// Sends what the socket takes of what is begun. Answers whether all is sent.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn flush(&mut self, requests: &[u8]) -> Result<bool> {
        while let Some(range) = self.unsent.front_mut() {
            let bytes = requests.get(range.clone()).unwrap_or_default();
            match self.stream.write(bytes) {
                Ok(written) => range.start += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("bench.server.send", error)),
            }
            if range.start >= range.end {
                self.unsent.pop_front();
            }
        }
        Ok(true)
    }

    /// Takes the replies that have arrived, through `buffer`, and answers how many. Their latency
    /// goes into `latency_ns`.
    ///
    /// # Errors
    /// `Corruption` for a wrong reply; `Io`, also when the server hangs up.
    pub(super) fn receive(
        &mut self,
        clock: &dyn Clock,
        buffer: &mut [u8],
        checker: &mut Checker<'_>,
        latency_ns: &mut Histogram<u64>,
    ) -> Result<usize> {
        let mut replies = 0;
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => {
                    let error = std::io::Error::from(ErrorKind::UnexpectedEof);
                    return Err(Error::io("bench.server.receive", error));
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(replies),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("bench.server.receive", error)),
            };
            let now = clock.monotonic();
            replies +=
                self.take(buffer.get(..read).unwrap_or_default(), now, checker, latency_ns)?;
            // A short read has emptied the socket.
            if read < buffer.len() {
                return Ok(replies);
            }
        }
    }

    fn take(
        &mut self,
        arrived: &[u8],
        now: Duration,
        checker: &mut Checker<'_>,
        latency_ns: &mut Histogram<u64>,
    ) -> Result<usize> {
        if self.partial.is_empty() {
            let (used, replies) = self.take_whole(arrived, now, checker, latency_ns)?;
            self.partial.extend_from_slice(arrived.get(used..).unwrap_or_default());
            return Ok(replies);
        }
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(arrived);
        let (used, replies) = self.take_whole(&bytes, now, checker, latency_ns)?;
        bytes.drain(..used);
        self.partial = bytes;
        Ok(replies)
    }

    /// Takes the whole replies in `bytes`. Answers the bytes they have, and how many they are.
    fn take_whole(
        &mut self,
        bytes: &[u8],
        now: Duration,
        checker: &mut Checker<'_>,
        latency_ns: &mut Histogram<u64>,
    ) -> Result<(usize, usize)> {
        let value_bytes_max = checker.value_bytes_max();
        let mut used = 0;
        let mut replies = 0;
        while let Some(batch) = self.in_flight.front_mut() {
            let mut answered = 0;
            while answered < batch.count {
                let rest = bytes.get(used..).unwrap_or_default();
                let Some(decoded) = checker.protocol.decode(rest, value_bytes_max)? else { break };
                checker.check(batch.first + answered, decoded.reply)?;
                used += decoded.bytes;
                answered += 1;
            }
            let latency = now.saturating_sub(batch.begun).as_nanos() as u64;
            latency_ns.saturating_record_n(latency.max(1), answered as u64);
            batch.first += answered;
            batch.count -= answered;
            replies += answered;
            if batch.count > 0 {
                self.requests_in_flight -= replies;
                return Ok((used, replies));
            }
            self.in_flight.pop_front();
        }
        self.requests_in_flight -= replies;
        if used < bytes.len() {
            return Err(wrong_answer("a reply that nobody asked for"));
        }
        Ok((used, replies))
    }
}
