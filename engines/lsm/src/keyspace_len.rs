//! How many entries a keyspace holds: counted where the option is on, estimated elsewhere.

use ferrokit_engine::{KeyspaceId, KeyspaceLen, Result};

use crate::tree::Tree;

/// The count, or an estimate: puts less deletes over all tables, and the memtables' versions in
/// the proportion of the keyspace. Overwrites not yet compacted count twice.
pub(crate) fn keyspace_len(tree: &Tree, keyspace: KeyspaceId) -> Result<KeyspaceLen> {
    tree.check_open("lsm.keyspace_len")?;
    tree.capabilities.check_keyspace("lsm.keyspace_len", keyspace)?;
    let writer = tree.lock_writer();
    let view = tree.view.load();
    let physical = view.keyspaces.physical(keyspace);
    if let Some(counts) = &writer.counts {
        let entries = counts.get(&physical).copied().unwrap_or(0);
        return Ok(KeyspaceLen { entries, exact: true });
    }
    drop(writer);
    let mut entries: i128 = 0;
    for (_, table) in view.version.tables() {
        if let Some(counts) = table.properties().keyspaces.get(&physical) {
            entries += i128::from(counts.puts) - i128::from(counts.deletes);
        }
    }
    for memtable in view.memtable_refs() {
        entries += i128::from(memtable.estimated_entries(physical));
    }
    Ok(KeyspaceLen { entries: u64::try_from(entries.max(0)).unwrap_or(u64::MAX), exact: false })
}
