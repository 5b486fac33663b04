//! Expiry: EXPIRE, TTL and their like.

use ferrokit_engine::UnixMillis;
use ferrokit_redis::keys::ExpireConditions;

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

fn conditions(cx: &Context<'_>) -> Result<ExpireConditions, Refusal> {
    let mut conditions = ExpireConditions::default();
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

async fn set_expiry(cx: &mut Context<'_>, unit: Unit) -> Outcome {
    let conditions = conditions(cx)?;
    let at = expire_time::any(cx.integer(2)?, unit, cx.shared.now(), cx.info.name)?;
    let is_set = cx.db.expire(cx.args.at(1), at, conditions).await?;
    cx.reply.integer(i64::from(is_set));
    Ok(())
}

pub(super) async fn persist(cx: &mut Context<'_>) -> Outcome {
    let had_expiry = cx.db.persist(cx.args.at(1)).await?;
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
    let expire_at = cx.db.expire_time(cx.args.at(1)).await?;
    cx.reply.integer(match expire_at {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => i64::try_from(of(at)).unwrap_or(i64::MAX),
    });
    Ok(())
}
