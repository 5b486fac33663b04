//! All features at once, on a machine that is stepped: tiny pages, every tier, the read cache, an
//! index that grows, checkpoints of both kinds, backups that take the place of their origin, change
//! feeds, expiry, keyspaces, crashes of every kind, and sizes that are others at each opening. A model
//! checks every answer, and what a crash leaves.
//!
//! `FERROKIT_EVERYTHING_SEEDS` says how many times, with a seed each (`a..b`: those).

#![expect(clippy::unwrap_used, reason = "a test")]

mod model;

use std::sync::Arc;
use std::time::Duration;

use ferrokit_engine::{
    ChangeBatch, ChangeFeed, Changes, Checkpoint, Clock, Durability, Entry, ErrorKind, KeyspaceId,
    KvEngine, KvRead, ReadOptions, Result, SweepCursor, UnixMillis, Update, WriteBatch,
    WriteOptions,
};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine, TierLimits};
use ferrokit_storage::sim::{CrashMode, SimMachine};
use ferrokit_storage::{Background, Fs, Host};
use model::{
    Deed, Model, Random, SPACES, Stored, check_plausible, check_same, first_config, key, replay,
    vary,
};

/// Steps of the job within which it has done all there is to do.
const STEPS_MAX: u64 = 20_000;

/// What was written since the state that a crash leaves at least.
struct History {
    /// That state, and what was done since.
    synced: Model,
    since_synced: Vec<Deed>,
    /// The number of those that a crash of the process leaves at least.
    os: usize,
    /// Whether one was not logged: then a crash may leave any of them.
    has_unlogged: bool,
}

/// A feed, and what it made of the state it began at.
struct Follower {
    feed: Box<dyn ChangeFeed>,
    replica: Model,
}

