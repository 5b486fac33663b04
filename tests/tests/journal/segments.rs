//! Segments: files `NNNNNN.log` of records, all but the last one sealed by an end record.

use std::sync::Arc;

use ferrokit_engine::{Error, Result};
use ferrokit_storage::{File, Host, OpenMode};

use crate::record::Record;

/// What a segment's file holds.
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) records: Vec<Record>,
    /// The length of its whole records.
    pub(crate) bytes: u64,
    pub(crate) is_sealed: bool,
}

pub(crate) fn path(directory: &str, number: u64) -> String {
    format!("{directory}/{number:06}.log")
}

/// The numbers of the segments in a directory.
pub(crate) fn list(host: &Host, directory: &str) -> Result<Vec<u64>> {
    let entries = host.fs.list(directory)?;
    let numbers = entries.iter().filter_map(|e| e.name.strip_suffix(".log")?.parse().ok());
    Ok(numbers.collect())
}

/// Creates a segment, durably.
pub(crate) fn create(host: &Host, directory: &str, number: u64) -> Result<Arc<dyn File>> {
    let file = host.fs.open(&path(directory, number), OpenMode::OpenOrCreate)?;
    file.set_len(0).wait()?;
    file.sync_all().wait()?;
    host.fs.sync_dir(directory)?;
    Ok(file)
}

/// Writes what was read of a segment to a new file in its place. To sync the old one would not
/// do: after a failed sync the system may show bytes that it will never write.
pub(crate) fn rewrite(host: &Host, directory: &str, segment: &Segment) -> Result<Arc<dyn File>> {
    let path = path(directory, segment.number);
    let bytes = segment.records.iter().flat_map(Record::encode).collect();
    let temporary = format!("{directory}/rewrite.tmp");
    let file = host.fs.open(&temporary, OpenMode::OpenOrCreate)?;
    file.set_len(0).wait()?;
    file.write_at(0, bytes).wait()?;
    file.sync_all().wait()?;
    host.fs.rename(&temporary, &path)?;
    host.fs.sync_dir(directory)?;
    Ok(file)
}

/// How strictly a segment is read; not strictly at all where that is the planted fault.
#[derive(Clone, Copy)]
pub(crate) struct Strictness {
    pub(crate) verify: bool,
    pub(crate) believe_torn: bool,
}

/// Reads a segment. The last one may end in what a crash left of writes that were never synced.
pub(crate) fn read(
    host: &Host,
    directory: &str,
    number: u64,
    is_last: bool,
    strictness: Strictness,
) -> Result<Segment> {
    let path = path(directory, number);
    let file = host.fs.open(&path, OpenMode::Read)?;
    let bytes = file.read_at(0, file.len()? as usize).wait()?;
    let mut segment = Segment { number, records: Vec::new(), bytes: 0, is_sealed: false };
    let mut at = 0;
    while let Some((record, length)) = Record::decode(&bytes[at..], strictness.verify) {
        at += length;
        segment.is_sealed = record.is_end;
        segment.records.push(record);
    }
    segment.bytes = at as u64;
    if strictness.believe_torn
        && let Some((record, _)) = torn(&bytes[at..])
    {
        segment.records.push(record);
    }
    let corruption =
        |message: &'static str| Err(Error::corruption("open", message, &path, at as u64));
    if segment.is_sealed && at != bytes.len() {
        return corruption("bytes behind the end of a sealed segment");
    }
    if segment.is_sealed || !strictness.verify {
        return Ok(segment);
    }
    if !is_last {
        return corruption("a sealed segment is damaged");
    }
    // A later record that knows this place as synced proves that it is damage, no torn write.
    let is_known_synced = (at + 1..bytes.len())
        .filter_map(|later| Record::decode(&bytes[later..], true))
        .any(|(record, _)| record.synced > at as u64);
    if is_known_synced { corruption("a record is damaged") } else { Ok(segment) }
}

/// What a reader that does not look at lengths would take for a record.
fn torn(bytes: &[u8]) -> Option<(Record, usize)> {
    (25..bytes.len()).rev().find_map(|end| {
        let mut copy = bytes[..end].to_vec();
        let payload_bytes = (end - crate::record::HEADER_BYTES) as u32;
        copy[..4].copy_from_slice(&payload_bytes.to_le_bytes());
        Record::decode(&copy, false).filter(|(record, _)| !record.writes.is_empty())
    })
}
