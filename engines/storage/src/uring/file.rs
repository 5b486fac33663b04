//! [`UringFile`]: a file whose reads, writes and syncs go through a ring.

use std::sync::Arc;

use ferrokit_engine::{Op, Result};

use super::request::{Action, Request};
use super::shared::Shared;
use super::thread_ring::begin;
use crate::completion::completion;
use crate::fs::{File, Mapping};
use crate::posix::mapped::Mapped;
use crate::posix::{Cached, Descriptor, check_range};

pub(super) struct UringFile {
    descriptor: Arc<Descriptor>,
    shared: Arc<Shared>,
}

impl UringFile {
    pub(super) fn new(descriptor: Descriptor, shared: Arc<Shared>) -> Self {
        Self { descriptor: Arc::new(descriptor), shared }
    }

    /// Rare operations, which a ring would give to a kernel thread just the same.
    fn run(
        &self,
        work: impl FnOnce(&Descriptor) -> Result<()> + Send + 'static,
    ) -> Op<'static, ()> {
        let descriptor = Arc::clone(&self.descriptor);
        self.shared.pool.run(move || work(&descriptor))
    }

    fn sync(&self, data_only: bool) -> Op<'static, ()> {
        let (completer, completion) = completion();
        let request = Request::new(&self.descriptor, Action::Sync { data_only, completer });
        begin(&self.shared, request, completion)
    }

    fn check_range(&self, operation: &'static str, offset: u64, len: u64) -> Result<()> {
        check_range(operation, self.descriptor.path(), offset, len)
    }
}

impl File for UringFile {
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
            // The kernel answers 0 for the end of the file: not to be asked for nothing.
            Ok(Cached::Miss { buffer, .. }) if buffer.is_empty() => Op::ok(buffer),
            Ok(Cached::Miss { buffer, filled: done }) => {
                let (completer, completion) = completion();
                let action = Action::Read { offset, buffer, done, completer };
                begin(&self.shared, Request::new(&self.descriptor, action), completion)
            }
        }
    }

    fn read_now(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.descriptor.read(offset, len)
    }

    fn write_at(&self, offset: u64, data: Vec<u8>) -> Op<'static, Vec<u8>> {
        match self.check_range("file.write", offset, data.len() as u64) {
            Err(error) => Op::err(error),
            Ok(()) if data.is_empty() => Op::ok(data),
            Ok(()) => {
                let (completer, completion) = completion();
                let action = Action::Write { offset, buffer: data, done: 0, completer };
                begin(&self.shared, Request::new(&self.descriptor, action), completion)
            }
        }
    }

    fn write_now(&self, offset: u64, data: Vec<u8>) -> Result<Vec<u8>> {
        self.check_range("file.write", offset, data.len() as u64)?;
        self.descriptor.write_all(offset, &data)?;
        Ok(data)
    }

    fn sync_data(&self) -> Op<'static, ()> {
        self.sync(true)
    }

    fn sync_all(&self) -> Op<'static, ()> {
        self.sync(false)
    }

    fn len(&self) -> Result<u64> {
        self.descriptor.len()
    }

    fn set_len(&self, len: u64) -> Op<'static, ()> {
        match self.check_range("file.set_len", len, 0) {
            Err(error) => Op::err(error),
            Ok(()) => self.run(move |descriptor| descriptor.set_len(len)),
        }
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
