//! Strings: GET, SET and their like.

use ferrokit_engine::{Entry, KeyspaceId, ReadOptions, UnixMillis, Update};

use super::expire_time::{self, Unit};
use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::gather::Gather;
use crate::resp::Reply;
use crate::session::Session;
use crate::shared::Shared;
use crate::workspace::Scratch;

const STRING: CommandInfo =
    CommandInfo { group: "string", categories: category::STRING, ..CommandInfo::DEFAULT };

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "append",
        arity: 3,
        flags: flag::WRITE | flag::DENYOOM | flag::FAST,
        keys: Keys::one(&["RW", "insert"]),
        since: "2.0.0",
        summary: "Appends a string to the value of a key. Creates the key if it doesn't exist.",
        handler: Handler::Append,
        ..STRING
    },
    CommandInfo {
        name: "get",
        arity: 2,
        flags: flag::READONLY | flag::FAST,
        keys: Keys::one(&["RO", "access"]),
        summary: "Returns the string value of a key.",
        handler: Handler::Get,
        ..STRING
    },
    CommandInfo {
        name: "getdel",
        arity: 2,
        flags: flag::WRITE | flag::FAST,
        keys: Keys::one(&["RW", "access", "delete"]),
        since: "6.2.0",
        summary: "Returns the string value of a key after deleting the key.",
        handler: Handler::GetDel,
        ..STRING
    },
    CommandInfo {
        name: "getex",
        arity: -2,
        flags: flag::WRITE | flag::FAST,
        keys: Keys {
            notes: Some("RW and UPDATE because it changes the TTL"),
            ..Keys::one(&["RW", "access", "update"])
        },
        since: "6.2.0",
        summary: "Returns the string value of a key after setting its expiration time.",
        handler: Handler::GetEx,
        ..STRING
    },
    CommandInfo {
        name: "getrange",
        arity: 4,
        flags: flag::READONLY,
        keys: Keys::one(&["RO", "access"]),
        since: "2.4.0",
        complexity: "O(N) where N is the length of the returned string.",
        summary: "Returns a substring of the string stored at a key.",
        handler: Handler::GetRange,
        ..STRING
    },
    CommandInfo {
        name: "getset",
        arity: 3,
        flags: flag::WRITE | flag::DENYOOM | flag::FAST,
        keys: Keys::one(&["RW", "access", "update"]),
        summary: "Returns the previous string value of a key after setting it to a new value.",
        handler: Handler::GetSet,
        ..STRING
    },
    CommandInfo {
        name: "mget",
        arity: -2,
        flags: flag::READONLY | flag::FAST,
        keys: Keys::all(1, &["RO", "access"]),
        tips: &["request_policy:multi_shard"],
        complexity: "O(N) where N is the number of keys to retrieve.",
        summary: "Atomically returns the string values of one or more keys.",
        handler: Handler::MGet,
        ..STRING
    },
    CommandInfo {
        name: "mset",
        arity: -3,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys::all(2, &["OW", "update"]),
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Atomically creates or modifies the string values of one or more keys.",
        handler: Handler::MSet,
        ..STRING
    },
    CommandInfo {
        name: "psetex",
        arity: 4,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys::one(&["OW", "update"]),
        since: "2.6.0",
        summary: "Sets the string value and expiration time in milliseconds of a key.",
        handler: Handler::PSetEx,
        ..STRING
    },
    CommandInfo {
        name: "set",
        arity: -3,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys {
            notes: Some("RW and ACCESS due to the optional `GET` argument"),
            ..Keys::one(&["RW", "access", "update", "variable_flags"])
        },
        summary: "Sets the string value of a key, ignoring its type.",
        handler: Handler::Set,
        ..STRING
    },
    CommandInfo {
        name: "setex",
        arity: 4,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys::one(&["OW", "update"]),
        since: "2.0.0",
        summary: "Sets the string value and expiration time in seconds of a key.",
        handler: Handler::SetEx,
        ..STRING
    },
    CommandInfo {
        name: "setnx",
        arity: 3,
        flags: flag::WRITE | flag::DENYOOM | flag::FAST,
        keys: Keys::one(&["OW", "insert"]),
        summary: "Sets the string value of a key only when the key doesn't exist.",
        handler: Handler::SetNx,
        ..STRING
    },
    CommandInfo {
        name: "strlen",
        arity: 2,
        flags: flag::READONLY | flag::FAST,
        keys: Keys::one(&["RO"]),
        since: "2.2.0",
        summary: "Returns the length of a string value.",
        handler: Handler::StrLen,
        ..STRING
    },
];

