//! Values that are too long for a record.
//!
//! Such a value is cut into *pieces*, each the value of an ordinary record in a space that no keyspace
//! shows ([`pieces_of`]); the key's own record is *long*: it holds a [`Manifest`] in the place of the
//! value. So everything that is done with records (flushing, tiers, checkpoints, backups) is done with
//! long values, too; PostgreSQL keeps its long attributes in the same way (TOAST).
//!
//! ```text
//! record of the key    space s            key k               manifest: id, length, bytes a piece
//! record of a piece    pieces_of(s)       id, number          bytes | k | length of k (2 bytes)
//! ```
//!
//! # Why no reader finds half a value
//! An id is given once. The pieces are in the log before the record that leads to them is, and a long
//! record is never written where it is: whatever holds the record (a page, a checkpoint) holds its
//! pieces. They are not in the log of changes, which has the whole value in one record: a replay cuts
//! it anew.
//!
//! Nobody removes pieces. Compaction keeps one if its key's record leads to it ([`Store::is_in_use`]),
//! or if it is of a value that is being written ([`Unlinked`]). A reader that comes too late finds one
//! missing, and looks at the key again: it has another record by then.
//!
//! So that compaction knows how much is dead, a write of a key that may have had a long value looks at
//! what it replaces, on disk, too; [`LongValues`] remembers the hashes of those keys. They go by what
//! is counted: should one be lost, pieces stay until something else makes compaction pass.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrokit_engine::{Error, ErrorKind, KeyspaceId, Result, WriteBatch};

use super::chain::Lookup;
use super::drive::Step;
use super::known::{Asked, Known};
use super::write::{Stored, blueprint};
use super::{Name, Store};
use crate::epoch::Guard;
use crate::index::table::Access;
use crate::interrupt::{Attempt, Interrupt};
use crate::keyspaces::{owner_of, pieces_of};
use crate::log::record::Copied;
use crate::log::{Purpose, RecordLog};
use crate::primitive::{AtomicU64, Ordering};

/// Bytes of an encoded manifest.
pub(super) const MANIFEST_BYTES: usize = 24;
/// Bytes of a piece's key.
const PIECE_KEY_BYTES: usize = 12;
/// Words of a piece's record besides its bytes and its owner's key.
const PIECE_WORDS: u64 = 7;
/// Pieces that are read at a time.
const PIECES_AT_A_TIME: u32 = 8;
/// In a batch whose values would take too much memory together, those longer than this are cut.
const APART_MIN_BYTES: usize = 64;

/// Where a long value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manifest {
    id: u64,
    len: u64,
    piece_bytes: u64,
}

impl Manifest {
    fn encode(self) -> [u8; MANIFEST_BYTES] {
        let mut bytes = [0; MANIFEST_BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip([self.id, self.len, self.piece_bytes]) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; MANIFEST_BYTES] = bytes.try_into().ok()?;
        let mut words = [0; 3];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        let [id, len, piece_bytes] = words;
        let is_sound = (1..=u64::from(u32::MAX)).contains(&piece_bytes)
            && len.div_ceil(piece_bytes) <= u64::from(u32::MAX);
        is_sound.then_some(Self { id, len, piece_bytes })
    }

    fn pieces(self) -> u32 {
        self.len.div_ceil(self.piece_bytes) as u32
    }

    /// The words of the first `pieces` of its pieces, those of their owner's key left out.
    fn words(self, pieces: u32) -> u64 {
        let pieces = u64::from(pieces);
        (pieces * self.piece_bytes).min(self.len).div_ceil(8) + pieces * PIECE_WORDS
    }

    /// The words of the pieces of a long record's value; 0 if it is none.
    pub(super) fn words_of(stored: Stored<'_>) -> usize {
        let manifest = Some(stored).filter(|it| it.is_long).and_then(|it| Self::decode(it.bytes));
        manifest.map_or(0, |manifest| manifest.words(manifest.pieces()) as usize)
    }

