//! Any arguments of any command are answered, in whole replies, and by those that follow it, too.
#![no_main]

use ferrokit_server::fuzzing::Commands;
use libfuzzer_sys::fuzz_target;

/// Commands of one input, at most.
const COMMANDS_MAX: usize = 16;

/// What a byte above ASCII stands for.
const WORDS: &[&str] = &[
    "EX", "PX", "EXAT", "PXAT", "KEEPTTL", "PERSIST", "NX", "XX", "GT", "LT", "GET", "SET", "COUNT",
    "MATCH", "TYPE", "string", "REPLACE", "ABSTTL", "IDLETIME", "FREQ", "DB", "IDX", "LEN", "MINMATCHLEN",
    "WITHMATCHLEN", "BY", "LIMIT", "ASC", "DESC", "ALPHA", "STORE", "BIT", "BYTE", "AND", "OR", "XOR",
    "NOT", "OVERFLOW", "SAT", "WRAP", "FAIL", "INCRBY", "u8", "i64", "u64", "#1", "0", "1", "-1", "7",
    "100", "1048576", "9223372036854775807", "-9223372036854775808", "18446744073709551616", "1.5",
    "nan", "inf", "1e400", "0.000000000000000001", "k", "l", "*", "[a-z]*", "k?", "ON", "OFF", "YES",
    "NO", "SKIP", "ASYNC", "SYNC", "REDIRECT", "BCAST", "PREFIX", "OPTIN", "OPTOUT", "NOLOOP", "ID",
    "ADDR", "USER", "SKIPME", "AUTH", "SETNAME", "default", "2", "3", "FILTERBY", "PATTERN", "ACLCAT",
    "read", "maxmemory", "100mb", "5%", "allkeys-lru", "notify-keyspace-events", "KEA", "everything",
    "slowlog-log-slower-than", "save", "client-output-buffer-limit", "normal", "RESETSTAT", "WITHSCORES",
];

/// Parameters that change the process, and not only the server.
const NOT_HERE: &[&[u8]] = &[b"port", b"bind", b"maxclients", b"loglevel"];

fn argument(text: &[u8]) -> Vec<u8> {
    text.iter()
        .flat_map(|byte| match byte.checked_sub(128) {
            Some(index) => WORDS[usize::from(index) % WORDS.len()].as_bytes(),
            None => std::slice::from_ref(byte),
        })
        .copied()
        .collect()
}

/// A line is a command: a byte for its name, then its arguments.
fn command(names: &[&str], line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (first, rest) = line.split_first()?;
    let name = names[usize::from(*first) % names.len()];
    let mut words: Vec<Vec<u8>> = name.split('|').map(|it| it.as_bytes().to_vec()).collect();
    words.extend(rest.split(|byte| *byte == b' ').skip(1).map(argument));
    let is_not_here = |word: &Vec<u8>| NOT_HERE.iter().any(|name| word.eq_ignore_ascii_case(name));
    let is_config = words[0].eq_ignore_ascii_case(b"config");
    (!is_config || !words.iter().any(is_not_here)).then_some(words)
}

fn request(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// What is behind the first reply.
fn skip_reply(bytes: &[u8]) -> &[u8] {
    let end = bytes.windows(2).position(|it| it == b"\r\n").expect("a line");
    let (line, mut rest) = (&bytes[1..end], &bytes[end + 2..]);
    let len = || std::str::from_utf8(line).unwrap().parse::<i64>().expect("a length");
    match bytes[0] {
        b'$' | b'=' if len() >= 0 => {
            let len = usize::try_from(len()).unwrap();
            assert_eq!(&rest[len..len + 2], b"\r\n");
            &rest[len + 2..]
        }
        kind @ (b'*' | b'~' | b'>' | b'%') => {
            let count = if kind == b'%' { 2 * len() } else { len() };
            for _ in 0..count {
                rest = skip_reply(rest);
            }
            rest
        }
        b'+' | b'-' | b':' | b'$' | b'_' | b',' | b'#' | b'(' => rest,
        other => panic!("a reply of the kind {:?}", char::from(other)),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let names = Commands::names();
    let mut commands = Commands::new().expect("a server");
    for line in bytes.split(|byte| *byte == b'\n').take(COMMANDS_MAX) {
        let Some(words) = command(&names, line) else { continue };
        let mut rest = commands.run(&request(&words));
        while !rest.is_empty() {
            rest = skip_reply(rest);
        }
    }
});
