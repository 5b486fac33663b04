//! [`parse()`]: requests from bytes.
//!
//! A request is an array of bulk strings (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`) or one line of words,
//! an inline request (`GET k\r\n`). The parser keeps its place between calls, so that a request
//! that arrives in a thousand pieces is still read once. Nothing is ever allocated by an announced
//! number: places are pushed as their arguments arrive.
//!
//! Invariant: parsing any prefix first, and then more, gives what parsing all at once gives.

use super::arguments::{Arguments, Place};
use super::words::split_words;
use ferrokit_redis::integer::parse_integer;

/// What a request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseLimits {
    /// The most arguments.
    pub arguments: u32,
    /// The longest argument in bytes.
    pub bulk_bytes: u32,
    /// The longest line: an inline request, or a count.
    pub line_bytes: usize,
    /// The longest request in bytes.
    pub request_bytes: usize,
}

impl Default for ParseLimits {
    fn default() -> Self {
        Self {
            arguments: 1 << 20,
            bulk_bytes: 512 << 20,
            line_bytes: 64 << 10,
            request_bytes: 1 << 30,
        }
    }
}

/// What the input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A request of `len` bytes; its arguments, possibly none, are in [`Arguments::command`].
    Request {
        /// How much of the input it takes.
        len: usize,
    },
    /// An unfinished request that cannot end before the input has `needed` bytes in all.
    Incomplete {
        /// The length of input worth calling again with.
        needed: usize,
    },
}

/// Bytes that are no request. The connection cannot be understood any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// An inline request without end.
    TooBigInline,
    /// A count of arguments without end.
    TooBigCount,
    /// A count of arguments that is no number or too large.
    InvalidCount,
    /// Another byte where a bulk string must begin.
    ExpectedBulk(u8),
    /// A bulk length without end.
    TooBigBulkLength,
    /// A bulk length that is no number, negative or too large.
    InvalidBulkLength,
    /// An inline request that leaves a quote open.
    UnbalancedQuotes,
    /// A request beyond the limit for a whole request.
    TooBigRequest,
}

impl ProtocolError {
    /// The error as a client sees it, in Redis' words.
    pub fn text(self) -> String {
        let what = match self {
            Self::TooBigInline => "too big inline request",
            Self::TooBigCount => "too big mbulk count string",
            Self::InvalidCount => "invalid multibulk length",
            Self::ExpectedBulk(got) => {
                let got = if matches!(got, b'\r' | b'\n') { ' ' } else { char::from(got) };
                return format!("Protocol error: expected '$', got '{got}'");
            }
            Self::TooBigBulkLength => "too big bulk count string",
            Self::InvalidBulkLength => "invalid bulk length",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::TooBigRequest => "too big request",
        };
        format!("Protocol error: {what}")
    }

    /// The same to a client that must say first who it is, and may send little before.
    pub(crate) fn text_unauthenticated(self) -> String {
        match self {
            Self::InvalidCount => "Protocol error: unauthenticated multibulk length".to_owned(),
            Self::InvalidBulkLength => "Protocol error: unauthenticated bulk length".to_owned(),
            other => other.text(),
        }
    }
}

/// Reads one request from the start of `input`, within the default [`ParseLimits`].
///
/// `arguments` carries the parser's place from an incomplete answer to the next call, which must
/// be made with the same bytes and more.
///
/// # Errors
/// [`ProtocolError`]; the state is that of before the request then.
pub fn parse(input: &[u8], arguments: &mut Arguments) -> Result<Parsed, ProtocolError> {
    parse_within(&ParseLimits::default(), input, arguments)
}

/// [`parse()`] within other limits.
///
/// # Errors
/// [`ProtocolError`].
#[inline]
pub fn parse_within(
    limits: &ParseLimits,
    input: &[u8],
    arguments: &mut Arguments,
) -> Result<Parsed, ProtocolError> {
    let parsed = if arguments.missing.is_some() {
        parse_bulks(limits, input, arguments)
    } else {
        match input.first() {
            None => return Ok(Parsed::Incomplete { needed: 1 }),
            Some(b'*') => parse_array(limits, input, arguments),
            Some(_) => parse_inline(limits, input, arguments),
        }
    };
    match parsed {
        Ok(Parsed::Request { .. }) => {
            arguments.missing = None;
            arguments.position = 0;
        }
        Ok(Parsed::Incomplete { .. }) => {}
        Err(_) => arguments.reset(),
    }
    parsed
}

