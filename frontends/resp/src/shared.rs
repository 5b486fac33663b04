//! [`Shared`]: what all workers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use ferrokit_engine::{Durability, ExpiryClock, KvEngine, Result, UnixMillis, WriteOptions};
use ferrokit_storage::Host;
use tokio::sync::Notify;

use crate::clients::Clients;
use crate::config::{AppendFsync, Config, Limits};
use crate::scan_cursors::ScanCursors;
use crate::stats::{Counter, WorkerStats};

/// Databases, where the engine has as many keyspaces.
const DATABASES: u32 = 16;

/// The state of a server.
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn KvEngine>,
    pub(crate) host: Host,
    pub(crate) engine_url: String,
    pub(crate) port: u16,
    pub(crate) bind: String,
    pub(crate) limits: Limits,
    pub(crate) databases: u32,
    pub(crate) clients: Clients,
    pub(crate) cursors: ScanCursors,
    pub(crate) stats: Box<[WorkerStats]>,
    /// 40 hexadecimal digits, new at each start.
    pub(crate) run_id: String,
    pub(crate) started_at: UnixMillis,
    /// Seconds since the start, as of the last tick.
    pub(crate) uptime_secs: AtomicU64,
    /// Seconds with a failed background sync.
    pub(crate) failed_syncs: Counter,
    /// Told once to whoever waits for the server to be asked to stop.
    pub(crate) shutdown_requested: Notify,
    /// Told once to each worker.
    pub(crate) stops: Box<[Notify]>,
    clock: ExpiryClock,
    appendfsync: AtomicU8,
    /// Writes took place that the background sync has not seen.
    is_dirty: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        engine: Arc<dyn KvEngine>,
        host: &Host,
        config: &Config,
        port: u16,
        workers: usize,
    ) -> Self {
        let random = || host.env.random.next_u64();
        let bind: Vec<String> = config.bind.iter().map(ToString::to_string).collect();
        Self {
            databases: DATABASES.min(engine.capabilities().max_keyspaces),
            engine,
            host: host.clone(),
            engine_url: config.engine.clone(),
            port,
            bind: bind.join(" "),
            limits: config.limits,
            clients: Clients::new(workers, config.limits.clients),
            cursors: ScanCursors::new(random() as u32),
            stats: (0..workers).map(|_| WorkerStats::default()).collect(),
            run_id: format!("{:016x}{:016x}{:08x}", random(), random(), random() as u32),
            started_at: host.env.clock.now(),
            uptime_secs: AtomicU64::new(0),
            failed_syncs: Counter::default(),
            shutdown_requested: Notify::new(),
            stops: (0..workers).map(|_| Notify::new()).collect(),
            clock: ExpiryClock::new(Arc::clone(&host.env.clock), UnixMillis(0)),
            appendfsync: AtomicU8::new(config.appendfsync as u8),
            is_dirty: AtomicBool::new(false),
        }
    }

    /// The time expiry is reckoned from; it never goes back.
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Seconds since the start, to the second.
    pub(crate) fn uptime(&self) -> u64 {
        self.uptime_secs.load(Ordering::Relaxed)
    }

    /// The present setting.
    pub(crate) fn appendfsync(&self) -> AppendFsync {
        match self.appendfsync.load(Ordering::Relaxed) {
            0 => AppendFsync::Always,
            1 => AppendFsync::EverySecond,
            _ => AppendFsync::No,
        }
    }

    /// Changes the setting, for the writes that follow.
    ///
    /// # Errors
    /// `Unsupported` where the engine cannot hold it.
    pub(crate) fn set_appendfsync(&self, setting: AppendFsync) -> Result<()> {
        setting.durability_on(self.engine.capabilities())?;
        self.appendfsync.store(setting as u8, Ordering::Relaxed);
        Ok(())
    }

    /// Whether writes survive the process at all.
    pub(crate) fn is_durable(&self) -> bool {
        self.engine.capabilities().strongest_durability > Durability::Memory
    }

    /// How a write is made now. Its ticket must be awaited before its reply leaves.
    #[inline]
    pub(crate) fn write_options(&self) -> WriteOptions {
        let strongest = self.engine.capabilities().strongest_durability;
        let wanted = match self.appendfsync() {
            AppendFsync::Always => Durability::Synced,
            AppendFsync::EverySecond | AppendFsync::No => Durability::Os,
        };
        // The setting was checked: only an engine that keeps nothing is asked for less.
        WriteOptions::with_durability(wanted.min(strongest)).applied()
    }

    /// Takes note of a write, for the sync of every second.
    #[inline]
    pub(crate) fn note_write(&self) {
        if !self.is_dirty.load(Ordering::Relaxed) {
            self.is_dirty.store(true, Ordering::Relaxed);
        }
    }

    /// With `appendfsync everysec`, syncs what was written since the last call.
    pub(crate) async fn sync_if_due(&self) {
        let is_due = self.appendfsync() == AppendFsync::EverySecond && self.is_durable();
        if !is_due || !self.is_dirty.swap(false, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.engine.sync(Durability::Synced).await {
            self.failed_syncs.add(1);
            self.is_dirty.store(true, Ordering::Release);
            tracing::error!(%error, "the sync of every second failed");
        }
    }

    /// Asks whoever runs the server to stop it.
    pub(crate) fn request_shutdown(&self) {
        self.shutdown_requested.notify_one();
    }

    /// How long the server has run, exactly.
    pub(crate) fn running_for(&self) -> Duration {
        Duration::from_millis(self.host.env.clock.now().0.saturating_sub(self.started_at.0))
    }
}
