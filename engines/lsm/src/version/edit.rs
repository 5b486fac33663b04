//! [`Edit`]: one durable change of the tree, and [`TreeState`], what all edits add up to.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrokit_engine::UnixMillis;
use ferrokit_storage::LogPosition;

use super::view::LEVELS;
use crate::encoding::{Malformed, Reader, put_varint};
use crate::key::PhysicalKeyspace;
use crate::keyspaces::KeyspaceMap;

const TAG_ADD: u8 = 1;
const TAG_REMOVE: u8 = 2;
const TAG_PROGRESS: u8 = 3;
const TAG_LOG_ABSENT: u8 = 4;

/// A table on its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableRecord {
    pub(crate) level: usize,
    pub(crate) id: u64,
    pub(crate) bytes: u64,
}

/// How far the tables reach: everything before `log` is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) log: LogPosition,
    pub(crate) last_sequence: u64,
    pub(crate) next_table_id: u64,
    pub(crate) time: UnixMillis,
    pub(crate) keyspaces: Arc<KeyspaceMap>,
}

/// One change: all of it takes effect, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Edit {
    pub(crate) added: Vec<TableRecord>,
    pub(crate) removed: Vec<u64>,
    pub(crate) progress: Option<Progress>,
    /// The tree stands alone, without a log (a checkpoint).
    pub(crate) log_absent: bool,
}

impl Edit {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for table in &self.added {
            out.push(TAG_ADD);
            put_varint(&mut out, table.level as u64);
            put_varint(&mut out, table.id);
            put_varint(&mut out, table.bytes);
        }
        for id in &self.removed {
            out.push(TAG_REMOVE);
            put_varint(&mut out, *id);
        }
        if let Some(progress) = &self.progress {
            out.push(TAG_PROGRESS);
            put_varint(&mut out, progress.log.0);
            put_varint(&mut out, progress.last_sequence);
            put_varint(&mut out, progress.next_table_id);
            put_varint(&mut out, progress.time.0);
            put_varint(&mut out, u64::from(progress.keyspaces.next));
            let moved: Vec<_> = progress.keyspaces.moved().collect();
            put_varint(&mut out, moved.len() as u64);
            for (id, physical) in moved {
                put_varint(&mut out, u64::from(id));
                put_varint(&mut out, u64::from(physical.0));
            }
        }
        if self.log_absent {
            out.push(TAG_LOG_ABSENT);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut edit = Self::default();
        while !reader.is_empty() {
            match reader.u8()? {
                TAG_ADD => {
                    let level = reader.length()?;
                    if level >= LEVELS {
                        return Err(Malformed("a level beyond the last"));
                    }
                    edit.added.push(TableRecord {
                        level,
                        id: reader.varint()?,
                        bytes: reader.varint()?,
                    });
                }
                TAG_REMOVE => edit.removed.push(reader.varint()?),
                TAG_PROGRESS => edit.progress = Some(decode_progress(&mut reader)?),
                TAG_LOG_ABSENT => edit.log_absent = true,
                _ => return Err(Malformed("an unknown field")),
            }
        }
        Ok(edit)
    }
}

fn decode_progress(reader: &mut Reader<'_>) -> Result<Progress, Malformed> {
    let log = LogPosition(reader.varint()?);
    let last_sequence = reader.varint()?;
    let next_table_id = reader.varint()?;
    let time = UnixMillis(reader.varint()?);
    let next = reader.varint_u32()?;
    let mut moved = Vec::new();
    for _ in 0..reader.varint()? {
        moved.push((reader.varint_u32()?, PhysicalKeyspace(reader.varint_u32()?)));
    }
    let keyspaces = KeyspaceMap::from_moved(moved.into_iter(), next)
        .ok_or(Malformed("a keyspace beyond the limit"))?;
    Ok(Progress { log, last_sequence, next_table_id, time, keyspaces: Arc::new(keyspaces) })
}

/// What the edits of a manifest add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeState {
    pub(crate) tables: BTreeMap<u64, TableRecord>,
    pub(crate) progress: Progress,
    pub(crate) log_absent: bool,
}

impl TreeState {
    pub(crate) fn empty() -> Self {
        Self {
            tables: BTreeMap::new(),
            progress: Progress {
                log: LogPosition(0),
                last_sequence: 0,
                next_table_id: 1,
                time: UnixMillis(0),
                keyspaces: Arc::new(KeyspaceMap::new()),
            },
            log_absent: false,
        }
    }

    /// Applies an edit.
    pub(crate) fn apply(&mut self, edit: &Edit) -> Result<(), Malformed> {
        for id in &edit.removed {
            if self.tables.remove(id).is_none() {
                return Err(Malformed("a removed table that is not there"));
            }
        }
        for table in &edit.added {
            if self.tables.insert(table.id, *table).is_some() {
                return Err(Malformed("a table that is added twice"));
            }
        }
        if let Some(progress) = &edit.progress {
            self.progress = progress.clone();
        }
        self.log_absent = edit.log_absent;
        Ok(())
    }

    /// The edit that makes this state out of nothing.
    pub(crate) fn to_edit(&self) -> Edit {
        Edit {
            added: self.tables.values().copied().collect(),
            removed: Vec::new(),
            progress: Some(self.progress.clone()),
            log_absent: self.log_absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_from_its_edit() {
        let mut state = TreeState::empty();
        let mut edit = Edit::default();
        edit.added.push(TableRecord { level: 3, id: 9, bytes: 100 });
        edit.progress = Some(Progress {
            log: LogPosition(77),
            last_sequence: 5,
            next_table_id: 10,
            time: UnixMillis(123),
            keyspaces: Arc::new(KeyspaceMap::new().cleared(
                ferrokit_engine::KeyspaceId(2),
                PhysicalKeyspace(1024),
                ferrokit_engine::CommitTicket::NONE,
            )),
        });
        state.apply(&edit).unwrap();
        let mut again = TreeState::empty();
        again.apply(&Edit::decode(&state.to_edit().encode()).unwrap()).unwrap();
        assert_eq!(again, state);
        assert!(state.apply(&edit).is_err(), "the same table twice");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Edit::decode(&bytes);
        }
    }
}
