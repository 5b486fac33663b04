//! `kill -9` under synced writes: see `ferrokit_conformance::kill9`.

use ferrokit_conformance::kill9;
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};

fn main() {
    let open: kill9::Open = |host, directory| {
        // A round evicts, compacts, takes checkpoints, and moves segments to the object tier.
        let config = HybridLogConfig {
            directory: directory.to_owned(),
            memory_bytes: 64 * (4 << 10),
            page_bytes: 4 << 10,
            index_bytes: 4 << 10,
            segment_bytes: 64 << 10,
            checkpoint_bytes: 256 << 10,
            log_segment_bytes: 256 << 10,
            mapped_bytes: 128 << 10,
            object: format!("{directory}/objects"),
            disk_bytes: 512 << 10,
            garbage_percent: 10,
            ..HybridLogConfig::default()
        };
        Ok(HybridLogEngine::open(host, config)?)
    };
    kill9::run(open, env!("CARGO_TARGET_TMPDIR"));
}
