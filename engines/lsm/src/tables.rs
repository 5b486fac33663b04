//! Table files: names, ids, making and removing them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrokit_engine::{Error, Result};
use ferrokit_storage::atomic_file::join;
use ferrokit_storage::{File, OpenMode};

use crate::read::Fault;
use crate::sst::{BuiltTable, Table};
use crate::tree::Tree;

const SUFFIX: &str = ".sst";

/// The file name of a table.
pub(crate) fn file_name(id: u64) -> String {
    format!("{id:06}{SUFFIX}")
}

/// The table a file name belongs to.
pub(crate) fn id_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// A table id nobody had before.
pub(crate) fn next_id(tree: &Tree) -> u64 {
    tree.next_table_id.fetch_add(1, Ordering::AcqRel)
}

/// For sources that never miss a block.
pub(crate) fn unfault<T>(result: Result<T, Fault>) -> Result<T> {
    result.map_err(|fault| match fault {
        Fault::Failed(error) => error,
        Fault::Missing(missing) => {
            Error::corruption("lsm.read", "a block was not loaded", missing.table.path(), 0)
        }
    })
}

/// A table file being written: removed again unless it is published.
pub(crate) struct Unfinished<'a> {
    tree: &'a Tree,
    id: u64,
    file: Option<Arc<dyn File>>,
    is_published: bool,
}

impl<'a> Unfinished<'a> {
    pub(crate) fn new(tree: &'a Tree, id: u64) -> Result<Self> {
        let path = join(&tree.config.directory, &file_name(id));
        if tree.host.fs.exists(&path)? {
            // Left by a flush whose edit never came into force.
            tree.host.fs.remove_file(&path)?;
        }
        let file = tree.host.fs.open(&path, OpenMode::CreateNew)?;
        Ok(Self { tree, id, file: Some(file), is_published: false })
    }

    pub(crate) fn file(&self) -> Arc<dyn File> {
        match &self.file {
            Some(file) => Arc::clone(file),
            None => unreachable!("an unfinished table has its file until it is dropped"),
        }
    }

    /// Makes the name durable and opens the table.
    pub(crate) fn publish(mut self, built: &BuiltTable) -> Result<Arc<Table>> {
        let fs = &self.tree.host.fs;
        fs.sync_dir(&self.tree.config.directory)?;
        let table = Table::open(self.file(), self.id, &self.tree.garbage)?;
        if table.properties() != &built.properties {
            return Err(Error::corruption(
                "lsm.flush",
                "a table does not read back as it was written",
                table.path(),
                0,
            ));
        }
        self.is_published = true;
        Ok(table)
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.file = None;
        if !self.is_published {
            let path = join(&self.tree.config.directory, &file_name(self.id));
            if let Err(error) = self.tree.host.fs.remove_file(&path) {
                // It is removed when the engine opens next.
                tracing::warn!(%error, "an unfinished table stays behind");
            }
        }
    }
}

/// Removes the files of tables that nobody needs any more.
pub(crate) fn remove_garbage(tree: &Tree) {
    for id in tree.garbage.take() {
        let path = join(&tree.config.directory, &file_name(id));
        if let Err(error) = tree.host.fs.remove_file(&path) {
            tracing::warn!(%error, "an obsolete table stays behind");
        }
    }
}
