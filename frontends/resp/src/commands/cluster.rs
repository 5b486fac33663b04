//! CLUSTER and its kin, on a server that is not part of one.

use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal, help};

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "asking",
        flags: flag::FAST,
        categories: category::CONNECTION,
        group: "cluster",
        since: "3.0.0",
        summary: "Signals that a cluster client is following an -ASK redirect.",
        handler: Handler::ClusterOff,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "cluster",
        arity: -2,
        group: "cluster",
        since: "3.0.0",
        complexity: "Depends on subcommand.",
        summary: "A container for Redis Cluster commands.",
        subcommands: &[
            CommandInfo {
                name: "cluster|help",
                arity: 2,
                flags: flag::LOADING | flag::STALE,
                group: "cluster",
                since: "5.0.0",
                summary: "Returns helpful text about the different subcommands.",
                handler: Handler::ClusterHelp,
                ..CommandInfo::DEFAULT
            },
            CommandInfo {
                name: "cluster|info",
                arity: 2,
                flags: flag::STALE,
                tips: &["nondeterministic_output"],
                group: "cluster",
                since: "3.0.0",
                summary: "Returns information about the state of a node.",
                handler: Handler::ClusterOff,
                ..CommandInfo::DEFAULT
            },
            CommandInfo {
                name: "cluster|keyslot",
                arity: 3,
                flags: flag::STALE,
                group: "cluster",
                since: "3.0.0",
                complexity: "O(N) where N is the number of bytes in the key",
                summary: "Returns the hash slot for a key.",
                handler: Handler::ClusterOff,
                ..CommandInfo::DEFAULT
            },
            CommandInfo {
                name: "cluster|myid",
                arity: 2,
                flags: flag::STALE,
                group: "cluster",
                since: "3.0.0",
                summary: "Returns the ID of a node.",
                handler: Handler::ClusterOff,
                ..CommandInfo::DEFAULT
            },
            CommandInfo {
                name: "cluster|nodes",
                arity: 2,
                flags: flag::STALE,
                tips: &["nondeterministic_output"],
                group: "cluster",
                since: "3.0.0",
                complexity: "O(N) where N is the total number of Cluster nodes",
                summary: "Returns the cluster configuration for a node.",
                handler: Handler::ClusterOff,
                ..CommandInfo::DEFAULT
            },
            CommandInfo {
                name: "cluster|shards",
                arity: 2,
                flags: flag::LOADING | flag::STALE,
                tips: &["nondeterministic_output"],
                group: "cluster",
                since: "7.0.0",
                complexity: "O(N) where N is the total number of cluster nodes",
                summary: "Returns the mapping of cluster slots to shards.",
                handler: Handler::ClusterOff,
                ..CommandInfo::DEFAULT
            },
            CommandInfo {
                name: "cluster|slots",
                arity: 2,
                flags: flag::LOADING | flag::STALE,
                tips: &["nondeterministic_output"],
                group: "cluster",
                since: "3.0.0",
                complexity: "O(N) where N is the total number of Cluster nodes",
                summary: "Returns the mapping of cluster slots to nodes.",
                handler: Handler::ClusterOff,
                ..CommandInfo::DEFAULT
            },
        ],
        handler: Handler::Container,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "readonly",
        flags: flag::FAST | flag::LOADING | flag::STALE,
        categories: category::CONNECTION,
        group: "cluster",
        since: "3.0.0",
        summary: "Enables read-only queries for a connection to a Redis Cluster replica node.",
        handler: Handler::ClusterOff,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "readwrite",
        flags: flag::FAST | flag::LOADING | flag::STALE,
        categories: category::CONNECTION,
        group: "cluster",
        since: "3.0.0",
        summary: "Enables read-write queries for a connection to a Reids Cluster replica node.",
        handler: Handler::ClusterOff,
        ..CommandInfo::DEFAULT
    },
];

pub(super) fn off(_: &mut Context<'_>) -> Outcome {
    Err(Refusal::text("ERR This instance has cluster support disabled"))
}

const HELP: &[&str] = &[
    "INFO",
    "    Return information about the cluster.",
    "KEYSLOT <key>",
    "    Return the hash slot for <key>.",
    "MYID",
    "    Return the node id.",
    "NODES",
    "    Return cluster configuration seen by node.",
    "SLOTS",
    "    Return information about slots range mappings.",
    "SHARDS",
    "    Return information about slot range mappings and the nodes associated with them.",
];

pub(super) fn show_help(cx: &mut Context<'_>) -> Outcome {
    help::write(cx.reply, "CLUSTER", HELP);
    Ok(())
}
