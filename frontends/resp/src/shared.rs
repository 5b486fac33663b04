//! [`Shared`]: what all workers share.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferrokit_engine::{Durability, Error, KvEngine, Result, UnixMillis};
use ferrokit_redis::Store;
use ferrokit_storage::Host;
use tokio::sync::Notify;

use crate::client::{Client, flag};
use crate::clients::Clients;
use crate::commands;
use crate::config::{AppendFsync, Config, Limits};
use crate::data_limit::DataLimit;
use crate::key_events::KeyEvents;
use crate::late::Late;
use crate::listening::Listening;
use crate::logs::Logs;
use crate::monitor::Monitors;
use crate::observe::{LatencyMonitor, SlowLog};
use crate::opening;
use crate::pause::{Pause, Paused};
use crate::pubsub::PubSub;
use crate::resp::ParseLimits;
use crate::saves::{self, Saves};
use crate::scan_cursors::ScanCursors;
use crate::settings::Settings;
use crate::shutdown::Shutdowns;
use crate::space::Space;
use crate::stats::WorkerStats;
use crate::tracking::Tracking;

/// What makes commands more than themselves, for all clients.
pub(crate) mod special {
    /// There are monitors.
    pub(crate) const MONITORED: u32 = 1;
    /// Clients are paused.
    pub(crate) const PAUSED: u32 = 1 << 1;
    /// The engine is not open yet.
    pub(crate) const LOADING: u32 = 1 << 2;
}

/// The state of a server.
pub(crate) struct Shared {
    pub(crate) store: Late<Store>,
    pub(crate) engine: Late<Arc<dyn KvEngine>>,
    pub(crate) data_limit: DataLimit,
    pub(crate) host: Host,
    pub(crate) settings: Arc<Settings>,
    pub(crate) logs: Logs,
    pub(crate) listening: Listening,
    pub(crate) saves: Late<Arc<Saves>>,
    pub(crate) shutdowns: Shutdowns,
    pub(crate) limits: Limits,
    pub(crate) clients: Arc<Clients>,
    pub(crate) pubsub: Arc<PubSub>,
    pub(crate) tracking: Arc<Tracking>,
    key_events: Arc<KeyEvents>,
    pub(crate) pause: Pause,
    pub(crate) monitors: Monitors,
    /// What concerns the commands of all clients: bits of [`special`].
    special: AtomicU32,
    pub(crate) cursors: ScanCursors,
    pub(crate) stats: Box<[WorkerStats]>,
    pub(crate) slow_log: SlowLog,
    pub(crate) latency: LatencyMonitor,
    /// The expiry cycle runs; DEBUG SET-ACTIVE-EXPIRE stops it.
    pub(crate) expires_actively: AtomicBool,
    /// Nothing but the sync of `appendfsync everysec` is done by the clock: DEBUG PAUSE-CRON.
    pub(crate) pauses_jobs: AtomicBool,
    /// 40 hexadecimal digits, new at each start.
    pub(crate) run_id: String,
    replication_id: Mutex<String>,
    /// Seconds since the start, as of the last tick.
    pub(crate) uptime_secs: AtomicU64,
    /// Told once to whoever waits for the server to be asked to stop.
    pub(crate) shutdown_requested: Notify,
    /// Told once to each worker.
    pub(crate) stops: Box<[Notify]>,
    /// The last sync of `appendfsync everysec` failed.
    is_sync_failing: AtomicBool,
    pub(crate) space: Space,
    /// When the server began to open the engine, in seconds of Unix time.
    pub(crate) loading_since: u64,
    /// The workers have ended; the engine goes, too.
    pub(crate) is_stopped: AtomicBool,
    pub(crate) is_closed: AtomicBool,
}