pub(super) async fn get(cx: &mut Context<'_>) -> Outcome {
    let keyspace = cx.session.keyspace;
    get_one(cx.shared, cx.session, cx.reply, keyspace, cx.args.at(1)).await
}

async fn get_one(
    shared: &Shared,
    session: &mut Session,
    reply: &mut Reply,
    keyspace: KeyspaceId,
    key: &[u8],
) -> Outcome {
    let mut visit = |entry: Entry<'_>| reply.bulk(entry.value);
    let read = shared.engine.get_with(keyspace, key, &ReadOptions::APPLIED, &mut visit);
    let seen = read.await?;
    session.join(seen.ticket);
    let stats = &shared.stats[session.worker];
    if seen.found == 0 {
        reply.null();
        stats.keyspace_misses.add(1);
    } else {
        stats.keyspace_hits.add(1);
    }
    Ok(())
}

/// Answers a run of GETs, whose keys lie at `gets` (start, length) in `input`, by one batched read:
/// the engine overlaps their cache misses and device reads.
pub(crate) async fn get_run(
    shared: &Shared,
    session: &mut Session,
    reply: &mut Reply,
    scratch: &mut Scratch,
    input: &[u8],
    gets: &[(usize, usize)],
) {
    let mark = reply.mark();
    session.client.set_last_command("get");
    let key_at = |&(start, len): &(usize, usize)| input.get(start..start + len).unwrap_or_default();
    let outcome = if let [only] = gets {
        get_one(shared, session, reply, session.keyspace, key_at(only)).await
    } else {
        let mut keys = scratch.take_keys();
        keys.extend(gets.iter().map(key_at));
        let outcome = get_many(shared, session, reply, scratch, &keys).await;
        scratch.give_back_keys(keys);
        outcome
    };
    if let Err(refusal) = outcome {
        reply.rewind(mark);
        shared.stats[session.worker].errors.add(gets.len() as u64);
        let text = refusal.into_text();
        gets.iter().for_each(|_| reply.error(&text));
    }
}

/// Writes the value of each key, or null, in the order of the keys.
async fn get_many(
    shared: &Shared,
    session: &mut Session,
    reply: &mut Reply,
    scratch: &mut Scratch,
    keys: &[&[u8]],
) -> Outcome {
    let mut gather = Gather::new(reply, &mut scratch.segments);
    let mut visit = |index: usize, entry: Entry<'_>| gather.visit(index, entry.value);
    let options = ReadOptions::APPLIED;
    let seen = shared.engine.get_many_with(session.keyspace, keys, &options, &mut visit).await?;
    gather.finish(keys.len());
    session.join(seen.ticket);
    let stats = &shared.stats[session.worker];
    stats.keyspace_hits.add(seen.found as u64);
    stats.keyspace_misses.add(keys.len().saturating_sub(seen.found) as u64);
    Ok(())
}

pub(super) async fn mget(cx: &mut Context<'_>) -> Outcome {
    let mut keys = cx.scratch.take_keys();
    keys.extend(cx.args.from(1));
    cx.reply.array(keys.len());
    let outcome = get_many(cx.shared, cx.session, cx.reply, cx.scratch, &keys).await;
    cx.scratch.give_back_keys(keys);
    outcome
}