    fn key(self, number: u32) -> [u8; PIECE_KEY_BYTES] {
        let mut key = [0; PIECE_KEY_BYTES];
        key[..8].copy_from_slice(&self.id.to_le_bytes());
        key[8..].copy_from_slice(&number.to_le_bytes());
        key
    }

    fn id_of(piece_key: &[u8]) -> Option<u64> {
        piece_key.first_chunk().map(|id| u64::from_le_bytes(*id))
    }
}

/// Where the ids of long values come from, and which of them no record leads to yet.
#[derive(Debug)]
pub(super) struct LongValues {
    next_id: AtomicU64,
    unlinked: Mutex<HashSet<u64>>,
    /// How many long records each key has, by its space and hash.
    keys: Mutex<HashMap<(u64, u64), u64>>,
    has_keys: AtomicBool,
}

impl LongValues {
    /// Gives ids from a random one on: they are not those of an earlier life.
    pub(super) fn new(first_id: u64) -> Self {
        Self {
            next_id: AtomicU64::new(first_id),
            unlinked: Mutex::default(),
            keys: Mutex::default(),
            has_keys: AtomicBool::new(false),
        }
    }

    fn lock_keys(&self) -> MutexGuard<'_, HashMap<(u64, u64), u64>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_unlinked(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.unlinked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a checkpoint keeps. Keys of other spaces than these, or newer ones, are forgotten.
    pub(super) fn keys(&self, spaces: &[(u64, u64)]) -> Vec<[u64; 3]> {
        let mut keys = self.lock_keys();
        let newest = spaces.iter().map(|(id, _)| *id).max();
        keys.retain(|(space, _), _| {
            Some(*space) > newest || spaces.iter().any(|(id, _)| id == space)
        });
        self.has_keys.store(!keys.is_empty(), Ordering::Release);
        keys.iter().map(|((space, hash), count)| [*space, *hash, *count]).collect()
    }

    /// Remembers what a checkpoint kept.
    pub(super) fn set_keys(&self, keys: &[[u64; 3]]) {
        self.has_keys.store(!keys.is_empty(), Ordering::Relaxed);
        *self.lock_keys() = keys.iter().map(|[space, hash, n]| ((*space, *hash), *n)).collect();
    }

    fn has_key(&self, name: &Name<'_>) -> bool {
        self.has_keys.load(Ordering::Acquire)
            && self.lock_keys().contains_key(&(name.space, name.hash.0))
    }

    fn add_key(&self, key: (u64, u64)) {
        *self.lock_keys().entry(key).or_default() += 1;
        self.has_keys.store(true, Ordering::Release);
    }

    fn remove_key(&self, key: (u64, u64)) {
        let mut keys = self.lock_keys();
        if let Entry::Occupied(mut count) = keys.entry(key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.has_keys.store(!keys.is_empty(), Ordering::Release);
    }
}

/// A long value whose pieces are written; compaction keeps them as long as this lives. To be dropped
/// after the record that leads to them is linked, or when it is given up.
pub(super) struct Unlinked {
    /// The space of the key.
    space: u64,
    manifest: Manifest,
    encoded: [u8; MANIFEST_BYTES],
    written: u32,
    is_linked: AtomicBool,
    /// The key, once it is counted.
    counted: Option<(u64, u64)>,
    values: Arc<LongValues>,
    log: Arc<RecordLog>,
}

impl Unlinked {
    /// The space it can be linked in.
    pub(super) fn space(&self) -> u64 {
        self.space
    }

    /// What the key's record is to hold.
    pub(super) fn stored(&self) -> Stored<'_> {
        Stored { bytes: &self.encoded, is_long: true }
    }

    /// Takes note that a record leads to it.
    pub(super) fn set_linked(&self) {
        self.is_linked.store(true, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Unlinked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unlinked").field("space", &self.space).finish_non_exhaustive()
    }
}

impl Drop for Unlinked {
    fn drop(&mut self) {
        self.values.lock_unlinked().remove(&self.manifest.id);
        if !self.is_linked.load(Ordering::Relaxed) {
            let words = self.manifest.words(self.written);
            self.log.count_dead_anywhere(words as usize);
            if let Some(key) = self.counted {
                self.values.remove_key(key);
            }
        }
    }
}

impl Store {
    /// Whether a key may have a long value on disk.
    #[inline]
    pub(super) fn may_be_long(&self, name: &Name<'_>) -> bool {
        self.long_values.has_key(name)
    }

