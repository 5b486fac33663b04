//! COMMAND: the command table, told to clients.

use ferrokit_redis::glob;

use super::table::{self, CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal, docs};
use crate::resp::Reply;

const SUBCOMMAND: CommandInfo = CommandInfo {
    flags: flag::LOADING | flag::STALE,
    categories: category::CONNECTION,
    ..CommandInfo::DEFAULT
};

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "command",
    arity: -1,
    flags: flag::LOADING | flag::STALE,
    categories: category::CONNECTION,
    tips: &["nondeterministic_output_order"],
    since: "2.8.13",
    complexity: "O(N) where N is the total number of Redis commands",
    summary: "Returns detailed information about all commands.",
    subcommands: &[
        CommandInfo {
            name: "command|count",
            arity: 2,
            since: "2.8.13",
            summary: "Returns a count of commands.",
            handler: Handler::CommandCount,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "command|docs",
            arity: -2,
            tips: &["nondeterministic_output_order"],
            since: "7.0.0",
            complexity: "O(N) where N is the number of commands to look up",
            summary: "Returns documentary information about one, multiple or all commands.",
            handler: Handler::CommandDocs,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "command|getkeys",
            arity: -3,
            since: "2.8.13",
            complexity: "O(N) where N is the number of arguments to the command",
            summary: "Extracts the key names from an arbitrary command.",
            handler: Handler::CommandGetKeys,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "command|info",
            arity: -2,
            tips: &["nondeterministic_output_order"],
            since: "2.8.13",
            complexity: "O(N) where N is the number of commands to look up",
            summary: "Returns information about one, multiple or all commands.",
            handler: Handler::CommandInfo,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "command|list",
            arity: -2,
            tips: &["nondeterministic_output_order"],
            since: "7.0.0",
            complexity: "O(N) where N is the total number of Redis commands",
            summary: "Returns a list of command names.",
            handler: Handler::CommandList,
            ..SUBCOMMAND
        },
    ],
    handler: Handler::Command,
    ..CommandInfo::DEFAULT
}];

/// A container without a subcommand: its arity refuses that before it comes here.
pub(super) fn container(cx: &mut Context<'_>) -> Outcome {
    Err(Refusal::wrong_arity(cx.info.name))
}

pub(super) fn all(cx: &mut Context<'_>) -> Outcome {
    cx.reply.array(table::all().count());
    table::all().for_each(|row| write_info(cx.reply, row));
    Ok(())
}

pub(super) fn count(cx: &mut Context<'_>) -> Outcome {
    cx.reply.count(table::all().count());
    Ok(())
}

