//! [`KeyspaceMap`]: which physical keyspace holds the entries of which keyspace. Clearing gives a
//! keyspace a fresh physical one, swapping exchanges two: both in constant time. The entries of a
//! physical keyspace that nothing maps to are dropped by compaction.

use ferrokit_engine::{CommitTicket, KeyspaceId};

use crate::key::PhysicalKeyspace;

/// Keyspace ids are below this.
pub(crate) const KEYSPACES_MAX: u32 = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyspaceMap {
    physical: Box<[PhysicalKeyspace]>,
    /// The next fresh physical keyspace.
    pub(crate) next: u32,
    /// Whoever reads through this map has seen the clears and swaps that made it.
    pub(crate) ticket: CommitTicket,
}

impl KeyspaceMap {
    /// Every keyspace in the physical one of its number.
    pub(crate) fn new() -> Self {
        Self {
            physical: (0..KEYSPACES_MAX).map(PhysicalKeyspace).collect(),
            next: KEYSPACES_MAX,
            ticket: CommitTicket::NONE,
        }
    }

    /// Where a keyspace's entries lie. The id was checked against the limit.
    pub(crate) fn physical(&self, keyspace: KeyspaceId) -> PhysicalKeyspace {
        self.physical.get(keyspace.0 as usize).copied().unwrap_or(PhysicalKeyspace(keyspace.0))
    }

    /// The keyspace whose entries lie there, if one's do.
    pub(crate) fn logical(&self, physical: PhysicalKeyspace) -> Option<KeyspaceId> {
        let index = self.physical.iter().position(|at| *at == physical)?;
        u32::try_from(index).ok().map(KeyspaceId)
    }

    /// This map with `keyspace` emptied into `fresh`.
    pub(crate) fn cleared(
        &self,
        keyspace: KeyspaceId,
        fresh: PhysicalKeyspace,
        ticket: CommitTicket,
    ) -> Self {
        let mut map = self.clone();
        if let Some(at) = map.physical.get_mut(keyspace.0 as usize) {
            *at = fresh;
        }
        map.next = map.next.max(fresh.0.saturating_add(1));
        map.ticket = map.ticket.join(ticket);
        map
    }

    /// This map with two keyspaces exchanged.
    pub(crate) fn swapped(&self, a: KeyspaceId, b: KeyspaceId, ticket: CommitTicket) -> Self {
        let mut map = self.clone();
        let (a, b) = (a.0 as usize, b.0 as usize);
        if a < map.physical.len() && b < map.physical.len() {
            map.physical.swap(a, b);
        }
        map.ticket = map.ticket.join(ticket);
        map
    }

    /// The keyspaces that do not lie in the physical one of their number.
    pub(crate) fn moved(&self) -> impl Iterator<Item = (u32, PhysicalKeyspace)> + '_ {
        (0..).zip(self.physical.iter().copied()).filter(|(id, physical)| *id != physical.0)
    }

    /// A map read back from what [`moved`](Self::moved) gave.
    pub(crate) fn from_moved(
        moved: impl Iterator<Item = (u32, PhysicalKeyspace)>,
        next: u32,
    ) -> Option<Self> {
        let mut map = Self::new();
        for (id, physical) in moved {
            *map.physical.get_mut(id as usize)? = physical;
        }
        map.next = next;
        Some(map)
    }

    /// Every physical keyspace in use.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = PhysicalKeyspace> + '_ {
        self.physical.iter().copied()
    }
}
