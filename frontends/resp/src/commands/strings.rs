//! Strings: GET, SET and their like.

use std::borrow::Cow;

use ferrokit_engine::Entry;
use ferrokit_redis::strings::{Condition, Expiry, SetOptions, StringEntry};
use ferrokit_redis::{Db, ManyVisitor};

use super::expire_time::{self, Unit};
use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::gather::Gather;
use crate::resp::Reply;
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
        name: "msetnx",
        arity: -3,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys::all(2, &["OW", "insert"]),
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Atomically modifies the string values of one or more keys only when all keys \
                  don't exist.",
        handler: Handler::MSetNx,
        ..STRING
    },
    CommandInfo {
        name: "psetex",
        arity: 4,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys::one(&["OW", "update"]),
        since: "2.6.0",
        summary: "Sets both string value and expiration time in milliseconds of a key. The key is \
                  created if it doesn't exist.",
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
        summary: "Sets the string value of a key, ignoring its type. The key is created if it \
                  doesn't exist.",
        handler: Handler::Set,
        ..STRING
    },
    CommandInfo {
        name: "setex",
        arity: 4,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys::one(&["OW", "update"]),
        since: "2.0.0",
        summary: "Sets the string value and expiration time of a key. Creates the key if it \
                  doesn't exist.",
        handler: Handler::SetEx,
        ..STRING
    },
    CommandInfo {
        name: "setnx",
        arity: 3,
        flags: flag::WRITE | flag::DENYOOM | flag::FAST,
        keys: Keys::one(&["OW", "insert"]),
        summary: "Set the string value of a key only when the key doesn't exist.",
        handler: Handler::SetNx,
        ..STRING
    },
    CommandInfo {
        name: "setrange",
        arity: 4,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys::one(&["RW", "update"]),
        since: "2.2.0",
        complexity: "O(1), not counting the time taken to copy the new string in place. Usually, \
                     this string is very small so the amortized complexity is O(1). Otherwise, \
                     complexity is O(M) with M being the length of the value argument.",
        summary: "Overwrites a part of a string value with another by an offset. Creates the key \
                  if it doesn't exist.",
        handler: Handler::SetRange,
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
    CommandInfo {
        name: "substr",
        arity: 4,
        flags: flag::READONLY,
        keys: Keys::one(&["RO", "access"]),
        complexity: "O(N) where N is the length of the returned string. The complexity is \
                     ultimately determined by the returned length, but because creating a \
                     substring from an existing string is very cheap, it can be considered O(1) \
                     for small strings.",
        summary: "Returns a substring from a string value.",
        handler: Handler::GetRange,
        ..STRING
    },
];

pub(super) async fn get(cx: &mut Context<'_>) -> Outcome {
    get_one(&mut cx.db, cx.reply, cx.args.at(1)).await
}

async fn get_one(db: &mut Db<'_>, reply: &mut Reply, key: &[u8]) -> Outcome {
    if !db.get(key, |value| reply.bulk(value)).await? {
        reply.null();
    }
    Ok(())
}

/// Answers a run of GETs, whose keys lie at `gets` (start, length) in `input`, by one batched read:
/// the engine overlaps their cache misses and device reads. If that fails each of them gets the text
/// that is returned.
pub(crate) async fn get_run(
    db: &mut Db<'_>,
    reply: &mut Reply,
    scratch: &mut Scratch,
    input: &[u8],
    gets: &[(usize, usize)],
) -> Result<(), Cow<'static, str>> {
    let mark = reply.mark();
    let key_at = |&(start, len): &(usize, usize)| input.get(start..start + len).unwrap_or_default();
    let outcome = if let [only] = gets {
        get_one(db, reply, key_at(only)).await
    } else {
        let mut keys = scratch.take_keys();
        keys.extend(gets.iter().map(key_at));
        let mut strings = Strings::new(reply, scratch, OtherTypes::Refused);
        let read = db.read_each(&keys, &mut strings).await;
        strings.finish(db, &keys);
        scratch.give_back_keys(keys);
        read.map(|_| ())
    };
    let Err(refusal) = outcome else { return Ok(()) };
    reply.rewind(mark);
    let text = refusal.into_text();
    gets.iter().for_each(|_| reply.error(&text));
    Err(text)
}

/// What is written for a key that holds no string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OtherTypes {
    Null,
    Refused,
}

/// Writes the string of each key, or null, in the order of the keys.
struct Strings<'r> {
    gather: Gather<'r>,
    other_types: OtherTypes,
}

impl<'r> Strings<'r> {
    fn new(reply: &'r mut Reply, scratch: &'r mut Scratch, other_types: OtherTypes) -> Self {
        Self { gather: Gather::new(reply, &mut scratch.segments), other_types }
    }

