//! Writes the man page and the shell completions into a directory, for packages:
//! `cargo run -p ferrokit-server --example packaging -- target/packaging`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap_complete::{Shell, generate_to};
use ferrokit_server::cli;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("give the directory to write into");
        return ExitCode::FAILURE;
    };
    match write(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "what a packager asks for, not an engine's files")]
fn write(directory: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut page = Vec::new();
    clap_mangen::Man::new(cli::command()).render(&mut page)?;
    std::fs::write(directory.join("ferrokit-server.1"), page)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut cli::command(), "ferrokit-server", directory)?;
    }
    Ok(())
}
