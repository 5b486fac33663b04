//! [`SimFs`]: the file system of a simulated machine.

use std::future::Future;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ferrokit_engine::{Error, ErrorKind, Op, Result};

use super::disk::{DataOp, Disk, Moment, failed, no_space, not_found};
use super::faults::{FaultKind, OpKind};
use super::machine::SharedDisk;
use super::namespace::{InodeId, NameOp, is_within, normalise, place};
use crate::fs::{DirEntry, DirLock, File, Fs, Mapping, OpenMode};

/// The file system of a [`SimMachine`](super::SimMachine).
///
/// Operations take effect when they are called and are ready at once, unless a
/// [`FaultKind::Slow`] delays them.
#[derive(Clone)]
pub struct SimFs {
    disk: Arc<SharedDisk>,
}

impl SimFs {
    pub(super) fn new(disk: Arc<SharedDisk>) -> Self {
        Self { disk }
    }

    fn handle(&self, disk: &mut Disk, path: &str, inode: InodeId, mode: OpenMode) -> Arc<dyn File> {
        disk.inode_mut(inode).handles += 1;
        Arc::new(SimFile {
            disk: Arc::clone(&self.disk),
            path: path.to_owned(),
            handle: Arc::new(Handle { disk: Arc::clone(&self.disk), inode }),
            is_writable: mode != OpenMode::Read,
        })
    }
}