    fn finish(self, db: &mut Db<'_>, keys: &[&[u8]]) {
        self.gather.finish(keys.len(), |index, is_there| {
            if let Some(key) = keys.get(index) {
                db.looked_up(key, is_there);
            }
        });
    }
}

impl ManyVisitor for Strings<'_> {
    fn restart(&mut self) {
        self.gather.restart();
    }

    #[inline]
    fn visit(&mut self, index: usize, entry: Entry<'_>) {
        match StringEntry::of(entry) {
            Ok(string) => self.gather.visit(index, |reply| reply.bulk(string.bytes)),
            Err(_) if self.other_types == OtherTypes::Null => {}
            Err(refusal) => {
                let text = refusal.into_text();
                self.gather.visit(index, |reply| reply.error(&text));
            }
        }
    }
}

pub(super) async fn mget(cx: &mut Context<'_>) -> Outcome {
    let mut keys = cx.scratch.take_keys();
    keys.extend(cx.args.from(1));
    cx.reply.array(keys.len());
    let mut strings = Strings::new(cx.reply, cx.scratch, OtherTypes::Null);
    let read = cx.db.read_many(&keys, &mut strings).await;
    strings.finish(&mut cx.db, &keys);
    cx.scratch.give_back_keys(keys);
    read.map(|_| ())
}

/// One batch: all keys change at once, or none.
pub(super) async fn mset(cx: &mut Context<'_>) -> Outcome {
    set_many(cx, false).await?;
    cx.reply.ok();
    Ok(())
}

pub(super) async fn mset_nx(cx: &mut Context<'_>) -> Outcome {
    let is_set = set_many(cx, true).await?;
    cx.reply.integer(i64::from(is_set));
    Ok(())
}

async fn set_many(cx: &mut Context<'_>, only_if_absent: bool) -> Result<bool, Refusal> {
    if cx.args.len().is_multiple_of(2) {
        return Err(Refusal::wrong_arity(cx.info.name));
    }
    let pairs: Vec<(&[u8], &[u8])> =
        (1..cx.args.len()).step_by(2).map(|at| (cx.args.at(at), cx.args.at(at + 1))).collect();
    cx.db.set_many(&pairs, only_if_absent).await
}

/// The expiry options of SET and GETEX, before their time is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpiryOption {
    /// None was given.
    Default,
    /// KEEPTTL.
    Keep,
    /// PERSIST.
    Remove,
    /// In so many units.
    In { unit: Unit, argument: usize },
}

/// The options from argument 3 on.
fn set_options(cx: &Context<'_>) -> Result<(SetOptions, ExpiryOption), Refusal> {
    let mut options = SetOptions::default();
    let mut expiry = ExpiryOption::Default;
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
            expiry = merge(expiry, ExpiryOption::Keep)?;
        } else if let Some(unit) = Unit::from_option(option) {
            index += 1;
            expiry = merge(expiry, ExpiryOption::In { unit, argument: index })?;
        } else {
            return Err(Refusal::SYNTAX);
        }
        index += 1;
    }
    match expiry {
        ExpiryOption::In { argument, .. } if argument >= cx.args.len() => Err(Refusal::SYNTAX),
        _ => Ok((options, expiry)),
    }
}

/// One expiry option after another: only the same one may be repeated, and the last counts.
fn merge(before: ExpiryOption, now: ExpiryOption) -> Result<ExpiryOption, Refusal> {
    let is_repeated = match (before, now) {
        (ExpiryOption::Default, _) => true,
        (ExpiryOption::In { unit: before, .. }, ExpiryOption::In { unit: now, .. }) => {
            before == now
        }
        _ => before == now,
    };
    if is_repeated { Ok(now) } else { Err(Refusal::SYNTAX) }
}

pub(super) async fn set(cx: &mut Context<'_>) -> Outcome {
    if cx.args.len() == 3 {
        cx.db.set(cx.args.at(1), cx.args.at(2), None).await?;
        cx.reply.ok();
        return Ok(());
    }
    let (mut options, expiry) = set_options(cx)?;
    options.expiry = match expiry {
        ExpiryOption::In { unit, argument } => {
            Expiry::At(expire_time::positive(cx.args.at(argument), unit, cx.shared.now(), "set")?)
        }
        ExpiryOption::Keep => Expiry::Keep,
        ExpiryOption::Default | ExpiryOption::Remove => Expiry::Remove,
    };
    set_with(cx, cx.args.at(2), &options).await
}

