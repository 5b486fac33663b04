//! [`PmemProvider`]: where an engine's regions come from.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrokit_engine::{Error, Result};

use super::{EmulatedPmem, FilePmem, Pmem, ShadowPmem, Survival};

/// Opens regions by name. What a region holds outlives it exactly as far as the provider's memory
/// does.
pub trait PmemProvider: Send + Sync {
    /// Opens the region `name` (letters, digits, `-`, `_`, `.`), created with `bytes` of zeros if
    /// it is new. An existing one keeps its content and is at least as long as it was.
    ///
    /// # Errors
    /// `Locked` if it is open already, `InvalidArgument` for a bad name or length, `Io`.
    fn open(&self, name: &str, bytes: u64) -> Result<Arc<dyn Pmem>>;
}

/// New memory at each open.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmulatedProvider;

impl PmemProvider for EmulatedProvider {
    fn open(&self, name: &str, bytes: u64) -> Result<Arc<dyn Pmem>> {
        check_name(name)?;
        Ok(Arc::new(EmulatedPmem::new(bytes)?))
    }
}

/// Files of a directory that exists.
#[derive(Debug, Clone)]
pub struct FileProvider {
    directory: String,
}

impl FileProvider {
    /// Regions as files in `directory`.
    pub fn new(directory: &str) -> Self {
        Self { directory: directory.to_owned() }
    }
}

impl PmemProvider for FileProvider {
    fn open(&self, name: &str, bytes: u64) -> Result<Arc<dyn Pmem>> {
        check_name(name)?;
        Ok(Arc::new(FilePmem::open(&format!("{}/{name}", self.directory), bytes)?))
    }
}

/// Simulated regions that survive simulated crashes.
#[derive(Default)]
pub struct ShadowProvider {
    regions: Mutex<HashMap<String, ShadowSlot>>,
}

#[derive(Default)]
struct ShadowSlot {
    image: Vec<u64>,
    live: Option<Arc<ShadowPmem>>,
}

impl ShadowProvider {
    /// No regions yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The open region of that name.
    pub fn live(&self, name: &str) -> Option<Arc<ShadowPmem>> {
        self.regions().get(name).and_then(|slot| slot.live.clone())
    }

    /// The machine crashes: every open region is cut off, and what `survival` leaves of it is
    /// what the next open finds. Whoever still holds the old region writes into the void.
    pub fn crash(&self, survival: Survival) {
        for slot in self.regions().values_mut() {
            if let Some(live) = slot.live.take() {
                slot.image = live.crash_state().image(survival);
            }
        }
    }

    fn regions(&self) -> MutexGuard<'_, HashMap<String, ShadowSlot>> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PmemProvider for ShadowProvider {
    fn open(&self, name: &str, bytes: u64) -> Result<Arc<dyn Pmem>> {
        check_name(name)?;
        let words = usize::try_from(bytes / super::WORD_BYTES)
            .map_err(|_| Error::invalid("pmem.open", format!("a region of {bytes} bytes")))?;
        let mut regions = self.regions();
        let slot = regions.entry(name.to_owned()).or_default();
        if let Some(live) = slot.live.take() {
            if Arc::strong_count(&live) > 1 {
                slot.live = Some(live);
                return Err(Error::new(
                    ferrokit_engine::ErrorKind::Locked,
                    "pmem.open",
                    "the region is open elsewhere",
                )
                .with_file(name));
            }
            // Dropped without a crash: the machine goes on, the caches reach the medium.
            slot.image = live.crash_state().image(Survival::Everything);
        }
        let mut image = std::mem::take(&mut slot.image);
        image.resize(image.len().max(words), 0);
        let region = Arc::new(ShadowPmem::from_image(image));
        slot.live = Some(Arc::clone(&region));
        Ok(region)
    }
}

fn check_name(name: &str) -> Result<()> {
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(letters) {
        return Err(Error::invalid("pmem.open", "not a region name"));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::pmem::{PmemKind, PmemRegion};

    /// A directory of this test's own, removed at the end.
    pub(in crate::pmem) struct ScratchDir(std::path::PathBuf);

    impl ScratchDir {
        #[expect(clippy::disallowed_methods, reason = "a test's own scratch directory")]
        pub(in crate::pmem) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ferrokit-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(in crate::pmem) fn path(&self, name: &str) -> String {
            self.0.join(name).to_str().unwrap().to_owned()
        }
    }

    impl Drop for ScratchDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_shadow_region_survives_a_crash_as_far_as_it_was_fenced() {
        let provider = ShadowProvider::new();
        let region = PmemRegion::new(provider.open("table", 4096).unwrap());
        region.store_persist(0, 1).unwrap();
        region.store(64, 2);
        assert!(provider.open("table", 4096).is_err(), "opened twice");
        provider.crash(Survival::Fenced);
        region.store_persist(0, 99).unwrap();
        let region = PmemRegion::new(provider.open("table", 64).unwrap());
        assert_eq!((region.load(0), region.load(64)), (1, 0));
        assert_eq!(region.len_bytes(), 4096);
        region.store(64, 3);
        drop(region);
        let region = PmemRegion::new(provider.open("table", 8192).unwrap());
        assert_eq!((region.load(64), region.len_bytes()), (3, 8192));
    }

    #[test]
    fn providers_open_their_kind_and_refuse_bad_names() {
        let dir = ScratchDir::new("provider");
        let providers: [(&dyn PmemProvider, PmemKind); 3] = [
            (&EmulatedProvider, PmemKind::Emulated),
            (&FileProvider::new(&dir.path("")), PmemKind::File),
            (&ShadowProvider::new(), PmemKind::Shadow),
        ];
        for (provider, kind) in providers {
            assert_eq!(provider.open("region", 4096).unwrap().kind(), kind);
            for name in ["", "..", "a/b", "a\0"] {
                assert!(provider.open(name, 4096).is_err(), "{name:?}");
            }
        }
    }
}
