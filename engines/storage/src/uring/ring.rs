//! [`Ring`]: one io_uring and the operations under way on it.
//!
//! Unsafe code: submission entries carry raw pointers into buffers.
//!
//! Invariant: from the push of an entry until its completion is reaped, the buffer that the entry
//! points to is in `slots` (or, after a failure at the end, leaked), and nobody touches it.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::io::Errno;

use super::request::{Action, Finished, Outcome, Request};

/// Marks the poll of the event, which has no slot.
const EVENT: u64 = u64::MAX;

/// The most bytes in one read or write; the kernel's limit is a little above.
const TRANSFER_BYTES_MAX: usize = 1 << 30;

/// The operations this backend stands on.
const OPCODES: [u8; 4] =
    [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE, opcode::PollAdd::CODE];

/// A ring. Used by one thread at a time.
pub(super) struct Ring {
    uring: IoUring,
    /// What is under way, by the entry's user data.
    slots: Vec<Option<Request>>,
    free: Vec<usize>,
    completions: Vec<(u64, i32)>,
    event_is_polled: bool,
}

impl Ring {
    /// A ring for `entries` operations at once, one of which is the poll of an event.
    pub(super) fn new(entries: u32) -> io::Result<Self> {
        Self::over(IoUring::new(entries)?)
    }

    /// A ring that only the thread which calls [`enable`](Self::enable) ever submits to and waits
    /// on: completions are then worked off where it waits, without interrupting it.
    pub(super) fn for_one_thread(entries: u32) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            // Kernels before 6.1 lack these.
            .or_else(|_| IoUring::builder().setup_r_disabled().build(entries))?;
        Self::over(uring)
    }

    /// Gives a ring made [for one thread](Self::for_one_thread) to the calling thread.
    pub(super) fn enable(&self) -> io::Result<()> {
        self.uring.submitter().register_enable_rings()
    }

    fn over(uring: IoUring) -> io::Result<Self> {
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe)?;
        if OPCODES.iter().any(|code| !probe.is_supported(*code)) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel's io_uring lacks an operation",
            ));
        }
        // The completion queue is twice as long as the submission queue. With fewer operations
        // under way than either holds, neither is ever full.
        let params = uring.params();
        let capacity = params.sq_entries().min(params.cq_entries()).saturating_sub(1) as usize;
        Ok(Self {
            uring,
            slots: (0..capacity).map(|_| None).collect(),
            free: (0..capacity).rev().collect(),
            completions: Vec::with_capacity(capacity + 1),
            event_is_polled: false,
        })
    }

    /// Signals `event` at every completion.
    pub(super) fn signal_completions(&self, event: &impl AsRawFd) -> io::Result<()> {
        self.uring.submitter().register_eventfd(event.as_raw_fd())
    }

    /// Whether another request can be pushed.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Requests pushed and not yet submitted.
    pub(super) fn unsubmitted(&mut self) -> usize {
        self.uring.submission().len()
    }

    /// Whether a completion waits to be reaped.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// Takes a request over; it reaches the kernel with the next submit. Gives it back if there is
    /// no room.
    pub(super) fn push(&mut self, mut request: Request) -> Result<(), Request> {
        let Some(index) = self.free.pop() else { return Err(request) };
        let entry = entry_of(&mut request).user_data(index as u64);
        self.slots[index] = Some(request);
        self.push_entry(&entry);
        Ok(())
    }

    /// Completes a wait when `event` is readable; once.
    pub(super) fn poll_event(&mut self, event: RawFd) {
        if !self.event_is_polled {
            self.event_is_polled = true;
            let poll = opcode::PollAdd::new(Fd(event), libc::POLLIN as u32);
            self.push_entry(&poll.build().user_data(EVENT));
        }
    }

    fn push_entry(&mut self, entry: &squeue::Entry) {
        // SAFETY: what the entry points to is in `slots`, on the heap at a fixed address, and its
        // file is kept open there; neither is touched, moved or freed until `reap` has seen the
        // completion (`Drop` waits for it). Otherwise the kernel would write into memory that is
        // somebody else's by then.
        let pushed = unsafe { self.uring.submission().push(entry) };
        // Fewer entries are under way than the queue holds.
        assert!(pushed.is_ok(), "the submission queue of a ring with room is full");
    }

    /// Gives what was pushed to the kernel.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        passing_is_ok(self.uring.submit())
    }

    /// Submits, and waits for a completion, or the time.
    pub(super) fn submit_and_wait(&mut self, time_max: Option<Duration>) -> io::Result<()> {
        match time_max {
            None => passing_is_ok(self.uring.submit_and_wait(1)),
            Some(time) => {
                let time = Timespec::new().sec(time.as_secs()).nsec(time.subsec_nanos());
                let args = SubmitArgs::new().timespec(&time);
                passing_is_ok(self.uring.submitter().submit_with_args(1, &args))
            }
        }
    }

    /// Takes the completions there are. Adds the answers to `finished`, begins again what is not
    /// finished; `true` if the event was readable.
    pub(super) fn reap(&mut self, finished: &mut Vec<Finished>) -> bool {
        let mut completions = std::mem::take(&mut self.completions);
        completions
            .extend(self.uring.completion().map(|entry| (entry.user_data(), entry.result())));
        let mut event_was_readable = false;
        for (user_data, result) in completions.drain(..) {
            if user_data == EVENT {
                self.event_is_polled = false;
                event_was_readable = true;
                continue;
            }
            let index = user_data as usize;
            let Some(request) = self.slots.get_mut(index).and_then(Option::take) else {
                debug_assert!(false, "a completion for nothing: {user_data}");
                continue;
            };
            self.free.push(index);
            match request.completed(result) {
                Outcome::Finished(answer) => finished.push(answer),
                Outcome::Again(request) => {
                    let pushed = self.push(request);
                    debug_assert!(pushed.is_ok(), "a slot was freed above");
                }
            }
        }
        self.completions = completions;
        event_was_readable
    }

    /// Waits until nothing is under way; the answers are handed over.
    pub(super) fn finish(&mut self) {
        let mut finished = Vec::new();
        while !self.is_idle() {
            if self.submit_and_wait(None).is_err() {
                return;
            }
            self.reap(&mut finished);
            finished.drain(..).for_each(Finished::complete);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.finish();
        if !self.is_idle() {
            // The ring cannot be waited for any more, and the kernel may still write: buffers and
            // descriptors stay where they are for good. Their futures get no answer from here.
            tracing::error!("an io_uring failed with operations under way; their buffers leak");
            std::mem::take(&mut self.slots).into_iter().for_each(std::mem::forget);
        }
    }
}

