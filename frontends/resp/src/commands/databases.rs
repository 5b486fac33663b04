//! Databases: each is a keyspace of the engine.

use ferrokit_engine::KeyspaceId;

use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::resp::parse_integer;

const FLUSH: CommandInfo = CommandInfo {
    arity: -1,
    flags: flag::WRITE,
    categories: category::KEYSPACE | category::DANGEROUS,
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    ..CommandInfo::DEFAULT
};

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "dbsize",
        flags: flag::READONLY | flag::FAST,
        categories: category::KEYSPACE,
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        summary: "Returns the number of keys in the database.",
        handler: Handler::DbSize,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "flushall",
        summary: "Removes all keys from all databases.",
        handler: Handler::FlushAll,
        ..FLUSH
    },
    CommandInfo {
        name: "flushdb",
        summary: "Remove all keys from the current database.",
        handler: Handler::FlushDb,
        ..FLUSH
    },
    CommandInfo {
        name: "select",
        arity: 2,
        flags: flag::LOADING | flag::STALE | flag::FAST,
        categories: category::CONNECTION,
        group: "connection",
        summary: "Changes the selected database.",
        handler: Handler::Select,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "swapdb",
        arity: 3,
        flags: flag::WRITE | flag::FAST,
        categories: category::KEYSPACE | category::DANGEROUS,
        since: "4.0.0",
        summary: "Swaps two Redis databases.",
        handler: Handler::SwapDb,
        ..CommandInfo::DEFAULT
    },
];

pub(super) fn select(cx: &mut Context<'_>) -> Outcome {
    let index = cx.integer(1)?;
    let index = i32::try_from(index).map_err(|_| {
        Refusal::text("ERR value is out of range, value must between -2147483648 and 2147483647")
    })?;
    let id = database(cx, index)?;
    cx.session.keyspace = id;
    cx.session.client.database.store(id.0, std::sync::atomic::Ordering::Relaxed);
    cx.reply.ok();
    Ok(())
}

fn database(cx: &Context<'_>, index: i32) -> Result<KeyspaceId, Refusal> {
    cx.shared.store.database(i64::from(index))
}

pub(super) async fn swap_db(cx: &mut Context<'_>) -> Outcome {
    let parse = |index: usize, refusal: &'static str| {
        parse_integer(cx.args.at(index))
            .and_then(|number| i32::try_from(number).ok())
            .ok_or(Refusal::text(refusal))
    };
    let first = parse(1, "ERR invalid first DB index")?;
    let second = parse(2, "ERR invalid second DB index")?;
    let (first, second) = (database(cx, first)?, database(cx, second)?);
    cx.db.swap(first, second).await?;
    cx.reply.ok();
    Ok(())
}

/// ASYNC and SYNC are one: an engine empties a keyspace in constant time.
fn check_flush_option(cx: &Context<'_>) -> Result<(), Refusal> {
    match (cx.args.get(1), cx.args.len()) {
        (None, _) => Ok(()),
        (Some(option), 2)
            if option.eq_ignore_ascii_case(b"async") || option.eq_ignore_ascii_case(b"sync") =>
        {
            Ok(())
        }
        _ => Err(Refusal::SYNTAX),
    }
}

pub(super) async fn flush_db(cx: &mut Context<'_>) -> Outcome {
    check_flush_option(cx)?;
    cx.db.flush().await?;
    cx.reply.ok();
    Ok(())
}

pub(super) async fn flush_all(cx: &mut Context<'_>) -> Outcome {
    check_flush_option(cx)?;
    cx.db.flush_all().await?;
    cx.reply.ok();
    Ok(())
}

pub(super) async fn db_size(cx: &mut Context<'_>) -> Outcome {
    let len = cx.db.len().await?;
    cx.reply.integer(i64::try_from(len.entries).unwrap_or(i64::MAX));
    Ok(())
}
