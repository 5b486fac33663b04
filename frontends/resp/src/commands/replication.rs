//! Replication, of which there is none: what a master without replicas answers.

use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::resp::parse_integer;

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "replicaof",
        arity: 3,
        flags: flag::NO_ASYNC_LOADING | flag::ADMIN | flag::NOSCRIPT | flag::STALE,
        since: "5.0.0",
        summary: "Configures a server as replica of another, or promotes it to a master.",
        handler: Handler::ReplicaOf,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "role",
        flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST,
        categories: category::ADMIN | category::DANGEROUS,
        since: "2.8.12",
        summary: "Returns the replication role.",
        handler: Handler::Role,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "slaveof",
        arity: 3,
        flags: flag::NO_ASYNC_LOADING | flag::ADMIN | flag::NOSCRIPT | flag::STALE,
        summary: "Sets a Redis server as a replica of another, or promotes it to being a master.",
        handler: Handler::ReplicaOf,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "wait",
        arity: 3,
        categories: category::CONNECTION,
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        group: "generic",
        since: "3.0.0",
        summary: "Blocks until the asynchronous replication of all preceding write commands sent \
                  by the connection is completed.",
        handler: Handler::Wait,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "waitaof",
        arity: 4,
        flags: flag::NOSCRIPT,
        categories: category::CONNECTION,
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        group: "generic",
        since: "7.2.0",
        summary: "Blocks until all of the preceding write commands sent by the connection are \
                  written to the append-only file of the master and/or replicas.",
        handler: Handler::WaitAof,
        ..CommandInfo::DEFAULT
    },
];

/// A master at offset 0 without replicas.
pub(super) fn role(cx: &mut Context<'_>) -> Outcome {
    cx.reply.array(3);
    cx.reply.bulk(b"master");
    cx.reply.integer(0);
    cx.reply.array(0);
    Ok(())
}

/// REPLICAOF NO ONE is so already; anything else cannot be.
pub(super) fn replica_of(cx: &mut Context<'_>) -> Outcome {
    let (host, port) = (cx.args.at(1), cx.args.at(2));
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        cx.reply.ok();
        return Ok(());
    }
    if !parse_integer(port).is_some_and(|port| (0..=65_535).contains(&port)) {
        return Err(Refusal::text("ERR Invalid master port"));
    }
    Err(Refusal::text("ERR this server cannot be a replica: only REPLICAOF NO ONE is supported"))
}

fn timeout(cx: &Context<'_>, index: usize) -> Result<(), Refusal> {
    match parse_integer(cx.args.at(index)) {
        None => Err(Refusal::text("ERR timeout is not an integer or out of range")),
        Some(millis) if millis < 0 => Err(Refusal::text("ERR timeout is negative")),
        Some(_) => Ok(()),
    }
}

/// No replica will ever acknowledge: there is nothing to wait for.
pub(super) fn wait(cx: &mut Context<'_>) -> Outcome {
    cx.integer(1)?;
    timeout(cx, 2)?;
    cx.reply.integer(0);
    Ok(())
}

/// WAITAOF: with `numlocal`, waits until everything written so far is on the device.
pub(super) async fn wait_aof(cx: &mut Context<'_>) -> Outcome {
    let range = |index: usize| parse_integer(cx.args.at(index)).filter(|number| *number >= 0);
    let local = range(1)
        .filter(|local| *local <= 1)
        .ok_or(Refusal::text("ERR value is out of range, must be between 0 and 1"))?;
    range(2).ok_or(Refusal::text("ERR value is out of range, must be positive"))?;
    timeout(cx, 3)?;
    let is_durable = cx.shared.is_durable();
    if local == 1 && !is_durable {
        return Err(Refusal::text(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        ));
    }
    if is_durable {
        cx.shared.engine.sync(ferrokit_engine::Durability::Synced).await?;
    }
    cx.reply.array(2);
    cx.reply.integer(i64::from(is_durable));
    cx.reply.integer(0);
    Ok(())
}