/// Failures after which the same call is to be made again, or that mean the time was up.
fn passing_is_ok(result: io::Result<usize>) -> io::Result<()> {
    const PASSING: [Errno; 4] = [Errno::INTR, Errno::AGAIN, Errno::BUSY, Errno::TIME];
    match result {
        Ok(_) => Ok(()),
        Err(error) if PASSING.iter().any(|e| error.raw_os_error() == Some(e.raw_os_error())) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The entry for what is left of a request. It points into the request's buffer.
fn entry_of(request: &mut Request) -> squeue::Entry {
    let fd = Fd(request.descriptor.file().as_raw_fd());
    match &mut request.action {
        Action::Read { offset, buffer, done, .. } => {
            let rest = buffer.get_mut(*done..).unwrap_or_default();
            let len = rest.len().min(TRANSFER_BYTES_MAX) as u32;
            opcode::Read::new(fd, rest.as_mut_ptr(), len).offset(*offset + *done as u64).build()
        }
        Action::Write { offset, buffer, done, .. } => {
            let rest = buffer.get(*done..).unwrap_or_default();
            let len = rest.len().min(TRANSFER_BYTES_MAX) as u32;
            opcode::Write::new(fd, rest.as_ptr(), len).offset(*offset + *done as u64).build()
        }
        Action::Sync { data_only, .. } => {
            let flags = if *data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
            opcode::Fsync::new(fd).flags(flags).build()
        }
    }
}
