//! Opening a log: finding its end, replaying it, and cutting a torn tail for good.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ferrokit_engine::{Error, ErrorKind, Result};

use super::format::{
    ALIGNMENT, Expected, Parsed, RECORD_HEADER_BYTES, RecordKind, SEGMENT_HEADER_BYTES,
    SegmentHeader, parse, position_of_candidate,
};
use super::segment::{Segment, Spare};
use super::store::{Store, bad_header};
use super::{Appended, LogConfig, LogPosition};
use crate::host::Host;

/// How much of a file is read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A log ready to be appended to.
pub(super) struct Recovered {
    pub(super) store: Arc<Store>,
    /// All segments; `current` is the last.
    pub(super) segments: VecDeque<Segment>,
    pub(super) current: Segment,
    pub(super) spares: Vec<Spare>,
    pub(super) end: u64,
    pub(super) epoch: u32,
}

type Visit<'a> = dyn FnMut(Appended, &[u8]) -> Result<()> + 'a;

pub(super) fn recover(
    host: &Host,
    directory: &str,
    config: &LogConfig,
    from: LogPosition,
    replay: &mut Visit<'_>,
) -> Result<Recovered> {
    let from = from.0;
    if !from.is_multiple_of(ALIGNMENT as u64) {
        return Err(Error::invalid("log.open", format!("no record starts at {from}")));
    }
    host.fs.create_dir_all(directory)?;
    let mut store = Store {
        fs: Arc::clone(&host.fs),
        directory: directory.to_owned(),
        segment_bytes: config.segment_bytes,
        next_spare: AtomicU64::new(0),
    };
    let found = store.find()?;
    let next_spare = found.spares.iter().max().map_or(0, |number| number.wrapping_add(1));
    store.next_spare = AtomicU64::new(next_spare);
    let mut segments = VecDeque::new();
    for start in found.segments {
        segments.push_back(store.open_segment(start)?);
    }
    check_epochs(&segments)?;
    let mut spares = usable_spares(&store, &found.spares, config.recycle_segments.max(1))?;

    let epoch = segments.back().map_or(Some(1), |last: &Segment| last.epoch.checked_add(1));
    let epoch = epoch.ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "log.open", "the log was opened too often")
    })?;
    let end = match replay_from(&mut segments, from, replay)? {
        Some(end) if end >= from => end,
        _ => {
            // Nothing that is left is wanted, and it would not join on to what is to come.
            for old in segments.drain(..) {
                store.fs.remove_file(&store.segment_path(old.start))?;
            }
            store.fs.sync_dir(directory)?;
            from
        }
    };
    let spare = match spares.pop() {
        Some(spare) => spare,
        None => store.create_spare(config.segment_bytes)?,
    };
    let current = store.become_segment(&spare, end, epoch)?;
    if segments.back().is_some_and(|last| last.start == end) {
        segments.pop_back();
    }
    if let Some(last) = segments.back_mut() {
        give_back_tail(last, end);
    }
    segments.push_back(current.clone());
    Ok(Recovered { store: Arc::new(store), segments, current, spares, end, epoch })
}

fn check_epochs(segments: &VecDeque<Segment>) -> Result<()> {
    for (earlier, later) in segments.iter().zip(segments.iter().skip(1)) {
        if earlier.epoch > later.epoch {
            let what = "the segment is older than the one before it";
            return Err(Error::corruption("log.open", what, later.file.path(), 0));
        }
    }
    Ok(())
}

/// The spare files that fit; others are removed.
fn usable_spares(store: &Store, numbers: &[u64], most: usize) -> Result<Vec<Spare>> {
    let mut spares = Vec::new();
    for number in numbers {
        let spare = store.open_spare(*number)?;
        if spare.file_bytes == store.segment_bytes && spares.len() < most {
            spares.push(spare);
        } else {
            store.discard_spare(&spare);
        }
    }
    Ok(spares)
}

/// The rest of a cut segment is of no use to anybody.
fn give_back_tail(last: &mut Segment, end: u64) {
    let file_bytes = last.offset_of(end);
    match last.file.set_len(file_bytes).wait() {
        Ok(()) => last.file_bytes = file_bytes,
        Err(error) => tracing::warn!(%error, "a closed log segment keeps its unused space"),
    }
}

