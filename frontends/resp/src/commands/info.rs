//! INFO. Fields carry Redis' names where they mean the same; a figure that is not known is left
//! out.

use std::fmt::Write;

use ferrokit_engine::KeyspaceId;

use super::connection::REDIS_VERSION;
use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome};
use crate::saves::Purpose;
use crate::shared::Shared;
use crate::stats::{Counter, WorkerStats};

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "info",
    arity: -1,
    flags: flag::LOADING | flag::STALE,
    categories: category::DANGEROUS,
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    summary: "Returns information and statistics about the server.",
    handler: Handler::Info,
    ..CommandInfo::DEFAULT
}];

/// In the order they are shown.
const SECTIONS: &[&str] = &[
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "engine",
    "cluster",
    "keyspace",
];

pub(super) async fn info(cx: &mut Context<'_>) -> Outcome {
    let is_asked = |section: &str| {
        cx.args.len() == 1
            || cx.args.from(1).any(|asked| {
                [section, "default", "all", "everything"]
                    .iter()
                    .any(|name| asked.eq_ignore_ascii_case(name.as_bytes()))
            })
    };
    let asked: Vec<&str> = SECTIONS.iter().copied().filter(|name| is_asked(name)).collect();
    let mut out = String::new();
    for section in asked {
        if !out.is_empty() {
            out.push_str("\r\n");
        }
        match section {
            "server" => server(cx, &mut out),
            "clients" => clients(cx, &mut out),
            "memory" => memory(cx.shared, &mut out),
            "persistence" => persistence(cx, &mut out),
            "stats" => stats(cx, &mut out),
            "replication" => replication(cx, &mut out),
            "cpu" => cpu(&mut out),
            "engine" => engine(cx, &mut out),
            "cluster" => title(&mut out, "Cluster", &[("cluster_enabled", &0)]),
            _ => keyspace(cx, &mut out).await?,
        }
    }
    cx.reply.verbatim(&out);
    Ok(())
}

type Fields<'f> = [(&'f str, &'f dyn std::fmt::Display)];

fn title(out: &mut String, name: &str, fields: &Fields<'_>) {
    // Writing to a string cannot fail.
    let _ = write!(out, "# {name}\r\n");
    for (name, value) in fields {
        let _ = write!(out, "{name}:{value}\r\n");
    }
}

fn server(cx: &Context<'_>, out: &mut String) {
    let shared = cx.shared;
    let uptime = shared.uptime();
    let fields: &Fields<'_> = &[
        ("redis_version", &REDIS_VERSION),
        ("redis_mode", &"standalone"),
        ("ferrokit_version", &env!("CARGO_PKG_VERSION")),
        ("os", &std::env::consts::OS),
        ("arch_bits", &usize::BITS),
        ("multiplexing_api", &"epoll"),
        ("io_backend", &shared.host.fs.backend()),
        ("worker_threads", &shared.stats.len()),
        ("process_id", &std::process::id()),
        ("run_id", &shared.run_id),
        ("tcp_port", &shared.settings.port.get()),
        ("server_time_usec", &(u128::from(shared.host.env.clock.now().0) * 1000)),
        ("uptime_in_seconds", &uptime),
        ("uptime_in_days", &(uptime / 86_400)),
    ];
    title(out, "Server", fields);
}

fn clients(cx: &Context<'_>, out: &mut String) {
    let clients = &cx.shared.clients;
    let fields: &Fields<'_> = &[
        ("connected_clients", &clients.count()),
        ("maxclients", &clients.limit()),
        ("blocked_clients", &0),
    ];
    title(out, "Clients", fields);
}

fn memory(shared: &Shared, out: &mut String) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    title(out, "Memory", &[]);
    let used = shared.data_bytes();
    let _ = write!(out, "used_memory:{used}\r\nused_memory_human:{}\r\n", human(used));
    let fields = [("used_memory_rss", "VmRSS:"), ("used_memory_peak", "VmHWM:")];
    for (name, field) in fields {
        if let Some(bytes) = bytes(field) {
            let _ = write!(out, "{name}:{bytes}\r\n{name}_human:{}\r\n", human(bytes));
        }
    }
    let limit = shared.settings.maxmemory.get();
    let policy = shared.settings.maxmemory_policy.name();
    let _ = write!(
        out,
        "maxmemory:{limit}\r\nmaxmemory_human:{}\r\nmaxmemory_policy:{policy}\r\n",
        human(limit)
    );
}

fn human(bytes: u64) -> String {
    let units = [(1_u64 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / *size as f64),
        None => format!("{bytes}B"),
    }
}

