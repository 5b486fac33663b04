//! FUNCTION, as it is without functions: there is no scripting engine, so none can be loaded.

use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal, help};

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "function",
    arity: -2,
    group: "scripting",
    since: "7.0.0",
    complexity: "Depends on subcommand.",
    summary: "A container for function commands.",
    subcommands: &[
        CommandInfo {
            name: "function|delete",
            arity: 3,
            flags: flag::NOSCRIPT | flag::WRITE,
            categories: category::SCRIPTING,
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            group: "scripting",
            since: "7.0.0",
            summary: "Deletes a library and its functions.",
            handler: Handler::FunctionDelete,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "function|flush",
            arity: -2,
            flags: flag::NOSCRIPT | flag::WRITE,
            categories: category::SCRIPTING,
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            group: "scripting",
            since: "7.0.0",
            complexity: "O(N) where N is the number of functions deleted",
            summary: "Deletes all libraries and functions.",
            handler: Handler::FunctionFlush,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "function|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            categories: category::SCRIPTING,
            group: "scripting",
            since: "7.0.0",
            summary: "Returns helpful text about the different subcommands.",
            handler: Handler::FunctionHelp,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "function|kill",
            arity: 2,
            flags: flag::NOSCRIPT | flag::ALLOW_BUSY,
            categories: category::SCRIPTING,
            tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
            group: "scripting",
            since: "7.0.0",
            summary: "Terminates a function during execution.",
            handler: Handler::FunctionKill,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "function|list",
            arity: -2,
            flags: flag::NOSCRIPT,
            categories: category::SCRIPTING,
            tips: &["nondeterministic_output_order"],
            group: "scripting",
            since: "7.0.0",
            complexity: "O(N) where N is the number of functions",
            summary: "Returns information about all libraries.",
            handler: Handler::FunctionList,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "function|stats",
            arity: 2,
            flags: flag::NOSCRIPT | flag::ALLOW_BUSY,
            categories: category::SCRIPTING,
            tips: &[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ],
            group: "scripting",
            since: "7.0.0",
            summary: "Returns information about a function during execution.",
            handler: Handler::FunctionStats,
            ..CommandInfo::DEFAULT
        },
    ],
    handler: Handler::Container,
    ..CommandInfo::DEFAULT
}];

pub(super) fn delete(_: &mut Context<'_>) -> Outcome {
    Err(Refusal::text("ERR Library not found"))
}

pub(super) fn flush(cx: &mut Context<'_>) -> Outcome {
    match (cx.args.get(2), cx.args.len()) {
        (None, _) => {}
        (Some(mode), 3)
            if mode.eq_ignore_ascii_case(b"async") || mode.eq_ignore_ascii_case(b"sync") => {}
        _ => return Err(Refusal::text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")),
    }
    cx.reply.ok();
    Ok(())
}

pub(super) fn kill(_: &mut Context<'_>) -> Outcome {
    Err(Refusal::text("NOTBUSY No scripts in execution right now."))
}

/// FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE].
pub(super) fn list(cx: &mut Context<'_>) -> Outcome {
    let (mut has_code, mut has_name) = (false, false);
    let mut index = 2;
    while let Some(option) = cx.args.get(index) {
        if !has_code && option.eq_ignore_ascii_case(b"withcode") {
            has_code = true;
        } else if !has_name && option.eq_ignore_ascii_case(b"libraryname") {
            has_name = true;
            index += 1;
            if cx.args.get(index).is_none() {
                return Err(Refusal::text("ERR library name argument was not given"));
            }
        } else {
            let option = super::shown(option);
            return Err(Refusal::Text(format!("ERR Unknown argument {option}").into()));
        }
        index += 1;
    }
    cx.reply.array(0);
    Ok(())
}

/// No script runs, and there is no engine for any.
pub(super) fn stats(cx: &mut Context<'_>) -> Outcome {
    cx.reply.map(2);
    cx.reply.bulk(b"running_script");
    cx.reply.null();
    cx.reply.bulk(b"engines");
    cx.reply.map(0);
    Ok(())
}

const HELP: &[&str] = &[
    "DELETE <LIBRARY NAME>",
    "    Delete the given library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Return general information on all the libraries.",
    "STATS",
    "    Return information about the current function running.",
    "KILL",
    "    Kill the current running function.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all the libraries.",
];

pub(super) fn show_help(cx: &mut Context<'_>) -> Outcome {
    help::write(cx.reply, "FUNCTION", HELP);
    Ok(())
}
