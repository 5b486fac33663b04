//! Atomic replacement of small files (manifests, current pointers, key rings).
//!
//! The new content is written to a temporary file beside the old one, synced, renamed over it, and
//! the directory is synced. A crash at any point leaves the whole old or the whole new content, and
//! at most a temporary file, which [`remove_temporary_files`] takes away at the next open. After
//! [`replace_file`] has answered, the new content survives every crash.
//!
//! One replacement of a name at a time: who replaces holds the directory's lock.

use std::sync::Arc;

use ferrokit_engine::{Error, Result};

use crate::fs::{File, Fs, OpenMode};

/// What the names of temporary files end with. No other file may be named so.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// The path of `name` in `directory`.
pub fn join(directory: &str, name: &str) -> String {
    match directory {
        "" => name.to_owned(),
        _ if directory.ends_with('/') => format!("{directory}{name}"),
        _ => format!("{directory}/{name}"),
    }
}

/// The directory and the name of a path; the inverse of [`join`].
pub fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => (".", path),
    }
}

/// Gives the file `name` in `directory` the content `bytes`, atomically and durably. Works on any
/// file system; names are changed by blocking calls, so it is for opening and maintenance jobs.
///
/// # Errors
/// `Io`, `OutOfSpace`: the file has its old content, or, if only the last sync failed, may have the
/// new one.
pub async fn replace_file(fs: &dyn Fs, directory: &str, name: &str, bytes: Vec<u8>) -> Result<()> {
    replace(fs, directory, name, bytes, |temporary, _| fs.open(temporary, OpenMode::CreateNew))
        .await
}

/// As [`replace_file`] for a file that is there: who may read and write it stays the same, and at no
/// time may anybody else.
///
/// # Errors
/// `NotFound`; those of [`replace_file`].
pub async fn rewrite_file(fs: &dyn Fs, directory: &str, name: &str, bytes: Vec<u8>) -> Result<()> {
    replace(fs, directory, name, bytes, |temporary, path| fs.create_like(temporary, path)).await
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// `NotFound`, `Io`; `InvalidArgument` if it is longer.
pub async fn read_file(fs: &dyn Fs, path: &str, bytes_max: usize) -> Result<Vec<u8>> {
    let file = fs.open(path, OpenMode::Read)?;
    let len = file.len()?;
    match usize::try_from(len) {
        Ok(len) if len <= bytes_max => file.read_at(0, len).await,
        _ => Err(Error::invalid("fs.read", format!("{path} is longer than {bytes_max} bytes"))),
    }
}

async fn replace(
    fs: &dyn Fs,
    directory: &str,
    name: &str,
    bytes: Vec<u8>,
    create: impl Fn(&str, &str) -> Result<Arc<dyn File>>,
) -> Result<()> {
    let path = join(directory, name);
    let temporary = format!("{path}{TEMPORARY_SUFFIX}");
    if fs.exists(&temporary)? {
        fs.remove_file(&temporary)?;
    }
    let file = create(&temporary, &path)?;
    file.write_at(0, bytes).await?;
    file.sync_all().await?;
    drop(file);
    fs.rename(&temporary, &path)?;
    fs.sync_dir(directory)
}

/// Removes what unfinished replacements have left in a directory; answers how many files.
///
/// # Errors
/// `NotFound` if there is no such directory, `Io`.
pub fn remove_temporary_files(fs: &dyn Fs, directory: &str) -> Result<usize> {
    let mut removed = 0;
    for entry in fs.list(directory)? {
        if !entry.is_dir && entry.name.ends_with(TEMPORARY_SUFFIX) {
            fs.remove_file(&join(directory, &entry.name))?;
            removed += 1;
        }
    }
    Ok(removed)
}
