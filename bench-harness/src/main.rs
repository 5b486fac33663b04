//! `ferrokit-bench`: measures ferrokit engines. The peers are in `ferrokit-bench-peers`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ferrokit_bench::cli::main(&[])
}
