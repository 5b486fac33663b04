//! [`Objects`]: the object tier of a log, and which segments are in it.
//!
//! ```text
//! PLACES = magic(8) format(4) flags(4) store(8) wrapped key(68) zero(4) count(8) entry* checksum(8)
//! entry  = segment(8) identity(8) bytes(8) tail bytes(8) flags(8)
//! ```
//! Numbers are little-endian; flag 1 is "encrypted". The store's number is drawn when an object tier
//! is first given; all objects of the log carry it in their names: `<store>-<segment>-<identity>`, in
//! hex. The key in PLACES encrypts nothing: it shows whether the right one was given.
//!
//! PLACES is replaced as a whole, and names an object only after that is durable. Segments before
//! the checkpoint's first page may still be in it when their objects are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrokit_engine::{Error, ErrorKind, Result, block_on};
use ferrokit_storage::atomic_file::{join, read_file};
use ferrokit_storage::codec::WRAPPED_KEY_BYTES;
use ferrokit_storage::object::ObjectTier;
use ferrokit_storage::{Fs, WrappedKey, replace_file};
use xxhash_rust::xxh3::xxh3_64;

use super::packed::{Decoded, PackedFacts, PackedSegment, Packer, Packing};
use super::segment::{Layout, Segments, file_name};

/// The file that says which segments are in the object tier.
pub(crate) const PLACES: &str = "PLACES";
const MAGIC: &[u8; 8] = b"FKHLPLCS";
const FORMAT: u32 = 1;
const ENCRYPTED: u32 = 1;
/// 26 million segments.
const PLACES_BYTES_MAX: usize = 1 << 30;
const ENTRY_BYTES: usize = 40;

/// What `PLACES` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// The number all objects carry.
    pub(crate) store: u64,
    /// A key nobody uses, wrapped by the key of the objects, if they are encrypted.
    pub(crate) key_check: Option<WrappedKey>,
    pub(crate) segments: BTreeMap<u64, PackedFacts>,
}

impl Places {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.segments.len() * ENTRY_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        let flags = if self.key_check.is_some() { ENCRYPTED } else { 0 };
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.store.to_le_bytes());
        out.extend_from_slice(&self.key_check.unwrap_or([0; WRAPPED_KEY_BYTES]));
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.segments.len() as u64).to_le_bytes());
        for (segment, facts) in &self.segments {
            let flags = u64::from(if facts.is_encrypted { ENCRYPTED } else { 0 });
            for number in [*segment, facts.identity, facts.bytes, facts.tail_bytes, flags] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out.extend_from_slice(&xxh3_64(&out).to_le_bytes());
        out
    }

    /// What the bytes say, if they match their checksum and are of this format.
    fn decode(bytes: &[u8]) -> Result<Option<Self>> {
        let Some((covered, checksum)) = bytes.split_last_chunk::<8>() else { return Ok(None) };
        if covered.get(..8) != Some(MAGIC) || xxh3_64(covered).to_le_bytes() != *checksum {
            return Ok(None);
        }
        Self::decode_checked(covered.get(8..).unwrap_or_default())
    }

    fn decode_checked(mut rest: &[u8]) -> Result<Option<Self>> {
        let mut take = |count: usize| {
            let (taken, left) = rest.split_at_checked(count)?;
            rest = left;
            Some(taken)
        };
        let number = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| {
                let mut number = [0; 8];
                number[..bytes.len()].copy_from_slice(bytes);
                u64::from_le_bytes(number)
            })
        };
        if number(take(4)).is_some_and(|format| format > u64::from(FORMAT)) {
            return Err(Error::new(
                ErrorKind::VersionTooNew,
                "hybridlog.open",
                "the places of segments were written by a newer version",
            ));
        }
        let mut read = || -> Option<Self> {
            let flags = number(take(4))?;
            let store = number(take(8))?;
            let wrapped: WrappedKey = take(WRAPPED_KEY_BYTES)?.try_into().ok()?;
            take(4)?;
            let count = number(take(8))?;
            let key_check = (flags & u64::from(ENCRYPTED) != 0).then_some(wrapped);
            let mut places = Self { store, key_check, segments: BTreeMap::new() };
            for _ in 0..count {
                let segment = number(take(8))?;
                let facts = PackedFacts {
                    identity: number(take(8))?,
                    bytes: number(take(8))?,
                    tail_bytes: number(take(8))?,
                    is_encrypted: number(take(8))? & u64::from(ENCRYPTED) != 0,
                };
                if facts.tail_bytes > facts.bytes {
                    return None;
                }
                places.segments.insert(segment, facts);
            }
            Some(places)
        };
        Ok(read().filter(|_| rest.is_empty()))
    }

    /// What the directory's file says; `None` if there is none. Blocks.
    ///
    /// # Errors
    /// `Corruption`, `VersionTooNew`, `Io`.
    pub(crate) fn read(fs: &dyn Fs, directory: &str) -> Result<Option<Self>> {
        let path = join(directory, PLACES);
        if !fs.exists(&path)? {
            return Ok(None);
        }
        let bytes = block_on(read_file(fs, &path, PLACES_BYTES_MAX))?;
        let places = Self::decode(&bytes).map_err(|error| error.with_file(&path))?;
        let damaged =
            || Error::corruption("hybridlog.open", "not the places of segments", &path, 0);
        places.map(Some).ok_or_else(damaged)
    }

    /// Replaces the directory's file, atomically and durably. Blocks.
    ///
    /// # Errors
    /// `OutOfSpace`: nothing was replaced. `Io`: unknown.
    pub(crate) fn write(&self, fs: &dyn Fs, directory: &str) -> Result<()> {
        block_on(replace_file(fs, directory, PLACES, self.encode()))
    }
}

