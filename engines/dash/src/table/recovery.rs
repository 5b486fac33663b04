//! From a region to a table: a new one, or what a crash left.
//!
//! Recovery believes the header, the root, the directory, segment identities and slots, in this
//! order; checks every address before it follows it; and derives all else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use ferrokit_engine::{Error, ErrorKind, Result};
use ferrokit_storage::PmemRegion;
use xxhash_rust::xxh3::xxh3_64;

use super::Table;
use super::bucket::SlotWord;
use super::directory::{DEPTH_MAX, Directory, Root};
use super::layout::{
    BUCKET_BYTES, CHUNK_BYTES, CHUNK_TABLE, FORMAT_VERSION, MAGIC, SEGMENT_BYTES, SLOTS, header,
};
use super::segment::{Identity, Segment};
use crate::alloc::Allocator;
use crate::record::{RECORD_HEADER_BYTES, RecordHeader};

/// The least region that holds a table.
pub(crate) const REGION_BYTES_MIN: u64 = 4 * CHUNK_BYTES;

impl Table {
    /// Makes an empty table in a region of zeros. The magic comes last: a crash before leaves a
    /// region that is not formatted.
    pub(crate) fn format(region: PmemRegion, seed: u64) -> Result<Self> {
        if region.len_bytes() < REGION_BYTES_MIN {
            return Err(Error::invalid(
                "dash.format",
                format!(
                    "a region of {} bytes, {REGION_BYTES_MIN} is the least",
                    region.len_bytes()
                ),
            ));
        }
        region.grow(CHUNK_BYTES)?;
        // A format that a crash cut short may have left entries.
        let chunks = region.len_bytes() / CHUNK_BYTES;
        region.grow(CHUNK_TABLE + chunks * 8)?;
        for chunk in (0..chunks).map(|chunk| CHUNK_TABLE + chunk * 8) {
            if region.load(chunk) != 0 {
                region.store(chunk, 0);
            }
        }
        region.persist(CHUNK_TABLE, chunks * 8)?;
        let alloc = Allocator::format(&region);
        let at = alloc.allocate(SEGMENT_BYTES)?;
        let segment = Segment::new(&region, at);
        let identity = Identity { depth: 0, prefix: 0 };
        segment.store_identity(identity);
        for bucket in segment.buckets() {
            bucket.reset_lock();
            (0..SLOTS).for_each(|slot| bucket.store_slot(slot, SlotWord::EMPTY));
        }
        segment.rebuild(identity);
        region.fence()?;
        let directory = alloc.allocate(8)?;
        region.store_persist(directory, at)?;
        region.store(header::ROOT, Root { depth: 0, at: directory }.word());
        region.store(header::VERSION, FORMAT_VERSION);
        region.store(header::LEN_BYTES, region.len_bytes());
        region.store(header::SEED, seed);
        region.store(header::CHECKSUM, checksum(FORMAT_VERSION, region.len_bytes(), seed));
        region.persist(0, header::ROOT + 8)?;
        region.store_persist(header::MAGIC, MAGIC)?;
        Ok(Self::new(region, seed, alloc, 1))
    }

    /// The table that a region holds, after whatever crash.
    ///
    /// # Errors
    /// `NotFound` if there is none, `VersionTooNew`, `Corruption` with the offset.
    pub(crate) fn recover(region: PmemRegion) -> Result<Self> {
        let seed = check_header(&region)?;
        let root = check_root(&region)?;
        let mut segments = BTreeSet::new();
        for index in 0..root.entries() {
            let entry_at = root.at + index * 8;
            let at = region.load(entry_at);
            check_range(&region, entry_at, at, SEGMENT_BYTES, BUCKET_BYTES)?;
            segments.insert(at);
        }
        let identities = settle_splits(&region, root, &segments)?;
        let mut live: BTreeSet<u64> = segments;
        live.insert(root.at);
        for (at, identity) in &identities {
            recover_segment(&region, &Segment::new(&region, *at), *identity, &mut live)?;
        }
        region.fence()?;
        let live: Vec<u64> = live.into_iter().collect();
        let alloc = Allocator::recover(&region, &live);
        Ok(Self::new(region, seed, alloc, identities.len() as u64))
    }

    fn new(region: PmemRegion, seed: u64, alloc: Allocator, segments: u64) -> Self {
        Self {
            seed,
            directory: Directory::new(&region),
            alloc,
            segments: AtomicU64::new(segments),
            retries: AtomicU64::new(0),
            region,
        }
    }
}

