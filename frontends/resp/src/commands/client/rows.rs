//! The rows of CLIENT.

use super::super::Handler;
use super::super::table::{CommandInfo, category, flag};

const SUBCOMMAND: CommandInfo = CommandInfo {
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE,
    categories: category::CONNECTION,
    group: "connection",
    ..CommandInfo::DEFAULT
};

const ADMIN: u32 = flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE;

pub(in crate::commands) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "client",
    arity: -2,
    group: "connection",
    since: "2.4.0",
    complexity: "Depends on subcommand.",
    summary: "A container for client connection commands.",
    subcommands: SUBCOMMANDS,
    handler: Handler::Container,
    ..CommandInfo::DEFAULT
}];

const SUBCOMMANDS: &[CommandInfo] = &[
    CommandInfo {
        name: "client|caching",
        arity: 3,
        since: "6.0.0",
        summary: "Instructs the server whether to track the keys in the next request.",
        handler: Handler::ClientCaching,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|getname",
        arity: 2,
        since: "2.6.9",
        summary: "Returns the name of the connection.",
        handler: Handler::ClientGetName,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|getredir",
        arity: 2,
        since: "6.0.0",
        summary: "Returns the client ID to which the connection's tracking notifications are redirected.",
        handler: Handler::ClientGetRedir,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|help",
        arity: 2,
        flags: flag::LOADING | flag::STALE,
        since: "5.0.0",
        summary: "Returns helpful text about the different subcommands.",
        handler: Handler::ClientHelp,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|id",
        arity: 2,
        since: "5.0.0",
        summary: "Returns the unique client ID of the connection.",
        handler: Handler::ClientId,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|info",
        arity: 2,
        tips: &["nondeterministic_output"],
        since: "6.2.0",
        summary: "Returns information about the connection.",
        handler: Handler::ClientInfo,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|kill",
        arity: -3,
        flags: ADMIN,
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Terminates open connections.",
        handler: Handler::ClientKill,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|list",
        arity: -2,
        flags: ADMIN,
        tips: &["nondeterministic_output"],
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Lists open connections.",
        handler: Handler::ClientList,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|no-evict",
        arity: 3,
        flags: ADMIN,
        since: "7.0.0",
        summary: "Sets the client eviction mode of the connection.",
        handler: Handler::ClientNoEvict,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|no-touch",
        arity: 3,
        since: "7.2.0",
        summary: "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.",
        handler: Handler::ClientNoTouch,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|pause",
        arity: -3,
        flags: ADMIN,
        since: "3.0.0",
        summary: "Suspends commands processing.",
        handler: Handler::ClientPause,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|reply",
        arity: 3,
        since: "3.2.0",
        summary: "Instructs the server whether to reply to commands.",
        handler: Handler::ClientReply,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|setinfo",
        arity: 4,
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        since: "7.2.0",
        summary: "Sets information specific to the client or connection.",
        handler: Handler::ClientSetInfo,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|setname",
        arity: 3,
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        since: "2.6.9",
        summary: "Sets the connection name.",
        handler: Handler::ClientSetName,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|tracking",
        arity: -3,
        since: "6.0.0",
        complexity: "O(1). Some options may introduce additional complexity.",
        summary: "Controls server-assisted client-side caching for the connection.",
        handler: Handler::ClientTracking,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|trackinginfo",
        arity: 2,
        since: "6.2.0",
        summary: "Returns information about server-assisted client-side caching for the connection.",
        handler: Handler::ClientTrackingInfo,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|unblock",
        arity: -3,
        flags: ADMIN,
        since: "5.0.0",
        complexity: "O(log N) where N is the number of client connections",
        summary: "Unblocks a client blocked by a blocking command from a different connection.",
        handler: Handler::ClientUnblock,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|unpause",
        arity: 2,
        flags: ADMIN,
        since: "6.2.0",
        complexity: "O(N) Where N is the number of paused clients",
        summary: "Resumes processing commands from paused clients.",
        handler: Handler::ClientUnpause,
        ..SUBCOMMAND
    },
];
