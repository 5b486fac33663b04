//! [`Lab`]: what a case gets: a factory and a kind of machine, to open engines with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ferrokit_engine::{Capabilities, Clock, Env, UnixMillis};
use ferrokit_storage::sim::SimMachine;
use ferrokit_storage::{Host, IoBackend, ThreadBackground};

use crate::factory::{EngineFactory, Options};
use crate::random::Rng;
use crate::world::{World, WorldMachine};

/// The kind of machine under an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// Simulated files; jobs are stepped, or on threads where the case is about concurrency.
    Sim,
    /// Real files by a pool of threads.
    Threads,
    /// Real files by io_uring.
    Uring,
}

/// A factory and a kind of machine.
pub struct Lab {
    factory: Arc<dyn EngineFactory>,
    machine: Machine,
    title: String,
    seed: u64,
}

impl Lab {
    /// A lab for the case called `title`.
    pub fn new(factory: Arc<dyn EngineFactory>, machine: Machine, title: String) -> Self {
        let seed = std::env::var("FERROKIT_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0x5eed_f0e5);
        Self { factory, machine, title, seed }
    }

    /// Engine, machine, group and case, for messages.
    pub fn title(&self) -> String {
        format!("{}({:?})::{}", self.factory.name(), self.machine, self.title)
    }

    /// The factory.
    pub fn factory(&self) -> &dyn EngineFactory {
        &*self.factory
    }

    /// The kind of machine.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The seed of this run's random choices, from `FERROKIT_SEED`.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Random choices that follow from the seed.
    pub fn rng(&self) -> Rng {
        Rng::new(self.seed)
    }

    /// Whether `FERROKIT_SOAK=1` asks for exhaustive runs.
    pub fn is_soak(&self) -> bool {
        std::env::var("FERROKIT_SOAK").is_ok_and(|value| value == "1")
    }

    /// How many random sequences to run, from `FERROKIT_CASES`.
    pub fn random_cases(&self) -> u32 {
        std::env::var("FERROKIT_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
    }

    /// The sizes that cases use: tiny on a simulated machine, so that maintenance takes part.
    pub fn default_options(&self) -> Options {
        match self.machine {
            Machine::Sim => Options::tiny(),
            Machine::Threads | Machine::Uring => Options::default(),
        }
    }

    /// The engine's facts.
    pub fn capabilities(&self) -> Capabilities {
        let mut world = self.open();
        let facts = world.capabilities().clone();
        world.close();
        facts
    }

    /// An engine on a machine of its own; jobs are stepped where the machine is simulated.
    pub fn open(&self) -> World {
        self.open_with(&self.default_options(), self.seed)
    }

    /// An engine with these options, on a machine of this seed.
    pub fn open_with(&self, options: &Options, seed: u64) -> World {
        match self.machine {
            Machine::Sim => {
                World::open(self, WorldMachine::stepped(SimMachine::new(seed)), options)
            }
            Machine::Threads | Machine::Uring => World::open(self, self.real_machine(), options),
        }
    }

    /// An engine whose jobs run on threads, on any machine: for cases that use several threads.
    pub fn open_threaded(&self) -> World {
        self.open_threaded_with(&self.default_options())
    }

    /// [`open_threaded`](Self::open_threaded) with these options.
    pub fn open_threaded_with(&self, options: &Options) -> World {
        let machine = match self.machine {
            Machine::Sim => WorldMachine::threaded(SimMachine::new(self.seed)),
            Machine::Threads | Machine::Uring => self.real_machine(),
        };
        World::open(self, machine, options)
    }

    pub(crate) fn factory_handle(&self) -> Arc<dyn EngineFactory> {
        Arc::clone(&self.factory)
    }

    fn real_machine(&self) -> WorldMachine {
        match self.real_host() {
            Ok(host) => WorldMachine::real(host),
            Err(reason) => panic!("{}: {reason}", self.title()),
        }
    }

    /// Whether the machine can be had here, and why not.
    pub(crate) fn check_machine(&self) -> Result<(), String> {
        match self.machine {
            Machine::Sim => Ok(()),
            Machine::Threads | Machine::Uring => self.real_host().map(|_| ()),
        }
    }

    fn real_host(&self) -> Result<Host, String> {
        let (backend, name) = match self.machine {
            Machine::Uring => (IoBackend::Auto, "uring"),
            _ => (IoBackend::Threads, "threads"),
        };
        let host = Host::system(backend).map_err(|error| format!("{name}: {error}"))?;
        if host.fs.backend() != name {
            return Err(format!("this system gives {} instead of {name}", host.fs.backend()));
        }
        Ok(host)
    }
}

/// The machine's monotonic time under a wall clock that only the case moves: not even an engine
/// that sleeps on simulated time makes it go on.
pub(crate) struct CaseClock {
    machine: Arc<dyn Clock>,
    wall: AtomicU64,
}

impl CaseClock {
    pub(crate) fn new(machine: Arc<dyn Clock>) -> Arc<Self> {
        let wall = AtomicU64::new(machine.now().0);
        Arc::new(Self { machine, wall })
    }

    pub(crate) fn set_wall(&self, wall: UnixMillis) {
        self.wall.store(wall.0, Ordering::SeqCst);
    }
}

impl Clock for CaseClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

/// A host with threads, and their time, over a simulated machine's files.
pub(crate) fn threaded_host(machine: &SimMachine) -> Host {
    let mut env = Env::system();
    env.random = machine.host().env.random;
    let background = Arc::new(ThreadBackground::new(&env));
    Host { env, fs: Arc::new(machine.fs()), background }
}
