//! Names: opening, listing, renaming, removing. These calls block.
#![expect(clippy::disallowed_methods, reason = "the real backends stand on std::fs")]

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ferrokit_engine::{Error, ErrorKind, Result};
use rustix::io::Errno;

use super::Descriptor;
use crate::fs::{DirEntry, OpenMode};

/// Names the file in a failure.
fn failed(operation: &'static str, path: &str) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::io(operation, error).with_file(path)
}

pub(crate) fn open(path: &str, mode: OpenMode, reads_cached_inline: bool) -> Result<Descriptor> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    match mode {
        OpenMode::Read => &mut options,
        OpenMode::ReadWrite => options.write(true),
        OpenMode::CreateNew => options.write(true).create_new(true),
        OpenMode::OpenOrCreate => options.write(true).create(true).truncate(false),
    };
    open_with(&options, path, reads_cached_inline)
}

/// Creates a file with the permissions of another: from the start, so that nobody gets hold of it
/// who may not.
pub(crate) fn create_like(path: &str, like: &str, reads_cached_inline: bool) -> Result<Descriptor> {
    let permissions = fs::metadata(like).map_err(failed("fs.open", like))?.permissions();
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(permissions.mode() & 0o777);
    open_with(&options, path, reads_cached_inline)
}

fn open_with(
    options: &fs::OpenOptions,
    path: &str,
    reads_cached_inline: bool,
) -> Result<Descriptor> {
    let file = options.open(path).map_err(failed("fs.open", path))?;
    if file.metadata().map_err(failed("fs.open", path))?.is_dir() {
        let error = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(Error::io("fs.open", error).with_file(path));
    }
    Ok(Descriptor::new(file, path, reads_cached_inline))
}

/// The directory that holds the name `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

pub(crate) fn create_dir_all(path: &str) -> Result<()> {
    if path.is_empty() {
        return Err(Error::invalid("fs.create_dir", "a directory without a name"));
    }
    let missing: Vec<&Path> = Path::new(path)
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.is_dir())
        .collect();
    if missing.is_empty() {
        // Whoever made it may have ended before its name was durable.
        return match sync_parent(path) {
            Err(error) if is_denied(&error) => Ok(()),
            other => other,
        };
    }
    for directory in missing.into_iter().rev() {
        match fs::create_dir(directory) {
            // Another thread may have been first; the name must be durable for us as well.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
            other => other.map_err(failed("fs.create_dir", path))?,
        }
        sync(parent(directory)).map_err(failed("fs.create_dir", path))?;
    }
    Ok(())
}

/// Whether the system does not let us look: then it was not we who made what lies there.
fn is_denied(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    source.is_some_and(|source: &io::Error| source.kind() == io::ErrorKind::PermissionDenied)
}

fn sync(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// Makes the name `path` durable.
pub(crate) fn sync_parent(path: &str) -> Result<()> {
    sync(parent(Path::new(path))).map_err(failed("fs.sync_dir", path))
}

pub(crate) fn list(path: &str) -> Result<Vec<DirEntry>> {
    let failed = || failed("fs.list", path);
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let metadata = match entry.metadata() {
            // Removed since its name was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(failed())?,
        };
        // No engine writes such a name.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_dir = metadata.is_dir();
        entries.push(DirEntry { name, is_dir, bytes: if is_dir { 0 } else { metadata.len() } });
    }
    entries.sort();
    Ok(entries)
}

pub(crate) fn exists(path: &str) -> Result<bool> {
    Path::new(path).try_exists().map_err(failed("fs.exists", path))
}

pub(crate) fn rename(from: &str, to: &str) -> Result<()> {
    fs::rename(from, to).map_err(failed("fs.rename", from))
}

pub(crate) fn hard_link(from: &str, to: &str) -> Result<()> {
    fs::hard_link(from, to).map_err(|error| {
        let unsupported = [Errno::PERM, Errno::OPNOTSUPP, Errno::XDEV, Errno::NOSYS, Errno::MLINK];
        if unsupported.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
            return Error::new(
                ErrorKind::Unsupported,
                "fs.hard_link",
                format!("no link to \"{to}\" can be made here; copy the file instead"),
            )
            .with_file(from)
            .with_source(error);
        }
        Error::io("fs.hard_link", error).with_file(from)
    })
}

pub(crate) fn remove_file(path: &str) -> Result<()> {
    fs::remove_file(path).map_err(failed("fs.remove_file", path))
}

pub(crate) fn remove_dir_all(path: &str) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed("fs.remove_dir", path)),
    }
}

pub(crate) fn sync_dir(path: &str) -> Result<()> {
    sync(Path::new(path)).map_err(failed("fs.sync_dir", path))
}
