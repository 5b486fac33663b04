//! Opening: manifest, tables, log.
//!
//! | found | means |
//! |---|---|
//! | nothing | a new tree |
//! | `CURRENT` | a tree: its tables must all be there, its log must reach back to what the tables lack |
//! | `CURRENT` of a checkpoint | a tree whose log begins now |
//! | tables or log records, no `CURRENT` | an unfinished checkpoint or a damaged tree: refused |
//!
//! What no manifest names is removed. A fresh manifest is begun at each opening.

use std::collections::HashMap;
use std::sync::Arc;

use ferrokit_engine::{
    Capabilities, Direction, Durability, Error, ErrorKind, ExpiryClock, Result, Tier, UnixMillis,
};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::{
    Appended, Host, LOCK_FILE_NAME, Log, LogConfig, LogPosition, OpenMode, remove_temporary_files,
};

use crate::config::{LsmConfig, MAX_KEY_BYTES};
use crate::key::{PhysicalKeyspace, StoredRange, split_stored_key, stored_key};
use crate::keyspaces::{KEYSPACES_MAX, KeyspaceMap};
use crate::memtable::{Kind, Memtable};
use crate::read::LoadedBlocks;
use crate::read::scan::{Scan, ScanEnd};
use crate::sst::{Garbage, Table};
use crate::tables::{self, unfault};
use crate::tree::{Tree, TreeParts, Writer};
use crate::version::{
    CURRENT_FILE_NAME, Manifest, SealedMemtable, TreeState, Version, View, is_manifest_name,
    read_current,
};
use crate::wal::{self, LogChange};

/// Where the log's segments lie, below the tree's directory.
const LOG_DIRECTORY: &str = "log";
/// The most operations in a batch.
const BATCH_OPS_MAX: usize = 1 << 20;
/// What a batch may hold beyond the longest value.
const BATCH_SPARE_BYTES: usize = 16 << 20;

fn capabilities(config: &LsmConfig) -> Capabilities {
    Capabilities {
        engine: "lsm",
        ordered: true,
        snapshots: true,
        checkpoint: true,
        changes: true,
        transactions: None,
        sequence_numbers: true,
        exact_len: config.exact_len,
        max_key_bytes: MAX_KEY_BYTES,
        max_value_bytes: config.value_bytes_max,
        max_batch_ops: BATCH_OPS_MAX,
        max_batch_bytes: config.value_bytes_max + BATCH_SPARE_BYTES,
        max_keyspaces: KEYSPACES_MAX,
        strongest_durability: Durability::Synced,
        tiers: &[Tier::Memory, Tier::Disk],
        persistent_memory: false,
    }
}

fn log_config(config: &LsmConfig, capabilities: &Capabilities) -> LogConfig {
    LogConfig {
        segment_bytes: config.log_segment_bytes,
        buffer_bytes: config.log_buffer_bytes,
        max_record_bytes: capabilities.max_batch_bytes
            + wal::overhead_bytes(capabilities.max_batch_ops),
        ..LogConfig::default()
    }
}

