//! [`Settings`]: every parameter of the server, from one table.
//!
//! [`rows`] has a row per parameter: its name, what it may be, its default, whether it changes while
//! the server runs, a line for the manual. Command line, environment, configuration files, CONFIG
//! GET, SET and REWRITE, help and completion are all made from it, so that a parameter exists
//! everywhere or nowhere.
//!
//! | module | subject |
//! |---|---|
//! | [`cell`] | a value: read from words, shown, loaded without a lock |
//! | [`list`] | values of several words |
//! | [`choices`] | values that are one of a few names |
//! | [`change`] | how a value takes effect while the server runs |
//! | [`words`] | lines of words, quoted and not |
//!
//! Lock order: the lock of the settings, then whatever [`Change::Applied`] takes.

pub(crate) mod cell;
pub(crate) mod change;
pub(crate) mod choices;
pub(crate) mod foreign;
pub(crate) mod list;
pub(crate) mod load;
pub(crate) mod rewrite;
mod rows;
mod toml;
pub(crate) mod units;
pub(crate) mod words;

use std::ops::Deref;
use std::sync::{Mutex, OnceLock, PoisonError};

use cell::{Cell, Problem};
use change::Change;
use choices::{Access, Io};
use ferrokit_engine::{Error, Result};
use ferrokit_storage::{Fs, IoBackend};
pub(crate) use rewrite::Added;
pub(crate) use rows::{ROWS, Values};

use crate::shared::Shared;

/// A parameter.
pub(crate) struct Row {
    /// As Redis names it, where Redis has it.
    pub(crate) name: &'static str,
    /// Other names for it.
    pub(crate) aliases: &'static [&'static str],
    /// What it is, in a line.
    pub(crate) doc: &'static str,
    pub(crate) change: Change,
    /// Where its value is.
    pub(crate) cell: fn(&Settings) -> &dyn Cell,
}

impl Row {
    /// All its names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// Whether it names files, so that changing it may do harm.
    pub(crate) fn is_protected(&self) -> bool {
        matches!(self.name, "dir" | "dbfilename")
    }
}

/// The parameter of that name, in any case.
pub(crate) fn row(name: &[u8]) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.names().any(|known| name.eq_ignore_ascii_case(known.as_bytes())))
}

/// The values of all parameters. Each is read without a lock; changes go one after the other.
#[derive(Default)]
pub struct Settings {
    values: Values,
    changing: Mutex<()>,
    rewriting: tokio::sync::Mutex<()>,
    /// Where they were read from, for CONFIG REWRITE.
    file: OnceLock<String>,
    settled: Mutex<Vec<Settled>>,
}

/// A value that was left open, and what it came to.
struct Settled {
    name: &'static str,
    configured: Vec<u8>,
    actual: Vec<u8>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password is one of them.
        f.write_str("Settings")
    }
}

impl Deref for Settings {
    type Target = Values;

    fn deref(&self) -> &Values {
        &self.values
    }
}

/// Why CONFIG SET changed nothing: which argument, and what about it.
pub(crate) struct Refused {
    pub(crate) name: String,
    pub(crate) problem: Problem,
}

