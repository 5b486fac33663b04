//! Attempts, and what is waited for between them.
//!
//! Whatever can be waited for in a moment (a latch, an exchange of keyspaces) is waited for here
//! and now; for space and for what is on disk the operation becomes a pending one.

use ferrokit_engine::{Error, ErrorKind, Op, Result};

use super::Store;
use super::known::{Asked, Known};
use crate::epoch::Guard;
use crate::interrupt::{Attempt, Interrupt};
use crate::primitive::Backoff;

/// How often an operation frees space for itself before it gives up to others who take it.
const MAX_SPACE_TRIES: u32 = 64;

/// What attempts that can go on now lead to.
pub(super) enum Step<T> {
    /// One succeeded.
    Done(T),
    /// They have to wait.
    Wait(Wait),
}

/// What an operation waits for outside its thread.
pub(super) enum Wait {
    /// Pages to be evicted.
    Space { words: u64 },
    /// A checkpoint that holds the index as it is.
    Growth,
    /// Records on disk, long values.
    Cold(Vec<Asked>),
    /// Expired keys, each with its space, to be removed.
    Expired(Vec<(u64, Box<[u8]>)>),
}

impl Store {
    /// Makes attempts until one succeeds or fails for good. Ready unless it has to wait for a
    /// device.
    #[inline]
    pub(super) fn drive<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        mut attempt: impl FnMut(&Guard<'_>, &Known) -> Attempt<T> + Send + 'a,
    ) -> Op<'a, T> {
        let known = Known::default();
        match self.run_now(operation, |guard| attempt(guard, &known)) {
            Ok(Step::Done(result)) => Op::ok(result),
            Ok(Step::Wait(wait)) => self.drive_on(operation, wait, known, attempt),
            Err(error) => Op::err(error),
        }
    }

    #[cold]
    fn drive_on<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        mut wait: Wait,
        mut known: Known,
        mut attempt: impl FnMut(&Guard<'_>, &Known) -> Attempt<T> + Send + 'a,
    ) -> Op<'a, T> {
        Op::pending(async move {
            loop {
                self.wait(operation, wait, &mut known).await?;
                match self.run_now(operation, |guard| attempt(guard, &known))? {
                    Step::Done(result) => return Ok(result),
                    Step::Wait(again) => wait = again,
                }
            }
        })
    }

    /// Waits for what attempts need.
    ///
    /// # Errors
    /// `OutOfSpace`, `Corruption`, `Io`, `Poisoned`, `Closed`.
    pub(super) async fn wait(
        &self,
        operation: &'static str,
        wait: Wait,
        known: &mut Known,
    ) -> Result<()> {
        match wait {
            Wait::Cold(asked) => self.find_out(operation, asked, known).await,
            Wait::Space { words } => self.wait_for_space(operation, words).await,
            Wait::Growth => self.wait_for_growth().await,
            Wait::Expired(keys) => self.expire_all(keys).await,
        }
    }

    /// Makes attempts until one succeeds, fails for good or has to wait for a device.
    #[inline]
    pub(super) fn run_now<T>(
        &self,
        operation: &'static str,
        mut attempt: impl FnMut(&Guard<'_>) -> Attempt<T>,
    ) -> Result<Step<T>> {
        let mut backoff = Backoff::default();
        let mut space_tries = 0;
        loop {
            let guard = self.epochs.enter();
            let interrupt = match attempt(&guard) {
                Ok(result) => return Ok(Step::Done(result)),
                Err(interrupt) => interrupt,
            };
            drop(guard);
            match interrupt {
                Interrupt::Again => backoff.wait(),
                Interrupt::NoSpace { words } if self.tiers.is_some() => {
                    if self.journal().is_some() {
                        return Ok(Step::Wait(Wait::Space { words }));
                    }
                    // At opening there is nobody else yet.
                    self.make_space_at_opening(operation, words)?;
                }
                Interrupt::NoSpace { words } => {
                    if space_tries == MAX_SPACE_TRIES {
                        return Err(Error::new(
                            ErrorKind::Busy,
                            operation,
                            "other writes took the space as it was freed; try again",
                        ));
                    }
                    space_tries += 1;
                    self.make_space(operation, words)?;
                }
                Interrupt::IndexFull => {
                    if !self.grow_index(operation)? {
                        return Ok(Step::Wait(Wait::Growth));
                    }
                }
                Interrupt::Cold(asked) => return Ok(Step::Wait(Wait::Cold(asked))),
                Interrupt::Expired(keys) => return Ok(Step::Wait(Wait::Expired(keys))),
                Interrupt::Failed(error) => return Err(error),
            }
        }
    }
}
