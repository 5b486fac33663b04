//! CONFIG. What it shows is what holds; what it sets acts.

use ferrokit_redis::glob;

use super::table::{CommandInfo, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::auth;
use crate::settings::change::Change;
use crate::settings::choices::Access;
use crate::settings::{Added, ROWS as PARAMETERS, Refused, Row, foreign, row};

const SUBCOMMAND: CommandInfo = CommandInfo {
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    since: "2.0.0",
    ..CommandInfo::DEFAULT
};

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "config",
    arity: -2,
    since: "2.0.0",
    complexity: "Depends on subcommand.",
    summary: "A container for server configuration commands.",
    subcommands: &[
        CommandInfo {
            name: "config|get",
            arity: -3,
            complexity: "O(N) when N is the number of configuration parameters provided",
            summary: "Returns the effective values of configuration parameters.",
            handler: Handler::ConfigGet,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "config|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            since: "5.0.0",
            summary: "Returns helpful text about the different subcommands.",
            handler: Handler::ConfigHelp,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "config|resetstat",
            arity: 2,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            summary: "Resets the server's statistics.",
            handler: Handler::ConfigResetStat,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "config|rewrite",
            arity: 2,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            since: "2.8.0",
            summary: "Persists the effective configuration to file.",
            handler: Handler::ConfigRewrite,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "config|set",
            arity: -4,
            complexity: "O(N) when N is the number of configuration parameters provided",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            summary: "Sets configuration parameters in-flight.",
            handler: Handler::ConfigSet,
            ..SUBCOMMAND
        },
    ],
    handler: Handler::Container,
    ..CommandInfo::DEFAULT
}];

const HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Rewrite the configuration file.",
    "HELP",
    "    Print this help.",
];

pub(super) fn help(cx: &mut Context<'_>) -> Outcome {
    cx.reply.array(HELP.len());
    HELP.iter().for_each(|line| cx.reply.status(line));
    Ok(())
}

/// Each name that matches any of the patterns, once, and its value.
pub(super) fn get(cx: &mut Context<'_>) -> Outcome {
    let mut found: Vec<(&[u8], &Row)> = Vec::new();
    let is_new = |found: &[(&[u8], &Row)], name: &str| {
        found.iter().all(|(known, _)| !known.eq_ignore_ascii_case(name.as_bytes()))
    };
    for pattern in cx.args.from(2) {
        if let Some(row) = row(pattern) {
            // Asked for by its name, it is answered under the name as it was written.
            if found.iter().all(|(known, _)| !known.eq_ignore_ascii_case(pattern)) {
                found.push((pattern, row));
            }
            continue;
        }
        let pattern = pattern.to_ascii_lowercase();
        for (row, name) in PARAMETERS.iter().flat_map(|row| row.names().map(move |it| (row, it))) {
            if glob::matches(&pattern, name.as_bytes()) && is_new(&found, name) {
                found.push((name.as_bytes(), row));
            }
        }
    }
    cx.reply.map(found.len());
    for (name, row) in found {
        cx.reply.bulk(name);
        cx.reply.bulk(&cx.shared.settings.show(row));
    }
    Ok(())
}

/// Sets all parameters or none.
pub(super) async fn set(cx: &mut Context<'_>) -> Outcome {
    if !cx.args.len().is_multiple_of(2) {
        return Err(Refusal::SYNTAX);
    }
    let is_local = auth::is_this_machine(cx.session.client.peer.ip());
    let may_harm = cx.shared.settings.enable_protected_configs.get();
    let mut changes: Vec<(&Row, &[u8])> = Vec::new();
    for index in (2..cx.args.len()).step_by(2) {
        let (name, value) = (cx.args.at(index), cx.args.at(index + 1));
        let row = changeable(name, may_harm, is_local)?;
        if changes.iter().any(|(known, _)| std::ptr::eq(*known, row)) {
            return Err(failed(&shown(name), "duplicate parameter"));
        }
        changes.push((row, value));
    }
    cx.shared
        .settings
        .change(cx.shared, &changes)
        .map_err(|Refused { name, problem }| failed(&name, &problem))?;
    // A lower limit holds at once.
    if changes.iter().any(|(row, _)| matches!(row.name, "maxmemory" | "maxmemory-policy")) {
        cx.shared.evict_surplus(cx.db.tally()).await;
    }
    cx.reply.ok();
    Ok(())
}

/// The parameter of that name, if a client may change it.
fn changeable(name: &[u8], may_harm: Access, is_local: bool) -> Result<&'static Row, Refusal> {
    let Some(row) = row(name) else {
        return Err(match foreign::find(name) {
            Some(foreign) => failed(&shown(name), foreign.why),
            None => Refusal::Text(
                format!(
                    "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                    shown(name)
                )
                .into(),
            ),
        });
    };
    if matches!(row.change, Change::AtStart) {
        return Err(failed(&shown(name), "can't set immutable config"));
    }
    if row.is_protected() && !may_harm.admits(is_local) {
        return Err(failed(&shown(name), "can't set protected config"));
    }
    Ok(row)
}

/// How much of a name an error shows.
const SHOWN_BYTES: usize = 128;

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..SHOWN_BYTES).unwrap_or(name)).into_owned()
}

fn failed(name: &str, why: &str) -> Refusal {
    Refusal::Text(
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}").into(),
    )
}

pub(super) fn reset_stat(cx: &mut Context<'_>) -> Outcome {
    cx.shared.stats.iter().for_each(crate::stats::WorkerStats::reset);
    cx.reply.ok();
    Ok(())
}

pub(super) async fn rewrite(cx: &mut Context<'_>) -> Outcome {
    rewrite_with(cx, Added::NotDefault).await
}

/// Rewrites the configuration file, adding to it what is said.
pub(super) async fn rewrite_with(cx: &mut Context<'_>, added: Added) -> Outcome {
    let written = cx.shared.settings.rewrite(cx.shared.host.fs.as_ref(), added).await;
    written.map_err(|why| Refusal::Text(format!("ERR {why}").into()))?;
    tracing::info!("the configuration file is rewritten");
    cx.reply.ok();
    Ok(())
}
