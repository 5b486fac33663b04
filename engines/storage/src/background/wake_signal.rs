//! [`WakeSignal`]: how a thread that sleeps between steps is woken, with no wake lost.
//!
//! `AWAKE` is cleared before a step, never after: a wake that comes during the step sets it again
//! and causes another step. The waker's read-modify-write, even where the flag is set already,
//! orders what it wrote before the step that answers it; a mere load would not.
//!
//! A call that can wait a little (`SOON`) costs the sleeper one short sleep instead of a step for
//! every call: however often it is called meanwhile, it steps once.

use super::primitive::{AtomicU8, Ordering, Thread, park, park_a_little};

const AWAKE: u8 = 1;
const STOPPED: u8 = 2;
const SOON: u8 = 4;

/// What the sleeper is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Something may be there to do.
    Run,
    /// Nothing more is to be done, ever.
    Stop,
}

/// Shared by one sleeper and any number of wakers.
pub(crate) struct WakeSignal(AtomicU8);

impl WakeSignal {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Calls the sleeper, which is `thread`.
    pub(crate) fn wake(&self, thread: &Thread) {
        if self.0.fetch_or(AWAKE, Ordering::AcqRel) & AWAKE == 0 {
            thread.unpark();
        }
    }

    /// Calls the sleeper, which is `thread`, to step within a few milliseconds.
    pub(crate) fn wake_soon(&self, thread: &Thread) {
        if self.0.fetch_or(SOON, Ordering::AcqRel) & (AWAKE | SOON) == 0 {
            thread.unpark();
        }
    }

    /// Calls the sleeper for the last time.
    pub(crate) fn stop(&self, thread: &Thread) {
        self.0.fetch_or(STOPPED, Ordering::AcqRel);
        thread.unpark();
    }

    /// Marks the end; for the sleeper itself.
    pub(crate) fn stop_self(&self) {
        self.0.fetch_or(STOPPED, Ordering::AcqRel);
    }

    /// Whether the end was called.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire) & STOPPED != 0
    }

    /// Sleeps until there is a call. Only the sleeper may wait.
    pub(crate) fn wait(&self) -> Call {
        let mut has_slept_a_little = false;
        loop {
            let flags = self.0.load(Ordering::Acquire);
            if flags & STOPPED != 0 {
                return Call::Stop;
            }
            if flags & AWAKE != 0 || flags & SOON != 0 && has_slept_a_little {
                // Both are answered by the step that follows.
                self.0.fetch_and(!(AWAKE | SOON), Ordering::AcqRel);
                return Call::Run;
            }
            if flags & SOON != 0 {
                has_slept_a_little = true;
                park_a_little();
            } else {
                park();
            }
        }
    }
}