/// Opens or creates a tree. Blocks.
pub(crate) fn open(host: &Host, config: LsmConfig) -> Result<Tree> {
    config.validate()?;
    let fs = &host.fs;
    let directory = config.directory.as_str();
    fs.create_dir_all(directory)?;
    let directory_lock = fs.lock_dir(directory)?;
    remove_temporary_files(&**fs, directory)?;
    let found = read_current(&**fs, directory)?;
    let is_new = found.is_none();
    let (mut state, manifest_number) = found.unwrap_or_else(|| (TreeState::empty(), 0));
    if is_new {
        refuse_stray_tables(host, directory)?;
    }
    let garbage = Arc::new(Garbage::default());
    let version = open_tables(host, directory, &state, &garbage)?;
    let log_directory = join(directory, LOG_DIRECTORY);
    let expects_log = !is_new && !state.log_absent;
    if expects_log && !holds_segments(host, &log_directory)? {
        return Err(Error::corruption("lsm.open", "the log is missing", &log_directory, 0));
    }
    let capabilities = capabilities(&config);
    let mut replay = Replay::new(&state, &config);
    let log = Log::open(
        host,
        &log_directory,
        log_config(&config, &capabilities),
        state.progress.log,
        &mut |at, record| {
            if expects_log {
                return replay.record(at, record);
            }
            // Records without the tree they belong to.
            Err(Error::corruption("lsm.open", "CURRENT is missing", directory, 0))
        },
    )
    .map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Error::corruption("lsm.open", "the log lacks what the tables lack", &log_directory, 0)
                .with_source(error)
        }
        _ => error,
    })?;
    state.log_absent = false;
    let next_table_id = next_table_id(&state);
    let manifest = Manifest::create(fs, directory, manifest_number + 1, state)?;
    remove_strays(host, directory, &manifest, manifest_number + 1)?;
    let clock = ExpiryClock::new(Arc::clone(&host.env.clock), replay.time);
    let (view, last_sequence) = replay.into_view(version);
    let mut writer = Writer::new(last_sequence);
    if config.exact_len {
        writer.counts = Some(count_entries(&view, last_sequence)?);
    }
    Ok(Tree::new(TreeParts {
        config,
        capabilities,
        host: host.clone(),
        log,
        clock,
        view,
        writer,
        manifest,
        garbage,
        next_table_id,
        directory_lock,
    }))
}

fn next_table_id(state: &TreeState) -> u64 {
    let above = state.tables.keys().next_back().map_or(1, |id| id + 1);
    state.progress.next_table_id.max(above)
}

fn refuse_stray_tables(host: &Host, directory: &str) -> Result<()> {
    let stray =
        host.fs.list(directory)?.into_iter().find(|entry| tables::id_of(&entry.name).is_some());
    match stray {
        None => Ok(()),
        Some(entry) => Err(Error::corruption(
            "lsm.open",
            "a table without CURRENT: an unfinished checkpoint or a damaged tree",
            &join(directory, &entry.name),
            0,
        )),
    }
}

fn holds_segments(host: &Host, log_directory: &str) -> Result<bool> {
    if !host.fs.exists(log_directory)? {
        return Ok(false);
    }
    Ok(host.fs.list(log_directory)?.iter().any(|entry| entry.name.ends_with(".log")))
}

fn open_tables(
    host: &Host,
    directory: &str,
    state: &TreeState,
    garbage: &Arc<Garbage>,
) -> Result<Version> {
    let mut tables = Vec::with_capacity(state.tables.len());
    for record in state.tables.values() {
        let path = join(directory, &tables::file_name(record.id));
        let missing = || Error::corruption("lsm.open", "a table is missing", &path, 0);
        let file = host
            .fs
            .open(&path, OpenMode::Read)
            .map_err(|error| if error.kind() == ErrorKind::NotFound { missing() } else { error })?;
        if file.len()? != record.bytes {
            return Err(Error::corruption("lsm.open", "a table of another length", &path, 0));
        }
        tables.push((record.level, Table::open(file, record.id, garbage)?));
    }
    Ok(Version::empty().with(&[], tables))
}

/// Removes what no manifest names: tables of flushes and compactions that never came into force,
/// and old manifests.
fn remove_strays(host: &Host, directory: &str, manifest: &Manifest, number: u64) -> Result<()> {
    let current = format!("MANIFEST-{number:06}");
    for entry in host.fs.list(directory)? {
        let is_stray = match tables::id_of(&entry.name) {
            Some(id) => !manifest.state().tables.contains_key(&id),
            None => is_manifest_name(&entry.name) && entry.name != current,
        };
        if is_stray && entry.name != CURRENT_FILE_NAME && entry.name != LOCK_FILE_NAME {
            host.fs.remove_file(&join(directory, &entry.name))?;
        }
    }
    Ok(())
}

