//! Keys of any type: DEL, EXISTS, TYPE.

use ferrokit_engine::{Entry, ReadOptions};

use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome};

const KEYS: CommandInfo =
    CommandInfo { group: "generic", categories: category::KEYSPACE, ..CommandInfo::DEFAULT };

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "del",
        arity: -2,
        flags: flag::WRITE,
        keys: Keys::all(1, &["RM", "delete"]),
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        complexity: "O(N) where N is the number of keys that will be removed.",
        summary: "Deletes one or more keys.",
        handler: Handler::Del,
        ..KEYS
    },
    CommandInfo {
        name: "exists",
        arity: -2,
        flags: flag::READONLY | flag::FAST,
        keys: Keys::all(1, &["RO"]),
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        complexity: "O(N) where N is the number of keys to check.",
        summary: "Determines whether one or more keys exist.",
        handler: Handler::Exists,
        ..KEYS
    },
    CommandInfo {
        name: "type",
        arity: 2,
        flags: flag::READONLY | flag::FAST,
        keys: Keys::one(&["RO"]),
        summary: "Determines the type of value stored at a key.",
        handler: Handler::Type,
        ..KEYS
    },
    CommandInfo {
        name: "unlink",
        arity: -2,
        flags: flag::WRITE | flag::FAST,
        keys: Keys::all(1, &["RM", "delete"]),
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        since: "4.0.0",
        complexity: "O(N) where N is the number of keys that will be removed.",
        summary: "Asynchronously deletes one or more keys.",
        handler: Handler::Del,
        ..KEYS
    },
];

/// Deletes key after key: the count is exact, each deletion is atomic, and others may see some keys
/// gone and later ones still there.
pub(super) async fn del(cx: &mut Context<'_>) -> Outcome {
    let options = cx.shared.write_options().reporting_existed();
    let mut deleted = 0;
    for key in cx.args.from(1) {
        let written = cx.shared.engine.delete(cx.session.keyspace, key, &options).await?;
        cx.session.join(written.ticket);
        deleted += usize::from(written.existed == Some(true));
    }
    cx.reply.count(deleted);
    Ok(())
}

/// A key that is given twice counts twice.
pub(super) async fn exists(cx: &mut Context<'_>) -> Outcome {
    let mut keys = cx.scratch.take_keys();
    keys.extend(cx.args.from(1));
    let mut found = 0;
    let mut visit = |_: usize, _: Entry<'_>| found += 1;
    let options = ReadOptions::APPLIED;
    let read =
        cx.shared.engine.get_many_with(cx.session.keyspace, &keys, &options, &mut visit).await;
    let asked = keys.len();
    cx.scratch.give_back_keys(keys);
    cx.session.join(read?.ticket);
    cx.count_reads(found, asked - found.min(asked));
    cx.reply.count(found);
    Ok(())
}

pub(super) async fn key_type(cx: &mut Context<'_>) -> Outcome {
    let mut visit = |_: Entry<'_>| {};
    let (keyspace, key) = (cx.session.keyspace, cx.args.at(1));
    let read = cx.shared.engine.get_with(keyspace, key, &ReadOptions::APPLIED, &mut visit);
    let seen = read.await?;
    cx.session.join(seen.ticket);
    cx.reply.status(if seen.found > 0 { "string" } else { "none" });
    Ok(())
}
