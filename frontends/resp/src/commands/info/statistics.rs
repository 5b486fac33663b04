//! What was done: counters, commands, errors, latencies.

use std::collections::BTreeMap;

use super::super::metering::distribution;
use super::super::{Context, table};
use super::{Text, sum};
use crate::pubsub::Kind;

/// As the engine counts them, or as they were told of.
fn expired_keys(cx: &Context<'_>) -> u64 {
    let stats = cx.shared.engine.stats();
    let counted = ["expired_keys", "expired_collected"].iter().find_map(|name| stats.get(name));
    counted.unwrap_or_else(|| cx.shared.store.told_expired())
}

pub(super) fn stats(cx: &Context<'_>, out: &mut Text) {
    let per_second = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    let input = sum(cx, |it| &it.input_bytes_per_second);
    let output = sum(cx, |it| &it.output_bytes_per_second);
    let tracking = &cx.shared.tracking;
    let subscribed = |kind: Kind| cx.shared.pubsub.count(kind) as u64;
    out.section("Stats");
    for (name, value) in [
        ("total_connections_received", sum(cx, |it| &it.connections)),
        ("total_commands_processed", sum(cx, |it| &it.commands)),
        ("instantaneous_ops_per_sec", sum(cx, |it| &it.commands_per_second)),
        ("total_net_input_bytes", sum(cx, |it| &it.input_bytes)),
        ("total_net_output_bytes", sum(cx, |it| &it.output_bytes)),
        ("total_net_repl_input_bytes", 0),
        ("total_net_repl_output_bytes", 0),
    ] {
        out.field(name, value);
    }
    out.field("instantaneous_input_kbps", per_second(input));
    out.field("instantaneous_output_kbps", per_second(output));
    for (name, value) in [
        ("rejected_connections", sum(cx, |it| &it.rejected_connections)),
        ("sync_full", 0),
        ("sync_partial_ok", 0),
        ("sync_partial_err", 0),
        ("expired_keys", expired_keys(cx)),
        ("evicted_keys", cx.shared.data_limit.evicted()),
        ("evicted_clients", cx.shared.clients.memory.evicted()),
        ("keyspace_hits", sum(cx, |it| &it.keyspace_hits)),
        ("keyspace_misses", sum(cx, |it| &it.keyspace_misses)),
        ("pubsub_channels", subscribed(Kind::Channel)),
        ("pubsub_patterns", subscribed(Kind::Pattern)),
        ("pubsubshard_channels", subscribed(Kind::ShardChannel)),
        ("latest_fork_usec", 0),
        ("total_forks", 0),
        ("migrate_cached_sockets", 0),
        ("slave_expires_tracked_keys", 0),
        ("tracking_total_keys", tracking.keys() as u64),
        ("tracking_total_items", tracking.items() as u64),
        ("tracking_total_prefixes", tracking.prefixes() as u64),
        ("unexpected_error_replies", 0),
        ("total_error_replies", sum(cx, |it| &it.errors)),
        ("client_output_buffer_limit_disconnections", sum(cx, |it| &it.output_disconnections)),
    ] {
        out.field(name, value);
    }
}

pub(super) fn commands(cx: &Context<'_>, out: &mut Text) {
    out.section("Commandstats");
    for row in table::by_number() {
        let of_workers = || cx.shared.stats.iter().filter_map(|it| it.by_command.get(row.index()));
        let calls: u64 = of_workers().map(|it| it.calls.get()).sum();
        let nanos: u64 = of_workers().map(|it| it.nanos.get()).sum();
        let rejected: u64 = of_workers().map(|it| it.rejected.get()).sum();
        let failed: u64 = of_workers().map(|it| it.failed.get()).sum();
        if calls + rejected + failed == 0 {
            continue;
        }
        let micros = nanos / 1000;
        let per_call = if calls == 0 { 0.0 } else { micros as f64 / calls as f64 };
        out.field(
            &format!("cmdstat_{}", row.name),
            format_args!(
                "calls={calls},usec={micros},usec_per_call={per_call:.2},\
                 rejected_calls={rejected},failed_calls={failed}"
            ),
        );
    }
}

pub(super) fn errors(cx: &Context<'_>, out: &mut Text) {
    let mut by_code = BTreeMap::new();
    cx.shared.stats.iter().for_each(|stats| stats.add_errors_to(&mut by_code));
    out.section("Errorstats");
    for (code, count) in by_code {
        // A code comes from a client as a rule: it must stay on its line, and be one field.
        let code = code.replace(|c: char| matches!(c, ':' | '\r' | '\n') || !c.is_ascii(), "_");
        out.field(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

pub(super) fn latencies(cx: &Context<'_>, out: &mut Text) {
    out.section("Latencystats");
    if !cx.shared.settings.latency_tracking.get() {
        return;
    }
    let percentiles = cx.shared.settings.latency_percentiles.get();
    for row in table::by_number() {
        let distribution = distribution(cx.shared, row);
        if distribution.total() == 0 {
            continue;
        }
        let figures: Vec<String> = percentiles
            .0
            .iter()
            .map(|&percent| {
                let micros = distribution.percentile(percent) as f64 / 1000.0;
                format!("p{percent}={micros:.3}")
            })
            .collect();
        out.field(&format!("latency_percentiles_usec_{}", row.name), figures.join(","));
    }
}