/// Replays the segments from the one that `from` lies in; where the log ends, `None` if there are
/// no segments. What was replayed is on the device afterwards.
fn replay_from(
    segments: &mut VecDeque<Segment>,
    from: u64,
    replay: &mut Visit<'_>,
) -> Result<Option<u64>> {
    let Some(first) = segments.front() else { return Ok(None) };
    if from < first.start {
        return Err(Error::new(
            ErrorKind::NotFound,
            "log.open",
            format!("records from {from} on are wanted, but the log begins at {}", first.start),
        )
        .with_file(first.file.path()));
    }
    let skipped = segments.partition_point(|segment| segment.start <= from) - 1;
    let mut end = from;
    for index in skipped..segments.len() {
        let Some(segment) = segments.get(index) else { break };
        let successor = segments.get(index + 1).map(|next| next.start);
        let mut read = |offset: u64, len: usize| segment.file.read_at(offset, len).wait();
        let mut scan = Scan {
            start: segment.start,
            epoch: segment.epoch,
            path: segment.file.path(),
            cursor: Cursor::new(&mut read, segment.file_bytes),
            synced_through: segment.start,
        };
        end = scan.records(successor, &mut |place, payload| {
            if place.start.0 < from && from < place.end.0 {
                return Err(Error::invalid("log.open", format!("no record starts at {from}")));
            }
            if place.start.0 < from { Ok(()) } else { replay(place, payload) }
        })?;
        if successor.is_none() {
            let proven = scan.synced_through;
            write_again(segment, proven.min(end), end)?;
        }
    }
    Ok(Some(end))
}

/// Writes the end of the log once more and syncs it.
///
/// What was read may have come from a page cache that an earlier, failed sync left clean: a sync
/// alone would then succeed without writing anything (Rebello et al., USENIX ATC 2020).
fn write_again(segment: &Segment, mut from: u64, end: u64) -> Result<()> {
    while from < end {
        let count = usize::try_from(end - from).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let bytes = segment.file.read_at(segment.offset_of(from), count).wait()?;
        // What goes back into the file must be what the scan found sound there: a bit that flips on
        // the way from the device would else be made to stay.
        if segment.file.read_at(segment.offset_of(from), count).wait()? != bytes {
            let what = "two reads of the same bytes differ";
            let path = segment.file.path();
            return Err(Error::corruption("log.open", what, path, segment.offset_of(from)));
        }
        segment.file.write_at(segment.offset_of(from), bytes).wait()?;
        from += count as u64;
    }
    segment.file.sync_data().wait()
}

/// Parses the image of a segment file, as recovery does with the last segment; nothing is read or
/// written. For fuzzing: any bytes give an answer.
///
/// # Errors
/// `Corruption`, `VersionTooNew`.
pub fn fuzz_segment(bytes: &[u8]) -> Result<LogPosition> {
    const PATH: &str = "segment";
    let header = SegmentHeader::decode(bytes).map_err(|bad| bad_header(bad, PATH))?;
    let mut read = |offset: u64, len: usize| {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = start..start.saturating_add(len);
        bytes.get(range).map(<[u8]>::to_vec).ok_or_else(|| {
            Error::new(ErrorKind::Io, "log.open", "a read beyond the end of the segment")
        })
    };
    let mut scan = Scan {
        start: header.start,
        epoch: header.epoch,
        path: PATH,
        cursor: Cursor::new(&mut read, bytes.len() as u64),
        synced_through: header.start,
    };
    scan.records(None, &mut |_, _| Ok(())).map(LogPosition)
}

/// A pass over one segment.
struct Scan<'a> {
    start: u64,
    epoch: u32,
    path: &'a str,
    cursor: Cursor<'a>,
    /// The furthest that a record seen proves to be on the device.
    synced_through: u64,
}

