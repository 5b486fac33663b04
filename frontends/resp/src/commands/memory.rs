//! MEMORY: what the server and its keys take.

use std::fmt::Write;

use ferrokit_engine::KeyspaceId;

use super::table::{CommandInfo, Keys, flag};
use super::{Context, Handler, Outcome, Refusal, help};
use crate::observe::ProcessMemory;

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "memory",
    arity: -2,
    since: "4.0.0",
    complexity: "Depends on subcommand.",
    summary: "A container for memory diagnostics commands.",
    subcommands: &[
        CommandInfo {
            name: "memory|doctor",
            arity: 2,
            tips: &[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ],
            since: "4.0.0",
            summary: "Outputs a memory problems report.",
            handler: Handler::MemoryDoctor,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "memory|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            since: "4.0.0",
            summary: "Returns helpful text about the different subcommands.",
            handler: Handler::MemoryHelp,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "memory|malloc-stats",
            arity: 2,
            tips: &[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ],
            since: "4.0.0",
            complexity: "Depends on how much memory is allocated, could be slow",
            summary: "Returns the allocator statistics.",
            handler: Handler::MemoryMallocStats,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "memory|purge",
            arity: 2,
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            since: "4.0.0",
            complexity: "Depends on how much memory is allocated, could be slow",
            summary: "Asks the allocator to release memory.",
            handler: Handler::MemoryPurge,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "memory|stats",
            arity: 2,
            tips: &[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ],
            since: "4.0.0",
            summary: "Returns details about memory usage.",
            handler: Handler::MemoryStats,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "memory|usage",
            arity: -3,
            flags: flag::READONLY,
            keys: Keys { first: 2, last: 2, ..Keys::one(&["RO"]) },
            since: "4.0.0",
            complexity: "O(N) where N is the number of samples.",
            summary: "Estimates the memory usage of a key.",
            handler: Handler::MemoryUsage,
            ..CommandInfo::DEFAULT
        },
    ],
    handler: Handler::Container,
    ..CommandInfo::DEFAULT
}];

/// What an entry takes beside its key and value: an estimate, engines differ.
const ENTRY_BYTES: usize = 64;

/// MEMORY USAGE key [SAMPLES count].
pub(super) async fn usage(cx: &mut Context<'_>) -> Outcome {
    match cx.args.len() {
        3 => {}
        5 if cx.args.at(3).eq_ignore_ascii_case(b"samples") => {
            if cx.integer(4)? < 0 {
                return Err(Refusal::SYNTAX);
            }
        }
        _ => return Err(Refusal::SYNTAX),
    }
    let key = cx.args.at(2);
    match cx.db.key_info(key).await? {
        Some(info) => cx.reply.count(ENTRY_BYTES + key.len() + info.value_bytes),
        None => cx.reply.null(),
    }
    Ok(())
}

async fn count_keys(cx: &mut Context<'_>) -> Result<u64, Refusal> {
    let mut keys = 0;
    for number in 0..cx.shared.store.databases() {
        keys += cx.db.at(KeyspaceId(number)).len().await?.entries;
    }
    Ok(keys)
}

/// The figures of Redis that mean something here.
pub(super) async fn stats(cx: &mut Context<'_>) -> Outcome {
    let (memory, keys) = (ProcessMemory::now(), count_keys(cx).await?);
    let figures = [
        ("peak.allocated", memory.peak_bytes),
        ("total.allocated", memory.resident_bytes),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", cx.shared.clients.memory_bytes() as u64),
        ("cluster.links", 0),
        ("lua.caches", 0),
        ("functions.caches", 0),
        ("keys.count", keys),
        ("keys.bytes-per-key", memory.resident_bytes.checked_div(keys).unwrap_or(0)),
    ];
    cx.reply.map(figures.len());
    for (name, value) in figures {
        cx.reply.bulk(name.as_bytes());
        cx.reply.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }
    Ok(())
}

/// In words: what the process takes, and what of it has a bound.
pub(super) fn doctor(cx: &mut Context<'_>) -> Outcome {
    let (memory, maxmemory) = (ProcessMemory::now(), cx.shared.settings.maxmemory.get());
    let mut report = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        report,
        "The process takes {} MiB now and took {} MiB at most.",
        memory.resident_bytes >> 20,
        memory.peak_bytes >> 20
    );
    match maxmemory {
        0 => report.push_str("Data has no limit: maxmemory is 0.\n"),
        limit => {
            let _ = writeln!(report, "Data may take {} MiB: maxmemory.", limit >> 20);
        }
    }
    cx.reply.verbatim(&report);
    Ok(())
}

pub(super) fn malloc_stats(cx: &mut Context<'_>) -> Outcome {
    cx.reply.bulk(b"Stats not supported for the current allocator");
    Ok(())
}

/// The system's allocator keeps nothing that could be asked back.
pub(super) fn purge(cx: &mut Context<'_>) -> Outcome {
    cx.reply.ok();
    Ok(())
}

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return memory problems reports.",
    "MALLOC-STATS",
    "    Return internal statistics report from the memory allocator.",
    "PURGE",
    "    Attempt to purge dirty pages for reclamation by the allocator.",
    "STATS",
    "    Return information about the memory usage of the server.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
];

pub(super) fn show_help(cx: &mut Context<'_>) -> Outcome {
    help::write(cx.reply, "MEMORY", HELP);
    Ok(())
}
