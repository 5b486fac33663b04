//! [`Descriptor`]: an open file, with the blocking calls on it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrokit_engine::{Error, ErrorKind, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Reads up to this length are first tried on the caller's thread, where they cost a copy out of
/// the page cache. Longer copies would hold that thread up.
const CACHED_READ_BYTES_MAX: usize = 256 << 10;

/// Reads above this length are checked against the file's length before a buffer is allocated.
const UNCHECKED_READ_BYTES_MAX: usize = 64 << 10;

/// What a read of the page cache gave.
pub(crate) enum Cached {
    /// All of it.
    Hit(Vec<u8>),
    /// The first bytes of it; the rest needs the device.
    Miss {
        /// As long as the read.
        buffer: Vec<u8>,
        /// So many bytes of it are there.
        filled: usize,
    },
}

/// An open file and its name.
pub(crate) struct Descriptor {
    file: File,
    path: Box<str>,
    /// Off by choice, or since the file system has refused reads that must not wait.
    reads_without_wait: AtomicBool,
}

impl Descriptor {
    pub(crate) fn new(file: File, path: &str, reads_cached_inline: bool) -> Self {
        Self { file, path: path.into(), reads_without_wait: AtomicBool::new(reads_cached_inline) }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The failure of `operation` at `offset`.
    #[cold]
    pub(crate) fn error(&self, operation: &'static str, offset: u64, source: io::Error) -> Error {
        Error::io(operation, source).with_file(&self.path).with_offset(offset)
    }

    /// The answer to a read that the file is too short for.
    #[cold]
    pub(crate) fn end_of_file(&self, offset: u64, len: usize) -> Error {
        let message = format!("the file ends before {len} bytes from {offset}");
        self.error("file.read", offset, io::Error::new(io::ErrorKind::UnexpectedEof, message))
    }

    /// Checks a read before anything is allocated for it.
    pub(crate) fn check_read(&self, offset: u64, len: usize) -> Result<()> {
        check_range("file.read", &self.path, offset, len as u64)?;
        if len > UNCHECKED_READ_BYTES_MAX && offset + len as u64 > self.len()? {
            return Err(self.end_of_file(offset, len));
        }
        Ok(())
    }

    /// Reads what the page cache has, without waiting for a device. The range must have passed
    /// [`check_read`](Self::check_read).
    pub(crate) fn read_cached(&self, offset: u64, len: usize) -> Result<Cached> {
        let mut buffer = new_buffer("file.read", len)?;
        let mut filled = 0;
        if len > CACHED_READ_BYTES_MAX || !self.reads_without_wait.load(Ordering::Relaxed) {
            return Ok(Cached::Miss { buffer, filled });
        }
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match read_without_wait(&self.file, rest, offset + filled as u64) {
                // The end of the file, if the kernel is to be believed: some (5.9, 5.10) said so of
                // pages that were merely not there. A read that may wait decides.
                Ok(0) => return Ok(Cached::Miss { buffer, filled }),
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Cached::Miss { buffer, filled }),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.reads_without_wait.store(false, Ordering::Relaxed);
                    return Ok(Cached::Miss { buffer, filled });
                }
                Err(errno) => return Err(self.error("file.read", offset, errno.into())),
            }
        }
        Ok(Cached::Hit(buffer))
    }

    /// Reads `len` bytes; blocks.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.check_read(offset, len)?;
        let mut buffer = new_buffer("file.read", len)?;
        self.read_rest(offset, &mut buffer, 0)?;
        Ok(buffer)
    }

    /// Reads the bytes of `buffer` after the first `filled`; blocks.
    pub(crate) fn read_rest(&self, offset: u64, buffer: &mut [u8], filled: usize) -> Result<()> {
        let len = buffer.len();
        let rest = buffer.get_mut(filled..).unwrap_or_default();
        self.file.read_exact_at(rest, offset + filled as u64).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.end_of_file(offset, len),
            _ => self.error("file.read", offset, error),
        })
    }

    /// Writes all of `data`; blocks.
    pub(crate) fn write_all(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.file
            .write_all_at(data, offset)
            .map_err(|error| self.error("file.write", offset, error))
    }

    /// `fdatasync`; blocks. Not repeated when interrupted or failed: a second call could answer
    /// success for pages whose writing has failed.
    pub(crate) fn sync_data(&self) -> Result<()> {
        self.synced(sync_data(&self.file))
    }

    /// `fsync`; blocks. As [`sync_data`](Self::sync_data).
    pub(crate) fn sync_all(&self) -> Result<()> {
        self.synced(sync_all(&self.file))
    }

    fn synced(&self, result: io::Result<()>) -> Result<()> {
        result.map_err(|error| Error::io("file.sync", error).with_file(&self.path))
    }

    /// The length in bytes.
    pub(crate) fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(|error| Error::io("file.len", error).with_file(&self.path))?.len())
    }

    /// `ftruncate`; blocks.
    pub(crate) fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| self.error("file.set_len", len, error))
    }

    /// `fallocate`; blocks. Where the file system has no such thing the file is extended only.
    pub(crate) fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        match self.fallocate(FallocateFlags::empty(), offset, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let end = offset + len;
                if self.len()? < end { self.set_len(end) } else { Ok(()) }
            }
            other => other.map_err(|errno| self.error("file.allocate", offset, errno.into())),
        }
    }

    /// Gives the space of a range back; blocks.
    pub(crate) fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.fallocate(flags, offset, len).map_err(|errno| match errno {
            Errno::OPNOTSUPP | Errno::NOSYS => Error::unsupported(
                "file.punch_hole",
                "the file system cannot give space back inside a file",
            )
            .with_file(&self.path),
            _ => self.error("file.punch_hole", offset, errno.into()),
        })
    }

    fn fallocate(&self, flags: FallocateFlags, offset: u64, len: u64) -> Result<(), Errno> {
        loop {
            match rustix::fs::fallocate(&self.file, flags, offset, len) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }
}

