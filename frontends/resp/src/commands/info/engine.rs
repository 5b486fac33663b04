//! The engine and its data: persistence, replication, keyspace.

use ferrokit_engine::KeyspaceId;
use ferrokit_redis::expiry::ExpiryFigures;

use super::super::{Context, Outcome};
use super::Text;
use crate::saves::Purpose;

pub(super) fn persistence(cx: &Context<'_>, out: &mut Text) {
    let (shared, saves) = (cx.shared, &cx.shared.saves);
    let running = saves.running();
    out.section("Persistence");
    out.field("loading", u8::from(shared.is_loading()));
    out.field("async_loading", 0);
    if shared.is_loading() {
        // How far it is, an engine does not tell.
        out.field("loading_start_time", shared.loading_since);
    }
    out.field("rdb_changes_since_last_save", saves.unsaved(shared.changes()));
    out.field("rdb_bgsave_in_progress", u8::from(running == Some(Purpose::Save)));
    out.field("rdb_last_save_time", saves.last_at());
    out.field("rdb_last_bgsave_status", if saves.has_failed() { "err" } else { "ok" });
    out.field("aof_enabled", u8::from(shared.is_durable()));
    out.field("aof_rewrite_in_progress", u8::from(running == Some(Purpose::Rewrite)));
    out.field("aof_rewrite_scheduled", 0);
    let is_failing = shared.is_sync_failing() || shared.space.is_lacking();
    out.field("aof_last_write_status", if is_failing { "err" } else { "ok" });
    out.field("appendfsync", shared.settings.appendfsync.name());
}

pub(super) fn replication(cx: &Context<'_>, out: &mut Text) {
    out.section("Replication");
    out.field("role", "master");
    out.field("connected_slaves", 0);
    out.field("master_failover_state", "no-failover");
    out.field("master_replid", cx.shared.replication_id());
    out.field("master_replid2", "0".repeat(40));
    out.field("master_repl_offset", 0);
    out.field("second_repl_offset", -1);
    out.field("repl_backlog_active", 0);
    out.field("repl_backlog_size", 0);
    out.field("repl_backlog_first_byte_offset", 0);
    out.field("repl_backlog_histlen", 0);
}

pub(super) fn engine(cx: &Context<'_>, out: &mut Text) {
    let engine = &cx.shared.engine;
    out.section("Engine");
    if !cx.shared.is_loading() {
        out.field("engine", engine.capabilities().engine);
    }
    out.field("engine_url", cx.shared.settings.engine_url());
    if cx.shared.is_loading() {
        return;
    }
    for stat in engine.stats().iter() {
        out.field(&format!("engine_{}", stat.name), stat.value);
    }
}

pub(super) async fn keyspace(cx: &mut Context<'_>, out: &mut Text) -> Outcome {
    out.section("Keyspace");
    for id in 0..cx.shared.store.databases() {
        let len = cx.db.at(KeyspaceId(id)).len().await?;
        if len.entries > 0 {
            let ExpiryFigures { keys, mean_ttl_ms } =
                cx.shared.store.expiry_figures(KeyspaceId(id));
            out.field(
                &format!("db{id}"),
                format_args!("keys={},expires={keys},avg_ttl={mean_ttl_ms}", len.entries),
            );
        }
    }
    Ok(())
}
