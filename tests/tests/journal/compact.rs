//! Compaction: the newest two sealed segments become one, with the last write of each key.

use std::collections::BTreeMap;

use ferrokit_engine::{Entry, KeyspaceId, Result, UnixMillis};
use ferrokit_storage::{Host, OpenMode};

use crate::Fault;
use crate::record::{Record, Write};
use crate::segments::{self, Segment, Strictness};

/// Merges two neighbouring sealed segments, which are not the oldest.
pub(crate) fn merge(
    host: &Host,
    directory: &str,
    numbers: [u64; 2],
    now: UnixMillis,
    fault: Option<Fault>,
) -> Result<bool> {
    let strictness = Strictness { verify: true, believe_torn: false };
    let [first, second] = numbers;
    let parts = [
        segments::read(host, directory, first, false, strictness)?,
        segments::read(host, directory, second, false, strictness)?,
    ];
    let Some(merged) = merged_writes(&parts) else { return Ok(false) };
    let stamp = parts.iter().flat_map(|part| &part.records).map(|record| record.stamp).max();
    let stamp = stamp.unwrap_or_default();
    let mut bytes = Vec::new();
    for write in merged.into_values() {
        if let Some(write) = survivor(write, now, fault) {
            let record = Record { stamp, synced: 0, is_end: false, writes: vec![write] };
            bytes.extend_from_slice(&record.encode());
        }
    }
    let end = Record { stamp, synced: bytes.len() as u64, is_end: true, writes: Vec::new() };
    bytes.extend_from_slice(&end.encode());
    // The first segment is replaced by both; if the second one is still there after a crash, it
    // is applied once more and changes nothing.
    let temporary = format!("{directory}/merge.tmp");
    let file = host.fs.open(&temporary, OpenMode::OpenOrCreate)?;
    file.set_len(0).wait()?;
    file.write_at(0, bytes).wait()?;
    file.sync_all().wait()?;
    host.fs.rename(&temporary, &segments::path(directory, first))?;
    host.fs.sync_dir(directory)?;
    host.fs.remove_file(&segments::path(directory, second))?;
    host.fs.sync_dir(directory)?;
    Ok(true)
}

/// The last write of each key; `None` if there is a write of another kind.
fn merged_writes(parts: &[Segment; 2]) -> Option<BTreeMap<(KeyspaceId, Vec<u8>), Write>> {
    let mut merged = BTreeMap::new();
    for write in parts.iter().flat_map(|part| &part.records).flat_map(|record| &record.writes) {
        match write {
            Write::Put { keyspace, key, .. } | Write::Delete { keyspace, key } => {
                merged.insert((*keyspace, key.clone()), write.clone());
            }
            Write::Clear { .. } | Write::Swap { .. } => return None,
        }
    }
    Some(merged)
}

/// What is kept of a write.
fn survivor(write: Write, now: UnixMillis, fault: Option<Fault>) -> Option<Write> {
    match write {
        Write::Delete { .. } if fault == Some(Fault::TombstoneDropped) => None,
        Write::Put { keyspace, key, expire_at, .. } if Entry::is_expired_at(expire_at, now) => {
            (fault != Some(Fault::ExpiredUncovers)).then_some(Write::Delete { keyspace, key })
        }
        write => Some(write),
    }
}
