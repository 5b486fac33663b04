//! [`SimMachine`]: a machine made of simulated parts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrokit_engine::{Env, UnixMillis};

use super::background::{StepOrder, SteppedBackground};
use super::clock::{SimClock, SimRandom, SimSpawner, SimTimer};
use super::crash::CrashMode;
use super::disk::Disk;
use super::faults::FaultPlan;
use super::fs::SimFs;
use super::rng::{Rng, mix};
use crate::background::ThreadBackground;
use crate::host::Host;

/// Where the wall clock starts: in 2025.
const WALL_START: UnixMillis = UnixMillis(1_750_000_000_000);

/// The size of a disk unless [`SimMachine::set_capacity_bytes`] says otherwise.
const CAPACITY_BYTES: u64 = 8 << 30;

pub(super) struct SharedDisk(Mutex<Disk>);

impl SharedDisk {
    pub(super) fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A simulated machine. A handle: clones are the same machine.
#[derive(Clone)]
pub struct SimMachine {
    seed: u64,
    disk: Arc<SharedDisk>,
    clock: SimClock,
    background: SteppedBackground,
    env: Env,
}

impl SimMachine {
    /// A new machine with an empty disk; everything it does follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let disk = Disk::new(Rng::new(mix(seed ^ 1)), CAPACITY_BYTES);
        Self::with_disk(seed, disk, SimClock::new(WALL_START))
    }

    fn with_disk(seed: u64, disk: Disk, clock: SimClock) -> Self {
        let background = SteppedBackground::new(StepOrder::Seeded(mix(seed ^ 2)));
        let env = Env {
            clock: Arc::new(clock.clone()),
            timer: Arc::new(SimTimer::new(clock.clone(), background.clone())),
            random: Arc::new(SimRandom::new(mix(seed ^ 3))),
            spawner: Arc::new(SimSpawner),
        };
        Self { seed, disk: Arc::new(SharedDisk(Mutex::new(disk))), clock, background, env }
    }

    /// The machine for an engine: jobs are stepped, no threads.
    pub fn host(&self) -> Host {
        Host {
            env: self.env.clone(),
            fs: Arc::new(self.fs()),
            background: Arc::new(self.background.clone()),
        }
    }

    /// The machine for concurrent tests: the same files and clock, but jobs and spawned threads
    /// are real ones, and it is they that decide the order.
    pub fn threaded_host(&self) -> Host {
        let env = Env { spawner: Env::system().spawner, ..self.env.clone() };
        let background = Arc::new(ThreadBackground::new(&env));
        Host { env, fs: Arc::new(self.fs()), background }
    }

    /// The file system.
    pub fn fs(&self) -> SimFs {
        SimFs::new(Arc::clone(&self.disk))
    }

    /// The clock, to move it.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// The jobs, to step them.
    pub fn background(&self) -> &SteppedBackground {
        &self.background
    }

    /// How many changing operations were started; also the number of the next one.
    pub fn io_count(&self) -> u64 {
        self.disk.lock().io_count
    }

    /// How many reading operations were started; also the number of the next one.
    pub fn read_count(&self) -> u64 {
        self.disk.lock().read_count
    }

    /// Freezes the disk just before the changing operation of this number.
    pub fn crash_at(&self, number: u64) {
        self.disk.lock().crash_at = Some(number);
    }

    /// Freezes the disk: from now on every operation fails and changes nothing.
    pub fn freeze(&self) {
        self.disk.lock().is_frozen = true;
    }

    /// Whether the disk is frozen.
    pub fn is_frozen(&self) -> bool {
        self.disk.lock().is_frozen
    }

    /// Freezes this machine, and boots another from what its disk holds. Directory locks are
    /// released, faults are gone, the wall clock goes on from where it stood.
    pub fn crash(&self, mode: CrashMode) -> SimMachine {
        let seed = mix(self.seed ^ 4);
        let mut disk = self.disk.lock();
        disk.is_frozen = true;
        let image = disk.image(mode, Rng::new(mix(seed ^ 1)));
        drop(disk);
        let wall = ferrokit_engine::Clock::now(&self.clock);
        Self::with_disk(seed, image, SimClock::new(wall))
    }

    /// Replaces the faults to come.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.disk.lock().faults = plan;
    }

    /// Sets the size of the disk; what is on it stays, even beyond the size.
    pub fn set_capacity_bytes(&self, bytes: u64) {
        self.disk.lock().capacity_bytes = bytes;
    }

    /// Bytes that files take, in whole pages.
    pub fn used_bytes(&self) -> u64 {
        self.disk.lock().used_bytes()
    }
}

impl std::fmt::Debug for SimMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimMachine").field("seed", &self.seed).finish_non_exhaustive()
    }
}
