//! Where the programs of servers are.

use std::env;
use std::path::{Path, PathBuf};

use super::subject::ServerKind;

/// Finds a server's program: ferrokit's where this program is, or where cargo puts it; the others,
/// and ferrokit's otherwise, on the `PATH`.
pub(super) fn locate(kind: ServerKind) -> Option<PathBuf> {
    let name = kind.program();
    let beside = (kind == ServerKind::Ferrokit).then(beside_this_program).into_iter().flatten();
    let path = env::var_os("PATH").unwrap_or_default();
    beside
        .chain(env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|program| is_program(program))
}

fn beside_this_program() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if let Some(own) = env::current_exe().ok().as_deref().and_then(Path::parent) {
        // Tests and examples lie one below.
        directories.extend([Some(own), own.parent()].into_iter().flatten().map(Path::to_owned));
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    directories.push(target.join("release"));
    directories
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