fn check_header(region: &PmemRegion) -> Result<u64> {
    if region.len_bytes() < REGION_BYTES_MIN || region.load(header::MAGIC) != MAGIC {
        return Err(Error::new(ErrorKind::NotFound, "dash.recover", "the region holds no table"));
    }
    let version = region.load(header::VERSION);
    if version > FORMAT_VERSION {
        return Err(Error::new(
            ErrorKind::VersionTooNew,
            "dash.recover",
            format!("format {version}, this code knows {FORMAT_VERSION}"),
        ));
    }
    let (len_bytes, seed) = (region.load(header::LEN_BYTES), region.load(header::SEED));
    if region.load(header::CHECKSUM) != checksum(version, len_bytes, seed) {
        return Err(corrupt("the header's checksum differs", header::CHECKSUM));
    }
    if len_bytes > region.len_bytes() {
        return Err(corrupt("the region is shorter than it was", header::LEN_BYTES));
    }
    Ok(seed)
}

fn check_root(region: &PmemRegion) -> Result<Root> {
    let root = Root::from_word(region.load(header::ROOT));
    if root.depth > DEPTH_MAX {
        return Err(corrupt("the directory is too deep", header::ROOT));
    }
    check_range(region, header::ROOT, root.at, root.entries() * 8, 8)?;
    Ok(root)
}

/// Finishes splits that a crash cut short: of two segments that claim a hash the deeper has it.
fn settle_splits(
    region: &PmemRegion,
    root: Root,
    segments: &BTreeSet<u64>,
) -> Result<BTreeMap<u64, Identity>> {
    let mut by_depth: Vec<(Identity, u64)> =
        segments.iter().map(|at| (Segment::new(region, *at).identity(), *at)).collect();
    by_depth.sort_by_key(|(identity, at)| (identity.depth, identity.prefix, *at));
    let mut owners = vec![0; root.entries() as usize];
    for (identity, at) in &by_depth {
        if identity.depth > root.depth || identity.prefix >> identity.depth != 0 {
            return Err(corrupt("a segment of an impossible identity", *at));
        }
        let count = 1 << (root.depth - identity.depth);
        let first = identity.prefix as usize * count;
        owners[first..first + count].fill(*at);
    }
    for (index, owner) in owners.iter().enumerate() {
        let entry_at = root.at + index as u64 * 8;
        if *owner == 0 {
            return Err(corrupt("no segment holds a part of the hashes", entry_at));
        }
        if region.load(entry_at) != *owner {
            region.store(entry_at, *owner);
            region.flush(entry_at, 8);
        }
    }
    region.fence()?;
    by_depth
        .into_iter()
        .map(|(identity, at)| Ok((at, settle(root, &owners, identity, at)?)))
        .collect()
}

/// The identity of a segment after those deeper took their part: itself, or its lower half.
fn settle(root: Root, owners: &[u64], identity: Identity, at: u64) -> Result<Identity> {
    let owned = owners.iter().filter(|owner| **owner == at).count() as u64;
    let count = 1_u64 << (root.depth - identity.depth);
    let settled = if owned == count { identity } else { identity.halves().0 };
    let first = settled.prefix as usize * (1 << (root.depth.saturating_sub(settled.depth)));
    if settled.depth > root.depth
        || owned != 1 << (root.depth - settled.depth)
        || owners.get(first) != Some(&at)
    {
        return Err(corrupt("segments claim the same hashes", at));
    }
    Ok(settled)
}

/// Checks the slots of a segment, empties those of moved or doubled entries, and derives the rest.
fn recover_segment(
    region: &PmemRegion,
    segment: &Segment<'_>,
    identity: Identity,
    live: &mut BTreeSet<u64>,
) -> Result<()> {
    if segment.identity() != identity {
        segment.store_identity(identity);
        region.fence()?;
    }
    for bucket in segment.buckets() {
        bucket.reset_lock();
        for slot in 0..SLOTS {
            let word = bucket.slot(slot);
            if word.is_empty() {
                continue;
            }
            let at = word.record();
            check_range(region, bucket.at(), at, RECORD_HEADER_BYTES, 8)?;
            let record = RecordHeader::load(region, at);
            check_range(region, bucket.at(), at, record.record_bytes(), 8)?;
            // A second slot of one record is a displacement that a crash cut short.
            if !identity.holds(record.hash) || !live.insert(at) {
                bucket.store_slot(slot, SlotWord::EMPTY);
            }
        }
    }
    region.fence()?;
    segment.rebuild(identity);
    Ok(())
}

fn check_range(
    region: &PmemRegion,
    holder: u64,
    at: u64,
    bytes: u64,
    alignment: u64,
) -> Result<()> {
    let end = at.checked_add(bytes);
    let fits = end.is_some_and(|end| end <= region.len_bytes());
    if at < CHUNK_BYTES || !fits || !at.is_multiple_of(alignment) {
        return Err(corrupt("an address leads nowhere", holder));
    }
    Ok(())
}

fn checksum(version: u64, len_bytes: u64, seed: u64) -> u64 {
    let words = [MAGIC, version, len_bytes, seed].map(u64::to_le_bytes);
    xxh3_64(words.as_flattened())
}

#[cold]
fn corrupt(message: &'static str, offset: u64) -> Error {
    Error::corruption("dash.recover", message, "region", offset)
}
