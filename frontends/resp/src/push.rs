//! [`Push`]: a message to be sent to any number of clients, in either protocol.

use crate::resp::{Protocol, Reply};

/// A push, written once. Its protocols differ in the first byte: an array in RESP2, a push in RESP3.
pub(crate) struct Push(Reply);

impl Push {
    /// A push of strings.
    pub(crate) fn of(elements: &[&[u8]]) -> Self {
        let mut reply = Reply::new(Protocol::Resp3, usize::MAX);
        reply.push(elements.len());
        elements.iter().for_each(|element| reply.bulk(element));
        Self(reply)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.unsent().len()
    }

    /// Appends it to `output`.
    pub(crate) fn write_in(&self, protocol: Protocol, output: &mut Vec<u8>) {
        let start = output.len();
        output.extend_from_slice(self.0.unsent());
        if protocol == Protocol::Resp2
            && let Some(first) = output.get_mut(start)
        {
            *first = b'*';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_the_protocol() {
        let push = Push::of(&[b"message", b"c", b""]);
        let mut output = b"+OK\r\n".to_vec();
        push.write_in(Protocol::Resp2, &mut output);
        push.write_in(Protocol::Resp3, &mut output);
        let expected = "+OK\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n\
                        >3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
        assert_eq!(push.len(), "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n".len());
    }
}
