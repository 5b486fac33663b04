//! Requests are parsed or refused, and come to the same in whatever pieces they arrive.
#![no_main]

use ferrokit_server::resp::{Arguments, Parsed, ProtocolError, parse};
use libfuzzer_sys::fuzz_target;

type Requests = Vec<Vec<Vec<u8>>>;

/// Parses `input` as it arrives in pieces of `piece_bytes`.
fn parse_pieces(input: &[u8], piece_bytes: usize) -> (Requests, Option<ProtocolError>) {
    let mut requests = Vec::new();
    let mut arguments = Arguments::new();
    let (mut start, mut end) = (0, 0);
    while end < input.len() {
        end = (end + piece_bytes).min(input.len());
        loop {
            let unread = &input[start..end];
            match parse(unread, &mut arguments) {
                Ok(Parsed::Request { len }) => {
                    assert!(0 < len && len <= unread.len(), "a request outside its input");
                    let command = arguments.command(unread);
                    requests.push(command.from(0).map(<[u8]>::to_vec).collect());
                    start += len;
                }
                Ok(Parsed::Incomplete { needed }) => {
                    assert!(needed > unread.len(), "no progress was promised");
                    break;
                }
                Err(error) => {
                    assert!(error.text().starts_with("Protocol error"));
                    return (requests, Some(error));
                }
            }
        }
    }
    (requests, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece, input)) = bytes.split_first() else { return };
    let whole = parse_pieces(input, input.len().max(1));
    assert_eq!(parse_pieces(input, usize::from(piece).max(1)), whole);
});
