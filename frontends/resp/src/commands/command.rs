//! COMMAND: the command table, told to clients.

use ferrokit_redis::glob;

use super::table::{self, CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal, docs, help, key_specs};
use crate::resp::Reply;

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
            flags: flag::LOADING | flag::STALE,
            categories: category::CONNECTION,
            since: "2.8.13",
            summary: "Returns a count of commands.",
            handler: Handler::CommandCount,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "command|docs",
            arity: -2,
            flags: flag::LOADING | flag::STALE,
            categories: category::CONNECTION,
            tips: &["nondeterministic_output_order"],
            since: "7.0.0",
            complexity: "O(N) where N is the number of commands to look up",
            summary: "Returns documentary information about one, multiple or all commands.",
            handler: Handler::CommandDocs,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "command|getkeys",
            arity: -3,
            flags: flag::LOADING | flag::STALE,
            categories: category::CONNECTION,
            since: "2.8.13",
            complexity: "O(N) where N is the number of arguments to the command",
            summary: "Extracts the key names from an arbitrary command.",
            handler: Handler::CommandGetKeys,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "command|getkeysandflags",
            arity: -3,
            flags: flag::LOADING | flag::STALE,
            categories: category::CONNECTION,
            since: "7.0.0",
            complexity: "O(N) where N is the number of arguments to the command",
            summary: "Extracts the key names and access flags for an arbitrary command.",
            handler: Handler::CommandGetKeysAndFlags,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "command|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            categories: category::CONNECTION,
            since: "5.0.0",
            summary: "Returns helpful text about the different subcommands.",
            handler: Handler::CommandHelp,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "command|info",
            arity: -2,
            flags: flag::LOADING | flag::STALE,
            categories: category::CONNECTION,
            tips: &["nondeterministic_output_order"],
            since: "2.8.13",
            complexity: "O(N) where N is the number of commands to look up",
            summary: "Returns information about one, multiple or all commands.",
            handler: Handler::CommandInfo,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "command|list",
            arity: -2,
            flags: flag::LOADING | flag::STALE,
            categories: category::CONNECTION,
            tips: &["nondeterministic_output_order"],
            since: "7.0.0",
            complexity: "O(N) where N is the total number of Redis commands",
            summary: "Returns a list of command names.",
            handler: Handler::CommandList,
            ..CommandInfo::DEFAULT
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
    key_specs::write(reply, row);
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
        2 => rows().map(|row| row.name).collect(),
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
    write_keys(cx, false)
}

pub(super) fn get_keys_and_flags(cx: &mut Context<'_>) -> Outcome {
    write_keys(cx, true)
}

/// The keys of the request that follows, each with what is done with it if `with_access`.
fn write_keys(cx: &mut Context<'_>, with_access: bool) -> Outcome {
    let request = cx.args.tail(2);
    let invalid = || Refusal::text("ERR Invalid command specified");
    let row = table::named_by(request).ok_or_else(invalid)?;
    if !key_specs::has_keys(row) {
        return Err(Refusal::text("ERR The command has no key arguments"));
    }
    if !row.admits(request.len()) {
        return Err(Refusal::text("ERR Invalid number of arguments specified for command"));
    }
    let keys = key_specs::find(row, request);
    if keys.is_empty() {
        return Err(Refusal::text("ERR Invalid arguments specified for command"));
    }
    cx.reply.array(keys.len());
    for (place, access) in keys {
        if with_access {
            cx.reply.array(2);
        }
        cx.reply.bulk(request.at(place));
        if with_access {
            key_specs::write_access(cx.reply, access);
        }
    }
    Ok(())
}

const HELP: &[&str] = &[
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full Redis command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full Redis command.",
];

pub(super) fn show_help(cx: &mut Context<'_>) -> Outcome {
    help::write(cx.reply, "COMMAND", HELP);
    Ok(())
}