fn persistence(cx: &Context<'_>, out: &mut String) {
    let is_durable = u8::from(cx.shared.is_durable());
    let sync_status = if cx.shared.is_sync_failing() { "err" } else { "ok" };
    let saves = &cx.shared.saves;
    let running = saves.running();
    let save_status = if saves.has_failed() { "err" } else { "ok" };
    let fields: &Fields<'_> = &[
        ("loading", &0),
        ("rdb_changes_since_last_save", &saves.unsaved(cx.shared.changes())),
        ("rdb_last_save_time", &saves.last_at()),
        ("rdb_last_bgsave_status", &save_status),
        ("aof_enabled", &is_durable),
        ("aof_last_write_status", &sync_status),
        ("appendfsync", &cx.shared.settings.appendfsync.name()),
        ("rdb_bgsave_in_progress", &u8::from(running == Some(Purpose::Save))),
        ("aof_rewrite_in_progress", &u8::from(running == Some(Purpose::Rewrite))),
        ("aof_rewrite_scheduled", &0),
    ];
    title(out, "Persistence", fields);
}

/// As the engine counts them, or as they were told of.
fn expired_keys(cx: &Context<'_>) -> u64 {
    let stats = cx.shared.engine.stats();
    let counted = ["expired_keys", "expired_collected"].iter().find_map(|name| stats.get(name));
    counted.unwrap_or_else(|| cx.shared.store.told_expired())
}

fn stats(cx: &Context<'_>, out: &mut String) {
    let sum = |counter: fn(&WorkerStats) -> &Counter| -> u64 {
        cx.shared.stats.iter().map(|stats| counter(stats).get()).sum()
    };
    let fields: &Fields<'_> = &[
        ("total_connections_received", &sum(|it| &it.connections)),
        ("total_commands_processed", &sum(|it| &it.commands)),
        ("instantaneous_ops_per_sec", &sum(|it| &it.commands_per_second)),
        ("total_net_input_bytes", &sum(|it| &it.input_bytes)),
        ("total_net_output_bytes", &sum(|it| &it.output_bytes)),
        ("rejected_connections", &sum(|it| &it.rejected_connections)),
        ("client_output_buffer_limit_disconnections", &sum(|it| &it.output_disconnections)),
        ("expired_keys", &expired_keys(cx)),
        ("evicted_keys", &cx.shared.data_limit.evicted()),
        ("keyspace_hits", &sum(|it| &it.keyspace_hits)),
        ("keyspace_misses", &sum(|it| &it.keyspace_misses)),
        ("total_error_replies", &sum(|it| &it.errors)),
    ];
    title(out, "Stats", fields);
}

fn replication(cx: &Context<'_>, out: &mut String) {
    let fields: &Fields<'_> = &[
        ("role", &"master"),
        ("connected_slaves", &0),
        ("master_failover_state", &"no-failover"),
        ("master_replid", &cx.shared.run_id),
        ("master_repl_offset", &0),
        ("repl_backlog_active", &0),
    ];
    title(out, "Replication", fields);
}

/// Ticks per second of the times in `/proc`: part of Linux' interface.
const TICKS_PER_SECOND: f64 = 100.0;

fn cpu(out: &mut String) {
    title(out, "CPU", &[]);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold anything; after it fields 3, 4, ... follow.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let columns = [
        ("used_cpu_sys", 12),
        ("used_cpu_user", 11),
        ("used_cpu_sys_children", 14),
        ("used_cpu_user_children", 13),
    ];
    for (name, column) in columns {
        if let Some(ticks) = fields.get(column).and_then(|field| field.parse::<f64>().ok()) {
            let _ = write!(out, "{name}:{:.6}\r\n", ticks / TICKS_PER_SECOND);
        }
    }
}

fn engine(cx: &Context<'_>, out: &mut String) {
    let engine = &cx.shared.engine;
    let name = engine.capabilities().engine;
    title(
        out,
        "Engine",
        &[("engine", &name), ("engine_url", &cx.shared.settings.engine.to_text())],
    );
    for stat in engine.stats().iter() {
        let _ = write!(out, "engine_{}:{}\r\n", stat.name, stat.value);
    }
}

async fn keyspace(cx: &Context<'_>, out: &mut String) -> Outcome {
    title(out, "Keyspace", &[]);
    for id in 0..cx.shared.store.databases() {
        let len = cx.shared.engine.keyspace_len(KeyspaceId(id)).await?;
        if len.entries > 0 {
            let _ = write!(out, "db{id}:keys={}\r\n", len.entries);
        }
    }
    Ok(())
}
