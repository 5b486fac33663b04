//! [`Reply`]: the bytes that go out, in RESP2 or RESP3.

use ferrokit_redis::integer::push_integer;

/// The version of the protocol a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// RESP2, with which every client begins.
    #[default]
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
}

/// Replies on their way out: an append-only buffer with a bound.
///
/// Beyond the bound nothing more is kept and [`has_overflowed`](Self::has_overflowed) tells; the
/// connection is closed then.
#[derive(Debug, Default)]
pub struct Reply {
    bytes: Vec<u8>,
    sent: usize,
    protocol: Protocol,
    limit_bytes: usize,
    has_overflowed: bool,
}

impl Reply {
    /// An empty buffer that holds at most `limit_bytes` unsent bytes.
    pub fn new(protocol: Protocol, limit_bytes: usize) -> Self {
        Self { protocol, limit_bytes, ..Self::default() }
    }

    /// Readies an empty buffer for a connection.
    pub fn prepare(&mut self, protocol: Protocol, limit_bytes: usize) {
        self.bytes.clear();
        self.sent = 0;
        self.has_overflowed = false;
        self.protocol = protocol;
        self.limit_bytes = limit_bytes;
    }

    /// The protocol replies are written in.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Writes in another protocol from now on.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// What has not been sent.
    #[inline]
    pub fn unsent(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Takes note that `len` bytes were sent.
    pub fn mark_sent(&mut self, len: usize) {
        self.sent += len;
        if self.sent >= self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent >= self.bytes.len() / 2 {
            // A client that takes its replies but never all of them must not make it grow.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Whether a reply did not fit.
    pub fn has_overflowed(&self) -> bool {
        self.has_overflowed
    }

    /// Takes note that something did not fit.
    pub fn overflow(&mut self) {
        self.has_overflowed = true;
    }

    /// The memory it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back memory beyond `capacity` bytes; for an empty buffer.
    pub fn shrink_to(&mut self, capacity: usize) {
        self.bytes.shrink_to(capacity);
    }

    /// The present end, for [`rewind`](Self::rewind) and [`Self::since`].
    #[inline]
    pub fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Takes back what was written since `mark`; only before any of it was sent.
    #[inline]
    pub fn rewind(&mut self, mark: usize) {
        self.bytes.truncate(mark);
    }

    /// How many unsent bytes it holds.
    pub fn limit(&self) -> usize {
        self.limit_bytes
    }

    /// Holds at most `limit_bytes` unsent bytes from now on.
    pub fn set_limit(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
    }

    /// [`rewind`](Self::rewind) to a mark at which nothing had overflowed: what overflowed since is
    /// taken back, too.
    pub fn recover(&mut self, mark: usize) {
        self.rewind(mark);
        self.has_overflowed = false;
    }

    /// What was written since `mark`.
    pub fn since(&self, mark: usize) -> &[u8] {
        self.bytes.get(mark..).unwrap_or_default()
    }

    /// Appends bytes that are replies already.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        if self.admit(bytes.len()) {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// A status, such as `PONG`.
    pub fn status(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error; `text` begins with its code. Line breaks in it become spaces.
    pub fn error(&mut self, text: &str) {
        self.line(b'-', text.as_bytes());
    }

    /// A number.
    #[inline]
    pub fn integer(&mut self, number: i64) {
        self.header(b':', number);
    }

    /// A length or count.
    pub fn count(&mut self, count: usize) {
        self.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A string of bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        if self.admit(bytes.len()) {
            self.bytes.reserve(bytes.len() + 26);
            self.len_header(b'$', bytes.len());
            self.bytes.extend_from_slice(bytes);
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    /// A string that is text for humans: in RESP3 marked as such.
    pub fn verbatim(&mut self, text: &str) {
        if self.protocol == Protocol::Resp2 {
            self.bulk(text.as_bytes());
        } else if self.admit(text.len()) {
            self.len_header(b'=', text.len() + 4);
            self.bytes.extend_from_slice(b"txt:");
            self.bytes.extend_from_slice(text.as_bytes());
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    /// Nothing, in the place of a string.
    #[inline]
    pub fn null(&mut self) {
        self.raw(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Nothing, in the place of an array.
    pub fn null_array(&mut self) {
        self.raw(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The head of an array; its elements follow.
    pub fn array(&mut self, elements: usize) {
        self.len_header(b'*', elements);
    }

    /// The head of a push; its elements follow. In RESP2 an array.
    pub fn push(&mut self, elements: usize) {
        match self.protocol {
            Protocol::Resp2 => self.len_header(b'*', elements),
            Protocol::Resp3 => self.len_header(b'>', elements),
        }
    }

    /// The head of a map; its keys and values follow. In RESP2 an array of both.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.len_header(b'*', pairs * 2),
            Protocol::Resp3 => self.len_header(b'%', pairs),
        }
    }

    /// The head of a set; its members follow. In RESP2 an array.
    pub fn set(&mut self, members: usize) {
        match self.protocol {
            Protocol::Resp2 => self.len_header(b'*', members),
            Protocol::Resp3 => self.len_header(b'~', members),
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        if self.admit(text.len()) {
            self.bytes.push(kind);
            self.bytes.extend(
                text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }),
            );
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    fn len_header(&mut self, kind: u8, len: usize) {
        self.header(kind, i64::try_from(len).unwrap_or(i64::MAX));
    }

    #[inline]
    fn header(&mut self, kind: u8, number: i64) {
        if self.admit(0) {
            self.bytes.push(kind);
            push_integer(&mut self.bytes, number);
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    /// Whether `len` more bytes, and a header, are within the limit.
    #[inline]
    fn admit(&mut self, len: usize) -> bool {
        let fits = self.bytes.len() - self.sent + len + 32 <= self.limit_bytes;
        self.has_overflowed |= !fits;
        fits && !self.has_overflowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl Fn(&mut Reply)) -> String {
        let mut reply = Reply::new(protocol, 1 << 20);
        write(&mut reply);
        String::from_utf8(reply.unsent().to_vec()).unwrap()
    }

    #[test]
    fn each_protocol_has_its_own_nulls_maps_sets_and_texts() {
        let write = |reply: &mut Reply| {
            reply.null();
            reply.null_array();
            reply.map(2);
            reply.set(3);
            reply.verbatim("hi");
            reply.integer(-7);
            reply.bulk(b"a\r\n");
        };
        assert_eq!(
            written(Protocol::Resp2, write),
            "$-1\r\n*-1\r\n*4\r\n*3\r\n$2\r\nhi\r\n:-7\r\n$3\r\na\r\n\r\n"
        );
        assert_eq!(
            written(Protocol::Resp3, write),
            "_\r\n_\r\n%2\r\n~3\r\n=6\r\ntxt:hi\r\n:-7\r\n$3\r\na\r\n\r\n"
        );
    }

    #[test]
    fn an_error_stays_on_its_line() {
        let write = |reply: &mut Reply| reply.error("ERR a\r\n+OK");
        assert_eq!(written(Protocol::Resp2, write), "-ERR a  +OK\r\n");
    }

    #[test]
    fn what_was_sent_takes_no_room_though_something_is_always_unsent() {
        let mut reply = Reply::new(Protocol::Resp2, 1 << 20);
        reply.raw(&[0; 100]);
        for number in 0..1000_u32 {
            reply.raw(&number.to_le_bytes().repeat(25));
            reply.mark_sent(99);
            reply.mark_sent(1);
            assert_eq!(reply.unsent(), number.to_le_bytes().repeat(25));
        }
        assert!(reply.capacity() < 1000, "{} bytes for 100", reply.capacity());
    }

    #[test]
    fn beyond_the_limit_nothing_is_kept() {
        let mut reply = Reply::new(Protocol::Resp2, 100);
        reply.bulk(&[0; 1000]);
        assert!(reply.has_overflowed());
        reply.ok();
        assert_eq!((reply.unsent(), reply.capacity()), (b"".as_slice(), 0));
    }
}
