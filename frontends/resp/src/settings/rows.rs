//! The parameters: one row each. Flags, environment, files, CONFIG and the manual read this table.

use ferrokit_redis::EvictionPolicy;

use super::cell::{Choice, Constant, Memory, MemoryOrPercent, Number, Switch, Text};
use super::change::{self, Change};
use super::choices::{Access, Io, LogFormat, LogLevel, Supervised};
use super::list::{Bind, KeyEvents, List, Percentiles, SavePoints};
use super::{Row, Settings};
use crate::config::AppendFsync;
use crate::output_limits::OutputLimits;
use crate::shutdown::ShutdownFlags;

/// The most that an argument or a request may be made: places in a request are 32 bits.
const REQUEST_BYTES_MAX: u64 = (4 << 30) - 1;
const INT: i64 = i32::MAX as i64;
const EVER: i64 = i64::MAX;

/// Declares the cells and, from the same lines, the table.
macro_rules! settings {
    ($(
        #[doc = $doc:literal]
        $name:literal $(/ $alias:literal)* $change:expr, $field:ident: $kind:ty = $value:expr;
    )+) => {
        /// The value of each parameter.
        pub struct Values {
            $(#[doc = $doc] pub(crate) $field: $kind,)+
        }

        impl Default for Values {
            fn default() -> Self {
                Self { $($field: $value,)+ }
            }
        }

        /// All parameters, in the order of the manual.
        pub(crate) static ROWS: &[Row] = &[$(Row {
            name: $name,
            aliases: &[$($alias,)*],
            doc: $doc.trim_ascii(),
            change: $change,
            cell: |settings: &Settings| &settings.values.$field,
        },)+];
    };
}

settings! {
    /// The TCP port; 0 takes a free one.
    "port" Change::Applied(change::port), port: Number = Number::new(6379, 0, 65535);
    /// Addresses to listen on; * and ::* are all, a minus in front allows that there is no such one.
    "bind" Change::Applied(change::bind), bind: List<Bind> = List::new(Bind::local());
    /// Refuse connections from other machines while no password is set.
    "protected-mode" Change::AtOnce, protected_mode: Switch = Switch::new(true);
    /// The password of the default user; empty: none is asked for.
    "requirepass" Change::AtOnce, requirepass: Text = Text::new("", "PASSWORD");
    /// Connections that wait to be accepted, per worker.
    "tcp-backlog" Change::AtStart, tcp_backlog: Number = Number::new(511, 0, INT);
    /// Seconds after which the system probes a silent connection; 0: never.
    "tcp-keepalive" Change::AtOnce, tcp_keepalive: Number = Number::new(300, 0, INT);
    /// Seconds after which a silent client is disconnected; 0: never.
    "timeout" Change::AtOnce, timeout: Number = Number::new(0, 0, INT);
    /// Connections at a time; one more is told so and closed.
    "maxclients" Change::Applied(change::max_clients), maxclients: Number =
        Number::new(10_000, 1, u32::MAX as i64);
    /// The longest argument.
    "proto-max-bulk-len" Change::Applied(change::string_limit), proto_max_bulk_len: Memory =
        Memory::new(512 << 20, 1 << 20, REQUEST_BYTES_MAX);
    /// The longest request.
    "client-query-buffer-limit" Change::AtOnce, client_query_buffer_limit: Memory =
        Memory::new(1 << 30, 1 << 20, REQUEST_BYTES_MAX);

    /// How much output may wait: class, hard limit, soft limit, seconds above the soft one; 0: none.
    "client-output-buffer-limit" Change::AtOnce, client_output_buffer_limit: OutputLimits =
        OutputLimits::default();

    /// The engine, as a URL; --engines lists them.
    "engine" Change::AtStart, engine: Text = Text::utf8("hybridlog:./ferrokit-data", "URL");
    /// How files are reached.
    "io" Change::AtStart, io: Choice<Io> = Choice::new(0);
    /// Worker threads; 0: one per core.
    "io-threads" / "workers" Change::AtStart, io_threads: Number = Number::new(0, 0, 1024);
    /// Databases.
    "databases" Change::AtStart, databases: Number = Number::new(16, 1, 16);
    /// Log writes, so that they survive: yes: as appendfsync says; no: they may be lost with the process.
    "appendonly" Change::Applied(change::durability), appendonly: Switch = Switch::new(true);
    /// When a logged write is on the device: before its reply, within a second, or when the system likes.
    "appendfsync" Change::Applied(change::durability), appendfsync: Choice<AppendFsync> =
        Choice::new(0);
    /// When a checkpoint is taken: after so many seconds, if so many keys changed; several pairs.
    "save" Change::AtOnce, save: List<SavePoints> = List::new(SavePoints(Vec::new()));
    /// The working directory: where relative paths begin, and checkpoints go.
    "dir" Change::Applied(change::directory), dir: Text = Text::utf8(".", "DIRECTORY");
    /// The name of the checkpoint, a directory in dir.
    "dbfilename" Change::AtOnce, dbfilename: Text =
        Text::checked("checkpoint", "NAME", change::check_file_name);
    /// Refuse writes after a checkpoint that failed, if there is a time for them, until one succeeds.
    "stop-writes-on-bgsave-error" Change::AtOnce, stop_writes_on_bgsave_error: Switch =
        Switch::new(true);
    /// What is done at SIGTERM: by default, a checkpoint if there is a time for them.
    "shutdown-on-sigterm" Change::AtOnce, shutdown_on_sigterm: List<ShutdownFlags> =
        List::new(ShutdownFlags::default());
    /// What is done at SIGINT.
    "shutdown-on-sigint" Change::AtOnce, shutdown_on_sigint: List<ShutdownFlags> =
        List::new(ShutdownFlags::default());
    /// Seconds connections get to end when the server stops.
    "shutdown-timeout" Change::AtOnce, shutdown_timeout: Number = Number::new(10, 0, INT);

    /// The most that data may take in memory; 0: no limit.
    "maxmemory" Change::Applied(change::data_limit), maxmemory: Memory = Memory::new(0, 0, u64::MAX);
    /// What is evicted at maxmemory.
    "maxmemory-policy" Change::Applied(change::data_limit), maxmemory_policy: Choice<EvictionPolicy> = Choice::new(7);
    /// The most that all clients together may have the server hold, or a percentage of maxmemory; 0: no limit.
    "maxmemory-clients" Change::Applied(change::client_limit), maxmemory_clients: MemoryOrPercent =
        MemoryOrPercent::default();
    /// Keys looked at to find one to evict.
    "maxmemory-samples" Change::AtOnce, maxmemory_samples: Number = Number::new(5, 1, INT);
    /// How long a command may evict: 0 hardly, 100 until the data is within maxmemory.
    "maxmemory-eviction-tenacity" Change::AtOnce, maxmemory_eviction_tenacity: Number =
        Number::new(10, 0, 100);
    /// How slowly the access counters of the LFU policies grow.
    "lfu-log-factor" Change::Applied(change::data_limit), lfu_log_factor: Number = Number::new(10, 0, INT);
    /// Minutes after which the access counters of the LFU policies are halved.
    "lfu-decay-time" Change::Applied(change::data_limit), lfu_decay_time: Number = Number::new(1, 0, INT);
    /// The largest sparse HyperLogLog.
    "hll-sparse-max-bytes" Change::Applied(change::sketch_limit), hll_sparse_max_bytes: Memory =
        Memory::new(3000, 0, EVER as u64);

    /// The events of keys that are published.
    "notify-keyspace-events" Change::Applied(change::key_events), notify_keyspace_events: List<KeyEvents> =
        List::new(KeyEvents(0));
    /// Keys remembered for clients that track them; 0: no limit.
    "tracking-table-max-keys" Change::Applied(change::tracking_limit), tracking_table_max_keys: Number =
        Number::new(1_000_000, 0, EVER);
    /// Microseconds from which on a command is kept in the slow log; 0: all, -1: none.
    "slowlog-log-slower-than" Change::AtOnce, slowlog_log_slower_than: Number =
        Number::new(10_000, -1, EVER);
    /// Commands the slow log keeps.
    "slowlog-max-len" Change::AtOnce, slowlog_max_len: Number = Number::new(128, 0, EVER);
    /// Milliseconds from which on an event is kept by the latency monitor; 0: none.
    "latency-monitor-threshold" Change::AtOnce, latency_monitor_threshold: Number =
        Number::new(0, 0, EVER);
    /// Keep a histogram of the latencies of each command.
    "latency-tracking" Change::AtOnce, latency_tracking: Switch = Switch::new(true);
    /// The percentiles INFO shows of them.
    "latency-tracking-info-percentiles" Change::AtOnce, latency_percentiles: List<Percentiles> =
        List::new(Percentiles(vec![50.0, 99.0, 99.9]));

    /// Where /metrics and /health are served over HTTP, as address:port; empty: nowhere.
    "metrics-addr" Change::AtStart, metrics_addr: Text =
        Text::checked("", "ADDR:PORT", change::check_socket_address);
    /// Whether systemd is told of readiness: where it asks for it, always, or never.
    "supervised" Change::AtStart, supervised: Choice<Supervised> = Choice::new(0);
    /// The file that holds the number of the process while it serves; empty: none.
    "pidfile" Change::AtStart, pidfile: Text = Text::utf8("", "FILE");

    /// What is logged.
    "loglevel" Change::Applied(change::log_level), loglevel: Choice<LogLevel> = Choice::new(2);
    /// The file of the log, opened again at SIGHUP; empty: standard error.
    "logfile" Change::AtStart, logfile: Text = Text::utf8("", "FILE");
    /// Whether the log is for people or for programs.
    "log-format" Change::AtStart, log_format: Choice<LogFormat> = Choice::new(0);
    /// Whether DEBUG may be used: never, always, or from this machine.
    "enable-debug-command" Change::AtStart, enable_debug_command: Choice<Access> = Choice::new(0);
    /// Whether CONFIG SET may change parameters that name files: never, always, or from this machine.
    "enable-protected-configs" Change::AtStart, enable_protected_configs: Choice<Access> =
        Choice::new(0);

    /// The server stays in the foreground.
    "daemonize" Change::AtStart, daemonize: Constant = Constant("no");
    /// There is no cluster.
    "cluster-enabled" Change::AtStart, cluster_enabled: Constant = Constant("no");
    /// The server is no replica.
    "replicaof" / "slaveof" Change::AtStart, replicaof: Constant = Constant("");
    /// The log goes to a file or to standard error.
    "syslog-enabled" Change::AtStart, syslog_enabled: Constant = Constant("no");
}