/// The object tier of a log.
pub(crate) struct Objects {
    pub(crate) tier: Arc<dyn ObjectTier>,
    pub(crate) store: u64,
    key_check: Option<WrappedKey>,
    pub(crate) packing: Arc<Packing>,
    decoded: Arc<Decoded>,
    layout: Layout,
}

impl Objects {
    /// The tier of the log whose places were read, or of one that begins to have one. Writes
    /// `PLACES` if it says something new. Blocks.
    ///
    /// # Errors
    /// `InvalidArgument` for another key than the objects have, `Io`, `OutOfSpace`.
    pub(crate) fn open(
        fs: &dyn Fs,
        directory: &str,
        tier: Arc<dyn ObjectTier>,
        packing: Packing,
        layout: Layout,
        decoded_bytes: u64,
        (places, new_store): (&mut Option<Places>, u64),
    ) -> Result<Self> {
        let path = join(directory, PLACES);
        let mut is_new = places.is_none();
        let known = places.get_or_insert_with(|| Places { store: new_store, ..Places::default() });
        if let Some(wrapped) = &known.key_check {
            packing.key(known.store, wrapped, &path, 0).map(drop)?;
        } else if let Some((_, wrapped)) = packing.new_key(known.store)? {
            known.key_check = Some(wrapped);
            is_new = true;
        }
        if is_new {
            // Before the first object: those that a crash leaves behind are known by the number.
            known.write(fs, directory)?;
        }
        let decoded = Arc::new(Decoded::new(decoded_bytes, layout.chunk_bytes()));
        Ok(Self {
            tier,
            store: known.store,
            key_check: known.key_check,
            packing: Arc::new(packing),
            decoded,
            layout,
        })
    }

    /// What the names of all objects of the log begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("{:016x}-", self.store)
    }

    /// The name of the object of a segment.
    pub(crate) fn name(&self, segment: u64, identity: u64) -> String {
        format!("{}{segment:016x}-{identity:016x}", self.prefix())
    }

    /// A segment that is in the tier.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(crate) fn segment(&self, segment: u64, facts: PackedFacts) -> Result<Arc<PackedSegment>> {
        let name = self.name(segment, facts.identity);
        let index_bytes_max = self.layout.index_bytes_max();
        // An index of blocks that do not compress, and a trailer.
        if facts.tail_bytes > index_bytes_max + 1024 {
            let what = "an index longer than any";
            return Err(Error::corruption("hybridlog.open", what, &name, 0));
        }
        let object = self.tier.open(&name, facts.bytes).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let what = "a segment is missing in the object tier";
                let path = join(self.tier.location(), &name);
                Error::corruption("hybridlog.open", what, &path, 0).with_source(error)
            }
            _ => error,
        })?;
        let (packing, decoded) = (Arc::clone(&self.packing), Arc::clone(&self.decoded));
        Ok(PackedSegment::new(object, self.layout, segment, facts, packing, decoded))
    }

    /// What `PLACES` is to say.
    pub(crate) fn places(&self, segments: BTreeMap<u64, PackedFacts>) -> Places {
        Places { store: self.store, key_check: self.key_check, segments }
    }

    /// Bytes of decoded chunks and indexes.
    pub(crate) fn decoded_bytes(&self) -> u64 {
        self.decoded.bytes()
    }
}

