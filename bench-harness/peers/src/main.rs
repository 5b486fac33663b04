//! `ferrokit-bench-peers`: the commands of `ferrokit-bench`, with foreign engines to compare with.
//!
//! | URL | engine | options |
//! |---|---|---|
//! | `rocksdb:` | RocksDB | `compression` = `lz4` (the default) or `none` |
//! | `fjall:` | fjall | `compression` likewise |
//! | `dashmap:` | a concurrent hash map in memory | none |

use std::process::ExitCode;

mod dashmap_store;
mod fjall_store;
mod rocksdb_store;

use ferrokit_bench::Adapter;

const PEERS: &[Adapter] = &[
    Adapter { name: "rocksdb", open: rocksdb_store::open },
    Adapter { name: "fjall", open: fjall_store::open },
    Adapter { name: "dashmap", open: dashmap_store::open },
];

fn main() -> ExitCode {
    ferrokit_bench::cli::main(PEERS)
}
