//! [`Trace`]: recorded operations, to be replayed.
//!
//! Two formats are read; the first line tells which one it is.
//!
//! **Operations**, one to a line: what, the key, and a number where one belongs to it. Lines that
//! begin with `#` and empty lines are skipped. Bytes of keys that are not printable, spaces and `%`
//! are written as `%20`.
//!
//! ```text
//! get user:17
//! put user:17 100        (bytes of the value)
//! delete user:17
//! rmw counter:3 32       (bytes of the value, if it is not there)
//! scan user: 10          (entries)
//! ```
//!
//! **The output of Redis' `MONITOR`**: `1339518083.107412 [0 127.0.0.1:60866] "set" "k" "value"`.
//! `GET`, `MGET`, `EXISTS`, `TTL`, `STRLEN` and the like are reads; `SET`, `SETEX`, `MSET`, `GETSET`
//! and the like writes; `INCR`, `APPEND` and the like read-modify-writes; `DEL`, `UNLINK` and
//! `GETDEL` deletes. Keys of databases other than 0 are told apart by a prefix. Other commands are
//! left out, and counted; times to live are, too.
//!
//! A key whose first operation reads it is loaded before the run. Each thread replays the operations
//! of its own keys in their order, so that every read has one right answer.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};

use ferrokit_engine::{Error, Result};

use crate::dataset::{KEY_BYTES, VALUE_BYTES_MIN};
use crate::stream::Operation;
use crate::workload::Kind;

/// The longest value that is replayed; longer ones are cut.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// The longest line and the most operations that are read.
const LINE_BYTES_MAX: usize = 8 << 20;
const OPERATIONS_MAX: usize = 1 << 28;
const KEY_BYTES_MAX: usize = 1 << 16;
/// Bytes of a value of which the trace tells nothing.
const VALUE_BYTES_UNKNOWN: usize = 100;

/// What was recorded.
#[derive(Debug, Default)]
pub struct Trace {
    /// The keys, by item; those loaded before the run come first.
    pub names: Vec<Box<[u8]>>,
    /// How many of them are loaded.
    pub loaded: u64,
    /// The operations, in their order.
    pub operations: Vec<Operation>,
    /// Lines that are no operation on keys, or of a command that is not replayed.
    pub skipped: u64,
}