struct World {
    seed: u64,
    random: Random,
    machine: SimMachine,
    host: Host,
    engine: Option<Arc<HybridLogEngine>>,
    config: HybridLogConfig,
    keys: u64,
    expires: bool,
    model: Model,
    history: History,
    follower: Option<Follower>,
    /// Whether a crash may leave expired records that the model lacks.
    is_vague: bool,
    version: u64,
    backups: u64,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let machine = SimMachine::new(seed);
        let host = machine.host();
        let mut config = first_config(&mut random);
        vary(&mut config, &mut random);
        let (keys, expires) = (random.of(&[30, 300, 900]), random.below(2) == 0);
        let history = History {
            synced: Model::default(),
            since_synced: Vec::new(),
            os: 0,
            has_unlogged: false,
        };
        Self {
            seed,
            random,
            machine,
            host,
            engine: None,
            config,
            keys,
            expires,
            model: Model::default(),
            history,
            follower: None,
            is_vague: false,
            version: 0,
            backups: 0,
            log: Vec::new(),
        }
    }

    fn engine(&self) -> Arc<HybridLogEngine> {
        Arc::clone(self.engine.as_ref().unwrap())
    }

    fn now(&self) -> UnixMillis {
        Clock::now(self.machine.clock())
    }

    fn name(&mut self) -> (usize, Vec<u8>) {
        // Some are hot.
        let end = if self.random.below(2) == 0 { self.keys } else { self.keys / 10 };
        let n = self.random.below(end);
        let space = if self.random.below(4) == 0 { self.random.below(SPACES) } else { 0 };
        (space as usize, key(n))
    }

    fn stored(&mut self) -> Stored {
        self.version += 1;
        let mut value = self.version.to_le_bytes().to_vec();
        let len = match self.random.below(40) {
            0..=1 => 1200 + self.random.below(400),
            // In pieces.
            2 => 1700 + self.random.below(10_000),
            3..=6 => 0,
            _ => self.random.below(150),
        };
        value.resize(8 + len as usize, self.version as u8);
        let expire_at = (self.expires && self.random.below(4) == 0)
            .then(|| self.now().plus(1 + self.random.below(400)));
        (value, expire_at)
    }

    fn options(&mut self, levels: &[Durability]) -> WriteOptions {
        WriteOptions::with_durability(self.random.of(levels))
    }

    /// Takes note of a write that was acknowledged, or of one of which nothing is known.
    fn did(&mut self, deed: Deed, level: Option<Durability>) {
        let now = self.now();
        if let Deed::Keys(changes) = &deed {
            // To delete an expired key is to delete an absent one: no durable write. After a crash its
            // record may be there again, absent to all, and its expiry still to be told.
            self.is_vague |= changes.iter().any(|(space, key, stored)| {
                let before = self.model.0[*space].get(key);
                let has_expired =
                    before.is_some_and(|(_, expire_at)| expire_at.is_some_and(|at| at <= now));
                stored.is_none() && has_expired
            });
        }
        self.model.apply(&deed);
        self.history.since_synced.push(deed);
        match level {
            Some(Durability::Memory) => self.history.has_unlogged = true,
            // All that was logged before is there, too.
            Some(Durability::Os) => self.history.os = self.history.since_synced.len(),
            Some(Durability::Synced) if !self.history.has_unlogged => self.all_is_synced(),
            Some(Durability::Synced) => self.history.os = self.history.since_synced.len(),
            None => {}
        }
    }

    fn all_is_synced(&mut self) {
        self.history = History {
            synced: self.model.clone(),
            since_synced: Vec::new(),
            os: 0,
            has_unlogged: false,
        };
    }

    /// Whether the machine went down under an operation; any other error is a fault.
    fn is_down(&self, error: &ferrokit_engine::Error) -> bool {
        assert!(self.machine.is_frozen(), "{error:?}");
        true
    }

    fn step(&mut self, levels: &[Durability]) -> Result<()> {
        match self.random.below(100) {
            0..=29 => self.put(levels),
            30..=37 => self.delete(levels),
            38..=45 => self.update(levels),
            46..=52 => self.batch(levels),
            53..=72 => self.get(),
            73..=82 => self.get_many(),
            83 => self.exchange(levels),
            84 | 85 => {
                let millis = self.random.below(150);
                self.machine.clock().advance(Duration::from_millis(millis));
                Ok(())
            }
            86 if self.random.below(10) == 0 => self.check_all(),
            87 if self.random.below(10) == 0 => self.backup(),
            88 => self.follow(),
            89 => self.limits(),
            90 | 91 => {
                self.settle();
                Ok(())
            }
            92 => {
                self.host.wait(self.engine().sync(Durability::Synced))?;
                if !self.history.has_unlogged {
                    self.all_is_synced();
                }
                Ok(())
            }
            93 => {
                let names: Vec<_> = (0..20).map(|_| self.name().1).collect();
                let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
                self.engine().prefetch(KeyspaceId(0), &names);
                Ok(())
            }
            _ => {
                for _ in 0..self.random.below(5) {
                    self.machine.background().step();
                }
                Ok(())
            }
        }
    }

    /// Does it, whether or not the machine goes down meanwhile.
    fn write<T>(
        &mut self,
        deed: Deed,
        options: &WriteOptions,
        write: impl FnOnce(&Host, &HybridLogEngine) -> Result<T>,
    ) -> Result<Option<T>> {
        match write(&self.host.clone(), &self.engine()) {
            Ok(done) => {
                self.did(deed, Some(options.durability));
                Ok(Some(done))
            }
            // Nothing of it is there.
            Err(error) if error.kind() == ErrorKind::OutOfSpace && !self.machine.is_frozen() => {
                assert!(self.config.index_bytes_max <= 16 << 10, "{error:?}");
                Ok(None)
            }
            Err(error) => {
                self.is_down(&error);
                self.did(deed, None);
                Err(error)
            }
        }
    }

    fn put(&mut self, levels: &[Durability]) -> Result<()> {
        let ((space, name), stored) = (self.name(), self.stored());
        let mut options = self.options(levels);
        if self.random.below(2) == 0 {
            options = options.reporting_existed();
        }
        let expected = self.model.get(space, &name, self.now()).is_some();
        let deed = Deed::Keys(vec![(space, name.clone(), Some(stored.clone()))]);
        let written = self.write(deed, &options, |host, engine| {
            let keyspace = KeyspaceId(space as u32);
            host.wait(engine.put(keyspace, &name, &stored.0, stored.1, &options))
        })?;
        assert!(written.is_none_or(|it| it.existed.is_none_or(|it| it == expected)));
        Ok(())
    }

    fn delete(&mut self, levels: &[Durability]) -> Result<()> {
        let (space, name) = self.name();
        let options = self.options(levels).reporting_existed();
        let expected = self.model.get(space, &name, self.now()).is_some();
        let deed = Deed::Keys(vec![(space, name.clone(), None)]);
        let written = self.write(deed, &options, |host, engine| {
            host.wait(engine.delete(KeyspaceId(space as u32), &name, &options))
        })?;
        assert!(written.is_none_or(|it| it.existed == Some(expected)));
        Ok(())
    }

    fn update(&mut self, levels: &[Durability]) -> Result<()> {
        let ((space, name), stored) = (self.name(), self.stored());
        let options = self.options(levels);
        let expected = self.model.get(space, &name, self.now());
        let removes = self.random.below(4) == 0;
        let mut change = |old: Option<Entry<'_>>, out: &mut Vec<u8>| {
            assert_eq!(old.map(|it| (it.value.to_vec(), it.expire_at)), expected);
            if removes {
                return Update::Delete;
            }
            out.extend_from_slice(&stored.0);
            Update::Put { expire_at: stored.1 }
        };
        let new = (!removes).then(|| stored.clone());
        let deed = Deed::Keys(vec![(space, name.clone(), new)]);
        self.write(deed, &options, |host, engine| {
            host.wait(engine.update(KeyspaceId(space as u32), &name, &options, &mut change))
        })?;
        Ok(())
    }

    fn batch(&mut self, levels: &[Durability]) -> Result<()> {
        let options = self.options(levels);
        let (mut batch, mut changes) = (WriteBatch::new(), Vec::new());
        let most = self.config.memory_bytes / 16 / 64;
        let has_long = self.random.below(10) == 0;
        for n in 0..1 + self.random.below(most.min(30)) {
            let ((space, name), mut stored) = (self.name(), self.stored());
            if n == 0 && has_long {
                stored.0.resize(1000 + self.random.below(20_000) as usize, 1);
            } else {
                stored.0.truncate(60);
            }
            if self.random.below(3) == 0 {
                batch.delete(KeyspaceId(space as u32), &name);
                changes.push((space, name, None));
            } else {
                batch.put(KeyspaceId(space as u32), &name, &stored.0, stored.1);
                changes.push((space, name, Some(stored)));
            }
        }
        self.write(Deed::Keys(changes), &options, |host, engine| {
            host.wait(engine.write(&batch, &options))
        })?;
        Ok(())
    }

    fn exchange(&mut self, levels: &[Durability]) -> Result<()> {
        let options = self.options(levels);
        let (a, b) = (self.random.below(SPACES) as usize, self.random.below(SPACES) as usize);
        if self.random.below(3) == 0 {
            self.write(Deed::Clear(a), &options, |host, engine| {
                host.wait(engine.clear_keyspace(KeyspaceId(a as u32), &options))
            })?;
        } else {
            self.write(Deed::Swap(a, b), &options, |host, engine| {
                let (a, b) = (KeyspaceId(a as u32), KeyspaceId(b as u32));
                host.wait(engine.swap_keyspaces(a, b, &options))
            })?;
        }
        Ok(())
    }

    fn get(&mut self) -> Result<()> {
        let (space, name) = self.name();
        let mut got = None;
        let mut visit = |entry: Entry<'_>| got = Some((entry.value.to_vec(), entry.expire_at));
        let (engine, options) = (self.engine(), ReadOptions::default());
        let get = engine.get_with(KeyspaceId(space as u32), &name, &options, &mut visit);
        // One that reads on its own thread, if it can.
        self.host.wait(get)?;
        assert_eq!(got, self.model.get(space, &name, self.now()), "{}", name.escape_ascii());
        Ok(())
    }

    fn get_many(&mut self) -> Result<()> {
        let space = self.name().0;
        let names: Vec<_> = (0..1 + self.random.below(12)).map(|_| self.name().1).collect();
        let keys: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let mut got = vec![None; keys.len()];
        let mut visit = |n: usize, entry: Entry<'_>| {
            assert!(got[n].replace((entry.value.to_vec(), entry.expire_at)).is_none());
        };
        let (engine, options) = (self.engine(), ReadOptions::default());
        let many = engine.get_many_with(KeyspaceId(space as u32), &keys, &options, &mut visit);
        self.host.wait(many)?;
        for (name, got) in names.iter().zip(got) {
            assert_eq!(got, self.model.get(space, name, self.now()), "{}", name.escape_ascii());
        }
        Ok(())
    }

    fn contents(&mut self, host: &Host, engine: &HybridLogEngine) -> Result<Model> {
        let mut model = Model::default();
        let budget = 1 + self.random.below(100) as usize;
        for (n, space) in model.0.iter_mut().enumerate() {
            let mut cursor = SweepCursor::start();
            loop {
                let mut visit = |key: &[u8], entry: Entry<'_>| {
                    space.insert(key.to_vec(), (entry.value.to_vec(), entry.expire_at));
                };
                let (keyspace, options) = (KeyspaceId(n as u32), ReadOptions::default());
                let swept = engine.sweep(keyspace, &cursor, budget, &options, &mut visit);
                match host.wait(swept)?.next {
                    Some(next) => cursor = next,
                    None => break,
                }
            }
        }
        Ok(model)
    }

    /// The job comes to rest in the end.
    fn settle(&self) {
        let mut steps = 0;
        while self.machine.background().step() {
            steps += 1;
            let engine = self.engine.as_ref();
            assert!(steps < STEPS_MAX, "no rest: {:?}", engine.map(|engine| engine.stats()));
        }
    }

    fn check_all(&mut self) -> Result<()> {
        let found = self.contents(&self.host.clone(), &self.engine())?;
        let expected = self.model.live(self.now());
        check_same(&found, &expected, "swept");
        Ok(())
    }

    fn limits(&mut self) -> Result<()> {
        let mapped_bytes = self.random.below(6) * self.config.segment_bytes;
        let disk_bytes = match self.config.object.is_empty() {
            true => u64::MAX,
            false => self.random.below(10) * self.config.segment_bytes,
        };
        self.engine().set_tier_limits(TierLimits { mapped_bytes, disk_bytes })
    }

    /// A backup is what its origin was; now and then it takes its place.
    fn backup(&mut self) -> Result<()> {
        self.backups += 1;
        let directory = format!("backup-{}", self.backups);
        if let Err(error) = self.host.wait(self.engine().checkpoint(&directory)) {
            if error.kind() == ErrorKind::OutOfSpace && !self.machine.is_frozen() {
                return Ok(());
            }
            self.is_down(&error);
            return Err(error);
        }
        // The checkpoint in force has everything.
        self.all_is_synced();
        let mut config = self.config.clone();
        config.directory.clone_from(&directory);
        vary(&mut config, &mut self.random);
        if !config.object.is_empty() {
            config.object = format!("objects-{}", self.backups);
        }
        if self.random.below(2) == 0 {
            // What becomes of the origin is nothing to it.
            for _ in 0..self.random.below(200) {
                self.put(&[Durability::Os])?;
            }
            let mut expected = self.history.synced.clone();
            let backup = HybridLogEngine::open(&self.host, config.clone())?;
            let found = self.contents(&self.host.clone(), &backup)?;
            expected = expected.live(self.now());
            check_same(&found, &expected, "the backup beside its origin");
            if self.random.below(2) == 0 {
                self.host.wait(backup.close())?;
            }
            drop(backup);
            self.machine.fs().remove_dir_all(&directory)?;
            return Ok(());
        }
        self.log.push(format!("continued by {directory}: {config:?}"));
        self.follower = None;
        self.engine = None;
        self.settle();
        self.machine.fs().remove_dir_all(&self.config.directory)?;
        if !self.config.object.is_empty() {
            let _ = self.machine.fs().remove_dir_all(&self.config.object);
        }
        self.config = config;
        self.engine = Some(HybridLogEngine::open(&self.host, self.config.clone())?);
        self.check_all()
    }

    fn follow(&mut self) -> Result<()> {
        let engine = self.engine();
        let Some(Follower { mut feed, mut replica }) = self.follower.take() else {
            let feed = self.host.wait(engine.subscribe(None))?;
            self.follower = Some(Follower { feed, replica: self.model.clone() });
            return Ok(());
        };
        let (now, is_vague) = (self.now(), self.is_vague);
        while feed.position() < engine.position() {
            let mut visit = |batch: &ChangeBatch<'_>| replay(&mut replica, batch, now, is_vague);
            let budget = 1 + self.random.below(4000) as usize;
            self.host.wait(feed.next_with(budget, &mut visit))?;
        }
        check_same(&replica.live(now), &self.model.live(now), "followed");
        match self.random.below(3) {
            0 => {}
            // From where another stood.
            1 => {
                let again = self.host.wait(engine.subscribe(Some(feed.position())))?;
                drop(feed);
                self.follower = Some(Follower { feed: again, replica });
            }
            _ => self.follower = Some(Follower { feed, replica }),
        }
        Ok(())
    }

    /// Opens what a crash or a closing left, and checks it.
    fn open(&mut self, mode: Option<CrashMode>) {
        self.log.push(format!("{mode:?}, then {:?}", self.config));
        let engine = HybridLogEngine::open(&self.host, self.config.clone()).unwrap();
        let found = self.contents(&self.host.clone(), &engine).unwrap();
        let now = self.now();
        let certain = match mode {
            None => self.history.since_synced.len(),
            Some(CrashMode::ProcessKill | CrashMode::KeepAll) => self.history.os,
            Some(_) => 0,
        };
        let deeds = std::mem::take(&mut self.history.since_synced);
        if self.history.has_unlogged && mode.is_some() {
            check_plausible(&found, &self.history.synced, &deeds, now);
            self.model = found;
            self.is_vague = true;
        } else {
            let mut state = self.history.synced.clone();
            let (mut fits, mut fitting) = (None, 0);
            for count in 0..=deeds.len() {
                if count >= certain && state.live(now) == found {
                    fits = Some(state.clone());
                    fitting += 1;
                }
                if let Some(deed) = deeds.get(count) {
                    state.apply(deed);
                }
            }
            self.is_vague |= fitting > 1;
            match fits {
                Some(fits) => self.model = fits,
                None => {
                    check_same(&found, &state.live(now), "after opening (and no prefix fits)");
                }
            }
        }
        self.engine = Some(engine);
        // What was found may not be on the device yet.
        self.host.wait(self.engine().sync(Durability::Synced)).unwrap();
        self.all_is_synced();
    }

    fn live_once(&mut self) {
        let levels: &[Durability] = match self.random.below(3) {
            0 => &[Durability::Os],
            1 => &[Durability::Os, Durability::Os, Durability::Os, Durability::Synced],
            _ => &[Durability::Memory, Durability::Memory, Durability::Os],
        };
        let steps = self.random.of(&[50, 500, 3000]);
        if self.random.below(3) == 0 {
            let cut = self.random.below(400);
            self.machine.crash_at(self.machine.io_count() + cut);
        }
        for _ in 0..steps {
            if self.step(levels).is_err_and(|error| self.is_down(&error)) {
                break;
            }
        }
        let mode = self.random.below(5);
        let random = self.random.below(1 << 30);
        if mode == 0 && !self.machine.is_frozen() && self.close().is_ok() {
            if self.machine.is_frozen() {
                // What closing had still to do is not needed.
                self.machine = self.machine.crash(CrashMode::Random(random));
                self.host = self.machine.host();
            }
            self.machine.crash_at(u64::MAX);
            self.reopen(None);
            return;
        }
        let mode = self.random.of(&[
            CrashMode::DropUnsynced,
            CrashMode::KeepAll,
            CrashMode::ProcessKill,
            CrashMode::Random(random),
        ]);
        let after = self.machine.crash(mode);
        self.follower = None;
        self.engine = None;
        self.machine = after;
        self.host = self.machine.host();
        self.reopen(Some(mode));
    }

    fn close(&mut self) -> Result<()> {
        let closed = self.host.wait(self.engine().close());
        if let Err(error) = &closed {
            self.is_down(error);
            return closed;
        }
        if let Some(Follower { mut feed, mut replica }) = self.follower.take() {
            let (now, is_vague) = (self.now(), self.is_vague);
            let end = loop {
                let mut visit =
                    |batch: &ChangeBatch<'_>| replay(&mut replica, batch, now, is_vague);
                if let Err(error) = self.host.wait(feed.next_with(1000, &mut visit)) {
                    break error;
                }
            };
            assert_eq!(end.kind(), ErrorKind::Closed, "{end:?}");
            check_same(&replica.live(now), &self.model.live(now), "followed to the end");
        }
        self.engine = None;
        Ok(())
    }

    fn reopen(&mut self, mode: Option<CrashMode>) {
        vary(&mut self.config, &mut self.random);
        self.open(mode);
    }
}

/// Says what was tried, if it fails.
struct Tell<'w>(&'w mut World);

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: {:#?}", self.0.seed, self.0.log);
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let world = Tell(&mut world);
    world.0.open(None);
    for _ in 0..4 {
        world.0.live_once();
    }
}

#[test]
fn all_features_at_once_answer_as_a_model_does() {
    let seeds = std::env::var("FERROKIT_EVERYTHING_SEEDS").unwrap_or_else(|_| "40".to_owned());
    let (first, end) = seeds.split_once("..").unwrap_or(("0", &seeds));
    (first.parse().unwrap()..end.parse().unwrap()).for_each(run);
}