fn parse_array(
    limits: &ParseLimits,
    input: &[u8],
    arguments: &mut Arguments,
) -> Result<Parsed, ProtocolError> {
    let line = match line_at(input, 1, limits.line_bytes) {
        Line::Whole { text, next } => (text, next),
        Line::Unfinished => return Ok(Parsed::Incomplete { needed: input.len() + 1 }),
        Line::TooLong => return Err(ProtocolError::TooBigCount),
    };
    let count = parse_integer(line.0).ok_or(ProtocolError::InvalidCount)?;
    if count > i64::from(limits.arguments) {
        return Err(ProtocolError::InvalidCount);
    }
    arguments.reset();
    // A count that is not positive is a request without arguments.
    arguments.missing = Some(u32::try_from(count).unwrap_or(0));
    arguments.position = line.1;
    parse_bulks(limits, input, arguments)
}

fn parse_bulks(
    limits: &ParseLimits,
    input: &[u8],
    arguments: &mut Arguments,
) -> Result<Parsed, ProtocolError> {
    let mut missing = arguments.missing.unwrap_or(0);
    while missing > 0 {
        let len = match arguments.bulk_len {
            Some(len) => len,
            None => {
                let start = arguments.position;
                match input.get(start) {
                    None => return Ok(Parsed::Incomplete { needed: start + 1 }),
                    Some(b'$') => {}
                    Some(&got) => return Err(ProtocolError::ExpectedBulk(got)),
                }
                let (text, next) = match line_at(input, start + 1, limits.line_bytes) {
                    Line::Whole { text, next } => (text, next),
                    Line::Unfinished => {
                        return Ok(Parsed::Incomplete { needed: input.len() + 1 });
                    }
                    Line::TooLong => return Err(ProtocolError::TooBigBulkLength),
                };
                let len = parse_integer(text)
                    .and_then(|len| u32::try_from(len).ok())
                    .filter(|len| *len <= limits.bulk_bytes)
                    .ok_or(ProtocolError::InvalidBulkLength)?;
                arguments.position = next;
                arguments.bulk_len = Some(len);
                len
            }
        };
        let start = arguments.position;
        let end = start + len as usize + 2;
        if end > limits.request_bytes {
            return Err(ProtocolError::TooBigRequest);
        }
        if input.len() < end {
            return Ok(Parsed::Incomplete { needed: end });
        }
        let start = u32::try_from(start).map_err(|_| ProtocolError::TooBigRequest)?;
        arguments.places.push(Place { start, len });
        arguments.position = end;
        arguments.bulk_len = None;
        missing -= 1;
        arguments.missing = Some(missing);
    }
    Ok(Parsed::Request { len: arguments.position })
}

enum Line<'a> {
    Whole { text: &'a [u8], next: usize },
    Unfinished,
    TooLong,
}

/// The line from `start` to its `\r\n`. As in Redis, the byte after `\r` is passed over unseen.
#[inline]
fn line_at(input: &[u8], start: usize, limit: usize) -> Line<'_> {
    let rest = input.get(start..).unwrap_or_default();
    // Looking no further than the limit keeps the work of a piece bounded.
    let window = rest.get(..limit).unwrap_or(rest);
    match window.iter().position(|&byte| byte == b'\r') {
        Some(end) if end + 2 <= rest.len() => {
            Line::Whole { text: &window[..end], next: start + end + 2 }
        }
        None if window.len() == limit => Line::TooLong,
        _ => Line::Unfinished,
    }
}