/// Answers a string or null; of several answers the last counts.
fn answer(reply: &mut Reply) -> impl FnMut(Option<&[u8]>) + Send {
    let mark = reply.mark();
    move |value| {
        reply.rewind(mark);
        match value {
            Some(bytes) => reply.bulk(bytes),
            None => reply.null(),
        }
    }
}

/// SET with options: `OK`, null if it did not write, or with GET what was there.
async fn set_with(cx: &mut Context<'_>, value: &[u8], options: &SetOptions) -> Outcome {
    let is_set = cx.db.set_with(cx.args.at(1), value, options, answer(cx.reply)).await?;
    match (options.gets, is_set) {
        (true, _) => {}
        (false, true) => cx.reply.ok(),
        (false, false) => cx.reply.null(),
    }
    Ok(())
}

pub(super) async fn set_nx(cx: &mut Context<'_>) -> Outcome {
    let options = SetOptions { condition: Condition::IfAbsent, ..SetOptions::default() };
    let is_set = cx.db.set_with(cx.args.at(1), cx.args.at(2), &options, |_| {}).await?;
    cx.reply.integer(i64::from(is_set));
    Ok(())
}

pub(super) async fn set_ex(cx: &mut Context<'_>) -> Outcome {
    set_until(cx, Unit::Seconds).await
}

pub(super) async fn pset_ex(cx: &mut Context<'_>) -> Outcome {
    set_until(cx, Unit::Millis).await
}

async fn set_until(cx: &mut Context<'_>, unit: Unit) -> Outcome {
    let at = expire_time::positive(cx.args.at(2), unit, cx.shared.now(), cx.info.name)?;
    cx.db.set(cx.args.at(1), cx.args.at(3), Some(at)).await?;
    cx.reply.ok();
    Ok(())
}

pub(super) async fn get_set(cx: &mut Context<'_>) -> Outcome {
    set_with(cx, cx.args.at(2), &SetOptions { gets: true, ..SetOptions::default() }).await
}

pub(super) async fn get_del(cx: &mut Context<'_>) -> Outcome {
    cx.db.get_del(cx.args.at(1), answer(cx.reply)).await?;
    Ok(())
}

pub(super) async fn get_ex(cx: &mut Context<'_>) -> Outcome {
    let mut option = ExpiryOption::Default;
    let mut index = 2;
    while let Some(argument) = cx.args.get(index) {
        let now = if argument.eq_ignore_ascii_case(b"persist") {
            ExpiryOption::Remove
        } else {
            let unit = Unit::from_option(argument).ok_or(Refusal::SYNTAX)?;
            index += 1;
            ExpiryOption::In { unit, argument: index }
        };
        option = merge(option, now)?;
        index += 1;
    }
    let expiry = match option {
        ExpiryOption::Default | ExpiryOption::Keep => return get(cx).await,
        ExpiryOption::Remove => Expiry::Remove,
        ExpiryOption::In { unit, argument } => {
            let text = cx.args.get(argument).ok_or(Refusal::SYNTAX)?;
            match expire_time::positive(text, unit, cx.shared.now(), "getex") {
                Ok(at) => Expiry::At(at),
                // As in Redis the time is only looked at once the key is found.
                Err(refusal) => {
                    let is_there = cx.db.get(cx.args.at(1), |_| {}).await?;
                    return if is_there { Err(refusal) } else { null(cx) };
                }
            }
        }
    };
    cx.db.get_ex(cx.args.at(1), expiry, answer(cx.reply)).await?;
    Ok(())
}

fn null(cx: &mut Context<'_>) -> Outcome {
    cx.reply.null();
    Ok(())
}

pub(super) async fn append(cx: &mut Context<'_>) -> Outcome {
    let len = cx.db.append(cx.args.at(1), cx.args.at(2)).await?;
    cx.reply.count(len);
    Ok(())
}

pub(super) async fn str_len(cx: &mut Context<'_>) -> Outcome {
    let len = cx.db.strlen(cx.args.at(1)).await?;
    cx.reply.count(len);
    Ok(())
}

pub(super) async fn get_range(cx: &mut Context<'_>) -> Outcome {
    let (start, end) = (cx.integer(2)?, cx.integer(3)?);
    let visit = |bytes: &[u8]| cx.reply.bulk(bytes);
    cx.db.get_range(cx.args.at(1), start, end, visit).await
}

pub(super) async fn set_range(cx: &mut Context<'_>) -> Outcome {
    let offset = cx.integer(2)?;
    let offset =
        usize::try_from(offset).map_err(|_| Refusal::text("ERR offset is out of range"))?;
    let len = cx.db.set_range(cx.args.at(1), offset, cx.args.at(3)).await?;
    cx.reply.count(len);
    Ok(())
}
