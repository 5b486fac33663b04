//! Opening an LMDB environment, and switching its syncs on: what heed leaves to its caller.
//!
//! LMDB maps its file into memory. What another program writes to that file changes memory that
//! Rust believes constant; the bench gives every run a directory of its own, which nobody else
//! writes to.
#![expect(unsafe_code, reason = "heed's calls whose rules the compiler cannot check")]

use heed::{Env, EnvFlags, EnvOpenOptions, FlagSetMode};

/// Opens the environment in `directory` for a file of at most `map_bytes`, which nothing syncs
/// until [`sync_from_now_on`].
pub(crate) fn open_unsynced(
    directory: &str,
    map_bytes: usize,
    writes_map: bool,
) -> heed::Result<Env> {
    let mut flags = EnvFlags::NO_SYNC;
    flags.set(EnvFlags::WRITE_MAP, writes_map);
    let mut options = EnvOpenOptions::new();
    options.map_size(map_bytes);
    // SAFETY: `NO_SYNC` and `WRITE_MAP` are unsafe in that the power's failure may damage the file,
    // which no write before `sync_from_now_on` promises to survive, and in that a stray write of
    // this process could: everything outside this module is safe code. A file under a map that
    // others truncate would fault; the directory is the run's own.
    unsafe { options.flags(flags).open(directory) }
}

/// Makes every commit from now on sync. Nothing else may set flags of `env` meanwhile.
pub(crate) fn sync_from_now_on(env: &Env) -> heed::Result<()> {
    // SAFETY: LMDB wants one thread at a time in this call; the only caller is `lmdb::Lmdb`, from
    // within a write transaction, of which an environment has one at a time. Flags changed under a
    // concurrent commit could lose its sync, and there is none for the same reason.
    unsafe { env.set_flags(EnvFlags::NO_SYNC, FlagSetMode::Disable) }
}