impl Scan<'_> {
    /// Visits the records up to the successor's start, or to a tail that may be torn. Returns
    /// where they end.
    fn records(&mut self, successor: Option<u64>, visit: &mut Visit<'_>) -> Result<u64> {
        let mut position = self.start;
        loop {
            if successor.is_some_and(|next| position >= next) {
                if successor == Some(position) {
                    return Ok(position);
                }
                return Err(self.corruption("a record reaches into the next segment", position));
            }
            let Some(total) = self.record(position, visit)? else { break };
            position = position
                .checked_add(total)
                .ok_or_else(|| self.corruption("positions run over", position))?;
        }
        if successor.is_some() {
            return Err(self.corruption("a record is missing before the next segment", position));
        }
        self.search_for_proof(position)?;
        Ok(position)
    }

    /// Visits the record at a position; its size, or `None` if there is none.
    fn record(&mut self, position: u64, visit: &mut Visit<'_>) -> Result<Option<u64>> {
        let offset = self.offset_of(position);
        let expected = Expected { position, epoch: self.epoch };
        let mut wanted = RECORD_HEADER_BYTES;
        loop {
            let bytes = self.cursor.bytes(offset, wanted)?;
            let have = bytes.len();
            match parse(bytes, &expected) {
                Parsed::Incomplete(needed) if have < wanted.max(needed) && needed > wanted => {
                    wanted = needed;
                }
                Parsed::Incomplete(_) | Parsed::Invalid(_) => return Ok(None),
                Parsed::TooNew(version) => {
                    return Err(Error::new(
                        ErrorKind::VersionTooNew,
                        "log.open",
                        format!("a record has version {version}; this code knows 1"),
                    )
                    .with_file(self.path)
                    .with_offset(offset));
                }
                Parsed::Record { header, payload, total } => {
                    self.synced_through = self.synced_through.max(header.synced_through);
                    if header.kind == RecordKind::Data as u8 {
                        let end = LogPosition(position.saturating_add(total as u64));
                        visit(Appended { start: LogPosition(position), end }, payload)?;
                    }
                    return Ok(Some(total as u64));
                }
            }
        }
    }

    /// The log seems to end at `end`. A later record that was appended when `end` had already
    /// been on the device proves that something was there.
    fn search_for_proof(&mut self, end: u64) -> Result<()> {
        let mut position = end + ALIGNMENT as u64;
        loop {
            let offset = self.offset_of(position);
            let chunk = self.cursor.bytes(offset, CHUNK_BYTES)?;
            let slots = chunk.len().saturating_sub(RECORD_HEADER_BYTES - 1).div_ceil(ALIGNMENT);
            if slots == 0 {
                return Ok(());
            }
            let candidates: Vec<u64> = (0..slots)
                .map(|slot| (slot * ALIGNMENT, position + (slot * ALIGNMENT) as u64))
                .filter(|(at, position)| position_of_candidate(chunk, *at) == Some(*position))
                .map(|(_, position)| position)
                .collect();
            for candidate in candidates {
                let before = self.synced_through;
                self.record(candidate, &mut |_, _| Ok(()))?;
                let proven = std::mem::replace(&mut self.synced_through, before);
                if proven > end {
                    return Err(self.corruption("a record that was on the device is damaged", end));
                }
            }
            position += (slots * ALIGNMENT) as u64;
        }
    }

    fn offset_of(&self, position: u64) -> u64 {
        (position - self.start).saturating_add(SEGMENT_HEADER_BYTES as u64)
    }

    fn corruption(&self, what: &'static str, position: u64) -> Error {
        Error::corruption("log.open", what, self.path, self.offset_of(position))
    }
}

type Read<'a> = dyn FnMut(u64, usize) -> Result<Vec<u8>> + 'a;

/// Reads a file forwards, in chunks.
struct Cursor<'a> {
    read: &'a mut Read<'a>,
    file_bytes: u64,
    buffer: Vec<u8>,
    buffer_offset: u64,
}

impl<'a> Cursor<'a> {
    fn new(read: &'a mut Read<'a>, file_bytes: u64) -> Self {
        Self { read, file_bytes, buffer: Vec::new(), buffer_offset: 0 }
    }

    /// The bytes at `offset`: at least `wanted`, or fewer if the file ends.
    fn bytes(&mut self, offset: u64, wanted: usize) -> Result<&[u8]> {
        let left = usize::try_from(self.file_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(&[]);
        }
        let wanted = wanted.min(left);
        let within = |this: &Self| {
            let at = usize::try_from(offset.checked_sub(this.buffer_offset)?).ok()?;
            (this.buffer.len().checked_sub(at)? >= wanted).then_some(at)
        };
        let at = match within(self) {
            Some(at) => at,
            None => {
                self.buffer = (self.read)(offset, wanted.max(CHUNK_BYTES).min(left))?;
                self.buffer_offset = offset;
                0
            }
        };
        Ok(self.buffer.get(at..).unwrap_or_default())
    }
}