    /// Takes note that a key has one long record less.
    #[cold]
    pub(super) fn uncount_long(&self, name: &Name<'_>) {
        if self.tiers.is_some() {
            self.long_values.remove_key((name.space, name.hash.0));
        }
    }

    /// Whether a value of that length is cut into pieces.
    #[inline]
    pub(super) fn is_long(&self, len: usize) -> bool {
        len > self.record_value_bytes
    }

    /// Writes the pieces of a value that a key of the keyspace is to have.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the number of keyspaces; `OutOfSpace`, `Busy`; those of cold reads.
    pub(super) async fn write_pieces(
        &self,
        operation: &'static str,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
    ) -> Result<Unlinked> {
        let space = self
            .drive(operation, move |guard, _| Ok(self.keyspaces.load(guard)?.of(keyspace)?.id()));
        let space = space.await?;
        let id = self.long_values.next_id.fetch_add(1, Ordering::Relaxed);
        let (len, piece_bytes) = (value.len() as u64, self.piece_bytes as u64);
        let manifest = Manifest { id, len, piece_bytes };
        self.long_values.lock_unlinked().insert(id);
        let mut written = Unlinked {
            space,
            manifest,
            encoded: manifest.encode(),
            written: 0,
            is_linked: AtomicBool::new(false),
            counted: None,
            values: Arc::clone(&self.long_values),
            log: Arc::clone(&self.log),
        };
        let mut piece = Vec::with_capacity(self.piece_bytes + key.len() + 2);
        for (number, bytes) in (0..).zip(value.chunks(self.piece_bytes)) {
            piece.clear();
            piece.extend_from_slice(bytes);
            piece.extend_from_slice(key);
            piece.extend_from_slice(&(key.len() as u16).to_le_bytes());
            let piece_key = manifest.key(number);
            let put = self.drive(operation, |guard, _| {
                self.put_piece(guard, pieces_of(space), &piece_key, &piece)
            });
            if let Err(error) = put.await {
                drop(written);
                // What it took is garbage now.
                self.forget_fruitless_round();
                return Err(error);
            }
            written.written = number + 1;
        }
        // Before it is linked. In memory all are found.
        if self.tiers.is_some() {
            let counted = (space, self.name(space, key).hash.0);
            self.long_values.add_key(counted);
            written.counted = Some(counted);
        }
        Ok(written)
    }

    fn put_piece(&self, guard: &Guard<'_>, space: u64, key: &[u8], piece: &[u8]) -> Attempt<()> {
        let name = self.name(space, key);
        let table = self.table_for(&name, guard)?;
        let plan = blueprint(&name, piece.into(), 0, piece.len());
        let linked = match self.find(table, &name, Access::Shared)? {
            Lookup::Absent(place) => self.insert(table, place, &name, &plan, None)?,
            // Of its tag, not of its name, which is new.
            Lookup::Cold(cold) => {
                let (place, previous) = ((cold.slot, cold.head), cold.head.address());
                self.insert_at(place, previous, &plan, Purpose::Write, None)?
            }
            Lookup::Found(_) => {
                let message = "the id of a long value is in use";
                return Err(Error::new(ErrorKind::Busy, "put", message).into());
            }
        };
        self.help_index(guard);
        linked.map(drop).ok_or(Interrupt::Again)
    }

    /// Writes the pieces of those values of a batch that are too long for a record, or of nearly all if
    /// they are too much for the memory together; by their places in the batch.
    ///
    /// # Errors
    /// As [`write_pieces`](Self::write_pieces).
    pub(super) async fn write_pieces_of(
        &self,
        batch: &WriteBatch,
    ) -> Result<Vec<Option<Unlinked>>> {
        let longest = self.longest_in(batch);
        let mut written = Vec::with_capacity(batch.len());
        for op in batch.iter() {
            written.push(match op {
                ferrokit_engine::BatchOp::Put { keyspace, key, value, .. }
                    if value.len() > longest =>
                {
                    Some(self.write_pieces("write", keyspace, key, value).await?)
                }
                _ => None,
            });
        }
        Ok(written)
    }