/// The memtables being made again from the log.
struct Replay<'a> {
    config: &'a LsmConfig,
    active: Arc<Memtable>,
    /// Newest first.
    sealed: Vec<Arc<SealedMemtable>>,
    keyspaces: Arc<KeyspaceMap>,
    last_sequence: u64,
    time: UnixMillis,
}

impl<'a> Replay<'a> {
    fn new(state: &TreeState, config: &'a LsmConfig) -> Self {
        Self {
            config,
            active: Arc::new(Memtable::new()),
            sealed: Vec::new(),
            keyspaces: Arc::clone(&state.progress.keyspaces),
            last_sequence: state.progress.last_sequence,
            time: state.progress.time,
        }
    }

    fn record(&mut self, at: Appended, bytes: &[u8]) -> Result<()> {
        let corrupt = |what| Error::corruption("lsm.open", what, "log", at.start.0);
        let record = wal::decode(bytes).map_err(|malformed| corrupt(malformed.0))?;
        if record.first_sequence <= self.last_sequence {
            return Err(corrupt("sequences do not grow"));
        }
        let last_sequence = record.last_sequence();
        for (sequence, change) in (record.first_sequence..).zip(&record.changes) {
            self.change(sequence, change);
        }
        self.last_sequence = last_sequence;
        self.time = self.time.max(record.time);
        if self.active.bytes() >= self.config.memtable_bytes {
            self.seal(at.end);
        }
        Ok(())
    }

    fn change(&mut self, sequence: u64, change: &LogChange<'_>) {
        use ferrokit_engine::CommitTicket;
        match *change {
            LogChange::Put { keyspace, key, value, expire_at } => {
                let key = stored_key(self.keyspaces.physical(keyspace), key);
                self.active.insert(&key, sequence, Kind::Put, expire_at, value);
            }
            LogChange::Delete { keyspace, key } | LogChange::Expired { keyspace, key } => {
                let key = stored_key(self.keyspaces.physical(keyspace), key);
                self.active.insert(&key, sequence, Kind::Delete, None, &[]);
            }
            LogChange::Clear { keyspace, fresh } => {
                let map = self.keyspaces.cleared(keyspace, fresh, CommitTicket::NONE);
                self.keyspaces = Arc::new(map);
            }
            LogChange::Swap { a, b } => {
                self.keyspaces = Arc::new(self.keyspaces.swapped(a, b, CommitTicket::NONE));
            }
        }
    }

    fn seal(&mut self, log_end: LogPosition) {
        let sealed = SealedMemtable {
            memtable: std::mem::replace(&mut self.active, Arc::new(Memtable::new())),
            log_end,
            last_sequence: self.last_sequence,
            keyspaces: Arc::clone(&self.keyspaces),
            time: self.time,
        };
        self.sealed.insert(0, Arc::new(sealed));
    }

    fn into_view(self, version: Version) -> (View, u64) {
        let view = View {
            active: self.active,
            sealed: self.sealed,
            version: Arc::new(version),
            keyspaces: self.keyspaces,
            flushes: 0,
        };
        (view, self.last_sequence)
    }
}

/// Counts the entries of every keyspace by reading all keys: the price of exact counts at opening.
/// Expired entries that were not collected yet count.
fn count_entries(view: &View, sequence: u64) -> Result<HashMap<PhysicalKeyspace, u64>> {
    let mut counts = HashMap::new();
    // At time 0 nothing has expired.
    let mut scan = Scan::new(
        StoredRange::all(),
        Direction::Forward,
        sequence,
        UnixMillis(0),
        1 << 20,
        usize::MAX,
    );
    loop {
        let mut visited: HashMap<PhysicalKeyspace, u64> = HashMap::new();
        let end = unfault(scan.run_stored(view, &mut LoadedBlocks, &mut |key| {
            if let Some((keyspace, _)) = split_stored_key(key) {
                *visited.entry(keyspace).or_default() += 1;
            }
        }))?;
        for (keyspace, count) in visited {
            *counts.entry(keyspace).or_default() += count;
        }
        if end == ScanEnd::Exhausted {
            return Ok(counts);
        }
        scan.renew(1 << 20);
    }
}