/// One batch: all keys change at once, or none.
pub(super) async fn mset(cx: &mut Context<'_>) -> Outcome {
    if cx.args.len().is_multiple_of(2) {
        return Err(Refusal::wrong_arity("mset"));
    }
    let batch = &mut cx.scratch.batch;
    batch.clear();
    for pair in (1..cx.args.len()).step_by(2) {
        batch.put(cx.session.keyspace, cx.args.at(pair), cx.args.at(pair + 1), None);
    }
    let written = cx.shared.engine.write(batch, &cx.shared.write_options()).await?;
    cx.session.join(written.ticket);
    cx.reply.ok();
    Ok(())
}

/// When SET writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

/// What SET does to the expiry, and GETEX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    /// SET: none from now on. GETEX: as it is.
    Default,
    /// As it is (KEEPTTL).
    Keep,
    /// None from now on (PERSIST).
    Remove,
    /// In so many units.
    In { unit: Unit, argument: usize },
}

struct SetOptions {
    condition: Condition,
    expiry: Expiry,
    gets: bool,
}

/// The options from argument 3 on.
fn set_options(cx: &Context<'_>) -> Result<SetOptions, Refusal> {
    let mut options =
        SetOptions { condition: Condition::Always, expiry: Expiry::Default, gets: false };
    let mut index = 3;
    while let Some(option) = cx.args.get(index) {
        let condition = if option.eq_ignore_ascii_case(b"nx") {
            Some(Condition::IfAbsent)
        } else if option.eq_ignore_ascii_case(b"xx") {
            Some(Condition::IfPresent)
        } else {
            None
        };
        if let Some(condition) = condition {
            if options.condition != Condition::Always && options.condition != condition {
                return Err(Refusal::SYNTAX);
            }
            options.condition = condition;
        } else if option.eq_ignore_ascii_case(b"get") {
            options.gets = true;
        } else if option.eq_ignore_ascii_case(b"keepttl") {
            options.expiry = merge(options.expiry, Expiry::Keep)?;
        } else if let Some(unit) = Unit::from_option(option) {
            index += 1;
            options.expiry = merge(options.expiry, Expiry::In { unit, argument: index })?;
        } else {
            return Err(Refusal::SYNTAX);
        }
        index += 1;
    }
    match options.expiry {
        Expiry::In { argument, .. } if argument >= cx.args.len() => Err(Refusal::SYNTAX),
        _ => Ok(options),
    }
}

/// One expiry option after another: only the same one may be repeated, and the last counts.
fn merge(before: Expiry, now: Expiry) -> Result<Expiry, Refusal> {
    let is_repeated = match (before, now) {
        (Expiry::Default, _) => true,
        (Expiry::In { unit: before, .. }, Expiry::In { unit: now, .. }) => before == now,
        _ => before == now,
    };
    if is_repeated { Ok(now) } else { Err(Refusal::SYNTAX) }
}

pub(super) async fn set(cx: &mut Context<'_>) -> Outcome {
    if cx.args.len() == 3 {
        return put(cx, cx.args.at(2), None).await;
    }
    let options = set_options(cx)?;
    let expire_at = match options.expiry {
        Expiry::In { unit, argument } => {
            Some(expire_time::positive(cx.args.at(argument), unit, cx.shared.now(), "set")?)
        }
        _ => None,
    };
    let is_plain =
        options.condition == Condition::Always && options.expiry != Expiry::Keep && !options.gets;
    if is_plain {
        return put(cx, cx.args.at(2), expire_at).await;
    }
    set_if(cx, &options, expire_at).await
}

async fn put(cx: &mut Context<'_>, value: &[u8], expire_at: Option<UnixMillis>) -> Outcome {
    let (engine, options) = (&cx.shared.engine, cx.shared.write_options());
    let write = engine.put(cx.session.keyspace, cx.args.at(1), value, expire_at, &options);
    let written = write.await?;
    cx.session.join(written.ticket);
    cx.reply.ok();
    Ok(())
}

