//! OBJECT: how a value is stored and when it was used.

use std::ops::Range;

use ferrokit_engine::Entry;
use ferrokit_redis::Value;

use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal, help};
use crate::resp::parse_integer;

const SUBCOMMAND: CommandInfo = CommandInfo {
    arity: 3,
    flags: flag::READONLY,
    keys: Keys { first: 2, last: 2, ..Keys::one(&["RO"]) },
    categories: category::KEYSPACE,
    tips: &["nondeterministic_output"],
    group: "generic",
    since: "2.2.3",
    ..CommandInfo::DEFAULT
};

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "object",
    arity: -2,
    group: "generic",
    since: "2.2.3",
    complexity: "Depends on subcommand.",
    summary: "A container for object introspection commands.",
    subcommands: &[
        CommandInfo {
            name: "object|encoding",
            summary: "Returns the internal encoding of a Redis object.",
            handler: Handler::ObjectEncoding,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "object|freq",
            since: "4.0.0",
            summary: "Returns the logarithmic access frequency counter of a Redis object.",
            handler: Handler::ObjectFreq,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "object|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            keys: Keys::NONE,
            tips: &[],
            since: "6.2.0",
            summary: "Returns helpful text about the different subcommands.",
            handler: Handler::ObjectHelp,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "object|idletime",
            summary: "Returns the time since the last access to a Redis object.",
            handler: Handler::ObjectIdleTime,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "object|refcount",
            summary: "Returns the reference count of a value of a key.",
            handler: Handler::ObjectRefCount,
            ..SUBCOMMAND
        },
    ],
    handler: Handler::Container,
    ..CommandInfo::DEFAULT
}];

const HELP: &[&str] = &[
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
];

const COUNTS_FREQUENCIES: Refusal = Refusal::text(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when \
     switching between policies at runtime LRU and LFU data will take some time to adjust.",
);
const COUNTS_NO_FREQUENCIES: Refusal = Refusal::text(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
     when switching between policies at runtime LRU and LFU data will take some time to adjust.",
);

/// Answers nothing if the key is not there; whether it is.
async fn is_there(cx: &mut Context<'_>) -> Result<bool, Refusal> {
    let is_there = cx.db.key_info(cx.args.at(2)).await?.is_some();
    if !is_there {
        cx.reply.null();
    }
    Ok(is_there)
}

pub(super) async fn encoding(cx: &mut Context<'_>) -> Outcome {
    match cx.db.key_info(cx.args.at(2)).await? {
        Some(info) => cx.reply.bulk(info.encoding.as_bytes()),
        None => cx.reply.null(),
    }
    Ok(())
}

pub(super) async fn freq(cx: &mut Context<'_>) -> Outcome {
    if is_there(cx).await? {
        let frequency = cx.db.frequency(cx.args.at(2)).ok_or(COUNTS_NO_FREQUENCIES)?;
        cx.reply.integer(i64::from(frequency));
    }
    Ok(())
}

pub(super) async fn idle_time(cx: &mut Context<'_>) -> Outcome {
    if is_there(cx).await? {
        if cx.shared.store.frequency_counting().is_some() {
            return Err(COUNTS_FREQUENCIES);
        }
        cx.reply.integer(i64::from(cx.db.idle_secs(cx.args.at(2))));
    }
    Ok(())
}

/// The integers of which Redis has each once, for all keys.
const SHARED_INTEGERS: Range<i64> = 0..10_000;
/// The references of a shared value.
const SHARED: i64 = i32::MAX as i64;

/// One, but for small integers: what Redis tells of those. It does not share them where eviction goes
/// by the use of a key, which it notes at the value.
pub(super) async fn ref_count(cx: &mut Context<'_>) -> Outcome {
    let mut is_small_integer = false;
    let mut visit = |entry: Entry<'_>| {
        let value = Value::decode(entry.value);
        let number =
            value.as_string().filter(|_| value.encoding() == "int").and_then(parse_integer);
        is_small_integer = number.is_some_and(|number| SHARED_INTEGERS.contains(&number));
    };
    if !cx.db.peek(cx.args.at(2), &mut visit).await? {
        cx.reply.null();
        return Ok(());
    }
    let settings = &cx.shared.settings;
    let shares = settings.maxmemory.get() == 0 || !settings.maxmemory_policy.get().goes_by_use();
    cx.reply.integer(if shares && is_small_integer { SHARED } else { 1 });
    Ok(())
}

pub(super) fn show_help(cx: &mut Context<'_>) -> Outcome {
    help::write(cx.reply, "OBJECT", HELP);
    Ok(())
}
