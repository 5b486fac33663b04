//! The readers of untrusted bytes, for fuzz targets: each takes any bytes and answers, never
//! panics, hangs or allocates by a stored number.

use std::sync::Arc;

use ferrokit_engine::{Direction, Result};
use ferrokit_storage::OpenMode;
use ferrokit_storage::sim::SimMachine;

use crate::key::StoredRange;
use crate::read::LoadedBlocks;
use crate::sst::iter::TableIter;
use crate::sst::{Garbage, Table};
use crate::tables::unfault;
use crate::{version, wal};

/// Opens a FerroSST image and reads all of it, in both directions.
///
/// # Errors
/// `Corruption`, `VersionTooNew`.
pub fn read_table(image: &[u8]) -> Result<usize> {
    let host = SimMachine::new(0).host();
    let file = host.fs.open("table", OpenMode::CreateNew)?;
    file.write_at(0, image.to_vec()).wait()?;
    let table = Table::open(file, 1, &Arc::new(Garbage::default()))?;
    let mut versions = 0;
    for direction in [Direction::Forward, Direction::Backward] {
        let mut iter = TableIter::new(Arc::clone(&table), StoredRange::all(), direction);
        unfault(iter.start(&mut LoadedBlocks))?;
        // A damaged index may lead in circles; no table holds more records than bytes.
        while iter.record().is_some() && versions <= 2 * image.len() {
            versions += 1;
            unfault(iter.advance(&mut LoadedBlocks))?;
        }
    }
    Ok(versions)
}

/// Reads a manifest image.
///
/// # Errors
/// `Corruption`, `VersionTooNew`.
pub fn read_manifest(image: &[u8]) -> Result<()> {
    version::parse_manifest(image)
}

/// Reads a record of the engine's log; whether it makes sense.
pub fn read_log_record(record: &[u8]) -> bool {
    wal::decode(record).is_ok()
}
