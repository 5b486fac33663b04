//! Backups: checkpoints of a running store, and stores restored from them.
//!
//! While a restore fills a directory, a mark lies in it: a directory that was filled in part, by a
//! restore that a crash cut short, is refused instead of opened.

use ferrokit_engine::{CheckpointInfo, Error as EngineError, ErrorKind};
use ferrokit_storage::{Fs, Host, LOCK_FILE_NAME, OpenMode};

use crate::error::Result;
use crate::handle::Ferrokit;

const MARK_NAME: &str = "RESTORING";
const COPY_BYTES: usize = 1 << 20;

impl Ferrokit {
    /// Writes a consistent, complete copy of all databases into `directory`, which must be absent
    /// or empty, while reads and writes go on. It is on the device on completion.
    ///
    /// [`Builder::restore`](crate::Builder::restore) makes a new store of it.
    ///
    /// # Errors
    /// `Unsupported` where the engine has no checkpoints; `InvalidArgument` if the directory is in
    /// use; those of the engine.
    pub async fn checkpoint(&self, directory: impl AsRef<str> + Send) -> Result<CheckpointInfo> {
        let engine = self.engine();
        let checkpoint = engine.as_checkpoint().ok_or_else(|| {
            let name = engine.capabilities().engine;
            EngineError::unsupported("checkpoint", format!("the engine \"{name}\" has none"))
        })?;
        Ok(checkpoint.checkpoint(directory.as_ref()).await?)
    }
}

/// Restores `checkpoint`, if one is given, into the directory of an engine that is about to be
/// opened, and refuses the directory if an earlier restore did not finish.
pub(crate) fn prepare(host: &Host, directory: &str, checkpoint: Option<&str>) -> Result<()> {
    let fs = &*host.fs;
    let mark = join(directory, MARK_NAME);
    if !directory.is_empty() && fs.exists(&mark)? {
        return Err(EngineError::new(
            ErrorKind::Corruption,
            "open",
            "a restore into this directory did not finish; remove it and restore again",
        )
        .with_file(&mark)
        .into());
    }
    let Some(checkpoint) = checkpoint else { return Ok(()) };
    if directory.is_empty() {
        let message = "the engine's URL names no directory to restore into";
        return Err(EngineError::invalid("restore", message).into());
    }
    if fs.exists(directory)? && !fs.list(directory)?.is_empty() {
        let message = "the directory is in use; restore into an absent or empty one";
        return Err(EngineError::invalid("restore", message).with_file(directory).into());
    }
    if fs.list(checkpoint)?.is_empty() {
        let message = "there is no checkpoint in this directory";
        let error = EngineError::new(ErrorKind::NotFound, "restore", message);
        return Err(error.with_file(checkpoint).into());
    }
    fs.create_dir_all(directory)?;
    host.wait(fs.open(&mark, OpenMode::CreateNew)?.sync_all())?;
    fs.sync_dir(directory)?;
    copy_directory(host, checkpoint, directory)?;
    fs.remove_file(&mark)?;
    Ok(fs.sync_dir(directory)?)
}

/// Copies the files of a directory and of those in it, durably.
fn copy_directory(host: &Host, from: &str, to: &str) -> Result<()> {
    let fs = &*host.fs;
    let mut directories = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = directories.pop() {
        fs.create_dir_all(&to)?;
        for entry in fs.list(&from)? {
            let (source, target) = (join(&from, &entry.name), join(&to, &entry.name));
            if entry.is_dir {
                directories.push((source, target));
            } else if entry.name != LOCK_FILE_NAME {
                copy_file(host, fs, &source, &target)?;
            }
        }
        fs.sync_dir(&to)?;
    }
    Ok(())
}

fn copy_file(host: &Host, fs: &dyn Fs, from: &str, to: &str) -> Result<()> {
    let source = fs.open(from, OpenMode::Read)?;
    let target = fs.open(to, OpenMode::CreateNew)?;
    let bytes = source.len()?;
    let mut at = 0;
    while at < bytes {
        let len = usize::try_from(bytes - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let part = host.wait(source.read_at(at, len))?;
        host.wait(target.write_at(at, part))?;
        at += len as u64;
    }
    Ok(host.wait(target.sync_all())?)
}

fn join(directory: &str, name: &str) -> String {
    if directory.ends_with('/') {
        format!("{directory}{name}")
    } else {
        format!("{directory}/{name}")
    }
}