    /// Whether a batch has values that have to be cut.
    pub(super) fn has_long_values(&self, batch: &WriteBatch) -> bool {
        // Nothing in it is longer than all of it.
        batch.bytes() > self.record_value_bytes.min(self.batch_record_bytes)
            && batch.iter().any(|op| {
                matches!(op, ferrokit_engine::BatchOp::Put { value, .. }
                    if value.len() > self.longest_in(batch))
            })
    }

    /// The longest value of a batch that is not cut.
    fn longest_in(&self, batch: &WriteBatch) -> usize {
        if batch.bytes() > self.batch_record_bytes {
            APART_MIN_BYTES
        } else {
            self.record_value_bytes
        }
    }

    /// Puts the value that a copied manifest leads to in its place, behind `start` of `out`.
    #[inline]
    pub(super) fn resolve(
        &self,
        known: &Known,
        space: u64,
        copied: Copied,
        out: &mut Vec<u8>,
        start: usize,
    ) -> Attempt<Copied> {
        if !copied.is_long {
            return Ok(copied);
        }
        let value = self.whole(known, space, &out[start..])?;
        out.truncate(start);
        out.extend_from_slice(value);
        Ok(Copied { value_len: value.len(), is_long: false, ..copied })
    }

    /// The value that a long record leads to; an interrupt that asks for it if it is not known.
    #[cold]
    pub(super) fn whole<'k>(
        &self,
        known: &'k Known,
        space: u64,
        manifest: &[u8],
    ) -> Attempt<&'k [u8]> {
        let manifest = Manifest::decode(manifest).ok_or_else(damaged)?;
        match known.whole(manifest.id) {
            None => Err(Interrupt::Cold(vec![Asked::Whole { space, manifest }])),
            Some(Some(value)) => Ok(value),
            // Had it been replaced, this record would not have been found.
            Some(None) => Err(damaged().into()),
        }
    }

    /// Reads the pieces of a value of a key in `space`.
    ///
    /// # Errors
    /// `Corruption`, `Io`; `OutOfSpace` if there is no memory for it.
    pub(super) async fn read_whole(
        &self,
        space: u64,
        manifest: Manifest,
        known: &mut Known,
    ) -> Result<()> {
        let mut value = Vec::new();
        let no_memory = |_| Error::new(ErrorKind::OutOfSpace, "get", "no memory for a long value");
        value.try_reserve_exact(manifest.len as usize).map_err(no_memory)?;
        let mut number = 0;
        while number < manifest.pieces() {
            let end = (number + PIECES_AT_A_TIME).min(manifest.pieces());
            if !self.read_pieces(space, manifest, number..end, &mut value).await? {
                known.add_whole(manifest.id, None);
                return Ok(());
            }
            number = end;
        }
        let is_whole = value.len() as u64 == manifest.len;
        known.add_whole(manifest.id, Some(value).filter(|_| is_whole));
        Ok(())
    }

    /// Appends some pieces to `value`; `false` if one is missing.
    async fn read_pieces(
        &self,
        space: u64,
        manifest: Manifest,
        numbers: std::ops::Range<u32>,
        value: &mut Vec<u8>,
    ) -> Result<bool> {
        let (start, mut known) = (value.len(), Known::default());
        loop {
            let step = self.run_now("get", |guard| {
                value.truncate(start);
                let mut asked = Vec::new();
                for number in numbers.clone() {
                    let key = manifest.key(number);
                    let name = self.name(pieces_of(space), &key);
                    let table = self.table_for(&name, guard)?;
                    match self.read_in(table, &name, Access::Shared, guard, &known, value) {
                        Ok(Some(_)) => strip_owner(value)?,
                        Ok(None) => return Ok(false),
                        // The waits for the device overlap.
                        Err(Interrupt::Cold(more)) => asked.extend(more),
                        Err(other) => return Err(other),
                    }
                }
                if asked.is_empty() { Ok(true) } else { Err(Interrupt::Cold(asked)) }
            })?;
            match step {
                Step::Done(is_whole) => return Ok(is_whole),
                Step::Wait(super::drive::Wait::Cold(asked)) => {
                    self.read_records(asked, &mut known).await?;
                }
                // A read asks for nothing else.
                Step::Wait(_) => {}
            }
        }
    }

    /// Whether the value that a piece is of is some key's, or about to become so. `piece` is the
    /// piece's own value.
    pub(super) fn is_in_use(
        &self,
        guard: &Guard<'_>,
        known: &Known,
        name: &Name<'_>,
        piece: &[u8],
    ) -> Attempt<bool> {
        let Some(space) = owner_of(name.space) else { return Ok(true) };
        let id = Manifest::id_of(name.key).ok_or_else(damaged)?;
        // Before the key's record is looked at: what is no longer unlinked then has been linked.
        let is_unlinked = self.long_values.lock_unlinked().contains(&id);
        if is_unlinked {
            return Ok(true);
        }
        let (_, key) = split_owner(piece).ok_or_else(damaged)?;
        let owner = self.name(space, key);
        let table = self.table_for(&owner, guard)?;
        let leads_here = |stored: &[u8]| Manifest::decode(stored).is_some_and(|it| it.id == id);
        match self.find(table, &owner, Access::Shared)? {
            Lookup::Absent(_) => Ok(false),
            Lookup::Cold(cold) => {
                let Some(answer) = known.key(cold.address, &owner) else {
                    return Err(Interrupt::Cold(vec![Asked::key(&cold, &owner)]));
                };
                let value = answer.value.as_ref();
                let live = value.filter(|it| it.is_long && !self.is_expired(it.expire_at));
                Ok(live.is_some_and(|it| leads_here(&it.value)))
            }
            Lookup::Found(found) => {
                let Some(latched) = found.record.latch() else { return Err(Interrupt::Again) };
                let is_gone = latched.is_tombstone() || self.is_expired(latched.expire_at());
                if is_gone || !latched.is_long() {
                    return Ok(false);
                }
                let mut stored = Vec::with_capacity(MANIFEST_BYTES);
                latched.copy_value(&mut stored);
                Ok(leads_here(&stored))
            }
        }
    }
}