impl Fs for SimFs {
    fn backend(&self) -> &'static str {
        "sim"
    }

    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn File>> {
        let at = place("fs.open", path)?;
        let mut disk = self.disk.lock();
        let found = disk.written.get(&at);
        let inode = match (found, mode) {
            (Some(_), OpenMode::CreateNew) => {
                disk.check_alive("fs.open", path)?;
                let exists = io::Error::from(io::ErrorKind::AlreadyExists);
                return Err(Error::io("fs.open", exists).with_file(path));
            }
            (Some(inode), _) => {
                disk.start(OpKind::Open, path)?;
                inode
            }
            (None, OpenMode::CreateNew | OpenMode::OpenOrCreate) => {
                disk.start(OpKind::Create, path)?;
                if !disk.written.has_dir(&at.dir) {
                    return Err(not_found("fs.open", path));
                }
                let inode = disk.create_inode();
                disk.change_names(NameOp::Link { place: at, inode });
                inode
            }
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                disk.start(OpKind::Open, path)?;
                return Err(not_found("fs.open", path));
            }
        };
        Ok(self.handle(&mut disk, path, inode, mode))
    }

    /// Nobody but the machine is there to read: permissions are not simulated.
    fn create_like(&self, path: &str, like: &str) -> Result<Arc<dyn File>> {
        let at = place("fs.open", like)?;
        if self.disk.lock().written.get(&at).is_none() {
            return Err(not_found("fs.open", like));
        }
        self.open(path, OpenMode::CreateNew)
    }

    fn create_dir_all(&self, path: &str) -> Result<()> {
        if path.is_empty() {
            return Err(Error::invalid("fs.create_dir_all", "a directory without a name"));
        }
        let normal = normalise("fs.create_dir_all", path)?;
        let mut disk = self.disk.lock();
        if disk.written.has_dir(&normal) && disk.synced.has_dir(&normal) {
            return disk.check_alive("fs.create_dir_all", path);
        }
        disk.start(OpKind::CreateDir, path)?;
        if disk.written.has_file_on_the_way(&normal) {
            let exists = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(Error::io("fs.create_dir_all", exists).with_file(path));
        }
        // Durable at once; a removal of the same name that was not synced comes before it.
        disk.sync_names(|op| matches!(op, NameOp::RemoveDir { path } if is_within(&normal, path)));
        disk.written.create_dir_all(&normal);
        disk.synced.create_dir_all(&normal);
        Ok(())
    }

    fn list(&self, path: &str) -> Result<Vec<DirEntry>> {
        let normal = normalise("fs.list", path)?;
        let mut disk = self.disk.lock();
        disk.start(OpKind::List, path)?;
        let names = disk.written.names(&normal).ok_or_else(|| not_found("fs.list", path))?;
        let mut entries: Vec<DirEntry> = names
            .iter()
            .map(|(name, inode)| DirEntry {
                name: name.clone(),
                is_dir: false,
                bytes: disk.inode(*inode).written.len(),
            })
            .collect();
        entries.extend(disk.written.subdirs(&normal).map(|name| DirEntry {
            name: name.to_owned(),
            is_dir: true,
            bytes: 0,
        }));
        entries.sort();
        Ok(entries)
    }

    fn exists(&self, path: &str) -> Result<bool> {
        let normal = normalise("fs.exists", path)?;
        let disk = self.disk.lock();
        disk.check_alive("fs.exists", path)?;
        if disk.written.has_dir(&normal) {
            return Ok(true);
        }
        Ok(disk.written.get(&place("fs.exists", path)?).is_some())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from_place, to_place) = (place("fs.rename", from)?, place("fs.rename", to)?);
        let mut disk = self.disk.lock();
        disk.start(OpKind::Rename, from)?;
        let inode = disk.written.get(&from_place).ok_or_else(|| not_found("fs.rename", from))?;
        if !disk.written.has_dir(&to_place.dir) {
            return Err(not_found("fs.rename", to));
        }
        if from_place != to_place {
            disk.change_names(NameOp::Rename { from: from_place, to: to_place, inode });
        }
        Ok(())
    }

    fn hard_link(&self, from: &str, to: &str) -> Result<()> {
        let (from_place, to_place) = (place("fs.hard_link", from)?, place("fs.hard_link", to)?);
        let mut disk = self.disk.lock();
        disk.start(OpKind::Link, from)?;
        let inode = disk.written.get(&from_place).ok_or_else(|| not_found("fs.hard_link", from))?;
        if !disk.written.has_dir(&to_place.dir) {
            return Err(not_found("fs.hard_link", to));
        }
        if disk.written.get(&to_place).is_some() {
            let exists = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(Error::io("fs.hard_link", exists).with_file(to));
        }
        disk.change_names(NameOp::Link { place: to_place, inode });
        Ok(())
    }

    fn remove_file(&self, path: &str) -> Result<()> {
        let at = place("fs.remove_file", path)?;
        let mut disk = self.disk.lock();
        disk.start(OpKind::Remove, path)?;
        if disk.written.get(&at).is_none() {
            return Err(not_found("fs.remove_file", path));
        }
        disk.change_names(NameOp::Unlink { place: at });
        Ok(())
    }

    fn remove_dir_all(&self, path: &str) -> Result<()> {
        let normal = normalise("fs.remove_dir_all", path)?;
        if normal.is_empty() {
            return Err(Error::invalid("fs.remove_dir_all", "the root stays"));
        }
        let mut disk = self.disk.lock();
        if !disk.written.has_dir(&normal) {
            return disk.check_alive("fs.remove_dir_all", path);
        }
        disk.start(OpKind::RemoveDir, path)?;
        for place in disk.written.places_within(&normal) {
            disk.change_names(NameOp::Unlink { place });
        }
        disk.change_names(NameOp::RemoveDir { path: normal });
        Ok(())
    }

    fn sync_dir(&self, path: &str) -> Result<()> {
        let normal = normalise("fs.sync_dir", path)?;
        let mut disk = self.disk.lock();
        disk.start(OpKind::SyncDir, path)?;
        if !disk.written.has_dir(&normal) {
            return Err(not_found("fs.sync_dir", path));
        }
        disk.sync_names(|op| op.belongs_to(&normal));
        Ok(())
    }

    fn lock_dir(&self, path: &str) -> Result<Box<dyn DirLock>> {
        let normal = normalise("fs.lock_dir", path)?;
        let mut disk = self.disk.lock();
        disk.check_alive("fs.lock_dir", path)?;
        if !disk.written.has_dir(&normal) {
            return Err(not_found("fs.lock_dir", path));
        }
        if !disk.locked_dirs.insert(normal.clone()) {
            return Err(Error::new(
                ErrorKind::Locked,
                "fs.lock_dir",
                "the directory is open elsewhere",
            )
            .with_file(path));
        }
        Ok(Box::new(SimDirLock { disk: Arc::clone(&self.disk), path: normal }))
    }
}

