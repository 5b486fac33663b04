//! [`Store`]: what is measured.

use ferrokit_engine::{Durability, EngineUrl, Result};

/// Gets the key and the value of each entry of a scan.
pub type VisitEntry<'a> = dyn FnMut(&[u8], &[u8]) + Send + 'a;

/// The change of a read-modify-write: the present value, and the empty buffer for the new one. It
/// may run more than once; the last run counts.
pub type ChangeValue<'a> = dyn FnMut(&[u8], &mut Vec<u8>) + Send + 'a;

/// An open store: a ferrokit engine or a peer. Operations block their thread until they are done.
///
/// Every method answers the errors of the store; `Unsupported` where it cannot do what is asked,
/// which is reported as such and not as a failure.
pub trait Store: Send + Sync {
    /// Stores `value` under `key`; complete when it survives what `durability` says.
    ///
    /// # Errors
    /// As said above.
    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()>;

    /// Copies the value of `key` to the end of `value`; answers whether there is one.
    ///
    /// # Errors
    /// As said above.
    fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool>;

    /// Removes `key`.
    ///
    /// # Errors
    /// As said above.
    fn delete(&self, key: &[u8], durability: Durability) -> Result<()>;

    /// Replaces the value of `key` by a change of it; answers whether there was one.
    ///
    /// # Errors
    /// As said above.
    fn rmw(&self, key: &[u8], durability: Durability, change: &mut ChangeValue<'_>)
    -> Result<bool>;

    /// Whether [`rmw`](Self::rmw) is atomic: no concurrent change of the same key gets lost.
    fn rmw_is_atomic(&self) -> bool;

    /// Visits up to `entries` entries in key order, from the first key at or above `start`.
    ///
    /// # Errors
    /// As said above.
    fn scan(&self, start: &[u8], entries: usize, visit: &mut VisitEntry<'_>) -> Result<()>;

    /// Whether there is a [`scan`](Self::scan).
    fn supports_scan(&self) -> bool;

    /// Makes what was written at [`Durability::Os`] or above as durable as the store can.
    ///
    /// # Errors
    /// As said above.
    fn flush(&self) -> Result<()>;

    /// Ends background work and releases the directory.
    ///
    /// # Errors
    /// As said above.
    fn close(&self) -> Result<()>;

    /// The settings that bear on speed (memory, compression, what each durability means), for the
    /// report.
    fn settings(&self) -> String;
}

/// What a store is opened with; the same for all stores of a comparison.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// An empty directory for the store alone.
    pub directory: String,
    /// Bytes of memory for caches and buffers of writes together; half of it each where a store
    /// has both.
    pub memory_bytes: u64,
    /// The durability of the measured writes. The records loaded before are written at
    /// [`Durability::Memory`].
    pub durability: Durability,
}

impl StoreSettings {
    /// Bytes for the cache of a store that buffers writes as well.
    pub fn cache_bytes(&self) -> u64 {
        self.memory_bytes / 2
    }

    /// Bytes of one write buffer, of [`WRITE_BUFFERS`](Self::WRITE_BUFFERS).
    pub fn write_buffer_bytes(&self) -> u64 {
        self.memory_bytes / 2 / Self::WRITE_BUFFERS
    }

    /// Write buffers of a log-structured store: one that is written to, the others under way.
    pub const WRITE_BUFFERS: u64 = 4;
}

/// Opens a kind of store.
#[derive(Debug, Clone, Copy)]
pub struct Adapter {
    /// The engine name in the URLs that it opens: `rocksdb` for `rocksdb:?compression=none`.
    pub name: &'static str,
    /// Opens it. The options in the URL are the adapter's own; unknown ones are refused.
    pub open: fn(&EngineUrl, &StoreSettings) -> Result<Box<dyn Store>>,
}
