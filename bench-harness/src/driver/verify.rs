//! What an engine must hold after a run.

use std::collections::HashMap;

use ferrokit_engine::{Entry, KvEngine, ReadOptions, Result};

use super::operation::{KEYSPACE, wrong};
use crate::dataset::{KEY_BYTES, Stamp};
use crate::plan::{Caller, Plan};
use crate::stream::Stream;
use crate::subject::Subject;
use crate::workload::Kind;

/// What may be there of an item that was written to.
#[derive(Default)]
struct Expected {
    /// The last writes of each thread: which of them came last is not known.
    last: Vec<Stamp>,
    /// Read-modify-writes of all threads since the item was last written by this one.
    changes: u32,
    is_deleted: bool,
    /// It was written with an expiry, which has passed.
    has_expired: bool,
}

/// Reads every item back and compares it with what the operations must have left. Answers the bytes
/// of the keys and values that are there.
///
/// # Errors
/// `Corruption` for a wrong answer; those of the engine.
pub(super) fn verify(subject: &Subject, plan: &Plan, stream: &Stream) -> Result<u64> {
    let expected = expected(stream, plan.caller);
    let nothing = Expected::default();
    let (mut value, mut room) = (Vec::new(), [0; KEY_BYTES]);
    let mut live_bytes = 0;
    for item in 0..stream.item_limit {
        let written = expected.get(&item);
        let was_there = item < stream.loaded || written.is_some();
        let expected = written.unwrap_or(&nothing);
        let must_be_there = was_there && !expected.is_deleted && !expected.has_expired;
        let key = stream.item_key(item, &mut room);
        value.clear();
        let is_there = get(&*subject.engine, key, &mut value)?;
        if is_there != must_be_there {
            let what = match is_there {
                true => "a key that was deleted or has expired is there",
                false => "a key is lost",
            };
            return Err(wrong(key, format!("after the run, {what}")));
        }
        if is_there {
            live_bytes += (key.len() + value.len()) as u64;
            check(subject, stream, item, &value, expected)
                .map_err(|what| wrong(key, format!("after the run, {what}")))?;
        }
    }
    Ok(live_bytes)
}

/// Copies the value of `key` out; answers whether there is one.
pub(super) fn get(engine: &dyn KvEngine, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
    let mut visit = |entry: Entry<'_>| value.extend_from_slice(entry.value);
    let seen = engine.get_with(KEYSPACE, key, &ReadOptions::default(), &mut visit).wait()?;
    Ok(seen.found > 0)
}

fn expected(stream: &Stream, caller: Caller) -> HashMap<u64, Expected> {
    let mut items: HashMap<u64, Expected> = HashMap::new();
    for (thread, operations) in stream.threads.iter().enumerate() {
        let writes = operations.iter().enumerate().filter(|(_, op)| op.kind.writes());
        for (index, op) in writes {
            let item = items.entry(u64::from(op.item)).or_default();
            match op.kind {
                Kind::ReadModifyWrite => item.changes += 1,
                Kind::Delete => item.is_deleted = true,
                _ => {
                    item.is_deleted = false;
                    item.has_expired = op.kind == Kind::PutExpiring;
                    let stamp = Stamp::of(thread, index);
                    // Batches of several tasks overlap.
                    let is_ordered = !(caller == Caller::Async && op.kind == Kind::Batch);
                    match item.last.last_mut() {
                        Some(last) if is_ordered && last.is_of(thread) => *last = stamp,
                        _ => item.last.push(stamp),
                    }
                }
            }
        }
    }
    items
}

fn check(
    subject: &Subject,
    stream: &Stream,
    item: u64,
    value: &[u8],
    expected: &Expected,
) -> Result<(), String> {
    let header = stream.dataset.check_value(item, value)?;
    let is_last = match expected.last.is_empty() {
        true => header.stamp == Stamp::LOADED,
        false => expected.last.contains(&header.stamp),
    };
    if !is_last {
        return Err("an update is lost: the value is an older one".to_owned());
    }
    // A write in between sets the count back.
    let at_least = match expected.last.is_empty() {
        true if subject.updates_are_atomic => expected.changes,
        true => expected.changes.min(1),
        false => 0,
    };
    if !(at_least..=expected.changes).contains(&header.count) {
        let (count, changes) = (header.count, expected.changes);
        return Err(format!("of {changes} read-modify-writes {count} took effect"));
    }
    Ok(())
}
