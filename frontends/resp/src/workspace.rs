//! [`Workspace`]: the buffers a connection works with, lent to it while it works.
//!
//! An idle connection holds none. A worker keeps a few, the last one given back on top, so that the
//! connections of a worker take turns in the same warm memory.

use std::cell::RefCell;

use ferrokit_engine::WriteBatch;

use crate::gather::Segment;
use crate::input::{Input, STANDARD_BYTES};
use crate::resp::{Arguments, Reply};

/// Workspaces kept for the next connection.
const POOLED_MAX: usize = 64;
/// Arguments, keys and segments kept.
const KEPT_ENTRIES: usize = 1024;

/// The buffers of a connection at work.
#[derive(Default)]
pub(crate) struct Workspace {
    pub(crate) input: Input,
    pub(crate) arguments: Arguments,
    pub(crate) reply: Reply,
    /// Requests parsed ahead of their turn, one after the other.
    pub(crate) ahead: Arguments,
    /// The keys of a run of GETs: start and length in the unread input.
    pub(crate) gets: Vec<(usize, usize)>,
    pub(crate) scratch: Scratch,
}

/// Memory that commands use and leave behind for the next.
#[derive(Default)]
pub(crate) struct Scratch {
    keys: Vec<&'static [u8]>,
    pub(crate) segments: Vec<Segment>,
    /// Of the last MSET; cleared before use.
    pub(crate) batch: WriteBatch,
}

impl Scratch {
    /// An empty vector of keys, to be given back.
    pub(crate) fn take_keys<'a>(&mut self) -> Vec<&'a [u8]> {
        std::mem::take(&mut self.keys)
    }

    /// Keeps the memory of the vector.
    pub(crate) fn give_back_keys(&mut self, mut keys: Vec<&[u8]>) {
        keys.clear();
        keys.shrink_to(KEPT_ENTRIES);
        // Of an empty vector only the allocation is left: collecting keeps it.
        self.keys = keys.into_iter().map(|_| -> &'static [u8] { &[] }).collect();
    }
}

/// The workspaces of a worker.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "lending one moves a pointer, not the buffers' heads")]
pub(crate) struct WorkspacePool(RefCell<Vec<Box<Workspace>>>);

impl WorkspacePool {
    pub(crate) fn take(&self) -> Box<Workspace> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back a workspace whose input and replies are empty.
    pub(crate) fn give_back(&self, mut workspace: Box<Workspace>) {
        let mut pool = self.0.borrow_mut();
        if pool.len() >= POOLED_MAX {
            return;
        }
        workspace.input.shrink();
        workspace.arguments.shrink_to(KEPT_ENTRIES);
        workspace.ahead.shrink_to(KEPT_ENTRIES);
        workspace.reply.shrink_to(STANDARD_BYTES);
        workspace.scratch.segments.clear();
        workspace.scratch.segments.shrink_to(KEPT_ENTRIES);
        if workspace.scratch.batch.bytes() > STANDARD_BYTES
            || workspace.scratch.batch.len() > KEPT_ENTRIES
        {
            workspace.scratch.batch = WriteBatch::new();
        }
        pool.push(workspace);
    }
}
