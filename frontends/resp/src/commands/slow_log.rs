//! SLOWLOG: the last commands that took long.

use super::table::{CommandInfo, flag};
use super::{Context, Handler, Outcome, Refusal, help};
use crate::resp::parse_integer;

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "slowlog",
    arity: -2,
    since: "2.2.12",
    complexity: "Depends on subcommand.",
    summary: "A container for slow log commands.",
    subcommands: &[
        CommandInfo {
            name: "slowlog|get",
            arity: -2,
            flags: flag::ADMIN | flag::LOADING | flag::STALE,
            tips: &["request_policy:all_nodes", "nondeterministic_output"],
            since: "2.2.12",
            complexity: "O(N) where N is the number of entries returned",
            summary: "Returns the slow log's entries.",
            handler: Handler::SlowLogGet,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "slowlog|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            since: "6.2.0",
            summary: "Show helpful text about the different subcommands",
            handler: Handler::SlowLogHelp,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "slowlog|len",
            arity: 2,
            flags: flag::ADMIN | flag::LOADING | flag::STALE,
            tips: &[
                "request_policy:all_nodes",
                "response_policy:agg_sum",
                "nondeterministic_output",
            ],
            since: "2.2.12",
            summary: "Returns the number of entries in the slow log.",
            handler: Handler::SlowLogLen,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "slowlog|reset",
            arity: 2,
            flags: flag::ADMIN | flag::LOADING | flag::STALE,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            since: "2.2.12",
            complexity: "O(N) where N is the number of entries in the slowlog",
            summary: "Clears all entries from the slow log.",
            handler: Handler::SlowLogReset,
            ..CommandInfo::DEFAULT
        },
    ],
    handler: Handler::Container,
    ..CommandInfo::DEFAULT
}];

/// Entries SLOWLOG GET shows unless asked for another number.
const SHOWN: usize = 10;

/// SLOWLOG GET [count]; -1 is all.
pub(super) fn get(cx: &mut Context<'_>) -> Outcome {
    let count = match (cx.args.get(2), cx.args.len()) {
        (None, _) => SHOWN,
        (Some(count), 3) => match parse_integer(count) {
            Some(-1) => usize::MAX,
            count => count
                .and_then(|count| usize::try_from(count).ok())
                .ok_or(Refusal::text("ERR count should be greater than or equal to -1"))?,
        },
        _ => return Err(help::wrong_subcommand(cx, "SLOWLOG")),
    };
    let newest = cx.shared.slow_log.newest(count);
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    cx.reply.array(newest.len());
    for command in newest {
        cx.reply.array(6);
        cx.reply.integer(number(command.id));
        cx.reply.integer(number(command.at_secs));
        cx.reply.integer(number(command.micros));
        cx.reply.array(command.arguments.len());
        command.arguments.iter().for_each(|argument| cx.reply.bulk(argument));
        cx.reply.bulk(command.client.as_bytes());
        cx.reply.bulk(command.client_name.as_bytes());
    }
    Ok(())
}

pub(super) fn len(cx: &mut Context<'_>) -> Outcome {
    cx.reply.count(cx.shared.slow_log.len());
    Ok(())
}

pub(super) fn reset(cx: &mut Context<'_>) -> Outcome {
    cx.shared.slow_log.clear();
    cx.reply.ok();
    Ok(())
}

const HELP: &[&str] = &[
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
];

pub(super) fn show_help(cx: &mut Context<'_>) -> Outcome {
    help::write(cx.reply, "SLOWLOG", HELP);
    Ok(())
}