pub(super) fn info(cx: &mut Context<'_>) -> Outcome {
    if cx.args.len() == 2 {
        return all(cx);
    }
    cx.reply.array(cx.args.len() - 2);
    for name in cx.args.from(2) {
        match table::by_full_name(name) {
            Some(row) => write_info(cx.reply, row),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

fn write_info(reply: &mut Reply, row: &CommandInfo) {
    reply.array(10);
    reply.bulk(row.name.as_bytes());
    reply.integer(i64::from(row.arity));
    write_names(reply, row.flags, flag::NAMES);
    reply.count(row.keys.first);
    reply.integer(i64::from(row.keys.last));
    reply.count(row.keys.step);
    write_names(reply, row.all_categories(), category::NAMES);
    reply.set(row.tips.len());
    row.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    write_key_specs(reply, row);
    match row.subcommands.len() {
        0 => reply.set(0),
        count => reply.array(count),
    }
    row.subcommands.iter().for_each(|subcommand| write_info(reply, subcommand));
}

fn write_names(reply: &mut Reply, bits: u32, names: &[(u32, &str)]) {
    let set = names.iter().filter(|(bit, _)| bits & bit != 0);
    reply.set(set.clone().count());
    set.for_each(|(_, name)| reply.status(name));
}

fn write_key_specs(reply: &mut Reply, row: &CommandInfo) {
    let keys = &row.keys;
    reply.set(usize::from(keys.first > 0));
    if keys.first == 0 {
        return;
    }
    reply.map(3 + usize::from(keys.notes.is_some()));
    if let Some(notes) = keys.notes {
        reply.bulk(b"notes");
        reply.bulk(notes.as_bytes());
    }
    reply.bulk(b"flags");
    reply.set(keys.access.len());
    keys.access.iter().for_each(|access| reply.status(access));
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    reply.map(1);
    reply.bulk(b"index");
    reply.count(keys.first);
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"range");
    reply.bulk(b"spec");
    reply.map(3);
    reply.bulk(b"lastkey");
    // Relative to the first key, unless it counts from the end.
    let first = i64::try_from(keys.first).unwrap_or(i64::MAX);
    let last = i64::from(keys.last);
    reply.integer(if last < 0 { last } else { last - first });
    reply.bulk(b"keystep");
    reply.count(keys.step);
    reply.bulk(b"limit");
    reply.integer(0);
}

pub(super) fn docs(cx: &mut Context<'_>) -> Outcome {
    if cx.args.len() == 2 {
        cx.reply.map(table::all().count());
        table::all().for_each(|row| docs::write(cx.reply, row));
        return Ok(());
    }
    let rows: Vec<_> = cx.args.from(2).filter_map(table::by_full_name).collect();
    cx.reply.map(rows.len());
    rows.into_iter().for_each(|row| docs::write(cx.reply, row));
    Ok(())
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern].
pub(super) fn list(cx: &mut Context<'_>) -> Outcome {
    let rows = || table::all().flat_map(|row| std::iter::once(row).chain(row.subcommands));
    let names: Vec<&str> = match cx.args.len() {
        2 => table::all().map(|row| row.name).collect(),
        5 if cx.args.at(2).eq_ignore_ascii_case(b"filterby") => {
            let (kind, value) = (cx.args.at(3), cx.args.at(4));
            match kind.to_ascii_lowercase().as_slice() {
                b"module" => Vec::new(),
                b"aclcat" => {
                    let wanted = category::NAMES
                        .iter()
                        .find(|(_, name)| value.eq_ignore_ascii_case(&name.as_bytes()[1..]))
                        .map_or(0, |(bit, _)| *bit);
                    rows()
                        .filter(|row| row.all_categories() & wanted != 0)
                        .map(|row| row.name)
                        .collect()
                }
                b"pattern" => {
                    let pattern = value.to_ascii_lowercase();
                    rows()
                        .filter(|row| glob::matches(&pattern, row.name.as_bytes()))
                        .map(|row| row.name)
                        .collect()
                }
                _ => return Err(Refusal::SYNTAX),
            }
        }
        _ => return Err(Refusal::SYNTAX),
    };
    cx.reply.array(names.len());
    names.into_iter().for_each(|name| cx.reply.bulk(name.as_bytes()));
    Ok(())
}

pub(super) fn get_keys(cx: &mut Context<'_>) -> Outcome {
    let invalid = || Refusal::text("ERR Invalid command specified");
    let mut row = table::by_name(cx.args.at(2)).ok_or_else(invalid)?;
    if let Some(name) = cx.args.get(3)
        && !row.subcommands.is_empty()
    {
        row = table::subcommand(row, name).ok_or_else(invalid)?;
    }
    if row.keys.first == 0 {
        return Err(Refusal::text("ERR The command has no key arguments"));
    }
    let len = cx.args.len() - 2;
    if !row.admits(len) {
        return Err(Refusal::text("ERR Invalid number of arguments specified for command"));
    }
    let keys: Vec<&[u8]> = table::keys(row, cx.args.tail(2)).collect();
    cx.reply.array(keys.len());
    keys.into_iter().for_each(|key| cx.reply.bulk(key));
    Ok(())
}
