//! `ferrokit-bench-peers`: the commands of `ferrokit-bench`, with foreign engines to compare with.
//! Their URLs and options: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ferrokit_bench::cli::main(ferrokit_bench_peers::PEERS)
}