impl Shared {
    /// What there is before the engine is open.
    ///
    /// # Errors
    /// Those of the opening of what stands in its place.
    pub(crate) fn new(host: &Host, config: &Config, listening: Listening) -> Result<Self> {
        let engine = ferrokit_engines::open(host, opening::IN_ITS_PLACE)?;
        let workers = listening.workers();
        let random = || host.env.random.next_u64();
        let settings = Arc::clone(&config.settings);
        let databases = u32::try_from(settings.databases.get()).unwrap_or(1);
        let bound = config.limits.output_hard_bytes;
        let clients = Arc::new(Clients::new(workers, Arc::clone(&settings), bound));
        let pubsub = Arc::new(PubSub::new(config.limits.subscription_bytes));
        let tracking = Arc::new(Tracking::new(Arc::clone(&clients), Arc::clone(&settings)));
        let key_events = Arc::new(KeyEvents::new(Arc::clone(&pubsub), Arc::clone(&tracking)));
        let store = Store::new(Arc::clone(&engine), &host.env).limited_to(databases);
        Ok(Self {
            store: Late::new(store),
            listening,
            saves: Late::new(Arc::new(Saves::new(Arc::clone(&engine), None, host))),
            shutdowns: Shutdowns::default(),
            engine: Late::new(engine),
            data_limit: DataLimit::default(),
            host: host.clone(),
            settings: Arc::clone(&settings),
            logs: config.logs.clone(),
            limits: config.limits,
            clients,
            pubsub,
            tracking,
            key_events,
            pause: Pause::default(),
            monitors: Monitors::default(),
            special: AtomicU32::new(special::LOADING),
            cursors: ScanCursors::new(random() as u32),
            stats: (0..workers).map(|_| WorkerStats::new(commands::by_number().len())).collect(),
            slow_log: SlowLog::default(),
            latency: LatencyMonitor::default(),
            expires_actively: AtomicBool::new(true),
            pauses_jobs: AtomicBool::new(false),
            run_id: random_id(host),
            replication_id: Mutex::new(random_id(host)),
            uptime_secs: AtomicU64::new(0),
            shutdown_requested: Notify::new(),
            stops: (0..workers).map(|_| Notify::new()).collect(),
            is_sync_failing: AtomicBool::new(false),
            space: Space::default(),
            loading_since: host.env.clock.now().0 / 1000,
            is_stopped: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        })
    }

    /// What concerns the commands of all clients now, beyond running them: bits of [`special`].
    #[inline]
    pub(crate) fn special(&self) -> u32 {
        self.special.load(Ordering::Relaxed)
    }

