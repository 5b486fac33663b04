//! Keys of a whole database: KEYS, RANDOMKEY.

use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome};

const KEYSPACE: CommandInfo =
    CommandInfo { group: "generic", flags: flag::READONLY, ..CommandInfo::DEFAULT };

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "keys",
        arity: 2,
        categories: category::KEYSPACE | category::DANGEROUS,
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        complexity: "O(N) with N being the number of keys in the database, under the assumption \
                     that the key names in the database and the given pattern have limited length.",
        summary: "Returns all key names that match a pattern.",
        handler: Handler::Keys,
        ..KEYSPACE
    },
    CommandInfo {
        name: "randomkey",
        categories: category::KEYSPACE,
        tips: &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
        summary: "Returns a random key name from the database.",
        handler: Handler::RandomKey,
        ..KEYSPACE
    },
];

pub(super) async fn keys(cx: &mut Context<'_>) -> Outcome {
    let bytes_max = cx.shared.limits.output_hard_bytes;
    let Some(keys) = cx.db.keys(cx.args.at(1), bytes_max).await? else {
        cx.reply.overflow();
        return Ok(());
    };
    cx.reply.array(keys.len());
    keys.iter().for_each(|key| cx.reply.bulk(key));
    Ok(())
}

pub(super) async fn random_key(cx: &mut Context<'_>) -> Outcome {
    match cx.db.random_key().await? {
        Some(key) => cx.reply.bulk(&key),
        None => cx.reply.null(),
    }
    Ok(())
}