/// One read of what is in memory: `EAGAIN` where the device would have to be waited for.
#[cfg(target_os = "linux")]
fn read_without_wait(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut slices = [io::IoSliceMut::new(buffer)];
    rustix::io::preadv2(file, &mut slices, offset, rustix::io::ReadWriteFlags::NOWAIT)
}

#[cfg(not(target_os = "linux"))]
fn read_without_wait(_: &File, _: &mut [u8], _: u64) -> Result<usize, Errno> {
    Err(Errno::OPNOTSUPP)
}

// Not those of `std`, which begin again when interrupted.
#[cfg(not(target_vendor = "apple"))]
fn sync_data(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fdatasync(file)?)
}

#[cfg(not(target_vendor = "apple"))]
fn sync_all(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fsync(file)?)
}

// There `fsync` leaves the bytes in the device's cache; `std` asks for more.
#[cfg(target_vendor = "apple")]
fn sync_data(file: &File) -> io::Result<()> {
    file.sync_data()
}

#[cfg(target_vendor = "apple")]
fn sync_all(file: &File) -> io::Result<()> {
    file.sync_all()
}

/// Refuses a range that no file can have.
pub(crate) fn check_range(
    operation: &'static str,
    path: &str,
    offset: u64,
    len: u64,
) -> Result<()> {
    // The system's offsets are signed.
    match offset.checked_add(len) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        _ => {
            Err(Error::invalid(operation, format!("{len} bytes from {offset} lie beyond any file"))
                .with_file(path))
        }
    }
}

/// A zeroed buffer, or an error where there is no memory for it.
pub(crate) fn new_buffer(operation: &'static str, len: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|source| {
        Error::new(ErrorKind::Io, operation, format!("no memory for {len} bytes"))
            .with_source(source)
    })?;
    buffer.resize(len, 0);
    Ok(buffer)
}