struct SimDirLock {
    disk: Arc<SharedDisk>,
    path: String,
}

impl DirLock for SimDirLock {}

impl Drop for SimDirLock {
    fn drop(&mut self) {
        self.disk.lock().locked_dirs.remove(&self.path);
    }
}

struct SimFile {
    disk: Arc<SharedDisk>,
    path: String,
    handle: Arc<Handle>,
    is_writable: bool,
}

/// Keeps a file that has lost its names; operations under way hold it too.
struct Handle {
    disk: Arc<SharedDisk>,
    inode: InodeId,
}

impl SimFile {
    /// Numbers an operation, then does it now or, where the plan says so, later.
    fn submit<T: Send + 'static>(
        &self,
        kind: OpKind,
        range: (u64, u64),
        act: impl FnOnce(&mut Disk, &Target, Option<FaultKind>, Moment) -> Result<T> + Send + 'static,
    ) -> Op<'static, T> {
        let target = Target { path: self.path.clone(), inode: self.handle.inode };
        if !self.is_writable && !kind.is_read() && kind != OpKind::Sync {
            let denied = io::Error::from(io::ErrorKind::PermissionDenied);
            return Op::err(Error::io(kind.name(), denied).with_file(&self.path));
        }
        if range.0.checked_add(range.1).is_none_or(|end| end > i64::MAX as u64) {
            return Op::err(
                Error::invalid(kind.name(), "the range ends beyond what a file can hold")
                    .with_file(&self.path),
            );
        }
        let mut disk = self.disk.lock();
        let started = match disk.start(kind, &self.path) {
            Ok(started) => started,
            Err(error) => return Op::err(error),
        };
        let moment = started.moment;
        match started.fault {
            Some(FaultKind::Slow { polls }) => Op::pending(Slow {
                handle: Arc::clone(&self.handle),
                polls_left: polls,
                happens_if_dropped: started.happens_if_dropped,
                act: Some(Box::new(move |disk| {
                    disk.check_alive(kind.name(), &target.path)?;
                    act(disk, &target, None, moment)
                })),
            }),
            fault => Op::Ready(act(&mut disk, &target, fault, moment)),
        }
    }

    fn change(&self, kind: OpKind, range: (u64, u64), op: DataOp) -> Op<'static, ()> {
        self.submit(kind, range, move |disk, target, _, moment| {
            disk.change(kind, &target.path, target.inode, moment, op)
        })
    }

    fn sync(&self) -> Op<'static, ()> {
        self.submit(OpKind::Sync, (0, 0), |disk, target, fault, moment| {
            if fault == Some(FaultKind::SyncLosesWrites) {
                disk.inode_mut(target.inode).unsynced.clear();
                return Err(failed(OpKind::Sync.name(), &target.path));
            }
            disk.sync_file(target.inode, moment);
            Ok(())
        })
    }
}

struct Target {
    path: String,
    inode: InodeId,
}

impl File for SimFile {
    fn path(&self) -> &str {
        &self.path
    }

