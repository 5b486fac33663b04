//! [`ThreadsFile`]: a file whose operations run on the pool.

use std::sync::Arc;

use ferrokit_engine::{Op, Result};

use super::pool::Pool;
use crate::fs::{File, Mapping};
use crate::posix::mapped::Mapped;
use crate::posix::{Cached, Descriptor, check_range};

pub(super) struct ThreadsFile {
    descriptor: Arc<Descriptor>,
    pool: Arc<Pool>,
}

impl ThreadsFile {
    pub(super) fn new(descriptor: Descriptor, pool: Arc<Pool>) -> Self {
        Self { descriptor: Arc::new(descriptor), pool }
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Descriptor) -> Result<T> + Send + 'static,
    ) -> Op<'static, T> {
        let descriptor = Arc::clone(&self.descriptor);
        self.pool.run(move || work(&descriptor))
    }

    fn check_range(&self, operation: &'static str, offset: u64, len: u64) -> Result<()> {
        check_range(operation, self.descriptor.path(), offset, len)
    }
}

impl File for ThreadsFile {
    fn path(&self) -> &str {
        self.descriptor.path()
    }

    fn read_at(&self, offset: u64, len: usize) -> Op<'static, Vec<u8>> {
        let cached = self
            .descriptor
            .check_read(offset, len)
            .and_then(|()| self.descriptor.read_cached(offset, len));
        match cached {
            Err(error) => Op::err(error),
            Ok(Cached::Hit(buffer)) => Op::ok(buffer),
            Ok(Cached::Miss { mut buffer, filled }) => self.run(move |descriptor| {
                descriptor.read_rest(offset, &mut buffer, filled)?;
                Ok(buffer)
            }),
        }
    }

    fn read_now(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.descriptor.read(offset, len)
    }

    fn write_at(&self, offset: u64, data: Vec<u8>) -> Op<'static, Vec<u8>> {
        if let Err(error) = self.check_range("file.write", offset, data.len() as u64) {
            return Op::err(error);
        }
        self.run(move |descriptor| {
            descriptor.write_all(offset, &data)?;
            Ok(data)
        })
    }

    fn write_now(&self, offset: u64, data: Vec<u8>) -> Result<Vec<u8>> {
        self.check_range("file.write", offset, data.len() as u64)?;
        self.descriptor.write_all(offset, &data)?;
        Ok(data)
    }

    fn sync_data(&self) -> Op<'static, ()> {
        self.run(Descriptor::sync_data)
    }

    fn sync_all(&self) -> Op<'static, ()> {
        self.run(Descriptor::sync_all)
    }

    fn len(&self) -> Result<u64> {
        self.descriptor.len()
    }

    fn set_len(&self, len: u64) -> Op<'static, ()> {
        if let Err(error) = self.check_range("file.set_len", len, 0) {
            return Op::err(error);
        }
        self.run(move |descriptor| descriptor.set_len(len))
    }

    fn allocate(&self, offset: u64, len: u64) -> Op<'static, ()> {
        match self.check_range("file.allocate", offset, len) {
            Err(error) => Op::err(error),
            Ok(()) if len == 0 => Op::ok(()),
            Ok(()) => self.run(move |descriptor| descriptor.allocate(offset, len)),
        }
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Op<'static, ()> {
        match self.check_range("file.punch_hole", offset, len) {
            Err(error) => Op::err(error),
            Ok(()) if len == 0 => Op::ok(()),
            Ok(()) => self.run(move |descriptor| descriptor.punch_hole(offset, len)),
        }
    }

    fn map(&self, offset: u64, len: usize) -> Result<Box<dyn Mapping>> {
        Ok(Box::new(Mapped::new(&self.descriptor, offset, len)?))
    }
}