fn parse_inline(
    limits: &ParseLimits,
    input: &[u8],
    arguments: &mut Arguments,
) -> Result<Parsed, ProtocolError> {
    let window = input.get(..=limits.line_bytes).unwrap_or(input);
    let seen = arguments.position.min(window.len());
    let Some(newline) = window[seen..].iter().position(|&byte| byte == b'\n') else {
        if input.len() > limits.line_bytes {
            return Err(ProtocolError::TooBigInline);
        }
        arguments.position = window.len();
        return Ok(Parsed::Incomplete { needed: input.len() + 1 });
    };
    let newline = seen + newline;
    let line = &input[..newline];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    arguments.reset();
    arguments.is_inline = true;
    split_words(line, arguments).ok_or(ProtocolError::UnbalancedQuotes)?;
    Ok(Parsed::Request { len: newline + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Requests = Vec<Vec<Vec<u8>>>;

    fn words(arguments: &Arguments, input: &[u8]) -> Vec<Vec<u8>> {
        arguments.command(input).from(0).map(<[u8]>::to_vec).collect()
    }

    /// Parses `input` as it arrives in pieces that end at `cuts`.
    fn parse_pieces(input: &[u8], cuts: &[usize]) -> (Requests, Option<ProtocolError>) {
        let (mut requests, mut arguments) = (Vec::new(), Arguments::new());
        let (mut buffer, mut given, mut start) = (Vec::new(), 0, 0);
        for &cut in cuts.iter().chain([&input.len()]) {
            buffer.extend_from_slice(&input[given..cut]);
            given = cut;
            loop {
                match parse(&buffer[start..], &mut arguments) {
                    Ok(Parsed::Request { len }) => {
                        requests.push(words(&arguments, &buffer[start..]));
                        start += len;
                    }
                    Ok(Parsed::Incomplete { needed }) => {
                        assert!(needed > buffer.len() - start, "no progress was promised");
                        break;
                    }
                    Err(error) => return (requests, Some(error)),
                }
            }
            // The buffer moves between pieces, as a connection's does.
            buffer.drain(..start);
            start = 0;
        }
        (requests, None)
    }

    fn parse_all(input: &[u8]) -> (Requests, Option<ProtocolError>) {
        parse_pieces(input, &[])
    }

    fn strings(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn arrays_and_lines_are_requests() {
        let (requests, error) =
            parse_all(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\nPING\r\n  set k \"a b\\x41\\n\" 'it\\'s'\n*0\r\n*-1\r\n\r\n");
        assert_eq!(error, None);
        let expected = [
            strings(&["GET", ""]),
            strings(&["PING"]),
            strings(&["set", "k", "a bA\n", "it's"]),
            vec![],
            vec![],
            vec![],
        ];
        assert_eq!(requests, expected);
    }

    /// Redis ends a word at blanks and line ends, and passes over more kinds of space before one.
    #[test]
    fn vertical_space_parts_words_only_at_their_start() {
        let (requests, error) = parse_all(b"\x0bECHO a\x0bb\x0cc \x0c \"d\"\x0be\n");
        assert_eq!(error, None);
        assert_eq!(requests, [strings(&["ECHO", "a\x0bb\x0cc", "d", "e"])]);
    }

    /// An empty string is an argument like any other, the name of the command included.
    #[test]
    fn a_command_name_may_be_empty() {
        for input in [b"*1\r\n$0\r\n\r\n".as_slice(), b"\"\"\r\n"] {
            let every: Vec<usize> = (0..input.len()).collect();
            assert_eq!(parse_pieces(input, &every), (vec![strings(&[""])], None));
            assert_eq!(parse_all(input), (vec![strings(&[""])], None));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_in_redis_words() {
        let long = vec![b'a'; 70_000];
        let long_count = [b"*".as_slice(), &vec![b'1'; 70_000]].concat();
        let long_bulk = [b"*1\r\n$".as_slice(), &vec![b'1'; 70_000]].concat();
        for (input, text) in [
            (long.as_slice(), "too big inline request"),
            (&long_count, "too big mbulk count string"),
            (&long_bulk, "too big bulk count string"),
            (b"*x\r\n", "invalid multibulk length"),
            (b"*1048577\r\n", "invalid multibulk length"),
            (b"*99999999999999999999\r\n", "invalid multibulk length"),
            (b"*1\r\nx", "expected '$', got 'x'"),
            (b"*1\r\n$x\r\n", "invalid bulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
            (b"get \"a\n", "unbalanced quotes in request"),
            (b"get \"a\"b\n", "unbalanced quotes in request"),
        ] {
            let (_, error) = parse_all(input);
            assert_eq!(error.map(ProtocolError::text), Some(format!("Protocol error: {text}")));
        }
    }

    #[test]
    fn a_request_beyond_the_limit_is_refused_before_it_arrives() {
        let limits = ParseLimits { request_bytes: 100, ..ParseLimits::default() };
        let mut arguments = Arguments::new();
        let error = parse_within(&limits, b"*1\r\n$101\r\n", &mut arguments).unwrap_err();
        assert_eq!(error, ProtocolError::TooBigRequest);
    }

    #[test]
    fn announced_numbers_allocate_nothing() {
        let mut arguments = Arguments::new();
        let parsed = parse(b"*1048576\r\n$536870912\r\nab", &mut arguments).unwrap();
        assert_eq!(parsed, Parsed::Incomplete { needed: 10 + 12 + 536_870_912 + 2 });
        assert_eq!(arguments.places.capacity(), 0);
    }

    fn request() -> impl Strategy<Value = Vec<u8>> {
        let argument = prop::collection::vec(any::<u8>(), 0..12);
        let array = prop::collection::vec(argument, 0..5).prop_map(|arguments| {
            let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
            for argument in arguments {
                bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
                bytes.extend_from_slice(&argument);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes
        });
        let line = "[a-z \"'\\\\]{0,12}".prop_map(|line| format!("{line}\r\n").into_bytes());
        let garbage =
            prop::collection::vec(prop::sample::select(b"*$\r\n-0123ab\"'".to_vec()), 0..9);
        prop_oneof![6 => array, 3 => line, 1 => garbage]
    }

    proptest! {
        #[test]
        fn pieces_give_the_requests_of_the_whole(
            requests in prop::collection::vec(request(), 0..6),
            places in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let input = requests.concat();
            let mut cuts: Vec<usize> =
                places.iter().map(|place| place.index(input.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(parse_pieces(&input, &cuts), parse_all(&input));
            let every: Vec<usize> = (0..input.len()).collect();
            prop_assert_eq!(parse_pieces(&input, &every), parse_all(&input));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_all(&input);
        }
    }
}
