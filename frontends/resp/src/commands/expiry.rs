//! Expiry: EXPIRE, TTL and their like.

use ferrokit_engine::{Entry, ReadOptions, UnixMillis, Update};

use super::expire_time::{self, Unit};
use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};

const SETS: CommandInfo = CommandInfo {
    arity: -3,
    flags: flag::WRITE | flag::FAST,
    keys: Keys::one(&["RW", "update"]),
    group: "generic",
    categories: category::KEYSPACE,
    ..CommandInfo::DEFAULT
};

const TELLS: CommandInfo = CommandInfo {
    arity: 2,
    flags: flag::READONLY | flag::FAST,
    keys: Keys::one(&["RO", "access"]),
    ..SETS
};

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "expire",
        summary: "Sets the expiration time of a key in seconds.",
        handler: Handler::Expire,
        ..SETS
    },
    CommandInfo {
        name: "expireat",
        since: "1.2.0",
        summary: "Sets the expiration time of a key to a Unix timestamp.",
        handler: Handler::ExpireAt,
        ..SETS
    },
    CommandInfo {
        name: "expiretime",
        since: "7.0.0",
        summary: "Returns the expiration time of a key as a Unix timestamp.",
        handler: Handler::ExpireTime,
        ..TELLS
    },
    CommandInfo {
        name: "persist",
        arity: 2,
        since: "2.2.0",
        summary: "Removes the expiration time of a key.",
        handler: Handler::Persist,
        ..SETS
    },
    CommandInfo {
        name: "pexpire",
        since: "2.6.0",
        summary: "Sets the expiration time of a key in milliseconds.",
        handler: Handler::PExpire,
        ..SETS
    },
    CommandInfo {
        name: "pexpireat",
        since: "2.6.0",
        summary: "Sets the expiration time of a key to a Unix milliseconds timestamp.",
        handler: Handler::PExpireAt,
        ..SETS
    },
    CommandInfo {
        name: "pexpiretime",
        since: "7.0.0",
        summary: "Returns the expiration time of a key as a Unix milliseconds timestamp.",
        handler: Handler::PExpireTime,
        ..TELLS
    },
    CommandInfo {
        name: "pttl",
        tips: &["nondeterministic_output"],
        since: "2.6.0",
        summary: "Returns the expiration time in milliseconds of a key.",
        handler: Handler::Pttl,
        ..TELLS
    },
    CommandInfo {
        name: "ttl",
        tips: &["nondeterministic_output"],
        summary: "Returns the expiration time in seconds of a key.",
        handler: Handler::Ttl,
        ..TELLS
    },
];

pub(super) async fn expire(cx: &mut Context<'_>) -> Outcome {
    set_expiry(cx, Unit::Seconds).await
}

pub(super) async fn pexpire(cx: &mut Context<'_>) -> Outcome {
    set_expiry(cx, Unit::Millis).await
}

pub(super) async fn expire_at(cx: &mut Context<'_>) -> Outcome {
    set_expiry(cx, Unit::UnixSeconds).await
}

pub(super) async fn pexpire_at(cx: &mut Context<'_>) -> Outcome {
    set_expiry(cx, Unit::UnixMillis).await
}

/// When EXPIRE changes the expiry.
#[derive(Debug, Clone, Copy, Default)]
struct Conditions {
    /// NX: there is none.
    absent: bool,
    /// XX: there is one.
    present: bool,
    /// GT: the new one is later; none is latest.
    later: bool,
    /// LT: the new one is earlier.
    earlier: bool,
}

impl Conditions {
    fn parse(cx: &Context<'_>) -> Result<Self, Refusal> {
        let mut conditions = Self::default();
        for option in cx.args.from(3) {
            let flag = if option.eq_ignore_ascii_case(b"nx") {
                &mut conditions.absent
            } else if option.eq_ignore_ascii_case(b"xx") {
                &mut conditions.present
            } else if option.eq_ignore_ascii_case(b"gt") {
                &mut conditions.later
            } else if option.eq_ignore_ascii_case(b"lt") {
                &mut conditions.earlier
            } else {
                let option = String::from_utf8_lossy(option.get(..128).unwrap_or(option));
                return Err(Refusal::Text(format!("ERR Unsupported option {option}").into()));
            };
            *flag = true;
        }
        if conditions.absent && (conditions.present || conditions.later || conditions.earlier) {
            return Err(Refusal::text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if conditions.later && conditions.earlier {
            return Err(Refusal::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    fn hold(self, current: Option<UnixMillis>, new: UnixMillis) -> bool {
        !(self.absent && current.is_some()
            || self.present && current.is_none()
            || self.later && current.is_none_or(|current| new <= current)
            || self.earlier && current.is_some_and(|current| new >= current))
    }
}

async fn set_expiry(cx: &mut Context<'_>, unit: Unit) -> Outcome {
    let conditions = Conditions::parse(cx)?;
    let now = cx.shared.now();
    let at = expire_time::any(cx.integer(2)?, unit, now, cx.info.name)?;
    let mut is_set = false;
    let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
        is_set = current.is_some_and(|entry| conditions.hold(entry.expire_at, at));
        match current {
            Some(_) if is_set && at <= now => Update::Delete,
            Some(entry) if is_set => {
                out.extend_from_slice(entry.value);
                Update::Put { expire_at: Some(at) }
            }
            _ => Update::Keep,
        }
    };
    let written = cx.update(cx.args.at(1), &mut change).await?;
    cx.session.join(written.ticket);
    cx.reply.integer(i64::from(is_set));
    Ok(())
}

pub(super) async fn persist(cx: &mut Context<'_>) -> Outcome {
    let mut had_expiry = false;
    let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
        let expiring = current.filter(|entry| entry.expire_at.is_some());
        had_expiry = expiring.is_some();
        match expiring {
            Some(entry) => {
                out.extend_from_slice(entry.value);
                Update::Put { expire_at: None }
            }
            None => Update::Keep,
        }
    };
    let written = cx.update(cx.args.at(1), &mut change).await?;
    cx.session.join(written.ticket);
    cx.reply.integer(i64::from(had_expiry));
    Ok(())
}

pub(super) async fn ttl(cx: &mut Context<'_>) -> Outcome {
    let now = cx.shared.now().0;
    tell(cx, |at| (at.0.saturating_sub(now) + 500) / 1000).await
}

pub(super) async fn pttl(cx: &mut Context<'_>) -> Outcome {
    let now = cx.shared.now().0;
    tell(cx, |at| at.0.saturating_sub(now)).await
}

pub(super) async fn expire_time(cx: &mut Context<'_>) -> Outcome {
    tell(cx, |at| at.0.saturating_add(500) / 1000).await
}

pub(super) async fn pexpire_time(cx: &mut Context<'_>) -> Outcome {
    tell(cx, |at| at.0).await
}

/// -2 without the key, -1 without an expiry, else what `of` makes of it.
async fn tell(cx: &mut Context<'_>, of: impl Fn(UnixMillis) -> u64) -> Outcome {
    let mut expire_at = None;
    let mut visit = |entry: Entry<'_>| expire_at = entry.expire_at;
    let (keyspace, key) = (cx.session.keyspace, cx.args.at(1));
    let read = cx.shared.engine.get_with(keyspace, key, &ReadOptions::APPLIED, &mut visit);
    let seen = read.await?;
    cx.session.join(seen.ticket);
    cx.count_reads(seen.found, 1 - seen.found.min(1));
    cx.reply.integer(match expire_at {
        _ if seen.found == 0 => -2,
        None => -1,
        Some(at) => i64::try_from(of(at)).unwrap_or(i64::MAX),
    });
    Ok(())
}
