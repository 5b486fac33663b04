//! The wire: requests in ([`parse`](parse())), replies out ([`Reply`]).
//!
//! The parser is a pure function over bytes, so that it can be fuzzed alone. Neither half knows of
//! sockets.

mod arguments;
mod parse;
mod reply;
mod words;

pub use arguments::{Arguments, Command, OwnedCommand};
pub use ferrokit_redis::integer::{parse_integer, push_integer};
pub use parse::{ParseLimits, Parsed, ProtocolError, parse, parse_within};
pub use reply::{Protocol, Reply};
pub(crate) use words::split_line;