/// SET with a condition, KEEPTTL or GET.
async fn set_if(
    cx: &mut Context<'_>,
    options: &SetOptions,
    expire_at: Option<UnixMillis>,
) -> Outcome {
    let (key, value) = (cx.args.at(1), cx.args.at(2));
    let (condition, expiry, gets) = (options.condition, options.expiry, options.gets);
    let shared = cx.shared;
    let reply = &mut *cx.reply;
    let mark = reply.mark();
    let mut is_set = false;
    let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
        reply.rewind(mark);
        if gets && let Some(entry) = current {
            reply.bulk(entry.value);
        }
        is_set = match condition {
            Condition::Always => true,
            Condition::IfAbsent => current.is_none(),
            Condition::IfPresent => current.is_some(),
        };
        if !is_set {
            return Update::Keep;
        }
        out.extend_from_slice(value);
        let kept = current.and_then(|entry| entry.expire_at);
        Update::Put { expire_at: if expiry == Expiry::Keep { kept } else { expire_at } }
    };
    let write_options = shared.write_options();
    let update = shared.engine.update(cx.session.keyspace, key, &write_options, &mut change);
    let written = update.await?;
    cx.session.join(written.ticket);
    let has_replied = cx.reply.mark() > mark;
    match (gets, is_set) {
        (true, _) if has_replied => {}
        (true, _) | (false, false) => cx.reply.null(),
        (false, true) => cx.reply.ok(),
    }
    Ok(())
}

pub(super) async fn set_nx(cx: &mut Context<'_>) -> Outcome {
    let value = cx.args.at(2);
    let mut is_set = false;
    let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
        is_set = current.is_none();
        if !is_set {
            return Update::Keep;
        }
        out.extend_from_slice(value);
        Update::Put { expire_at: None }
    };
    let written = cx.update(cx.args.at(1), &mut change).await?;
    cx.session.join(written.ticket);
    cx.reply.integer(i64::from(is_set));
    Ok(())
}

pub(super) async fn set_ex(cx: &mut Context<'_>) -> Outcome {
    let expire_at = expire_time::positive(cx.args.at(2), Unit::Seconds, cx.shared.now(), "setex")?;
    put(cx, cx.args.at(3), Some(expire_at)).await
}

pub(super) async fn pset_ex(cx: &mut Context<'_>) -> Outcome {
    let expire_at = expire_time::positive(cx.args.at(2), Unit::Millis, cx.shared.now(), "psetex")?;
    put(cx, cx.args.at(3), Some(expire_at)).await
}

pub(super) async fn get_set(cx: &mut Context<'_>) -> Outcome {
    let options = SetOptions { condition: Condition::Always, expiry: Expiry::Default, gets: true };
    set_if(cx, &options, None).await
}

pub(super) async fn get_del(cx: &mut Context<'_>) -> Outcome {
    change_and_get(cx, |_| Update::Delete, false).await?;
    Ok(())
}

pub(super) async fn get_ex(cx: &mut Context<'_>) -> Outcome {
    let mut expiry = Expiry::Default;
    let mut index = 2;
    while let Some(option) = cx.args.get(index) {
        let now = if option.eq_ignore_ascii_case(b"persist") {
            Expiry::Remove
        } else {
            let unit = Unit::from_option(option).ok_or(Refusal::SYNTAX)?;
            index += 1;
            Expiry::In { unit, argument: index }
        };
        expiry = merge(expiry, now)?;
        index += 1;
    }
    match expiry {
        Expiry::Default | Expiry::Keep => get(cx).await,
        Expiry::Remove => {
            let persist = |entry: Entry<'_>| match entry.expire_at {
                None => Update::Keep,
                Some(_) => Update::Put { expire_at: None },
            };
            change_and_get(cx, persist, true).await?;
            Ok(())
        }
        Expiry::In { unit, argument } => {
            let text = cx.args.get(argument).ok_or(Refusal::SYNTAX)?;
            let at = expire_time::positive(text, unit, cx.shared.now(), "getex");
            // As in Redis the time is only looked at once the key is found.
            let expire = |_: Entry<'_>| match at {
                Ok(at) => Update::Put { expire_at: Some(at) },
                Err(_) => Update::Keep,
            };
            let found = change_and_get(cx, expire, true).await?;
            if found { at.map(|_| ()) } else { Ok(()) }
        }
    }
}

