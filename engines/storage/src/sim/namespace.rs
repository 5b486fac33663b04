//! [`Namespace`]: directories and names. One value is what was written, another what was synced.

use std::collections::BTreeMap;

use ferrokit_engine::{Error, Result};

/// The number of a file, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct InodeId(pub(super) u64);

/// A directory and a name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) dir: String,
    pub(super) name: String,
}

/// One change of the namespace. It is atomic: a crash keeps it or loses it.
#[derive(Debug, Clone)]
pub(super) enum NameOp {
    Link { place: Place, inode: InodeId },
    Unlink { place: Place },
    Rename { from: Place, to: Place, inode: InodeId },
    RemoveDir { path: String },
}

impl NameOp {
    /// Whether syncing directory `dir` makes this durable.
    pub(super) fn belongs_to(&self, dir: &str) -> bool {
        match self {
            Self::Link { place, .. } | Self::Unlink { place } => place.dir == dir,
            Self::Rename { from, to, .. } => from.dir == dir || to.dir == dir,
            Self::RemoveDir { path } => parent(path) == dir,
        }
    }

    pub(super) fn inode(&self) -> Option<InodeId> {
        match self {
            Self::Link { inode, .. } | Self::Rename { inode, .. } => Some(*inode),
            Self::Unlink { .. } | Self::RemoveDir { .. } => None,
        }
    }
}

/// Directories by normalised path; the root is the empty path and always there.
#[derive(Debug, Clone)]
pub(super) struct Namespace {
    dirs: BTreeMap<String, BTreeMap<String, InodeId>>,
}

impl Default for Namespace {
    fn default() -> Self {
        Self { dirs: BTreeMap::from([(String::new(), BTreeMap::new())]) }
    }
}

impl Namespace {
    pub(super) fn apply(&mut self, op: &NameOp) {
        match op {
            NameOp::Link { place, inode } => self.link(place, *inode),
            NameOp::Unlink { place } => self.unlink(place),
            NameOp::Rename { from, to, inode } => {
                self.unlink(from);
                self.link(to, *inode);
            }
            NameOp::RemoveDir { path } => {
                self.dirs.retain(|dir, _| !is_within(dir, path));
            }
        }
    }

    // A directory that is gone takes no names: its removal was synced, the name in it was not.
    fn link(&mut self, place: &Place, inode: InodeId) {
        if let Some(names) = self.dirs.get_mut(&place.dir) {
            names.insert(place.name.clone(), inode);
        }
    }

    fn unlink(&mut self, place: &Place) {
        if let Some(names) = self.dirs.get_mut(&place.dir) {
            names.remove(&place.name);
        }
    }

    pub(super) fn create_dir_all(&mut self, path: &str) {
        let mut end = 0;
        while end < path.len() {
            end = path[end + 1..].find('/').map_or(path.len(), |at| end + 1 + at);
            self.dirs.entry(path[..end].to_owned()).or_default();
        }
    }

    /// Whether a component of `path` is the name of a file.
    pub(super) fn has_file_on_the_way(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.map(|end| path.get(..end).unwrap_or(path)).any(|prefix| {
            let (dir, name) = prefix.rsplit_once('/').unwrap_or(("", prefix));
            self.dirs.get(dir).is_some_and(|names| names.contains_key(name))
        })
    }

    pub(super) fn has_dir(&self, path: &str) -> bool {
        self.dirs.contains_key(path)
    }

    pub(super) fn get(&self, place: &Place) -> Option<InodeId> {
        self.dirs.get(&place.dir)?.get(&place.name).copied()
    }

    pub(super) fn names(&self, dir: &str) -> Option<&BTreeMap<String, InodeId>> {
        self.dirs.get(dir)
    }

    /// The names of the directories directly in `dir`.
    pub(super) fn subdirs<'a>(&'a self, dir: &'a str) -> impl Iterator<Item = &'a str> {
        self.dirs
            .keys()
            .filter(move |path| !path.is_empty() && parent(path) == dir)
            .map(|path| path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name))
    }

    /// Every name at or below `path`.
    pub(super) fn places_within(&self, path: &str) -> Vec<Place> {
        let within = self.dirs.iter().filter(|(dir, _)| is_within(dir, path));
        within
            .flat_map(|(dir, names)| {
                names.keys().map(|name| Place { dir: dir.clone(), name: name.clone() })
            })
            .collect()
    }

    pub(super) fn inodes(&self) -> impl Iterator<Item = InodeId> + '_ {
        self.dirs.values().flat_map(|names| names.values().copied())
    }
}

/// Whether `dir` is `path` or lies below it.
pub(super) fn is_within(dir: &str, path: &str) -> bool {
    dir.strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || path.is_empty() || rest.starts_with('/'))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// Drops empty and `.` components; absolute and relative paths are the same here.
pub(super) fn normalise(operation: &'static str, path: &str) -> Result<String> {
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") || path.contains('\0') {
        return Err(
            Error::invalid(operation, "\"..\" and NUL are no path components here").with_file(path)
        );
    }
    Ok(parts.join("/"))
}

pub(super) fn place(operation: &'static str, path: &str) -> Result<Place> {
    let path = normalise(operation, path)?;
    if path.is_empty() {
        return Err(Error::invalid(operation, "the path names no file"));
    }
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", &path));
    Ok(Place { dir: dir.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_and_removed_with_what_is_below() {
        let mut names = Namespace::default();
        names.create_dir_all("a/b/c");
        names.create_dir_all("ab");
        assert!(names.has_dir("a") && names.has_dir("a/b") && names.has_dir("a/b/c"));
        assert_eq!(names.subdirs("").collect::<Vec<_>>(), ["a", "ab"]);
        names.apply(&NameOp::RemoveDir { path: "a".to_owned() });
        assert!(!names.has_dir("a/b/c") && names.has_dir("ab"));
    }
}
