//! [`DirectoryTier`]: objects as files of a directory.
//!
//! An upload writes `<name>.tmp`, syncs it, renames it and syncs the directory: an object of a name
//! without that ending is whole.

use std::sync::Arc;

use ferrokit_engine::{Error, Op, Result};

use super::{Object, ObjectEntry, ObjectTier, Upload, check_name};
use crate::atomic_file::{TEMPORARY_SUFFIX, join};
use crate::fs::{File, Fs, OpenMode};

/// Objects in a directory.
pub struct DirectoryTier {
    fs: Arc<dyn Fs>,
    directory: String,
}

impl DirectoryTier {
    /// The tier in `directory`, which is created if it is absent. Blocks.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    pub fn open(fs: Arc<dyn Fs>, directory: &str) -> Result<Self> {
        fs.create_dir_all(directory)?;
        Ok(Self { fs, directory: directory.to_owned() })
    }
}

impl ObjectTier for DirectoryTier {
    fn location(&self) -> &str {
        &self.directory
    }

    fn upload(&self, name: &str) -> Result<Box<dyn Upload>> {
        check_name(name)?;
        let path = join(&self.directory, name);
        let temporary = format!("{path}{TEMPORARY_SUFFIX}");
        let file = self.fs.open(&temporary, OpenMode::CreateNew)?;
        Ok(Box::new(DirectoryUpload {
            fs: Arc::clone(&self.fs),
            directory: self.directory.clone(),
            path,
            temporary,
            file,
            offset: 0,
            is_finished: false,
        }))
    }

    fn open(&self, name: &str, bytes: u64) -> Result<Arc<dyn Object>> {
        check_name(name)?;
        let path = join(&self.directory, name);
        let file = self.fs.open(&path, OpenMode::Read)?;
        let actual = file.len()?;
        if actual != bytes {
            let message = format!("the object has {actual} bytes and not {bytes}");
            return Err(Error::corruption("object.open", message, &path, actual.min(bytes)));
        }
        Ok(Arc::new(DirectoryObject(file)))
    }

    fn delete(&self, name: &str) -> Op<'static, ()> {
        let path = join(&self.directory, name);
        Op::Ready(check_name(name).and_then(|()| match self.fs.exists(&path)? {
            true => self.fs.remove_file(&path),
            false => Ok(()),
        }))
    }

    fn list(&self, prefix: &str) -> Op<'static, Vec<ObjectEntry>> {
        let entries = self.fs.list(&self.directory).map(|entries| {
            let objects = entries.into_iter().filter(|entry| {
                !entry.is_dir
                    && entry.name.starts_with(prefix)
                    && !entry.name.ends_with(TEMPORARY_SUFFIX)
            });
            objects.map(|entry| ObjectEntry { name: entry.name, bytes: entry.bytes }).collect()
        });
        Op::Ready(entries)
    }

    fn remove_unfinished(&self, prefix: &str) -> Op<'static, ()> {
        let removed = self.fs.list(&self.directory).and_then(|entries| {
            let is_unfinished =
                |name: &str| name.starts_with(prefix) && name.ends_with(TEMPORARY_SUFFIX);
            let mut unfinished = entries.iter().filter(|entry| is_unfinished(&entry.name));
            unfinished.try_for_each(|it| self.fs.remove_file(&join(&self.directory, &it.name)))
        });
        Op::Ready(removed)
    }
}

struct DirectoryObject(Arc<dyn File>);

impl Object for DirectoryObject {
    fn path(&self) -> &str {
        self.0.path()
    }

    fn read_at(&self, offset: u64, len: usize) -> Op<'static, Vec<u8>> {
        self.0.read_at(offset, len)
    }
}

struct DirectoryUpload {
    fs: Arc<dyn Fs>,
    directory: String,
    path: String,
    temporary: String,
    file: Arc<dyn File>,
    offset: u64,
    is_finished: bool,
}

impl Upload for DirectoryUpload {
    fn append(&mut self, bytes: Vec<u8>) -> Op<'static, ()> {
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        self.file.write_at(offset, bytes).map(drop)
    }

    fn finish(mut self: Box<Self>) -> Op<'static, ()> {
        Op::pending(async move {
            self.file.sync_all().await?;
            self.fs.rename(&self.temporary, &self.path)?;
            self.is_finished = true;
            self.fs.sync_dir(&self.directory)
        })
    }
}

impl Drop for DirectoryUpload {
    fn drop(&mut self) {
        if !self.is_finished {
            // What is left here goes with `remove_unfinished`.
            let _ = self.fs.remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use ferrokit_engine::ErrorKind;

    use super::*;
    use crate::sim::{CrashMode, SimMachine};
    use crate::testing::object_suite;

    #[test]
    fn a_directory_is_a_tier() {
        let machine = SimMachine::new(1);
        let tier = DirectoryTier::open(machine.host().fs, "objects").unwrap();
        object_suite::run(&tier, &machine.host());
    }

    #[test]
    fn an_object_is_whole_or_absent_after_a_crash_at_any_moment() {
        for cut in 0.. {
            let machine = SimMachine::new(cut);
            machine.crash_at(cut);
            let put = || -> Result<()> {
                let tier = DirectoryTier::open(machine.host().fs, "objects")?;
                let mut upload = tier.upload("a-object")?;
                upload.append(vec![1; 5000]).wait()?;
                upload.append(vec![2; 5000]).wait()?;
                upload.finish().wait()
            };
            let answered = put();
            for seed in 0..8 {
                let mode = match seed {
                    0 => CrashMode::KeepAll,
                    1 => CrashMode::DropUnsynced,
                    _ => CrashMode::Random(seed),
                };
                let after = machine.crash(mode);
                let tier = DirectoryTier::open(after.host().fs, "objects").unwrap();
                tier.remove_unfinished("a-").wait().unwrap();
                let left = tier.list("a-").wait().unwrap();
                assert!(!left.is_empty() || answered.is_err(), "cut {cut}: an answered object");
                for entry in &left {
                    let object = tier.open(&entry.name, 10_000).unwrap();
                    let bytes = object.read_at(0, 10_000).wait().unwrap();
                    assert_eq!(bytes, [vec![1; 5000], vec![2; 5000]].concat(), "cut {cut}");
                }
                assert_eq!(after.fs().list("objects").unwrap().len(), left.len());
            }
            if answered.is_ok() {
                assert!(cut > 5);
                return;
            }
        }
    }

    #[test]
    fn an_object_of_another_length_is_damaged() {
        let machine = SimMachine::new(1);
        let tier = DirectoryTier::open(machine.host().fs, "objects").unwrap();
        let mut upload = tier.upload("a").unwrap();
        upload.append(vec![1; 10]).wait().unwrap();
        upload.finish().wait().unwrap();
        let error = tier.open("a", 11).err().unwrap();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Corruption, Some("objects/a")));
    }
}
