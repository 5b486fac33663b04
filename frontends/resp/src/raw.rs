//! The one unsafe step: a ring's descriptor in the runtime's poll.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use ferrokit_storage::ThreadIo;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The ring of a thread, as the thread's runtime polls it.
pub(crate) struct PolledRing(Box<dyn ThreadIo>);

impl PolledRing {
    /// Completes what is done; see [`ThreadIo::drive`].
    pub(crate) fn drive(&self) -> usize {
        self.0.drive()
    }
}

impl AsRawFd for PolledRing {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Registers a ring with the runtime of this thread.
///
/// # Errors
/// Those of the runtime.
pub(crate) fn poll_ring(ring: Box<dyn ThreadIo>) -> io::Result<AsyncFd<PolledRing>> {
    // SAFETY: the descriptor must stay the same and open while it is registered. It belongs to the
    // ring, which keeps it until it is dropped; the ring is owned by the `AsyncFd`, which takes it
    // off the poll first and gives no mutable access to it here. Otherwise the runtime would watch
    // a descriptor that has become another file.
    Ok(unsafe { AsyncFd::register_with_interest(PolledRing(ring), Interest::READABLE) }?)
}
