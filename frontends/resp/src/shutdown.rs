//! How the server ends: [`ShutdownFlags`], and the checkpoint before it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::saves::Purpose;
use crate::settings::cell::Problem;
use crate::settings::list::ListValue;
use crate::shared::Shared;

/// How a shutdown is to be done: SHUTDOWN's options, `shutdown-on-sigterm`, `shutdown-on-sigint`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShutdownFlags {
    saves: bool,
    saves_not: bool,
    /// Not to wait for replicas: there are none.
    is_now: bool,
    /// Even if the checkpoint fails.
    is_forced: bool,
}

impl ShutdownFlags {
    /// Takes an option.
    pub(crate) fn add(&mut self, option: &[u8]) -> Result<(), ()> {
        let flag = match option.to_ascii_lowercase().as_slice() {
            b"save" => &mut self.saves,
            b"nosave" => &mut self.saves_not,
            b"now" => &mut self.is_now,
            b"force" => &mut self.is_forced,
            _ => return Err(()),
        };
        *flag = true;
        Ok(())
    }

    pub(crate) fn is_contradictory(self) -> bool {
        self.saves && self.saves_not
    }
}

impl ListValue for ShutdownFlags {
    const HINT: &'static str = "default|save|nosave|now|force";

    fn parse(words: &[&[u8]]) -> Result<Self, Problem> {
        let mut flags = Self::default();
        for word in words {
            if !word.eq_ignore_ascii_case(b"default") && flags.add(word).is_err() {
                return Err(
                    "argument(s) must be one of the following: default, save, nosave, now, \
                            force"
                        .into(),
                );
            }
        }
        if words.is_empty() {
            return Self::parse(&[b""]);
        }
        if flags.is_contradictory() {
            return Err("shutdown-on-sigint/sigterm can't have both nosave and save options".into());
        }
        Ok(flags)
    }

    fn show(&self) -> String {
        let names = [
            (self.saves, "save"),
            (self.saves_not, "nosave"),
            (self.is_now, "now"),
            (self.is_forced, "force"),
        ];
        let words: Vec<&str> =
            names.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
        if words.is_empty() { "default".to_owned() } else { words.join(" ") }
    }
}

/// Shutdowns that are being prepared.
#[derive(Default)]
pub(crate) struct Shutdowns {
    pending: AtomicUsize,
    is_aborted: AtomicBool,
}

/// Counts a shutdown in preparation, until it is done with or given up.
struct Pending<'p>(&'p AtomicUsize);

impl<'p> Pending<'p> {
    fn new(count: &'p AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How often a checkpoint under way is asked whether it is over.
const POLL: Duration = Duration::from_millis(20);

impl Shared {
    /// Takes the checkpoint that belongs to a shutdown; whether the server may end.
    pub(crate) async fn prepare_shutdown(&self, flags: ShutdownFlags) -> bool {
        let saves_by_default = !self.settings.save.get().0.is_empty() && !flags.saves_not;
        // Before it is loaded there is nothing to save.
        if !flags.saves && !saves_by_default || self.is_loading() {
            return true;
        }
        self.shutdowns.is_aborted.store(false, Ordering::SeqCst);
        let _pending = Pending::new(&self.shutdowns.pending);
        let outcome = loop {
            match self.begin_save(Purpose::Save) {
                Ok(outcome) => break outcome.await,
                Err(_) => self.host.env.timer.sleep(POLL).await,
            }
        };
        let is_saved = matches!(outcome, Ok(Ok(())));
        if !is_saved && !flags.is_forced {
            tracing::error!("the server goes on: its data is not saved");
        }
        let is_aborted = self.shutdowns.is_aborted.load(Ordering::SeqCst);
        (is_saved || flags.is_forced) && !is_aborted
    }

    /// Has the server go on after all; false if it does not prepare to end.
    pub(crate) fn abort_shutdown(&self) -> bool {
        let is_pending = self.shutdowns.pending.load(Ordering::SeqCst) > 0;
        if is_pending {
            self.shutdowns.is_aborted.store(true, Ordering::SeqCst);
        }
        is_pending
    }
}
