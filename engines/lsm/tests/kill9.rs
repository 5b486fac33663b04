//! `kill -9` under synced writes: see `ferrokit_conformance::kill9`.

use ferrokit_conformance::kill9;
use ferrokit_lsm::{LsmConfig, LsmEngine};

fn main() {
    let open: kill9::Open = |host, directory| {
        // A round flushes, compacts and recycles its log.
        let config = LsmConfig {
            memtable_bytes: 256 << 10,
            level0_compact_files: 2,
            level_base_bytes: 1 << 20,
            file_bytes: 256 << 10,
            log_segment_bytes: 256 << 10,
            ..LsmConfig::new(directory)
        };
        Ok(LsmEngine::open(host, config)?)
    };
    kill9::run(open, env!("CARGO_TARGET_TMPDIR"));
}
