//! Numbers: INCR and its like.

use ferrokit_engine::{Entry, Update};

use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::resp::{parse_integer, push_integer};
use ferrokit_redis::decimal::{self, Number};

const COUNTER: CommandInfo = CommandInfo {
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: Keys::one(&["RW", "access", "update"]),
    group: "string",
    categories: category::STRING,
    ..CommandInfo::DEFAULT
};

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "decr",
        arity: 2,
        summary: "Decrements the integer value of a key by one. Uses 0 as initial value if the key \
                  doesn't exist.",
        handler: Handler::Decr,
        ..COUNTER
    },
    CommandInfo {
        name: "decrby",
        arity: 3,
        summary: "Decrements a number from the integer value of a key. Uses 0 as initial value if \
                  the key doesn't exist.",
        handler: Handler::DecrBy,
        ..COUNTER
    },
    CommandInfo {
        name: "incr",
        arity: 2,
        summary: "Increments the integer value of a key by one. Uses 0 as initial value if the key \
                  doesn't exist.",
        handler: Handler::Incr,
        ..COUNTER
    },
    CommandInfo {
        name: "incrby",
        arity: 3,
        summary: "Increments the integer value of a key by a number. Uses 0 as initial value if \
                  the key doesn't exist.",
        handler: Handler::IncrBy,
        ..COUNTER
    },
    CommandInfo {
        name: "incrbyfloat",
        arity: 3,
        since: "2.6.0",
        summary: "Increments the floating point value of a key by a number. Uses 0 as initial \
                  value if the key doesn't exist.",
        handler: Handler::IncrByFloat,
        ..COUNTER
    },
];

pub(super) async fn incr(cx: &mut Context<'_>) -> Outcome {
    add(cx, 1).await
}

pub(super) async fn decr(cx: &mut Context<'_>) -> Outcome {
    add(cx, -1).await
}

pub(super) async fn incr_by(cx: &mut Context<'_>) -> Outcome {
    let delta = cx.integer(2)?;
    add(cx, delta).await
}

pub(super) async fn decr_by(cx: &mut Context<'_>) -> Outcome {
    let delta =
        cx.integer(2)?.checked_neg().ok_or(Refusal::text("ERR decrement would overflow"))?;
    add(cx, delta).await
}

async fn add(cx: &mut Context<'_>, delta: i64) -> Outcome {
    let mut sum = Err(Refusal::NOT_AN_INTEGER);
    let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
        sum = current
            .map_or(Some(0), |entry| parse_integer(entry.value))
            .ok_or(Refusal::NOT_AN_INTEGER)
            .and_then(|number| {
                number
                    .checked_add(delta)
                    .ok_or(Refusal::text("ERR increment or decrement would overflow"))
            });
        match &sum {
            Ok(sum) => push_integer(out, *sum),
            Err(_) => return Update::Keep,
        }
        Update::Put { expire_at: current.and_then(|entry| entry.expire_at) }
    };
    let written = cx.update(cx.args.at(1), &mut change).await?;
    cx.session.join(written.ticket);
    cx.reply.integer(sum?);
    Ok(())
}

pub(super) async fn incr_by_float(cx: &mut Context<'_>) -> Outcome {
    let delta = Number::parse(cx.args.at(2)).ok_or(Refusal::NOT_A_FLOAT)?;
    let mut sum = Err(Refusal::NOT_A_FLOAT);
    let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
        sum = current
            .map_or(Some(Number::Fixed(0)), |entry| Number::parse(entry.value))
            .ok_or(Refusal::NOT_A_FLOAT)
            .and_then(|number| {
                decimal::add(number, delta)
                    .ok_or(Refusal::text("ERR increment would produce NaN or Infinity"))
            });
        match &sum {
            Ok(sum) => out.extend_from_slice(sum.as_bytes()),
            Err(_) => return Update::Keep,
        }
        Update::Put { expire_at: current.and_then(|entry| entry.expire_at) }
    };
    let written = cx.update(cx.args.at(1), &mut change).await?;
    cx.session.join(written.ticket);
    cx.reply.bulk(sum?.as_bytes());
    Ok(())
}
