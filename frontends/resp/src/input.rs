//! [`Input`]: bytes that arrived and are not parsed yet.

/// The room a buffer has at first, and keeps.
pub(crate) const STANDARD_BYTES: usize = 64 << 10;
/// A read is given at least so much room.
const READ_BYTES_MIN: usize = 16 << 10;

/// A buffer that is read into at its end and parsed from its start.
///
/// It grows by what has arrived, never by what a client announces: by at most its own length at a
/// time.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl Input {
    /// What was not consumed.
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The room behind what was read.
    pub(crate) fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Forgets the first `len` unread bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        self.start += len;
        if self.start >= self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Makes room to read more, towards `needed` unread bytes in all.
    pub(crate) fn make_room(&mut self, needed: usize) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let len = self.bytes.len();
        let room = needed.saturating_sub(len).clamp(READ_BYTES_MIN, len.max(STANDARD_BYTES));
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(room.max(STANDARD_BYTES));
        } else if self.bytes.capacity() - len < room {
            self.bytes.reserve_exact(room);
        }
    }

    /// The vector to append to, after [`make_room`](Self::make_room).
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes the unread bytes out, in memory of their own size.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        let rest = if self.unread().len() > STANDARD_BYTES {
            self.bytes.drain(..self.start);
            std::mem::take(&mut self.bytes)
        } else {
            self.unread().to_vec()
        };
        self.bytes.clear();
        self.start = 0;
        rest
    }

    /// Puts bytes that were taken out back, into an empty buffer.
    pub(crate) fn put_back(&mut self, rest: Vec<u8>) {
        if rest.len() > STANDARD_BYTES {
            self.bytes = rest;
        } else {
            self.bytes.extend_from_slice(&rest);
        }
        self.start = 0;
    }

    /// Gives back memory beyond the standard; for an empty buffer.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to(STANDARD_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_with_what_arrived_not_with_what_was_announced() {
        let mut input = Input::default();
        input.make_room(512 << 20);
        assert_eq!(input.end().capacity(), STANDARD_BYTES);
        input.end().resize(STANDARD_BYTES, 0);
        input.make_room(512 << 20);
        assert_eq!(input.end().capacity(), 2 * STANDARD_BYTES);
        input.end().resize(2 * STANDARD_BYTES, 0);
        input.make_room(2 * STANDARD_BYTES + 7);
        assert_eq!(input.end().capacity(), 2 * STANDARD_BYTES + READ_BYTES_MIN);
    }

    #[test]
    fn what_is_taken_out_is_put_back() {
        for len in [10, STANDARD_BYTES + 10] {
            let mut input = Input::default();
            input.end().extend((0..len).map(|i| i as u8));
            input.consume(3);
            let expected = input.unread().to_vec();
            let rest = input.take_unread();
            assert!(input.unread().is_empty());
            input.put_back(rest);
            assert_eq!(input.unread(), expected);
        }
    }
}