/// The bytes of a piece, and its owner's key.
fn split_owner(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, len) = piece.split_last_chunk()?;
    rest.split_at_checked(rest.len().checked_sub(usize::from(u16::from_le_bytes(*len)))?)
}

/// Takes the owner's key off a piece at the end of `value`.
fn strip_owner(value: &mut Vec<u8>) -> Result<()> {
    let len = split_owner(value).map(|(bytes, _)| bytes.len()).ok_or_else(damaged)?;
    value.truncate(len);
    Ok(())
}

fn damaged() -> Error {
    Error::corruption("get", "a long value lacks a part", "records", 0)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_nothing_else_is_one() {
        let manifest = Manifest { id: 9, len: 1001, piece_bytes: 100 };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Some(manifest));
        assert_eq!(manifest.pieces(), 11);
        assert_eq!(Manifest::decode(&bytes[1..]), None);
        let none = Manifest { piece_bytes: 0, ..manifest };
        let endless = Manifest { len: u64::MAX, piece_bytes: 1, ..manifest };
        for unsound in [none, endless] {
            assert_eq!(Manifest::decode(&unsound.encode()), None);
        }
    }

    #[test]
    fn a_piece_is_parted_from_its_owner() {
        assert_eq!(split_owner(b"bytesk\x01\x00"), Some((&b"bytes"[..], &b"k"[..])));
        assert_eq!(split_owner(b"\x00\x00"), Some((&b""[..], &b""[..])));
        for damaged in [&b""[..], b"\x00", b"x\x02\x00"] {
            assert_eq!(split_owner(damaged), None);
        }
    }
}