    pub(crate) fn set_special(&self, bit: u32, is_set: bool) {
        if is_set {
            self.special.fetch_or(bit, Ordering::SeqCst);
        } else {
            self.special.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// Has the store tell what happens to keys; once.
    pub(crate) fn observe(&self) {
        // The store is new: it has no other observer.
        let _ = self.store.set_observer(Arc::clone(&self.key_events) as _);
        self.refresh_interest();
    }

    /// Has the store tell what somebody wants to know: when that has changed.
    pub(crate) fn refresh_interest(&self) {
        self.key_events.refresh_interest(&self.settings, &self.store);
    }

    /// Makes a client a monitor.
    pub(crate) fn add_monitor(&self, client: &Arc<Client>) {
        client.set_flag(flag::MONITOR, true);
        self.monitors.add(client, || self.set_special(special::MONITORED, true));
    }

    /// Makes a client no monitor any more, if it was one.
    pub(crate) fn remove_monitor(&self, client: &Client) {
        if client.is(flag::MONITOR) {
            client.set_flag(flag::MONITOR, false);
            self.monitors.remove(client, || self.set_special(special::MONITORED, false));
        }
    }

    /// Puts commands off for a while.
    pub(crate) fn begin_pause(&self, what: Paused, duration: Duration) {
        let now = self.host.env.clock.monotonic();
        let until = now.saturating_add(duration);
        self.pause.begin(what, now, until, || self.set_special(special::PAUSED, true));
    }

    pub(crate) fn end_pause(&self) {
        self.pause.end(|| self.set_special(special::PAUSED, false));
    }

    /// Which commands are put off now.
    pub(crate) fn paused(&self) -> Option<Paused> {
        let now = self.host.env.clock.monotonic();
        self.pause.check(now, || self.set_special(special::PAUSED, false))
    }

    /// What names the history of the data.
    pub(crate) fn replication_id(&self) -> String {
        self.replication_id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a history of another name.
    pub(crate) fn change_replication_id(&self) {
        let id = random_id(&self.host);
        *self.replication_id.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// The time expiry is reckoned from; it never goes back.
    pub(crate) fn now(&self) -> UnixMillis {
        self.store.now()
    }

    /// Seconds since the start, to the second.
    pub(crate) fn uptime(&self) -> u64 {
        self.uptime_secs.load(Ordering::Relaxed)
    }

    /// What a request may be now.
    #[inline]
    pub(crate) fn parse_limits(&self) -> ParseLimits {
        ParseLimits {
            bulk_bytes: u32::try_from(self.settings.proto_max_bulk_len.get()).unwrap_or(u32::MAX),
            request_bytes: usize::try_from(self.settings.client_query_buffer_limit.get())
                .unwrap_or(usize::MAX),
            ..ParseLimits::default()
        }
    }

    /// Has writes be as durable as `appendonly` and `appendfsync` say, from now on.
    ///
    /// # Errors
    /// `Unsupported` where the engine cannot hold it.
    pub(crate) fn apply_durability(&self) -> Result<()> {
        let capabilities = self.engine.capabilities();
        let logged = self.settings.appendfsync.get().durability_on(capabilities)?;
        if !self.settings.appendonly.get() {
            return self.store.set_durability(Durability::Memory);
        }
        if logged == Durability::Memory {
            return Err(Error::unsupported(
                "appendonly",
                format!(
                    "\"yes\" needs an engine that keeps data, and {} does not; use another --engine",
                    capabilities.engine
                ),
            ));
        }
        self.store.set_durability(logged)
    }

    /// Has strings be as long as arguments may be.
    pub(crate) fn apply_string_limit(&self) {
        self.store.set_string_bytes_max(self.parse_limits().bulk_bytes as usize);
    }

    /// Has HyperLogLogs be sparse up to the length that is set.
    pub(crate) fn apply_sketch_limit(&self) {
        let bytes = usize::try_from(self.settings.hll_sparse_max_bytes.get()).unwrap_or(usize::MAX);
        self.store.set_sparse_sketch_bytes_max(bytes);
    }

    /// Whether writes are logged.
    pub(crate) fn is_durable(&self) -> bool {
        self.settings.appendonly.get()
    }

    /// With `appendfsync everysec`, syncs what was written so far; for every second.
    ///
    /// Whether anything was written is the engine's to know: a note taken here would be taken before
    /// or after the write, and a sync between the two would miss it. With nothing new an engine
    /// answers at once, without any I/O.
    pub(crate) async fn sync_if_due(&self) {
        let is_asked = self.settings.appendfsync.get() == AppendFsync::EverySecond;
        if !is_asked || !self.is_durable() || self.is_loading() {
            return;
        }
        let outcome = self.engine.sync(Durability::Synced).await;
        let was_failing = self.is_sync_failing.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Err(error) if !was_failing => {
                tracing::error!(%error, "the sync of every second fails: writes are not durable");
            }
            Ok(()) if was_failing => tracing::info!("the sync of every second succeeds again"),
            _ => {}
        }
    }

    /// Whether the last sync of `appendfsync everysec` failed.
    pub(crate) fn is_sync_failing(&self) -> bool {
        self.is_sync_failing.load(Ordering::Relaxed)
    }

    /// Keys changed since the server started.
    pub(crate) fn changes(&self) -> u64 {
        self.stats.iter().map(|stats| stats.changes.get()).sum()
    }

    /// Begins a checkpoint, unless one is under way: what that is.
    pub(crate) fn begin_save(
        &self,
        purpose: saves::Purpose,
    ) -> std::result::Result<saves::Outcome, saves::Purpose> {
        self.saves.begin(purpose, &self.settings, self.changes())
    }

    /// Asks whoever runs the server to stop it.
    pub(crate) fn request_shutdown(&self) {
        self.shutdown_requested.notify_one();
    }
}

/// 40 hexadecimal digits.
fn random_id(host: &Host) -> String {
    let random = || host.env.random.next_u64();
    format!("{:016x}{:016x}{:08x}", random(), random(), random() as u32)
}

#[cfg(test)]
mod tests {
    use ferrokit_engine::{KeyspaceId, KvEngineExt, Op, WriteOptions, block_on};
    use ferrokit_storage::sim::{CrashMode, FaultKind, FaultPlan, OpKind, SimMachine};

    use super::*;

    fn on(machine: &SimMachine) -> Shared {
        let host = machine.host();
        let config = Config::default();
        config.settings.set("engine", "lsm:/data").unwrap();
        let shared = Shared::new(&host, &config, Listening::nowhere(1)).unwrap();
        opening::open(&shared, false).unwrap();
        set(&shared, "everysec").unwrap();
        shared
    }

    fn set(shared: &Shared, appendfsync: &str) -> Result<()> {
        shared.settings.set("appendfsync", appendfsync)?;
        shared.apply_durability()
    }

    fn put(shared: &Shared, key: &[u8]) {
        let options = WriteOptions::with_durability(shared.store.durability()).applied();
        let write = shared.engine.put(KeyspaceId::DEFAULT, key, b"v", None, &options);
        shared.host.wait(write).unwrap();
    }

    /// A write that was begun before a sync and took effect after it is the next one's.
    #[test]
    fn a_write_that_was_pending_across_a_sync_is_synced_by_the_next() {
        let machine = SimMachine::new(1);
        let shared = on(&machine);
        put(&shared, b"before");
        shared.host.wait(shared.sync_if_due());
        // The engine alone sees when a write takes effect; the server may have begun it long ago.
        put(&shared, b"pending");
        shared.host.wait(shared.sync_if_due());
        let after = machine.crash(CrashMode::DropUnsynced);
        drop(shared);
        let shared = on(&after);
        for key in [b"before".as_slice(), b"pending"] {
            let value = shared.host.wait(shared.engine.get(KeyspaceId::DEFAULT, key));
            assert!(value.unwrap().is_some(), "{} is lost", key.escape_ascii());
        }
    }

    #[test]
    fn with_nothing_new_a_sync_is_ready_at_once_and_touches_no_file() {
        let machine = SimMachine::new(2);
        let shared = on(&machine);
        put(&shared, b"k");
        shared.host.wait(shared.sync_if_due());
        shared.host.settle();
        let (changes, reads) = (machine.io_count(), machine.read_count());
        for _ in 0..100 {
            assert!(matches!(shared.engine.sync(Durability::Synced), Op::Ready(Ok(()))));
            block_on(shared.sync_if_due());
        }
        shared.host.settle();
        assert_eq!((machine.io_count(), machine.read_count()), (changes, reads));
    }

    #[test]
    fn a_failing_sync_is_told_and_other_settings_do_not_sync() {
        let machine = SimMachine::new(3);
        let shared = on(&machine);
        set(&shared, "no").unwrap();
        put(&shared, b"k");
        machine.set_faults(FaultPlan::new().on(OpKind::Sync, "", FaultKind::Error, u64::MAX));
        shared.host.wait(shared.sync_if_due());
        assert!(!shared.is_sync_failing());
        set(&shared, "everysec").unwrap();
        shared.host.wait(shared.sync_if_due());
        assert!(shared.is_sync_failing());
    }
}