/// Answers the value of a key that is there, and changes its entry; whether it was there.
async fn change_and_get(
    cx: &mut Context<'_>,
    decide: impl Fn(Entry<'_>) -> Update + Send + Sync,
    keeps_value: bool,
) -> Result<bool, Refusal> {
    let key = cx.args.at(1);
    let shared = cx.shared;
    let reply = &mut *cx.reply;
    let mark = reply.mark();
    let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
        reply.rewind(mark);
        let Some(entry) = current else {
            reply.null();
            return Update::Keep;
        };
        reply.bulk(entry.value);
        if keeps_value {
            out.extend_from_slice(entry.value);
        }
        decide(entry)
    };
    let options = shared.write_options();
    let update = shared.engine.update(cx.session.keyspace, key, &options, &mut change);
    let written = update.await?;
    cx.session.join(written.ticket);
    let was_there = written.existed == Some(true);
    cx.count_reads(usize::from(was_there), usize::from(!was_there));
    Ok(was_there)
}

pub(super) async fn append(cx: &mut Context<'_>) -> Outcome {
    let suffix = cx.args.at(2);
    let limit = cx.shared.limits.request.bulk_bytes as usize;
    let mut len = None;
    let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
        let before = current.map_or(b"".as_slice(), |entry| entry.value);
        len = Some(before.len() + suffix.len()).filter(|len| *len <= limit);
        if len.is_none() {
            return Update::Keep;
        }
        out.extend_from_slice(before);
        out.extend_from_slice(suffix);
        Update::Put { expire_at: current.and_then(|entry| entry.expire_at) }
    };
    let written = cx.update(cx.args.at(1), &mut change).await?;
    cx.session.join(written.ticket);
    let too_long = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    cx.reply.count(len.ok_or(Refusal::text(too_long))?);
    Ok(())
}

pub(super) async fn str_len(cx: &mut Context<'_>) -> Outcome {
    let mut len = 0;
    let mut visit = |entry: Entry<'_>| len = entry.value.len();
    let (keyspace, key) = (cx.session.keyspace, cx.args.at(1));
    let read = cx.shared.engine.get_with(keyspace, key, &ReadOptions::APPLIED, &mut visit);
    let seen = read.await?;
    cx.session.join(seen.ticket);
    cx.count_reads(seen.found, 1 - seen.found.min(1));
    cx.reply.count(len);
    Ok(())
}

pub(super) async fn get_range(cx: &mut Context<'_>) -> Outcome {
    let (start, end) = (cx.integer(2)?, cx.integer(3)?);
    let (keyspace, key) = (cx.session.keyspace, cx.args.at(1));
    let reply = &mut *cx.reply;
    let mut visit = |entry: Entry<'_>| reply.bulk(range(entry.value, start, end));
    let read = cx.shared.engine.get_with(keyspace, key, &ReadOptions::APPLIED, &mut visit);
    let seen = read.await?;
    cx.session.join(seen.ticket);
    if seen.found == 0 {
        cx.reply.bulk(b"");
    }
    cx.count_reads(seen.found, 1 - seen.found.min(1));
    Ok(())
}

/// The bytes from `start` to `end`, both included; negative ones count from the end.
fn range(value: &[u8], start: i64, end: i64) -> &[u8] {
    let len = i64::try_from(value.len()).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let from_end = |index: i64| if index < 0 { index.saturating_add(len).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if start > end {
        return b"";
    }
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    value.get(start..=end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_count_from_either_end() {
        for (start, end, expected) in [
            (0, 3, "This"),
            (-3, -1, "ing"),
            (0, -1, "This is a string"),
            (10, 100, "string"),
            (5, 3, ""),
            (-1, -3, ""),
            (-100, 1, "Th"),
            (i64::MIN, i64::MAX, "This is a string"),
        ] {
            assert_eq!(range(b"This is a string", start, end), expected.as_bytes());
        }
        assert_eq!(range(b"", 0, -1), b"");
        assert_eq!(range(b"", i64::MIN, i64::MIN), b"");
    }
}
