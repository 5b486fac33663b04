//! What every [`Fs`] must do, whatever lies under it.
//!
//! [`run`] runs every case; each works in a directory of its own below the one given, which must
//! exist and be empty. `wait` runs an operation to its end: [`Op::wait`] on a real machine,
//! [`Host::wait`](crate::Host::wait) on a stepped one. A case panics when the file system
//! misbehaves.

use ferrokit_engine::{ErrorKind, Op, Result};

use crate::atomic_file::{
    TEMPORARY_SUFFIX, join, read_file, remove_temporary_files, replace_file, rewrite_file,
};
use crate::fs::{DirEntry, File, Fs, OpenMode};

/// Waits for operations.
pub trait Waiter {
    /// Runs the operation to its end.
    ///
    /// # Errors
    /// Those of the operation.
    fn wait<T>(&self, op: Op<'_, T>) -> Result<T>;
}

/// Blocks the thread: for file systems that complete operations by themselves.
#[derive(Debug, Clone, Copy)]
pub struct Blocking;

impl Waiter for Blocking {
    fn wait<T>(&self, op: Op<'_, T>) -> Result<T> {
        op.wait()
    }
}

impl Waiter for crate::Host {
    fn wait<T>(&self, op: Op<'_, T>) -> Result<T> {
        Self::wait(self, op)
    }
}

/// Runs every case.
pub fn run(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    open_modes(fs, waiter, &fresh(fs, directory, "open_modes"));
    reads_and_writes(fs, waiter, &fresh(fs, directory, "reads_and_writes"));
    reads_beyond_the_end(fs, waiter, &fresh(fs, directory, "reads_beyond_the_end"));
    impossible_ranges(fs, waiter, &fresh(fs, directory, "impossible_ranges"));
    large_buffers(fs, waiter, &fresh(fs, directory, "large_buffers"));
    lengths(fs, waiter, &fresh(fs, directory, "lengths"));
    holes(fs, waiter, &fresh(fs, directory, "holes"));
    mappings(fs, waiter, &fresh(fs, directory, "mappings"));
    names(fs, waiter, &fresh(fs, directory, "names"));
    links(fs, waiter, &fresh(fs, directory, "links"));
    removed_files_live_on(fs, waiter, &fresh(fs, directory, "removed_files_live_on"));
    directories(fs, waiter, &fresh(fs, directory, "directories"));
    locks(fs, &fresh(fs, directory, "locks"));
    dropped_operations(fs, waiter, &fresh(fs, directory, "dropped_operations"));
    many_in_flight(fs, waiter, &fresh(fs, directory, "many_in_flight"));
    atomic_replacement(fs, waiter, &fresh(fs, directory, "atomic_replacement"));
}

fn fresh(fs: &dyn Fs, directory: &str, case: &str) -> String {
    let path = join(directory, case);
    fs.create_dir_all(&path).expect("a directory for the case");
    path
}

fn open(fs: &dyn Fs, path: &str, mode: OpenMode) -> std::sync::Arc<dyn File> {
    fs.open(path, mode).unwrap_or_else(|error| panic!("open {path} as {mode:?}: {error}"))
}

fn write(waiter: &impl Waiter, file: &dyn File, offset: u64, data: &[u8]) {
    let given_back = waiter.wait(file.write_at(offset, data.to_vec())).expect("a write");
    assert_eq!(given_back, data, "a write gives its buffer back");
}

fn read(waiter: &impl Waiter, file: &dyn File, offset: u64, len: usize) -> Vec<u8> {
    waiter.wait(file.read_at(offset, len)).expect("a read")
}

#[track_caller]
fn assert_kind<T>(result: Result<T>, kind: ErrorKind) {
    match result {
        Ok(_) => panic!("expected {kind:?}, got an answer"),
        Err(error) => assert_eq!(error.kind(), kind, "{error}"),
    }
}

/// Bytes that differ from block to block.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

/// Each mode opens what it says and refuses the rest.
pub fn open_modes(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let path = join(directory, "file");
    assert_kind(fs.open(&path, OpenMode::Read), ErrorKind::NotFound);
    assert_kind(fs.open(&path, OpenMode::ReadWrite), ErrorKind::NotFound);
    let file = open(fs, &path, OpenMode::CreateNew);
    assert_eq!(file.path(), path);
    assert!(file.is_empty().expect("a length"));
    write(waiter, &*file, 0, b"kept");
    assert_kind(fs.open(&path, OpenMode::CreateNew), ErrorKind::Io);
    for mode in [OpenMode::Read, OpenMode::ReadWrite, OpenMode::OpenOrCreate] {
        assert_eq!(read(waiter, &*open(fs, &path, mode), 0, 4), b"kept", "{mode:?}");
    }
    let read_only = open(fs, &path, OpenMode::Read);
    assert_kind(waiter.wait(read_only.write_at(0, b"lost".to_vec())), ErrorKind::Io);
    assert_eq!(read(waiter, &*file, 0, 4), b"kept");
    open(fs, &join(directory, "other"), OpenMode::OpenOrCreate);
    assert!(fs.open(directory, OpenMode::Read).is_err(), "a directory is no file");
}

/// What was written is read back, from any offset; gaps are zeros.
pub fn reads_and_writes(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let file = open(fs, &join(directory, "file"), OpenMode::CreateNew);
    write(waiter, &*file, 0, b"hello world");
    write(waiter, &*file, 6, b"there");
    assert_eq!(read(waiter, &*file, 0, 11), b"hello there");
    assert_eq!(read(waiter, &*file, 4, 3), b"o t");
    write(waiter, &*file, 100, b"far");
    assert_eq!(file.len().expect("a length"), 103);
    assert_eq!(read(waiter, &*file, 11, 89), [0; 89]);
    write(waiter, &*file, 103, b"");
    assert_eq!(file.len().expect("a length"), 103);
    assert_eq!(read(waiter, &*file, 50, 0), b"");
    waiter.wait(file.sync_data()).expect("a data sync");
    waiter.wait(file.sync_all()).expect("a full sync");
    let again = open(fs, &join(directory, "file"), OpenMode::Read);
    assert_eq!(read(waiter, &*again, 100, 3), b"far");
}

/// A read that the file is too short for names the file, and is no allocation.
pub fn reads_beyond_the_end(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let path = join(directory, "file");
    let file = open(fs, &path, OpenMode::CreateNew);
    write(waiter, &*file, 0, &pattern(1, 10));
    for (offset, len) in [(0, 11), (10, 1), (5, 1 << 20), (1 << 40, 4096), (0, 1 << 45)] {
        let error = waiter.wait(file.read_at(offset, len)).expect_err("a read beyond the end");
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert_eq!(error.file(), Some(&*path));
        let source = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .map(std::io::Error::kind);
        assert_eq!(source, Some(std::io::ErrorKind::UnexpectedEof), "{offset} {len}: {error}");
    }
}

/// Ranges that no file has are refused, not wrapped around.
pub fn impossible_ranges(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let file = open(fs, &join(directory, "file"), OpenMode::CreateNew);
    write(waiter, &*file, 0, b"0123456789");
    for offset in [u64::MAX, u64::MAX - 4, i64::MAX as u64] {
        assert!(waiter.wait(file.read_at(offset, 8)).is_err(), "read at {offset}");
        assert!(waiter.wait(file.write_at(offset, vec![0; 8])).is_err(), "write at {offset}");
        assert!(waiter.wait(file.allocate(offset, 8)).is_err(), "allocate at {offset}");
        assert!(waiter.wait(file.punch_hole(offset, 8)).is_err(), "punch at {offset}");
    }
    assert!(waiter.wait(file.set_len(u64::MAX)).is_err());
    assert!(waiter.wait(file.read_at(0, usize::MAX)).is_err());
    assert_eq!(file.len().expect("a length"), 10);
}

/// Buffers of many pages arrive whole.
pub fn large_buffers(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let file = open(fs, &join(directory, "file"), OpenMode::CreateNew);
    let data = pattern(2, (3 << 20) + 17);
    write(waiter, &*file, 1, &data);
    assert_eq!(read(waiter, &*file, 1, data.len()), data);
    assert_eq!(read(waiter, &*file, 70_001, 300_000), data[70_000..370_000]);
}

/// `set_len` cuts and extends, `allocate` only extends; both with zeros.
pub fn lengths(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let file = open(fs, &join(directory, "file"), OpenMode::CreateNew);
    write(waiter, &*file, 0, b"0123456789");
    waiter.wait(file.set_len(4)).expect("cut");
    waiter.wait(file.set_len(8)).expect("extended");
    assert_eq!(read(waiter, &*file, 0, 8), b"0123\0\0\0\0");
    assert!(waiter.wait(file.read_at(0, 9)).is_err());
    waiter.wait(file.allocate(0, 5000)).expect("allocated");
    assert_eq!(file.len().expect("a length"), 5000);
    assert_eq!(read(waiter, &*file, 0, 8), b"0123\0\0\0\0");
    assert_eq!(read(waiter, &*file, 8, 4992), [0; 4992]);
    waiter.wait(file.allocate(100, 100)).expect("allocated inside");
    waiter.wait(file.allocate(9000, 0)).expect("nothing allocated");
    assert_eq!(file.len().expect("a length"), 5000);
}

/// A punched range reads as zeros, or punching is a clean `Unsupported`.
pub fn holes(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let file = open(fs, &join(directory, "file"), OpenMode::CreateNew);
    let mut data = pattern(3, 64 << 10);
    write(waiter, &*file, 0, &data);
    match waiter.wait(file.punch_hole(5000, 20_000)) {
        Ok(()) => data[5000..25_000].fill(0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
    }
    assert_eq!(read(waiter, &*file, 0, data.len()), data);
    assert_eq!(file.len().expect("a length"), data.len() as u64);
}

/// A mapping shows the file's bytes, lies within the file, and outlives the handle.
pub fn mappings(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let path = join(directory, "file");
    let file = open(fs, &path, OpenMode::CreateNew);
    let data = pattern(4, 20_000);
    write(waiter, &*file, 0, &data);
    let whole = file.map(0, data.len()).expect("a mapping");
    let part = file.map(5001, 9000).expect("a mapping of a part");
    assert!(file.map(20_000, 0).expect("an empty mapping").is_empty());
    for (offset, len) in [(0, 20_001), (20_001, 0), (u64::MAX, 1), (1, usize::MAX)] {
        assert_kind(file.map(offset, len), ErrorKind::InvalidArgument);
    }
    drop(file);
    fs.remove_file(&path).expect("removed");
    assert_eq!(**whole, data);
    assert_eq!(**part, data[5001..14_001]);
}

/// Listing, renaming over an existing file, removing.
pub fn names(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let (a, b) = (join(directory, "a"), join(directory, "b"));
    write(waiter, &*open(fs, &b, OpenMode::CreateNew), 0, b"old");
    write(waiter, &*open(fs, &a, OpenMode::CreateNew), 0, b"newer");
    fs.create_dir_all(&join(directory, "c/d")).expect("directories");
    let entry = |name: &str, is_dir, bytes| DirEntry { name: name.to_owned(), is_dir, bytes };
    assert_eq!(
        fs.list(directory).expect("a list"),
        [entry("a", false, 5), entry("b", false, 3), entry("c", true, 0)]
    );
    fs.rename(&a, &b).expect("renamed");
    fs.sync_dir(directory).expect("synced");
    assert!(!fs.exists(&a).expect("an answer"));
    assert!(fs.exists(&b).expect("an answer"));
    assert_eq!(read(waiter, &*open(fs, &b, OpenMode::Read), 0, 5), b"newer");
    assert_kind(fs.rename(&a, &b), ErrorKind::NotFound);
    fs.remove_file(&b).expect("removed");
    assert_kind(fs.remove_file(&b), ErrorKind::NotFound);
    let missing = join(directory, "missing");
    assert_kind(fs.list(&missing), ErrorKind::NotFound);
    assert_kind(fs.sync_dir(&missing), ErrorKind::NotFound);
    assert_kind(fs.open(&join(&missing, "x"), OpenMode::CreateNew), ErrorKind::NotFound);
}

/// Two names of one file, or a clean `Unsupported`.
pub fn links(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let (a, b) = (join(directory, "a"), join(directory, "b"));
    write(waiter, &*open(fs, &a, OpenMode::CreateNew), 0, b"shared");
    match fs.hard_link(&a, &b) {
        Ok(()) => {}
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
    }
    assert!(fs.hard_link(&a, &b).is_err(), "an existing name is not replaced");
    assert_kind(fs.hard_link(&join(directory, "c"), &join(directory, "d")), ErrorKind::NotFound);
    fs.remove_file(&a).expect("removed");
    assert_eq!(read(waiter, &*open(fs, &b, OpenMode::Read), 0, 6), b"shared");
}

/// A removed file serves its open handles.
pub fn removed_files_live_on(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let path = join(directory, "file");
    let file = open(fs, &path, OpenMode::CreateNew);
    write(waiter, &*file, 0, b"still");
    fs.remove_file(&path).expect("removed");
    let successor = open(fs, &path, OpenMode::CreateNew);
    write(waiter, &*file, 5, b" here");
    assert_eq!(read(waiter, &*file, 0, 10), b"still here");
    assert!(successor.is_empty().expect("a length"));
}

/// Directories are created with their parents, and removed with their contents.
pub fn directories(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let deep = join(directory, "one/two/three");
    fs.create_dir_all(&deep).expect("created");
    fs.create_dir_all(&deep).expect("created again");
    write(waiter, &*open(fs, &join(&deep, "file"), OpenMode::CreateNew), 0, b"x");
    assert!(fs.create_dir_all(&join(&deep, "file/sub")).is_err(), "a file is no directory");
    assert!(fs.create_dir_all("").is_err(), "no name is no directory");
    let top = join(directory, "one");
    fs.remove_dir_all(&top).expect("removed");
    assert!(!fs.exists(&top).expect("an answer"));
    fs.remove_dir_all(&top).expect("removing what is absent is no error");
    assert_eq!(fs.list(directory).expect("a list"), []);
}

/// A directory is locked once at a time.
pub fn locks(fs: &dyn Fs, directory: &str) {
    let lock = fs.lock_dir(directory).expect("a lock");
    let error = match fs.lock_dir(directory) {
        Ok(_) => panic!("a directory was locked twice"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    drop(lock);
    drop(fs.lock_dir(directory).expect("a lock after its release"));
    assert_kind(fs.lock_dir(&join(directory, "missing")), ErrorKind::NotFound);
}

/// Dropping operations does no harm, and a later operation is not confused by them.
pub fn dropped_operations(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let file = open(fs, &join(directory, "file"), OpenMode::CreateNew);
    write(waiter, &*file, 0, &[1; 4096]);
    for round in 0..200_u64 {
        drop(file.read_at(0, 4096));
        // Each to a place of its own: those dropped happen, or not.
        drop(file.write_at(4096 + round * 64, vec![2; 64]));
        drop(file.sync_data());
    }
    assert_eq!(read(waiter, &*file, 0, 4096), [1; 4096]);
    waiter.wait(file.sync_all()).expect("a sync");
    let len = file.len().expect("a length");
    for place in 0..(len - 4096) / 64 {
        let bytes = read(waiter, &*file, 4096 + place * 64, 64);
        assert!(bytes == [0; 64] || bytes == [2; 64], "place {place}: {bytes:?}");
    }
}

/// More operations at once than any queue holds: each is answered, with its own bytes.
pub fn many_in_flight(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    const BLOCKS: u64 = 1500;
    let file = open(fs, &join(directory, "file"), OpenMode::CreateNew);
    let writes: Vec<_> =
        (0..BLOCKS).map(|block| file.write_at(block * 512, pattern(block, 512))).collect();
    for (block, op) in (0..BLOCKS).zip(writes) {
        assert_eq!(waiter.wait(op).expect("a write"), pattern(block, 512), "block {block}");
    }
    let reads: Vec<_> = (0..BLOCKS).map(|block| file.read_at(block * 512, 512)).collect();
    // The last first: no answer waits for another to be taken.
    for (block, op) in (0..BLOCKS).zip(reads).collect::<Vec<_>>().into_iter().rev() {
        assert_eq!(waiter.wait(op).expect("a read"), pattern(block, 512), "block {block}");
    }
}

/// A replaced file has the new content, and leftovers are found.
pub fn atomic_replacement(fs: &dyn Fs, waiter: &impl Waiter, directory: &str) {
    let replace = |bytes: &[u8]| {
        waiter
            .wait(Op::pending(replace_file(fs, directory, "current", bytes.to_vec())))
            .expect("a replacement");
    };
    let leftover = join(directory, &format!("current{TEMPORARY_SUFFIX}"));
    replace(b"a first, longer content");
    write(waiter, &*open(fs, &leftover, OpenMode::CreateNew), 0, &[7; 9000]);
    replace(b"second");
    let file = open(fs, &join(directory, "current"), OpenMode::Read);
    assert_eq!(file.len().expect("a length"), 6);
    assert_eq!(read(waiter, &*file, 0, 6), b"second");
    assert_eq!(remove_temporary_files(fs, directory).expect("a sweep"), 0);
    write(waiter, &*open(fs, &leftover, OpenMode::CreateNew), 0, b"unfinished");
    assert_eq!(remove_temporary_files(fs, directory).expect("a sweep"), 1);
    assert_eq!(fs.list(directory).expect("a list").len(), 1);
    let rewrite =
        |name: &str| waiter.wait(Op::pending(rewrite_file(fs, directory, name, b"third".to_vec())));
    rewrite("current").expect("a replacement");
    assert_kind(rewrite("absent"), ErrorKind::NotFound);
    let path = join(directory, "current");
    let content = |bytes_max| waiter.wait(Op::pending(read_file(fs, &path, bytes_max)));
    assert_eq!(content(5).expect("the content"), b"third");
    assert_kind(content(4), ErrorKind::InvalidArgument);
    assert_eq!(fs.list(directory).expect("a list").len(), 1);
}
