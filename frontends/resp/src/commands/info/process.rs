//! The process: server, clients, memory, processor.

use super::super::Context;
use super::super::connection::REDIS_VERSION;
use super::{Text, human};
use crate::client::flag;
use crate::observe::{ProcessMemory, ProcessTime, system_memory_bytes};

pub(super) fn server(cx: &Context<'_>, out: &mut Text) {
    let (shared, uptime) = (cx.shared, cx.shared.uptime());
    let executable = std::env::current_exe().unwrap_or_default();
    out.section("Server");
    out.field("redis_version", REDIS_VERSION);
    out.field("redis_git_sha1", "00000000");
    out.field("redis_git_dirty", 0);
    out.field("redis_mode", "standalone");
    out.field("ferrokit_version", env!("CARGO_PKG_VERSION"));
    out.field("os", format_args!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    out.field("arch_bits", usize::BITS);
    out.field("multiplexing_api", "epoll");
    out.field("io_backend", shared.host.fs.backend());
    out.field("worker_threads", shared.stats.len());
    out.field("process_id", std::process::id());
    out.field("run_id", &shared.run_id);
    out.field("tcp_port", shared.settings.port.get());
    out.field("server_time_usec", u128::from(shared.host.env.clock.now().0) * 1000);
    out.field("uptime_in_seconds", uptime);
    out.field("uptime_in_days", uptime / 86_400);
    out.field("executable", executable.display());
}

pub(super) fn clients(cx: &Context<'_>, out: &mut Text) {
    let clients = &cx.shared.clients;
    out.section("Clients");
    out.field("connected_clients", clients.count());
    out.field("cluster_connections", 0);
    out.field("maxclients", clients.limit());
    out.field("blocked_clients", clients.count_with(flag::BLOCKED));
    out.field("tracking_clients", cx.shared.tracking.clients());
    // No command waits for a key with a time limit.
    out.field("clients_in_timeout_table", 0);
    out.field("total_blocking_keys", 0);
    out.field("total_blocking_keys_on_nokey", 0);
}

pub(super) fn memory(cx: &Context<'_>, out: &mut Text) {
    let (memory, settings) = (ProcessMemory::now(), &cx.shared.settings);
    out.section("Memory");
    out.bytes("used_memory", cx.shared.data_bytes());
    out.bytes("used_memory_rss", memory.resident_bytes);
    out.bytes("used_memory_peak", memory.peak_bytes);
    out.bytes("total_system_memory", system_memory_bytes());
    for field in ["used_memory_lua", "used_memory_vm_eval", "used_memory_vm_functions"] {
        out.field(field, 0);
    }
    for field in ["number_of_cached_scripts", "number_of_functions", "number_of_libraries"] {
        out.field(field, 0);
    }
    out.field("maxmemory", settings.maxmemory.get());
    out.field("maxmemory_human", human(settings.maxmemory.get()));
    out.field("maxmemory_policy", settings.maxmemory_policy.name());
    out.field("mem_not_counted_for_evict", 0);
    out.field("mem_replication_backlog", 0);
    out.field("mem_clients_slaves", 0);
    out.field("mem_clients_normal", cx.shared.clients.memory_bytes());
    out.field("mem_cluster_links", 0);
    out.field("mem_allocator", "libc");
    // Databases are emptied in constant time and keys freed where they are removed.
    out.field("active_defrag_running", 0);
    out.field("lazyfree_pending_objects", 0);
}

pub(super) fn cpu(out: &mut Text) {
    let time = ProcessTime::now();
    out.section("CPU");
    for (name, secs) in [
        ("used_cpu_sys", time.system_secs),
        ("used_cpu_user", time.user_secs),
        ("used_cpu_sys_children", time.children_system_secs),
        ("used_cpu_user_children", time.children_user_secs),
    ] {
        out.field(name, format_args!("{secs:.6}"));
    }
}
