//! Numbers: INCR and its like.

use ferrokit_redis::decimal::Number;

use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};

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
        summary: "Increment the floating point value of a key by a number. Uses 0 as initial \
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
    let sum = cx.db.incr_by(cx.args.at(1), delta).await?;
    cx.reply.integer(sum);
    Ok(())
}

pub(super) async fn incr_by_float(cx: &mut Context<'_>) -> Outcome {
    let delta = Number::parse(cx.args.at(2)).ok_or(Refusal::NOT_A_FLOAT)?;
    let sum = cx.db.incr_by_float(cx.args.at(1), delta).await?;
    cx.reply.bulk(sum.as_bytes());
    Ok(())
}