    fn read_at(&self, offset: u64, len: usize) -> Op<'static, Vec<u8>> {
        self.submit(OpKind::Read, (offset, len as u64), move |disk, target, fault, _| {
            let bytes = &disk.inode(target.inode).written;
            if offset + len as u64 > bytes.len() {
                let short = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(Error::io(OpKind::Read.name(), short)
                    .with_file(&target.path)
                    .with_offset(offset));
            }
            let mut data = bytes.read(offset, len);
            flip(&mut data, fault, disk);
            Ok(data)
        })
    }

    fn write_at(&self, offset: u64, data: Vec<u8>) -> Op<'static, Vec<u8>> {
        let range = (offset, data.len() as u64);
        self.submit(OpKind::Write, range, move |disk, target, fault, moment| {
            let landing = match fault {
                Some(FaultKind::ShortWrite { bytes }) => bytes.min(data.len().saturating_sub(1)),
                _ => data.len(),
            };
            let op = DataOp::Write { offset, data: Arc::from(&data[..landing]) };
            disk.change(OpKind::Write, &target.path, target.inode, moment, op)?;
            if landing < data.len() || fault.is_some() {
                return Err(failed(OpKind::Write.name(), &target.path).with_offset(offset));
            }
            Ok(data)
        })
    }

    fn sync_data(&self) -> Op<'static, ()> {
        self.sync()
    }

    fn sync_all(&self) -> Op<'static, ()> {
        self.sync()
    }

    fn len(&self) -> Result<u64> {
        let disk = self.disk.lock();
        disk.check_alive("file.len", &self.path)?;
        Ok(disk.inode(self.handle.inode).written.len())
    }

    fn set_len(&self, len: u64) -> Op<'static, ()> {
        self.change(OpKind::SetLen, (0, len), DataOp::SetLen(len))
    }

    fn allocate(&self, offset: u64, len: u64) -> Op<'static, ()> {
        if len > self.disk.lock().capacity_bytes {
            return Op::err(no_space(OpKind::Allocate.name(), &self.path));
        }
        self.change(OpKind::Allocate, (offset, len), DataOp::Allocate { offset, len })
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Op<'static, ()> {
        self.change(OpKind::PunchHole, (offset, len), DataOp::Punch { offset, len })
    }

    fn map(&self, offset: u64, len: usize) -> Result<Box<dyn Mapping>> {
        let mut disk = self.disk.lock();
        let started = disk.start(OpKind::Map, &self.path)?;
        let bytes = &disk.inode(self.handle.inode).written;
        if offset.checked_add(len as u64).is_none_or(|end| end > bytes.len()) {
            return Err(Error::invalid("file.map", "the range ends beyond the file")
                .with_file(&self.path)
                .with_offset(offset));
        }
        let mut data = bytes.read(offset, len);
        flip(&mut data, started.fault, &mut disk);
        Ok(Box::new(CopiedMapping(data)))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut disk = self.disk.lock();
        let inode = disk.inode_mut(self.inode);
        inode.handles -= 1;
        if inode.handles == 0 {
            disk.collect_inodes();
        }
    }
}

fn flip(data: &mut [u8], fault: Option<FaultKind>, disk: &mut Disk) {
    let Some(FaultKind::FlipBit { byte, bit }) = fault else { return };
    let at = byte.unwrap_or_else(|| disk.rng.below(data.len() as u64) as usize);
    if let Some(byte) = data.get_mut(at) {
        *byte ^= 1 << (bit % 8);
    }
}

/// A copy: what is written to the file afterwards does not show in it.
struct CopiedMapping(Vec<u8>);

impl Deref for CopiedMapping {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping for CopiedMapping {}

type Act<T> = Box<dyn FnOnce(&mut Disk) -> Result<T> + Send>;

/// An operation that is pending for a while. It wakes itself, so that any executor drives it.
struct Slow<T> {
    handle: Arc<Handle>,
    polls_left: u32,
    happens_if_dropped: bool,
    act: Option<Act<T>>,
}

impl<T> Future for Slow<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left > 0 {
            self.polls_left -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.act.take() {
            Some(act) => Poll::Ready(act(&mut self.handle.disk.lock())),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Slow<T> {
    fn drop(&mut self) {
        if let Some(act) = self.act.take()
            && self.happens_if_dropped
        {
            // Nobody is left to hear of a failure.
            let _unheard = act(&mut self.handle.disk.lock());
        }
    }
}
