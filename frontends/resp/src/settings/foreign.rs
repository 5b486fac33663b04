//! [`Foreign`]: parameters of Redis that cannot mean anything here.
//!
//! CONFIG SET refuses them with the reason, CONFIG GET does not list them. In a configuration file
//! or on the command line those that only tune what does not exist here are named in a warning; what
//! would change who may do what, or where data goes, stops the start unless it is turned off.

/// Parameters of Redis that have no meaning here.
pub(crate) struct Foreign {
    names: &'static [&'static str],
    /// Leaving it out of account harms nobody.
    pub(crate) is_harmless: bool,
    pub(crate) why: &'static str,
}

impl Foreign {
    /// Whether the words say that it is off.
    pub(crate) fn admits(&self, words: &[&[u8]]) -> bool {
        matches!(words, [b"" | b"no" | b"0" | b"default"])
    }
}

const TUNING: Foreign = Foreign { names: &[], is_harmless: true, why: "" };
const REFUSED: Foreign = Foreign { names: &[], is_harmless: false, why: "" };

/// The parameter of that name, in any case.
pub(crate) fn find(name: &[u8]) -> Option<&'static Foreign> {
    let is_it = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
    FOREIGN.iter().find(|foreign| foreign.names.iter().any(&is_it))
}

static FOREIGN: &[Foreign] = &[
    Foreign {
        names: &[
            "rdbcompression",
            "rdbchecksum",
            "rdb-del-sync-files",
            "rdb-save-incremental-fsync",
            "sanitize-dump-payload",
            "rdb-key-save-delay",
            "key-load-delay",
            "loading-process-events-interval-bytes",
        ],
        why: "there are no RDB files",
        ..TUNING
    },
    Foreign {
        names: &[
            "appendfilename",
            "appenddirname",
            "no-appendfsync-on-rewrite",
            "auto-aof-rewrite-percentage",
            "auto-aof-rewrite-min-size",
            "aof-load-truncated",
            "aof-use-rdb-preamble",
            "aof-timestamp-enabled",
            "aof-rewrite-incremental-fsync",
            "aof-disable-auto-gc",
        ],
        why: "the engine's log is the append-only file",
        ..TUNING
    },
    Foreign {
        names: &[
            "repl-backlog-size",
            "repl-backlog-ttl",
            "repl-disable-tcp-nodelay",
            "repl-diskless-load",
            "repl-diskless-sync",
            "repl-diskless-sync-delay",
            "repl-diskless-sync-max-replicas",
            "repl-diskless-sync-period",
            "repl-ping-replica-period",
            "repl-ping-slave-period",
            "repl-timeout",
            "replica-announced",
            "replica-announce-ip",
            "replica-announce-port",
            "slave-announce-ip",
            "slave-announce-port",
            "replica-ignore-disk-write-errors",
            "replica-ignore-maxmemory",
            "slave-ignore-maxmemory",
            "replica-lazy-flush",
            "slave-lazy-flush",
            "replica-priority",
            "slave-priority",
            "replica-read-only",
            "slave-read-only",
            "replica-serve-stale-data",
            "slave-serve-stale-data",
            "min-replicas-max-lag",
            "min-slaves-max-lag",
            "propagation-error-behavior",
        ],
        why: "there is no replication",
        ..TUNING
    },
    Foreign {
        names: &["masterauth", "masteruser", "min-replicas-to-write", "min-slaves-to-write"],
        why: "there is no replication",
        ..REFUSED
    },
    Foreign {
        names: &[
            "cluster-allow-pubsubshard-when-down",
            "cluster-allow-reads-when-down",
            "cluster-allow-replica-migration",
            "cluster-announce-bus-port",
            "cluster-announce-hostname",
            "cluster-announce-ip",
            "cluster-announce-port",
            "cluster-announce-tls-port",
            "cluster-config-file",
            "cluster-link-sendbuf-limit",
            "cluster-migration-barrier",
            "cluster-node-timeout",
            "cluster-port",
            "cluster-preferred-endpoint-type",
            "cluster-replica-no-failover",
            "cluster-slave-no-failover",
            "cluster-replica-validity-factor",
            "cluster-slave-validity-factor",
            "cluster-require-full-coverage",
        ],
        why: "there is no cluster",
        ..TUNING
    },
    Foreign {
        names: &[
            "tls-port",
            "tls-cert-file",
            "tls-key-file",
            "tls-key-file-pass",
            "tls-client-cert-file",
            "tls-client-key-file",
            "tls-client-key-file-pass",
            "tls-dh-params-file",
            "tls-ca-cert-file",
            "tls-ca-cert-dir",
            "tls-auth-clients",
            "tls-cluster",
            "tls-replication",
            "tls-protocols",
            "tls-ciphers",
            "tls-ciphersuites",
            "tls-prefer-server-ciphers",
            "tls-session-caching",
            "tls-session-cache-size",
            "tls-session-cache-timeout",
        ],
        why: "there is no TLS; put a TLS proxy in front",
        ..REFUSED
    },
    Foreign {
        names: &["aclfile", "user", "acl-pubsub-default"],
        why: "there is one user, default, with one password (requirepass)",
        ..REFUSED
    },
    Foreign { names: &["acllog-max-len"], why: "there are no access lists", ..TUNING },
    Foreign {
        names: &["unixsocket", "unixsocketperm"],
        why: "there are no Unix sockets; clients connect to bind and port",
        ..REFUSED
    },
    Foreign { names: &["rename-command"], why: "commands keep their names", ..REFUSED },
    Foreign {
        names: &["loadmodule", "enable-module-command"],
        why: "there are no modules",
        ..REFUSED
    },
    Foreign {
        names: &["lua-time-limit", "busy-reply-threshold", "lua-enable-deprecated-api"],
        why: "there are no scripts",
        ..TUNING
    },
    Foreign {
        names: &[
            "activerehashing",
            "activedefrag",
            "active-defrag-cycle-max",
            "active-defrag-cycle-min",
            "active-defrag-ignore-bytes",
            "active-defrag-max-scan-fields",
            "active-defrag-threshold-lower",
            "active-defrag-threshold-upper",
            "jemalloc-bg-thread",
            "disable-thp",
        ],
        why: "memory is the engine's; see the options of its URL",
        ..TUNING
    },
    Foreign {
        names: &[
            "hash-max-listpack-entries",
            "hash-max-ziplist-entries",
            "hash-max-listpack-value",
            "hash-max-ziplist-value",
            "list-compress-depth",
            "list-max-listpack-size",
            "list-max-ziplist-size",
            "set-max-intset-entries",
            "set-max-listpack-entries",
            "set-max-listpack-value",
            "zset-max-listpack-entries",
            "zset-max-ziplist-entries",
            "zset-max-listpack-value",
            "zset-max-ziplist-value",
            "stream-node-max-bytes",
            "stream-node-max-entries",
        ],
        why: "there are no collection types yet",
        ..TUNING
    },
    Foreign {
        names: &["hz", "dynamic-hz", "io-threads-do-reads"],
        why: "work is scheduled by events, not by a timer",
        ..TUNING
    },
    Foreign {
        names: &[
            "lazyfree-lazy-eviction",
            "lazyfree-lazy-expire",
            "lazyfree-lazy-server-del",
            "lazyfree-lazy-user-del",
            "lazyfree-lazy-user-flush",
        ],
        why: "deleting never waits for memory to be freed",
        ..TUNING
    },
    Foreign {
        names: &[
            "server_cpulist",
            "bio_cpulist",
            "aof_rewrite_cpulist",
            "bgsave_cpulist",
            "server-cpulist",
            "bio-cpulist",
            "aof-rewrite-cpulist",
            "bgsave-cpulist",
            "oom-score-adj",
            "oom-score-adj-values",
        ],
        why: "set it in the service's unit",
        ..TUNING
    },
    Foreign {
        names: &[
            "always-show-logo",
            "set-proc-title",
            "proc-title-template",
            "locale-collate",
            "ignore-warnings",
            "crash-log-enabled",
            "crash-memcheck-enabled",
            "syslog-ident",
            "syslog-facility",
            "socket-mark-id",
            "bind-source-addr",
        ],
        why: "there is nothing it would act on",
        ..TUNING
    },
];
