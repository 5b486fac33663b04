//! What the tests share.

use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own for a test; removed when dropped.
pub(crate) struct TempDir(String);

impl TempDir {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let base = std::env::var("FERROKIT_TEST_DIR")
            .unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("{base}/{name}-{}-{unique}", std::process::id());
        let _ = std::fs::remove_dir_all(&path);
        std::fs::DirBuilder::new().recursive(true).create(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
