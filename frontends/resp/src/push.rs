//! [`Push`] and [`Invalidation`]: what is sent to any number of clients, in either protocol.

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

/// Where clients that speak RESP2 listen for what is redirected to them.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// Tells a client which keys it must not take from its cache any more.
pub(crate) struct Invalidation {
    /// The keys as an array; all of them if there is none.
    keys: Option<Reply>,
}

impl Invalidation {
    pub(crate) fn of(keys: &[&[u8]]) -> Self {
        let mut array = Reply::new(Protocol::Resp3, usize::MAX);
        array.array(keys.len());
        keys.iter().for_each(|key| array.bulk(key));
        Self { keys: Some(array) }
    }

    /// Of all keys.
    pub(crate) fn of_all() -> Self {
        Self { keys: None }
    }

    /// At least what it takes in any form.
    pub(crate) fn len(&self) -> usize {
        self.keys.as_ref().map_or(0, |keys| keys.unsent().len()) + 64
    }

    /// Appends it as a push in RESP3, as a message in RESP2.
    pub(crate) fn write_in(&self, protocol: Protocol, output: &mut Vec<u8>) {
        let (words, nothing): (&[&[u8]], &[u8]) = match protocol {
            Protocol::Resp3 => (&[b"invalidate"], b"_\r\n"),
            Protocol::Resp2 => (&[b"message", CHANNEL], b"$-1\r\n"),
        };
        let mut head = Reply::new(protocol, usize::MAX);
        head.push(words.len() + 1);
        words.iter().for_each(|word| head.bulk(word));
        output.extend_from_slice(head.unsent());
        output.extend_from_slice(self.keys.as_ref().map_or(nothing, Reply::unsent));
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

    #[test]
    fn an_invalidation_is_a_push_or_a_message() {
        let mut output = Vec::new();
        let push = Invalidation::of(&[b"k", b"l"]);
        push.write_in(Protocol::Resp3, &mut output);
        Invalidation::of_all().write_in(Protocol::Resp3, &mut output);
        push.write_in(Protocol::Resp2, &mut output);
        Invalidation::of_all().write_in(Protocol::Resp2, &mut output);
        let (keys, head) = ("*2\r\n$1\r\nk\r\n$1\r\nl\r\n", ">2\r\n$10\r\ninvalidate\r\n");
        let message = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";
        let expected = format!("{head}{keys}{head}_\r\n{message}{keys}{message}$-1\r\n");
        assert_eq!(String::from_utf8(output).unwrap(), expected);
        assert!(push.len() >= message.len() + keys.len());
    }
}