impl Segments {
    /// The oldest segment on disk that has a page from `begin_page` on, if there is more on disk than
    /// `limit_bytes`.
    pub(crate) fn next_to_move(&self, begin_page: u64, limit_bytes: u64) -> Option<u64> {
        let state = self.read_state();
        let excess = state.files.len() as u64 > limit_bytes / self.pages_bytes();
        let oldest = state.files.range(self.segment_of(begin_page)..).next();
        let oldest = oldest.map(|(segment, _)| *segment).filter(|_| excess)?;
        self.is_complete(&state, oldest).then_some(oldest)
    }

    /// The pages that a segment has, and the page after its last.
    pub(crate) fn pages_of(&self, segment: u64) -> (Vec<u64>, u64) {
        let pages = self.layout.pages_per_segment;
        let (begin, end) = (segment * pages, (segment + 1) * pages);
        (self.facts_between(begin, end).into_iter().map(|(page, _)| page).collect(), end)
    }

    /// Begins to pack a segment.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn packer(&self, objects: &Objects, segment: u64, identity: u64) -> Result<Packer> {
        let name = objects.name(segment, identity);
        Packer::new(&objects.packing, self.layout, segment, identity, &name)
    }

    /// Says durably that a segment is in the object tier, where its object is whole.
    ///
    /// # Errors
    /// Those of [`Places::write`].
    pub(crate) fn write_place(
        &self,
        objects: &Objects,
        segment: u64,
        facts: PackedFacts,
    ) -> Result<()> {
        let mut segments: BTreeMap<u64, PackedFacts> =
            self.read_state().packed.iter().map(|(it, packed)| (*it, packed.facts())).collect();
        segments.insert(segment, facts);
        objects.places(segments).write(&*self.fs, &self.directory)
    }

    /// Reads a segment from the object tier from now on, and removes its file. Blocks.
    ///
    /// # Errors
    /// `Io`; the file is removed at the next opening.
    pub(crate) fn leave_disk(&self, segment: u64, packed: Arc<PackedSegment>) -> Result<()> {
        {
            let mut state = self.write_state();
            state.packed.insert(segment, packed);
            state.files.remove(&segment);
            state.mappings.remove(&segment);
            state.unsynced.remove(&segment);
        }
        self.counts.segments_moved.add(1);
        self.fs.remove_file(&join(&self.directory, &file_name(segment)))
    }

    /// The object tier; none without one.
    pub(crate) fn objects(&self) -> Option<&Objects> {
        self.objects.as_ref()
    }

    /// Takes the names of objects that nobody needs any more, and nobody reads.
    pub(crate) fn take_unneeded_objects(&self) -> Vec<String> {
        if self.read_state().unneeded.is_empty() {
            return Vec::new();
        }
        let mut state = self.write_state();
        let mut names = Vec::new();
        state.unneeded.retain(|(name, packed)| {
            // Readers hold it, and no new ones come.
            let is_read = Arc::strong_count(packed) > 1;
            if !is_read {
                names.push(name.clone());
            }
            is_read
        });
        names
    }

    /// The names of the objects of segments.
    pub(crate) fn needed_objects(&self) -> BTreeSet<String> {
        let Some(objects) = &self.objects else { return BTreeSet::new() };
        let state = self.read_state();
        let named =
            state.packed.iter().map(|(it, packed)| objects.name(*it, packed.facts().identity));
        named.collect()
    }

    /// Whether reads of a page are requests of the object tier.
    pub(crate) fn is_in_objects(&self, page: u64) -> bool {
        self.read_state().packed.contains_key(&self.segment_of(page))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_and_damage_is_noticed() {
        let facts = PackedFacts { identity: 7, bytes: 1000, tail_bytes: 200, is_encrypted: true };
        let places = Places {
            store: 5,
            key_check: Some([9; WRAPPED_KEY_BYTES]),
            segments: BTreeMap::from([(3, facts), (4, PackedFacts { identity: 8, ..facts })]),
        };
        let bytes = places.encode();
        assert_eq!(Places::decode(&bytes).unwrap(), Some(places.clone()));
        for cut in 0..bytes.len() {
            assert_eq!(Places::decode(&bytes[..cut]).unwrap(), None, "cut to {cut}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(Places::decode(&damaged).unwrap(), None, "byte {at}");
        }
        let mut newer = bytes[..bytes.len() - 8].to_vec();
        newer[8] = 2;
        newer.extend_from_slice(&xxh3_64(&newer).to_le_bytes());
        assert_eq!(Places::decode(&newer).unwrap_err().kind(), ErrorKind::VersionTooNew);
    }
}
