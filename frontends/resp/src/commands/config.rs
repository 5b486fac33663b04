//! CONFIG. What it shows is what holds; what it sets acts.

use ferrokit_redis::glob;

use super::table::{CommandInfo, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::config::AppendFsync;
use crate::shared::Shared;

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
            name: "config|resetstat",
            arity: 2,
            summary: "Resets the server's statistics.",
            handler: Handler::ConfigResetStat,
            ..SUBCOMMAND
        },
        CommandInfo {
            name: "config|rewrite",
            arity: 2,
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

/// A parameter and its present value.
type Parameter = (&'static str, fn(&Shared) -> String);

const APPENDFSYNC: &str = "appendfsync";

const PARAMETERS: &[Parameter] = &[
    (APPENDFSYNC, |shared| shared.appendfsync().name().to_owned()),
    // The engine's log is the append-only file.
    ("appendonly", |shared| yes_or_no(shared.is_durable())),
    ("bind", |shared| shared.bind.clone()),
    ("client-query-buffer-limit", |shared| shared.limits.request.request_bytes.to_string()),
    ("databases", |shared| shared.store.databases().to_string()),
    ("engine", |shared| shared.engine_url.clone()),
    ("io-threads", |shared| shared.stats.len().to_string()),
    ("maxclients", |shared| shared.clients.limit().to_string()),
    // None is set.
    ("maxmemory", |_| "0".to_owned()),
    ("maxmemory-policy", |_| "noeviction".to_owned()),
    ("port", |shared| shared.port.to_string()),
    ("proto-max-bulk-len", |shared| shared.limits.request.bulk_bytes.to_string()),
    // There are no snapshots by time.
    ("save", |_| String::new()),
    ("timeout", |shared| {
        shared.limits.idle_timeout.map_or(0, |timeout| timeout.as_secs()).to_string()
    }),
];

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn parameter(name: &[u8]) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
}

pub(super) fn get(cx: &mut Context<'_>) -> Outcome {
    let mut asked: Vec<(&[u8], &Parameter)> = Vec::new();
    for pattern in cx.args.from(2) {
        let is_new = |known: &&Parameter| asked.iter().all(|(_, (name, _))| name != &known.0);
        let found: Vec<(&[u8], &Parameter)> = match parameter(pattern) {
            // Asked for by its name, it is answered under the name as it was written.
            Some(known) => Some(known).filter(is_new).map(|it| (pattern, it)).into_iter().collect(),
            None => {
                let pattern = pattern.to_ascii_lowercase();
                let matches = |(name, _): &&Parameter| glob::matches(&pattern, name.as_bytes());
                let new = PARAMETERS.iter().filter(matches).filter(is_new);
                new.map(|it| (it.0.as_bytes(), it)).collect()
            }
        };
        asked.extend(found);
    }
    cx.reply.map(asked.len());
    for (name, (_, value)) in asked {
        cx.reply.bulk(name);
        cx.reply.bulk(value(cx.shared).as_bytes());
    }
    Ok(())
}

/// Sets all parameters or none.
pub(super) fn set(cx: &mut Context<'_>) -> Outcome {
    if !cx.args.len().is_multiple_of(2) {
        return Err(Refusal::SYNTAX);
    }
    let mut setting = None;
    for index in (2..cx.args.len()).step_by(2) {
        let (name, value) = (cx.args.at(index), cx.args.at(index + 1));
        let Some((name, _)) = parameter(name) else {
            let name = String::from_utf8_lossy(name.get(..128).unwrap_or(name));
            return Err(Refusal::Text(
                format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
                    .into(),
            ));
        };
        if *name != APPENDFSYNC {
            return Err(failed(name, "can't set immutable config"));
        }
        if setting.is_some() {
            return Err(failed(name, "duplicate parameter"));
        }
        setting = Some(AppendFsync::from_name(value).ok_or_else(|| {
            failed(name, "argument(s) must be one of the following: everysec, always, no")
        })?);
    }
    if let Some(setting) = setting {
        cx.shared
            .set_appendfsync(setting)
            .map_err(|error| failed(APPENDFSYNC, &error.to_string()))?;
    }
    cx.reply.ok();
    Ok(())
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

pub(super) fn rewrite(_: &mut Context<'_>) -> Outcome {
    Err(Refusal::text("ERR The server is running without a config file"))
}
