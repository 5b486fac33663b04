//! [`Place`]: where checkpoints lie, and what there is the server's own to replace.
//!
//! A checkpoint bears a mark, a file of its own. Only what bears it, or is empty, is replaced or
//! removed; and never what the running engine, or that of another process, lives in.

use std::path::{Path, PathBuf};

use ferrokit_engine::{Error, Result};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::{DirLock, Fs, OpenMode};

use crate::settings::Settings;

/// The file that marks a directory as a checkpoint.
pub(crate) const MARK_NAME: &str = "FERROKIT_CHECKPOINT";

const MARK_TEXT: &[u8] =
    b"A checkpoint of ferrokit-server: the next one replaces this directory.\n";

/// What an unfinished checkpoint is called within `name.new`: engines want an empty directory, and
/// it must be known whose `name.new` is from its beginning.
const UNFINISHED_NAME: &str = "data";

/// The names that checkpoints have.
pub(crate) struct Place {
    directory: String,
    /// The complete one.
    path: String,
    /// The one being written.
    new: String,
    /// The last one, while a new one takes its name.
    old: String,
}

impl Place {
    pub(crate) fn new(settings: &Settings) -> Self {
        let (directory, name) = (settings.dir.to_text(), settings.dbfilename.to_text());
        let at = |suffix| join(&directory, &format!("{name}{suffix}"));
        Self { path: at(""), new: at(".new"), old: at(".old"), directory }
    }

    /// Refuses names that would have a checkpoint replace something of the engine in `engine`.
    pub(crate) fn check_apart_from(&self, engine: Option<&Path>) -> Result<()> {
        [&self.path, &self.old].into_iter().try_for_each(|it| apart(it, engine))?;
        self.check_new_apart_from(engine)
    }

    /// The same for a checkpoint that gets no name.
    pub(crate) fn check_new_apart_from(&self, engine: Option<&Path>) -> Result<()> {
        apart(&self.new, engine)
    }

    /// Refuses to replace what is no checkpoint, or open elsewhere.
    pub(crate) fn check_replaceable(&self, fs: &dyn Fs) -> Result<()> {
        own(fs, &self.path)?;
        own(fs, &self.old).map(drop)
    }

    /// Gives the last checkpoint its name back, if the server ended while a new one took it; not if
    /// an engine in `engine` is about to be opened there.
    pub(crate) fn put_back(&self, fs: &dyn Fs, engine: Option<&Path>) -> Result<()> {
        if fs.exists(&self.path)? || !fs.exists(&self.old)? || apart(&self.old, engine).is_err() {
            return Ok(());
        }
        if !fs.exists(&join(&self.old, MARK_NAME))? {
            return Ok(());
        }
        let _lock = fs.lock_dir(&self.old)?;
        fs.rename(&self.old, &self.path)?;
        tracing::warn!(path = self.path, "the last checkpoint has its name again");
        fs.sync_dir(&self.directory)
    }

    /// Begins a checkpoint: the directory for it.
    pub(crate) async fn begin(&self, fs: &dyn Fs) -> Result<String> {
        remove(fs, &self.new)?;
        fs.create_dir_all(&self.new)?;
        mark(fs, &self.new).await?;
        Ok(join(&self.new, UNFINISHED_NAME))
    }

    /// Gives the complete checkpoint its name. Killed in between, the last one is left as
    /// `name.old`.
    pub(crate) async fn publish(&self, fs: &dyn Fs) -> Result<()> {
        let complete = join(&self.new, UNFINISHED_NAME);
        mark(fs, &complete).await?;
        remove(fs, &self.old)?;
        {
            let _lock = own(fs, &self.path)?;
            if fs.exists(&self.path)? {
                fs.rename(&self.path, &self.old)?;
            }
            fs.rename(&complete, &self.path)?;
            fs.sync_dir(&self.directory)?;
        }
        self.discard(fs)?;
        remove(fs, &self.old)
    }

    /// Removes what was begun.
    pub(crate) fn discard(&self, fs: &dyn Fs) -> Result<()> {
        remove(fs, &self.new)
    }
}

/// The path without links and dots; what is not there is taken as it is written.
pub(crate) fn canonical(path: &str) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    for ancestor in absolute.ancestors() {
        if let (Ok(there), Ok(rest)) = (ancestor.canonicalize(), absolute.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { there } else { there.join(rest) };
        }
    }
    absolute
}

/// Has a directory be no checkpoint any more.
pub(crate) fn unmark(fs: &dyn Fs, directory: &str) -> Result<()> {
    let path = join(directory, MARK_NAME);
    if fs.exists(&path)? {
        fs.remove_file(&path)?;
        fs.sync_dir(directory)?;
    }
    Ok(())
}

async fn mark(fs: &dyn Fs, directory: &str) -> Result<()> {
    let file = fs.open(&join(directory, MARK_NAME), OpenMode::CreateNew)?;
    file.write_at(0, MARK_TEXT.to_vec()).await?;
    file.sync_all().await?;
    fs.sync_dir(directory)
}

/// Refuses a path that is, holds or lies in the engine's directory.
fn apart(path: &str, engine: Option<&Path>) -> Result<()> {
    let at = canonical(path);
    match engine {
        Some(engine) if at.starts_with(engine) || engine.starts_with(&at) => Err(Error::invalid(
            "save",
            "a checkpoint there would take the place of files of the running engine; set dir or \
             dbfilename to another",
        )
        .with_file(path)),
        _ => Ok(()),
    }
}

/// Refuses what is neither absent, empty nor a checkpoint, and what is open elsewhere; keeps others
/// from opening it.
fn own(fs: &dyn Fs, path: &str) -> Result<Option<Box<dyn DirLock>>> {
    if !fs.exists(path)? {
        return Ok(None);
    }
    let entries = fs.list(path)?;
    if entries.is_empty() {
        return Ok(None);
    }
    if !entries.iter().any(|entry| entry.name == MARK_NAME && !entry.is_dir) {
        let why = format!(
            "what is there is no checkpoint (it has no file {MARK_NAME}), and is not replaced; \
             move it away, or set dir or dbfilename to another"
        );
        return Err(Error::invalid("save", why).with_file(path));
    }
    fs.lock_dir(path).map(Some)
}

/// Removes a checkpoint; the mark goes last, so that what a crash leaves is known.
fn remove(fs: &dyn Fs, path: &str) -> Result<()> {
    if !fs.exists(path)? {
        return Ok(());
    }
    let _lock = own(fs, path)?;
    for entry in fs.list(path)? {
        let at = join(path, &entry.name);
        if entry.is_dir {
            fs.remove_dir_all(&at)?;
        } else if entry.name != MARK_NAME {
            fs.remove_file(&at)?;
        }
    }
    fs.remove_dir_all(path)
}
