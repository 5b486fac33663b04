//! Keys of any type: DEL, EXISTS, TYPE, RENAME, COPY.

use ferrokit_engine::KeyspaceId;

use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};

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
    CommandInfo {
        name: "copy",
        arity: -3,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys { last: 2, ..Keys::one(&["RO", "access"]) },
        since: "6.2.0",
        complexity: "O(N) worst case for collections, where N is the number of nested items. O(1) \
                     for string values.",
        summary: "Copies the value of a key to a new key.",
        handler: Handler::Copy,
        ..KEYS
    },
    CommandInfo {
        name: "move",
        arity: 3,
        flags: flag::WRITE | flag::FAST,
        keys: Keys::one(&["RW", "access", "update"]),
        summary: "Moves a key to another database.",
        handler: Handler::Move,
        ..KEYS
    },
    CommandInfo {
        name: "rename",
        arity: 3,
        flags: flag::WRITE,
        keys: Keys { last: 2, ..Keys::one(&["RW", "access", "delete"]) },
        summary: "Renames a key and overwrites the destination.",
        handler: Handler::Rename,
        ..KEYS
    },
    CommandInfo {
        name: "renamenx",
        arity: 3,
        flags: flag::WRITE | flag::FAST,
        keys: Keys { last: 2, ..Keys::one(&["RW", "access", "delete"]) },
        summary: "Renames a key only when the target key name doesn't exist.",
        handler: Handler::RenameNx,
        ..KEYS
    },
    CommandInfo {
        name: "touch",
        arity: -2,
        flags: flag::READONLY | flag::FAST,
        keys: Keys::all(1, &["RO"]),
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        since: "3.2.1",
        complexity: "O(N) where N is the number of keys that will be touched.",
        summary: "Returns the number of existing keys out of those specified after updating the \
                  time they were last accessed.",
        handler: Handler::Touch,
        ..KEYS
    },
];

/// Several keys are removed at once.
pub(super) async fn del(cx: &mut Context<'_>) -> Outcome {
    let keys: Vec<&[u8]> = cx.args.from(1).collect();
    let deleted = cx.db.delete(&keys).await?;
    cx.reply.count(deleted);
    Ok(())
}

/// A key that is given twice counts twice.
pub(super) async fn exists(cx: &mut Context<'_>) -> Outcome {
    count_existing(cx, false).await
}

pub(super) async fn touch(cx: &mut Context<'_>) -> Outcome {
    count_existing(cx, true).await
}

async fn count_existing(cx: &mut Context<'_>, touches: bool) -> Outcome {
    let mut keys = cx.scratch.take_keys();
    keys.extend(cx.args.from(1));
    let found = cx.db.exist(&keys, touches).await;
    cx.scratch.give_back_keys(keys);
    cx.reply.count(found?);
    Ok(())
}

pub(super) async fn key_type(cx: &mut Context<'_>) -> Outcome {
    let info = cx.db.key_info(cx.args.at(1)).await?;
    let kind = info.map(|info| info.kind.map_or("unknown", ferrokit_redis::Type::name));
    cx.reply.status(kind.unwrap_or("none"));
    Ok(())
}

pub(super) async fn rename(cx: &mut Context<'_>) -> Outcome {
    cx.db.rename(cx.args.at(1), cx.args.at(2), false).await?;
    cx.reply.ok();
    Ok(())
}

pub(super) async fn rename_nx(cx: &mut Context<'_>) -> Outcome {
    let is_renamed = cx.db.rename(cx.args.at(1), cx.args.at(2), true).await?;
    cx.reply.integer(i64::from(is_renamed));
    Ok(())
}

const SAME_OBJECT: Refusal = Refusal::text("ERR source and destination objects are the same");

pub(super) async fn copy(cx: &mut Context<'_>) -> Outcome {
    let (from, to) = (cx.args.at(1), cx.args.at(2));
    let (mut keyspace, mut replaces) = (cx.session.keyspace, false);
    let mut index = 3;
    while let Some(option) = cx.args.get(index) {
        if option.eq_ignore_ascii_case(b"replace") {
            replaces = true;
        } else if option.eq_ignore_ascii_case(b"db") && index + 1 < cx.args.len() {
            index += 1;
            keyspace = database(cx, index)?;
        } else {
            return Err(Refusal::SYNTAX);
        }
        index += 1;
    }
    if keyspace == cx.session.keyspace && from == to {
        return Err(SAME_OBJECT);
    }
    let is_copied = cx.db.copy(from, (keyspace, to), replaces).await?;
    cx.reply.integer(i64::from(is_copied));
    Ok(())
}

pub(super) async fn move_key(cx: &mut Context<'_>) -> Outcome {
    let keyspace = database(cx, 2)?;
    if keyspace == cx.session.keyspace {
        return Err(SAME_OBJECT);
    }
    let is_moved = cx.db.move_to(cx.args.at(1), keyspace).await?;
    cx.reply.integer(i64::from(is_moved));
    Ok(())
}

fn database(cx: &Context<'_>, argument: usize) -> Result<KeyspaceId, Refusal> {
    cx.shared.store.database(cx.integer(argument)?)
}
