//! The simulated machine: files, time, randomness and jobs in memory, deterministic from a seed,
//! with faults and crash images.
//!
//! ```
//! use ferrokit_storage::sim::{CrashMode, SimMachine};
//! use ferrokit_storage::OpenMode;
//!
//! let machine = SimMachine::new(7);
//! let fs = machine.host().fs;
//! fs.create_dir_all("data").unwrap();
//! let file = fs.open("data/a", OpenMode::CreateNew).unwrap();
//! file.write_at(0, b"hello".to_vec()).wait().unwrap();
//! file.sync_data().wait().unwrap();
//! // The bytes are synced, the name is not: after a power cut the file is gone.
//! let after = machine.crash(CrashMode::DropUnsynced);
//! assert!(!after.host().fs.exists("data/a").unwrap());
//! ```
//!
//! # What is kept apart
//! Each file has its **written** bytes (what reads answer) and its **synced** bytes, with the
//! list of writes between them; the directories likewise. A name is durable only after
//! [`Fs::sync_dir`](crate::Fs::sync_dir), bytes only after
//! [`File::sync_data`](crate::File::sync_data); neither implies the other. Directories created by
//! [`Fs::create_dir_all`](crate::Fs::create_dir_all) are durable at once, as that method promises.
//!
//! # Cutting
//! Every operation that changes something (write, sync, create, rename, ...) has a running number
//! ([`SimMachine::io_count`]). After [`SimMachine::crash_at`]`(n)` exactly the first `n` take
//! effect and everything later fails; [`SimMachine::crash`] then gives a new machine that booted
//! from what the disk holds. One frozen machine gives any number of images.
//!
//! # Determinism
//! With one thread and [`SimMachine::host`], a run depends on the seed alone. With
//! [`SimMachine::threaded_host`] the files are the same but real threads decide the order.

mod background;
mod clock;
mod crash;
mod disk;
mod faults;
mod fs;
mod machine;
mod namespace;
mod rng;
mod sparse;
#[cfg(test)]
mod tests;

pub use background::{StepOrder, SteppedBackground};
pub use clock::{SimClock, SimRandom, SimSpawner, SimTimer};
pub use crash::CrashMode;
pub use faults::{FaultKind, FaultPlan, OpKind};
pub use fs::SimFs;
pub use machine::SimMachine;