impl Settings {
    /// Sets a parameter before the server starts; the value is written as for CONFIG SET.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is none, or a value the parameter cannot have.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        let row = row(name.as_bytes())
            .ok_or_else(|| Error::invalid("settings", format!("no parameter \"{name}\"")))?;
        self.assign(row, &words::of_value((row.cell)(self), value.as_bytes()))
            .map_err(|problem| Error::invalid("settings", format!("{name}: {problem}")))
    }

    /// Gives a parameter the value that was left open: CONFIG GET shows it, CONFIG REWRITE does not
    /// write it.
    pub(crate) fn settle(&self, name: &str, value: &str) -> Result<()> {
        let Some(row) = row(name.as_bytes()) else { return self.set(name, value) };
        let configured = self.show(row);
        self.set(name, value)?;
        let settled = Settled { name: row.name, configured, actual: self.show(row) };
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).push(settled);
        Ok(())
    }

    /// The value as it would be configured to hold again after a restart.
    fn configured(&self, row: &Row) -> Vec<u8> {
        let value = self.show(row);
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let same = settled.iter().find(|it| it.name == row.name && it.actual == value);
        same.map_or(value, |it| it.configured.clone())
    }

    /// Whether the value was left open, and is what it came to.
    fn is_left_open(&self, row: &Row) -> bool {
        let value = self.show(row);
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.iter().any(|it| it.name == row.name && it.actual == value)
    }

    /// Takes the text of a configuration file: TOML if its name ends so, the syntax of redis.conf
    /// otherwise, without `include`.
    ///
    /// # Errors
    /// `InvalidArgument`, saying what is wrong in which line.
    pub fn read(&self, name: &str, text: &str) -> Result<()> {
        load::Loader::of_text(self).text(name, text)
    }

    /// The text of a configuration file with the values that hold now, as CONFIG REWRITE writes it.
    ///
    /// # Errors
    /// `InvalidArgument` for TOML that is none, or a value it cannot hold.
    pub fn rewritten(&self, name: &str, text: &str) -> Result<String> {
        rewrite::text(self, name, text, Added::NotDefault)
    }

    /// Names and values of all parameters.
    pub fn all(&self) -> Vec<(&'static str, Vec<u8>)> {
        ROWS.iter().map(|row| (row.name, self.show(row))).collect()
    }

    /// CONFIG REWRITE writes to the file of that absolute path.
    pub(crate) fn set_file(&self, path: String) {
        // There is one file, named on the command line.
        let _ = self.file.set(path);
    }

    /// Writes the values that hold now into the file they were read from.
    ///
    /// # Errors
    /// As CONFIG REWRITE tells them.
    pub(crate) async fn rewrite(
        &self,
        fs: &dyn Fs,
        added: Added,
    ) -> std::result::Result<(), String> {
        let Some(path) = self.file.get() else {
            return Err("The server is running without a config file".to_owned());
        };
        let _one_at_a_time = self.rewriting.lock().await;
        rewrite::rewrite(self, fs, path, added)
            .await
            .map_err(|error| format!("Rewriting config file: {error}"))
    }

    /// How files are reached.
    pub fn io_backend(&self) -> IoBackend {
        match self.io.get() {
            Io::Auto => IoBackend::Auto,
            Io::Uring => IoBackend::Uring,
            Io::Threads => IoBackend::Threads,
        }
    }

    /// The URL of the engine.
    pub fn engine_url(&self) -> String {
        self.engine.to_text()
    }

    /// Gives a parameter a value without any effect yet.
    pub(crate) fn assign(&self, row: &Row, words: &[&[u8]]) -> Result<(), Problem> {
        (row.cell)(self).set(words)
    }

    /// The value as CONFIG GET shows it.
    pub(crate) fn show(&self, row: &Row) -> Vec<u8> {
        (row.cell)(self).show()
    }

    /// Gives parameters values while the server runs: all of them, or none.
    pub(crate) fn change(
        &self,
        shared: &Shared,
        changes: &[(&'static Row, &[u8])],
    ) -> Result<(), Refused> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |row: &Row, problem| Refused { name: row.name.to_owned(), problem };
        for (row, value) in changes {
            let cell = (row.cell)(self);
            cell.check(&words::of_value(cell, value)).map_err(|it| refused(row, it))?;
        }
        let before: Vec<Vec<u8>> = changes.iter().map(|(row, _)| self.show(row)).collect();
        let outcome = changes.iter().try_for_each(|(row, value)| {
            let cell = (row.cell)(self);
            cell.set(&words::of_value(cell, value)).map_err(|it| refused(row, it))
        });
        let outcome = outcome.and_then(|()| {
            changes.iter().try_for_each(|(row, _)| match row.change {
                Change::Applied(apply) => apply(shared).map_err(|it| refused(row, it)),
                Change::AtStart | Change::AtOnce => Ok(()),
            })
        });
        if outcome.is_err() {
            self.restore(shared, changes, &before);
        }
        outcome
    }

    /// Does something while CONFIG SET waits.
    pub(crate) fn while_unchanged<T>(&self, act: impl FnOnce() -> T) -> T {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        act()
    }

    /// Puts back what was there; it was accepted once, so it is again.
    fn restore(&self, shared: &Shared, changes: &[(&'static Row, &[u8])], before: &[Vec<u8>]) {
        for ((row, _), value) in changes.iter().zip(before) {
            let cell = (row.cell)(self);
            if let Err(problem) = cell.set(&words::of_value(cell, value)) {
                tracing::error!(parameter = row.name, %problem, "the old value is not restored");
            }
        }
        for (row, _) in changes {
            if let Change::Applied(apply) = row.change
                && let Err(problem) = apply(shared)
            {
                tracing::error!(parameter = row.name, %problem, "the old value does not act");
            }
        }
    }
}

impl Access {
    /// Whether a client may, that is on this machine or not.
    pub(crate) fn admits(self, is_local: bool) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::Local => is_local,
        }
    }
}
