//! Where the keys of a command are, and what is done with them: as COMMAND INFO tells it, and as
//! COMMAND GETKEYS finds them in a request.

use super::table::{CommandInfo, Keys};
use crate::resp::{Command, Reply};

/// Some of a command's keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeySpec {
    pub(super) access: &'static [&'static str],
    place: Place,
    notes: Option<&'static str>,
}

/// Where keys are.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// From one argument to another; `last` counts from the first key, or if it is negative from the
    /// end.
    Range { first: usize, last: i32, step: usize },
    /// That depends on more than the arguments' places.
    Unknown,
}

/// What is done with a key that is only read, written, or removed.
const READ: &[&str] = &["RO", "access"];
const WRITTEN: &[&str] = &["OW", "update"];

const fn range(first: usize, last: i32, access: &'static [&'static str]) -> KeySpec {
    KeySpec { access, place: Place::Range { first, last, step: 1 }, notes: None }
}

const fn unknown(access: &'static [&'static str], notes: &'static str) -> KeySpec {
    KeySpec { access, place: Place::Unknown, notes: Some(notes) }
}

const BY_OR_GET: KeySpec = unknown(
    READ,
    "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the \
     content of the key we sort",
);

const STORE: KeySpec = unknown(
    WRITTEN,
    "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere \
     in the argument array",
);

/// The commands whose keys are not all treated alike.
const SEVERAL: &[(&str, &[KeySpec])] = &[
    ("bitop", &[range(2, 0, WRITTEN), range(3, -1, READ)]),
    ("copy", &[range(1, 0, READ), range(2, 0, WRITTEN)]),
    ("pfmerge", &[range(1, 0, &["RW", "access", "insert"]), range(2, -1, READ)]),
    ("rename", &[range(1, 0, &["RW", "access", "delete"]), range(2, 0, WRITTEN)]),
    ("renamenx", &[range(1, 0, &["RW", "access", "delete"]), range(2, 0, &["OW", "insert"])]),
    ("sort", &[range(1, 0, READ), BY_OR_GET, STORE]),
    ("sort_ro", &[range(1, 0, READ), BY_OR_GET]),
];

impl From<Keys> for KeySpec {
    fn from(keys: Keys) -> Self {
        let first = i32::try_from(keys.first).unwrap_or(i32::MAX);
        let last = if keys.last < 0 { keys.last } else { keys.last - first };
        let place = Place::Range { first: keys.first, last, step: keys.step };
        Self { access: keys.access, place, notes: keys.notes }
    }
}

/// The key specifications of a command.
pub(super) fn of(row: &CommandInfo) -> Vec<KeySpec> {
    match SEVERAL.iter().find(|(name, _)| *name == row.name) {
        Some((_, specs)) => specs.to_vec(),
        None if row.keys.first == 0 => Vec::new(),
        None => vec![row.keys.into()],
    }
}

/// As COMMAND INFO tells them.
pub(super) fn write(reply: &mut Reply, row: &CommandInfo) {
    let specs = of(row);
    reply.set(specs.len());
    specs.iter().for_each(|spec| spec.write(reply));
}

impl KeySpec {
    fn write(&self, reply: &mut Reply) {
        reply.map(3 + usize::from(self.notes.is_some()));
        if let Some(notes) = self.notes {
            reply.bulk(b"notes");
            reply.bulk(notes.as_bytes());
        }
        reply.bulk(b"flags");
        write_access(reply, self.access);
        let Place::Range { first, last, step } = self.place else {
            for name in ["begin_search", "find_keys"] {
                reply.bulk(name.as_bytes());
                write_spec(reply, "unknown", &[]);
            }
            return;
        };
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        reply.bulk(b"begin_search");
        write_spec(reply, "index", &[("index", number(first))]);
        reply.bulk(b"find_keys");
        let range = [("lastkey", i64::from(last)), ("keystep", number(step)), ("limit", 0)];
        write_spec(reply, "range", &range);
    }

    /// Whether these are keys, and not just routed like keys (the channels of shards).
    fn are_keys(&self) -> bool {
        !self.access.contains(&"not_key")
    }

    /// Where the keys are in a request of `len` arguments.
    fn positions(&self, len: usize) -> impl Iterator<Item = usize> {
        let (first, end, step) = match self.place {
            Place::Range { first, last, step } => {
                let end = match usize::try_from(last) {
                    Ok(last) => first + last + 1,
                    Err(_) => (len + 1).saturating_sub(last.unsigned_abs() as usize),
                };
                (first, end.min(len), step)
            }
            Place::Unknown => (0, 0, 1),
        };
        (first..end).step_by(step.max(1))
    }
}

fn write_spec(reply: &mut Reply, kind: &str, fields: &[(&str, i64)]) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(fields.len());
    for (name, value) in fields {
        reply.bulk(name.as_bytes());
        reply.integer(*value);
    }
}

/// What is done with a key, in the words of COMMAND INFO.
pub(super) fn write_access(reply: &mut Reply, access: &[&str]) {
    reply.set(access.len());
    access.iter().for_each(|access| reply.status(access));
}

/// Whether a command has keys.
pub(super) fn has_keys(row: &CommandInfo) -> bool {
    of(row).iter().any(KeySpec::are_keys)
}

/// The places of a request's keys, with what is done with each.
pub(super) fn find(row: &CommandInfo, args: Command<'_>) -> Vec<(usize, &'static [&'static str])> {
    let is = |index: usize, word: &[u8]| {
        args.get(index).is_some_and(|argument| argument.eq_ignore_ascii_case(word))
    };
    let mut found: Vec<(usize, &'static [&'static str])> = of(row)
        .iter()
        .filter(|spec| spec.are_keys())
        .flat_map(|spec| spec.positions(args.len()).map(|position| (position, spec.access)))
        .collect();
    match row.name {
        "set" => {
            let gets = (3..args.len()).any(|index| is(index, b"get"));
            found = vec![(1, if gets { &["RW", "access", "update"] } else { WRITTEN })];
        }
        "bitfield" => {
            let writes = (2..args.len()).any(|index| is(index, b"set") || is(index, b"incrby"));
            found = vec![(1, if writes { &["RW", "access", "update"] } else { READ })];
        }
        "sort" => {
            let store = (2..args.len().saturating_sub(1)).rfind(|index| is(*index, b"store"));
            found.extend(store.map(|index| (index + 1, WRITTEN)));
        }
        _ => {}
    }
    found
}