/// An operation as it was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recorded {
    Get,
    Put(usize),
    ReadModifyWrite(usize),
    Delete,
    Scan(u16),
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument` for a line that is none, with its number.
    pub fn read(path: &str) -> Result<Self> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .open(path)
            .map_err(|error| Error::io("bench.trace", error).with_file(path))?;
        Self::parse(BufReader::new(file)).map_err(|error| error.with_file(path))
    }

    /// Reads what is recorded in `input`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(mut input: impl BufRead) -> Result<Self> {
        let mut recording = Recording::default();
        let mut line = Vec::new();
        let mut number = 0_u64;
        let mut is_monitor = None;
        loop {
            line.clear();
            let mut limited = std::io::Read::take(&mut input, LINE_BYTES_MAX as u64);
            let read = limited
                .read_until(b'\n', &mut line)
                .map_err(|error| Error::io("bench.trace", error))?;
            if read == 0 {
                break;
            }
            number += 1;
            let text = line.trim_ascii();
            let wrong =
                |what: &str| Error::invalid("bench.trace", format!("line {number}: {what}"));
            if read == LINE_BYTES_MAX {
                return Err(wrong("it is too long"));
            }
            if text.is_empty() || text.starts_with(b"#") || text == b"OK" {
                continue;
            }
            let starts_with_time = || text.first().is_some_and(u8::is_ascii_digit);
            if *is_monitor.get_or_insert_with(starts_with_time) {
                monitor_line(text, &mut recording).map_err(wrong)?;
            } else {
                operation_line(text, &mut recording).map_err(wrong)?;
            }
            if recording.operations.len() > OPERATIONS_MAX {
                return Err(wrong("there are too many operations"));
            }
        }
        if recording.operations.is_empty() {
            return Err(Error::invalid("bench.trace", "the trace has no operations"));
        }
        Ok(recording.finish())
    }
}

/// What was read so far, with items in the order of their first appearance.
#[derive(Default)]
struct Recording {
    items: HashMap<Box<[u8]>, u32>,
    names: Vec<Box<[u8]>>,
    operations: Vec<(u32, Recorded)>,
    skipped: u64,
}

impl Recording {
    fn push(&mut self, key: &[u8], recorded: Recorded) -> std::result::Result<(), &'static str> {
        if key.len() > KEY_BYTES_MAX {
            return Err("the key is too long");
        }
        let item = match self.items.get(key) {
            Some(item) => *item,
            None => {
                let item = self.names.len() as u32;
                self.items.insert(key.into(), item);
                self.names.push(key.into());
                item
            }
        };
        self.operations.push((item, recorded));
        Ok(())
    }

    fn finish(self) -> Trace {
        // A key is loaded if its first operation expects it.
        let mut first: Vec<Option<bool>> = vec![None; self.names.len()];
        for (item, recorded) in &self.operations {
            let expects = !matches!(recorded, Recorded::Put(_) | Recorded::Scan(_));
            if let (Some(first @ None), false) =
                (first.get_mut(*item as usize), matches!(recorded, Recorded::Scan(_)))
            {
                *first = Some(expects);
            }
        }
        let is_loaded = |item: u32| first.get(item as usize) == Some(&Some(true));
        let mut order: Vec<u32> = (0..self.names.len() as u32).collect();
        order.sort_by_key(|item| !is_loaded(*item));
        let loaded = order.iter().filter(|item| is_loaded(**item)).count() as u64;
        let mut renumbered = vec![0_u32; order.len()];
        for (new, old) in order.iter().enumerate() {
            renumbered[*old as usize] = new as u32;
        }
        let mut names: Vec<Box<[u8]>> = vec![Box::default(); order.len()];
        for (old, name) in self.names.into_iter().enumerate() {
            names[renumbered[old] as usize] = name;
        }
        let mut present: Vec<bool> = (0..order.len()).map(|item| (item as u64) < loaded).collect();
        let operations = self.operations.into_iter().map(|(old, recorded)| {
            let item = renumbered[old as usize];
            let is_present = &mut present[item as usize];
            let (kind, value_bytes, count) = match recorded {
                Recorded::Get if *is_present => (Kind::Read, 0, 0),
                Recorded::Get => (Kind::ReadMiss, 0, 0),
                Recorded::Put(bytes) => (Kind::Update, bytes, 0),
                Recorded::ReadModifyWrite(_) if *is_present => (Kind::ReadModifyWrite, 0, 0),
                Recorded::ReadModifyWrite(bytes) => (Kind::Update, bytes, 0),
                Recorded::Delete => (Kind::Delete, 0, 0),
                Recorded::Scan(entries) => (Kind::Scan, 0, entries),
            };
            *is_present = match kind {
                Kind::Update => true,
                Kind::Delete => false,
                _ => *is_present,
            };
            let value_bytes = match kind {
                Kind::Update => value_bytes.clamp(VALUE_BYTES_MIN, VALUE_BYTES_MAX) as u32,
                _ => 0,
            };
            Operation { key: [0; KEY_BYTES], item, value_bytes, count, kind }
        });
        Trace { operations: operations.collect(), names, loaded, skipped: self.skipped }
    }
}

/// `put user:17 100`
fn operation_line(text: &[u8], recording: &mut Recording) -> std::result::Result<(), &'static str> {
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let name = words.next().unwrap_or_default();
    let key = unescape(words.next().ok_or("a key is missing")?)?;
    let number = match words.next() {
        None => None,
        Some(word) => Some(
            std::str::from_utf8(word)
                .ok()
                .and_then(|word| word.parse::<usize>().ok())
                .ok_or("a number is expected behind the key")?,
        ),
    };
    let bytes = number.unwrap_or(VALUE_BYTES_UNKNOWN);
    let recorded = match name {
        b"get" => Recorded::Get,
        b"put" => Recorded::Put(bytes),
        b"rmw" => Recorded::ReadModifyWrite(bytes),
        b"delete" => Recorded::Delete,
        b"scan" => Recorded::Scan(number.unwrap_or(10).clamp(1, 10_000) as u16),
        _ => return Err("the operation is none of get, put, rmw, delete, scan"),
    };
    recording.push(&key, recorded)
}

/// `%20` and the like.
fn unescape(word: &[u8]) -> std::result::Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(byte.ok_or("% is followed by two hexadecimal digits")?);
        rest = rest.get(2..).unwrap_or_default();
    }
    Ok(out)
}

/// `1339518083.107412 [0 127.0.0.1:60866] "set" "k" "value"`
fn monitor_line(text: &[u8], recording: &mut Recording) -> std::result::Result<(), &'static str> {
    let close = text.iter().position(|byte| *byte == b']').ok_or("it is no line of MONITOR")?;
    let words = quoted_words(text.get(close + 1..).unwrap_or_default())?;
    let Some((name, arguments)) = words.split_first() else {
        return Err("it is no line of MONITOR");
    };
    let database = text
        .get(..close)
        .and_then(|head| head.split(|byte| *byte == b'[').nth(1))
        .and_then(|head| head.split(|byte| *byte == b' ').next())
        .unwrap_or(b"0");
    let mut push = |key: &[u8], recorded| match database {
        b"0" => recording.push(key, recorded),
        _ => recording.push(&[database, b":", key].concat(), recorded),
    };
    let key = arguments.first().map(Vec::as_slice);
    let length = |index: usize| arguments.get(index).map_or(VALUE_BYTES_UNKNOWN, Vec::len);
    let name = name.to_ascii_lowercase();
    let recorded = match name.as_slice() {
        b"get" | b"strlen" | b"getrange" | b"ttl" | b"pttl" | b"type" | b"getbit" | b"dump" => {
            Recorded::Get
        }
        b"set" | b"setnx" | b"getset" => Recorded::Put(length(1)),
        b"setex" | b"psetex" => Recorded::Put(length(2)),
        b"incr" | b"decr" | b"incrby" | b"decrby" | b"incrbyfloat" | b"append" | b"setrange"
        | b"setbit" => Recorded::ReadModifyWrite(length(1)),
        b"getdel" => Recorded::Delete,
        b"mget" | b"exists" | b"touch" => {
            return arguments.iter().try_for_each(|key| push(key, Recorded::Get));
        }
        b"del" | b"unlink" => {
            return arguments.iter().try_for_each(|key| push(key, Recorded::Delete));
        }
        b"mset" | b"msetnx" => {
            return arguments.chunks_exact(2).try_for_each(|pair| match pair {
                [key, value] => push(key, Recorded::Put(value.len())),
                _ => Ok(()),
            });
        }
        _ => {
            recording.skipped += 1;
            return Ok(());
        }
    };
    match key {
        Some(key) => push(key, recorded),
        None => {
            recording.skipped += 1;
            Ok(())
        }
    }
}

/// The words of a line of MONITOR, without their quotes and escapes.
fn quoted_words(text: &[u8]) -> std::result::Result<Vec<Vec<u8>>, &'static str> {
    const UNCLOSED: &str = "a quote is not closed";
    let mut words = Vec::new();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'"' {
            continue;
        }
        let mut word = Vec::new();
        loop {
            match bytes.next().ok_or(UNCLOSED)? {
                b'"' => break,
                b'\\' => word.push(match bytes.next().ok_or(UNCLOSED)? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let digits = [bytes.next().ok_or(UNCLOSED)?, bytes.next().ok_or(UNCLOSED)?];
                        let digits = std::str::from_utf8(&digits).ok();
                        digits
                            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                            .ok_or("\\x is followed by two hexadecimal digits")?
                    }
                    other => other,
                }),
                other => word.push(other),
            }
        }
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Trace> {
        Trace::parse(text.as_bytes())
    }

    fn shown(trace: &Trace) -> Vec<(String, Kind, u32)> {
        let name = |item: u32| String::from_utf8_lossy(&trace.names[item as usize]).into_owned();
        trace.operations.iter().map(|op| (name(op.item), op.kind, op.value_bytes)).collect()
    }

    #[test]
    fn operations_are_read() {
        let text = "# a comment\nput a%20b 100\n\nget a%20b\nget old\nrmw old\nrmw new 40\n\
                    delete a%20b\nget a%20b\nscan o 5\n";
        let trace = parse(text).unwrap();
        let expected = [
            ("a b", Kind::Update, 100),
            ("a b", Kind::Read, 0),
            ("old", Kind::Read, 0),
            ("old", Kind::ReadModifyWrite, 0),
            ("new", Kind::ReadModifyWrite, 0),
            ("a b", Kind::Delete, 0),
            ("a b", Kind::ReadMiss, 0),
            ("o", Kind::Scan, 0),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(key, kind, bytes)| ((*key).to_owned(), *kind, *bytes)).collect();
        assert_eq!(shown(&trace), expected);
        assert_eq!(trace.loaded, 2, "\"old\" and \"new\" are there before");
        assert_eq!(trace.operations[7].count, 5);
    }

    #[test]
    fn monitor_output_is_read() {
        let text = "OK\n1339518083.107412 [0 127.0.0.1:60866] \"SET\" \"k\\\"\\x01\" \"0123456789\"\n\
                    1339518083.2 [0 lua] \"get\" \"k\\\"\\x01\"\n\
                    1339518083.3 [0 127.0.0.1:1] \"keys\" \"*\"\n\
                    1339518083.4 [0 127.0.0.1:1] \"mget\" \"a\" \"b\"\n\
                    1339518083.5 [0 127.0.0.1:1] \"del\" \"a\" \"b\"\n\
                    1339518083.6 [0 127.0.0.1:1] \"ping\"\n";
        let trace = parse(text).unwrap();
        let kinds: Vec<_> = trace.operations.iter().map(|op| op.kind).collect();
        use Kind::{Delete, Read, Update};
        assert_eq!(kinds, [Update, Read, Read, Read, Delete, Delete]);
        assert_eq!((trace.loaded, trace.skipped), (2, 2));
        assert_eq!(&*trace.names[2], b"k\"\x01");
    }

    #[test]
    fn databases_have_keys_of_their_own() {
        let text = "1.1 [0 127.0.0.1:1] \"set\" \"k\" \"v\"\n\
                    1.2 [3 127.0.0.1:1] \"set\" \"k\" \"v\"\n\
                    1.3 [3 unix:/a] \"getdel\" \"k\"\n\
                    1.4 [3 127.0.0.1:1] \"get\" \"k\"\n";
        let trace = parse(text).unwrap();
        let names: Vec<&[u8]> = trace.names.iter().map(|name| &**name).collect();
        assert_eq!(names, [&b"k"[..], b"3:k"]);
        let kinds: Vec<_> = trace.operations.iter().map(|op| op.kind).collect();
        assert_eq!(kinds, [Kind::Update, Kind::Update, Kind::Delete, Kind::ReadMiss]);
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        for (text, part) in [
            ("", "no operations"),
            ("get", "line 1: a key"),
            ("get a\nput b x", "line 2: a number"),
            ("flush a", "line 1: the operation"),
            ("get %zz", "line 1: %"),
            ("1.0 nothing", "line 1: it is no line of MONITOR"),
            ("1.0 [0 x] \"set\" \"k", "line 1: a quote"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
