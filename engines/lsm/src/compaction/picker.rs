//! What to compact next: level 0 by its number of tables, the others by their bytes.

use std::sync::Arc;

use crate::config::LsmConfig;
use crate::sst::Table;
use crate::version::{LEVELS, Version};

/// Tables to merge into `output_level`.
pub(super) struct Compaction {
    pub(super) output_level: usize,
    /// Of the level above the output.
    upper: Vec<Arc<Table>>,
    /// Of the output level.
    lower: Vec<Arc<Table>>,
}

impl Compaction {
    pub(super) fn inputs(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.upper.iter().chain(&self.lower)
    }

    /// The inputs as a tree of their own, to merge over.
    pub(super) fn as_version(&self) -> Version {
        let upper = self.upper.iter().map(|table| (self.output_level - 1, Arc::clone(table)));
        let lower = self.lower.iter().map(|table| (self.output_level, Arc::clone(table)));
        Version::empty().with(&[], upper.chain(lower).collect())
    }
}

/// The compaction that is due most, if any is.
pub(super) fn pick(version: &Version, config: &LsmConfig) -> Option<Compaction> {
    let level0 = version.level(0).len() as f64 / config.level0_compact_files as f64;
    let deeper = (1..LEVELS - 1).map(|level| {
        let bytes: u64 = version.level(level).iter().map(|t| t.properties().raw_bytes).sum();
        (level, bytes as f64 / level_bytes_max(config, level) as f64)
    });
    let (level, score) =
        std::iter::once((0, level0)).chain(deeper).max_by(|a, b| a.1.total_cmp(&b.1))?;
    if score < 1.0 || (level > 0 && score <= 1.0) {
        return None;
    }
    let upper =
        if level == 0 { version.level(0).to_vec() } else { vec![least_overlap(version, level)?] };
    let smallest = upper.iter().map(|table| &table.properties().smallest).min()?;
    let largest = upper.iter().map(|table| &table.properties().largest).max()?;
    let lower = version.overlapping(level + 1, smallest, largest);
    Some(Compaction { output_level: level + 1, upper, lower })
}

fn level_bytes_max(config: &LsmConfig, level: usize) -> u64 {
    let exponent = u32::try_from(level - 1).unwrap_or(u32::MAX);
    config.level_base_bytes.saturating_mul(config.level_multiplier.saturating_pow(exponent))
}

/// The table of a level that drags the fewest bytes of the next one along, per byte of its own.
fn least_overlap(version: &Version, level: usize) -> Option<Arc<Table>> {
    let cost = |table: &Arc<Table>| {
        let facts = table.properties();
        let below: u64 = version
            .overlapping(level + 1, &facts.smallest, &facts.largest)
            .iter()
            .map(|table| table.properties().raw_bytes)
            .sum();
        below as f64 / facts.raw_bytes.max(1) as f64
    };
    version.level(level).iter().min_by(|a, b| cost(a).total_cmp(&cost(b))).cloned()
}
