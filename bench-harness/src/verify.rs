//! What a store must hold after a run.

use std::collections::HashMap;

use ferrokit_engine::{Error, ErrorKind, Result};

use crate::dataset::Stamp;
use crate::store::Store;
use crate::stream::Stream;
use crate::workload::Kind;

/// The error of a wrong answer.
#[cold]
pub(crate) fn wrong(key: &[u8], what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corruption, "bench.verify", format!("wrong answer: {}", what.into()))
        .with_key(key)
}

/// What may be there of an item that was written to.
#[derive(Default)]
struct Expected {
    /// The last writes of each thread: which of them came last is not known.
    last: Vec<Stamp>,
    /// Read-modify-writes of all threads.
    changes: u64,
    deleted: bool,
}

/// Reads every item back and compares it with what the operations must have left. Answers how many
/// are there.
///
/// # Errors
/// `Corruption` for a wrong answer; those of the store.
pub(crate) fn verify(store: &dyn Store, stream: &Stream) -> Result<u64> {
    let expected = expected(stream);
    let mut value = Vec::new();
    let mut live = 0;
    for item in 0..stream.item_limit {
        let expected = expected.get(&item);
        let was_written = item < stream.loaded || expected.is_some();
        let must_be_there = was_written && !expected.is_some_and(|expected| expected.deleted);
        let key = stream.dataset.key(item);
        value.clear();
        let is_there = store.get_into(&key, &mut value)?;
        if is_there != must_be_there {
            let what = if is_there { "a key that was deleted is there" } else { "a key is lost" };
            return Err(wrong(&key, format!("after the run, {what}")));
        }
        if is_there {
            live += 1;
            check(store, stream, item, &value, expected)
                .map_err(|what| wrong(&key, format!("after the run, {what}")))?;
        }
    }
    Ok(live)
}

fn expected(stream: &Stream) -> HashMap<u64, Expected> {
    let mut items: HashMap<u64, Expected> = HashMap::new();
    for (thread, operations) in stream.threads.iter().enumerate() {
        let writes = operations.iter().enumerate().filter(|(_, op)| op.kind.writes());
        for (index, op) in writes {
            let item = items.entry(u64::from(op.item)).or_default();
            match op.kind {
                Kind::ReadModifyWrite => item.changes += 1,
                Kind::Delete => item.deleted = true,
                _ => {
                    let stamp = Stamp::of(thread, index);
                    match item.last.last_mut() {
                        Some(last) if last.is_of(thread) => *last = stamp,
                        _ => item.last.push(stamp),
                    }
                }
            }
        }
    }
    items
}

fn check(
    store: &dyn Store,
    stream: &Stream,
    item: u64,
    value: &[u8],
    expected: Option<&Expected>,
) -> Result<(), String> {
    let header = stream.dataset.check_value(item, value)?;
    let nothing = Expected::default();
    let expected = expected.unwrap_or(&nothing);
    let is_last = if expected.last.is_empty() {
        header.stamp == Stamp::LOADED
    } else {
        expected.last.contains(&header.stamp)
    };
    if !is_last {
        return Err("an update is lost: the value is an older one".to_owned());
    }
    let counts_agree = if store.rmw_is_atomic() {
        header.count == expected.changes
    } else {
        (expected.changes.min(1)..=expected.changes).contains(&header.count)
    };
    if !counts_agree {
        let (count, changes) = (header.count, expected.changes);
        return Err(format!("of {changes} read-modify-writes {count} took effect"));
    }
    Ok(())
}
