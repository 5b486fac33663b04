//! [`Keyspaces`]: which space of records each keyspace shows.
//!
//! Every record carries the number of its *space*; a keyspace is the name of a space. Clearing
//! gives the keyspace a new, empty space, swapping exchanges two: constant time whatever they hold.
//! Records of a space without a name are dead, and compaction collects them.
//!
//! An exchange is a moment in which nobody is inside: the gate closes, so that operations that
//! enter leave again; once all that were inside have left, the table is replaced and the gate
//! opens. No operation sees one keyspace before the exchange and another one after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ferrokit_engine::{CommitTicket, Error, ErrorKind, KeyspaceId, Result};

use crate::epoch::{Epochs, Guard, Protected};
use crate::interrupt::{Attempt, Interrupt};
use crate::primitive::{AtomicU64, Ordering, OwnLine};

/// Space numbers are below this: a record has 48 bits for them, of which the highest is that of the
/// [pieces](pieces_of) of a space's long values.
const MAX_SPACES: u64 = 1 << 47;

/// The space of the pieces of the long values of a space; no keyspace shows it.
pub(crate) const fn pieces_of(space: u64) -> u64 {
    space | MAX_SPACES
}

/// The space whose long values' pieces are in a space, if it is such a one.
pub(crate) const fn owner_of(space: u64) -> Option<u64> {
    if space & MAX_SPACES == 0 { None } else { Some(space & !MAX_SPACES) }
}

/// The records a keyspace shows.
pub(crate) struct Space {
    id: u64,
    entries: OwnLine<AtomicU64>,
}

impl Space {
    fn new(id: u64, entries: u64) -> Arc<Self> {
        Arc::new(Self { id, entries: OwnLine(AtomicU64::new(entries)) })
    }

    /// The number its records carry.
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Counts a key that came.
    #[inline]
    pub(crate) fn count_added(&self) {
        self.entries.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a key that went.
    #[inline]
    pub(crate) fn count_removed(&self) {
        self.entries.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of keys, expired ones that are still stored included.
    pub(crate) fn entries(&self) -> u64 {
        // A key that came may be counted after it went: below zero for a moment.
        u64::try_from(self.entries.0.load(Ordering::Relaxed).cast_signed()).unwrap_or(0)
    }
}

/// The spaces of all keyspaces at one moment.
pub(crate) struct Spaces {
    by_keyspace: Vec<Arc<Space>>,
    by_id: HashMap<u64, Arc<Space>>,
    ticket: CommitTicket,
}

impl Spaces {
    fn new(by_keyspace: Vec<Arc<Space>>, ticket: CommitTicket) -> Self {
        let by_id = by_keyspace.iter().map(|space| (space.id, Arc::clone(space))).collect();
        Self { by_keyspace, by_id, ticket }
    }

    /// The keyspace that shows a space, if one does, and the space.
    pub(crate) fn named(&self, id: u64) -> Option<(KeyspaceId, &Space)> {
        let space = self.by_id.get(&id)?;
        let place = self.by_keyspace.iter().position(|space| space.id == id)?;
        Some((KeyspaceId(u32::try_from(place).ok()?), space))
    }

    /// What a reader must wait for, since it sees the exchanges that led here.
    #[inline]
    pub(crate) fn ticket(&self) -> CommitTicket {
        self.ticket
    }

    /// The space of a keyspace.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the number of keyspaces.
    #[inline]
    pub(crate) fn of(&self, keyspace: KeyspaceId) -> Result<&Space> {
        match self.by_keyspace.get(keyspace.0 as usize) {
            Some(space) => Ok(space),
            None => Err(Error::invalid("keyspace", "the keyspace id is beyond the limit")),
        }
    }

    /// Whether a record of that space may live: a keyspace shows it, or the one it has the pieces of.
    pub(crate) fn has_records_of(&self, id: u64) -> bool {
        self.by_id.contains_key(&owner_of(id).unwrap_or(id))
    }

    /// The space of that number, if a keyspace shows it.
    pub(crate) fn by_id(&self, id: u64) -> Option<&Space> {
        self.by_id.get(&id).map(|space| &**space)
    }
}

/// The keyspaces.
pub(crate) struct Keyspaces {
    spaces: Protected<Spaces>,
    /// 1 while an exchange waits for everybody to leave.
    gate: OwnLine<AtomicU64>,
    /// The next space number. Held during an exchange, never by somebody inside an epoch.
    exchange: Mutex<u64>,
    epochs: Arc<Epochs>,
}

impl Keyspaces {
    /// `count` empty keyspaces.
    pub(crate) fn new(count: u32, epochs: Arc<Epochs>) -> Self {
        let spaces: Vec<_> = (0..u64::from(count)).map(|id| (id, 0)).collect();
        Self::of(&spaces, u64::from(count), epochs)
    }

    /// Keyspaces that show these spaces, of so many entries each; `next_id` is the next new one.
    pub(crate) fn of(spaces: &[(u64, u64)], next_id: u64, epochs: Arc<Epochs>) -> Self {
        let by_keyspace = spaces.iter().map(|(id, entries)| Space::new(*id, *entries)).collect();
        let spaces = Spaces::new(by_keyspace, CommitTicket::NONE);
        Self {
            spaces: Protected::new(spaces, Arc::clone(&epochs)),
            gate: OwnLine(AtomicU64::new(0)),
            exchange: Mutex::new(next_id),
            epochs,
        }
    }

    /// The spaces of this moment, which lasts until the guard is dropped.
    ///
    /// # Errors
    /// `Again` while an exchange is under way.
    #[inline]
    pub(crate) fn load<'g>(&'g self, guard: &'g Guard<'_>) -> Attempt<&'g Spaces> {
        if self.gate.0.load(Ordering::SeqCst) != 0 {
            return Err(Interrupt::Again);
        }
        Ok(self.spaces.load(guard))
    }

    /// Whether an exchange is under way.
    #[cfg(test)]
    pub(crate) fn is_closed(&self) -> bool {
        self.gate.0.load(Ordering::SeqCst) != 0
    }

    /// Gives a keyspace a new, empty space. Answers how many keys it had, and what `append` did:
    /// it runs when nobody is inside, and its failure leaves everything as it was.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the number of keyspaces; `Busy` if an operation does not end;
    /// `OutOfSpace` when space numbers are used up; those of `append`.
    pub(crate) fn clear(
        &self,
        keyspace: KeyspaceId,
        append: impl FnOnce() -> Result<CommitTicket>,
    ) -> Result<(u64, CommitTicket)> {
        let mut entries = 0;
        let ticket = self.exchange("clear_keyspace", append, |by_keyspace, next_id| {
            if *next_id >= MAX_SPACES {
                return Err(Error::new(
                    ErrorKind::OutOfSpace,
                    "clear_keyspace",
                    "all 2^47 space numbers were used; open a new engine",
                ));
            }
            let place = by_keyspace.get_mut(keyspace.0 as usize).ok_or_else(no_such_keyspace)?;
            entries = std::mem::replace(place, Space::new(*next_id, 0)).entries();
            *next_id += 1;
            Ok(())
        })?;
        Ok((entries, ticket))
    }

    /// Exchanges the spaces of two keyspaces.
    ///
    /// # Errors
    /// As [`clear`](Self::clear).
    pub(crate) fn swap(
        &self,
        a: KeyspaceId,
        b: KeyspaceId,
        append: impl FnOnce() -> Result<CommitTicket>,
    ) -> Result<CommitTicket> {
        self.exchange("swap_keyspaces", append, |by_keyspace, _| {
            let (a, b) = (a.0 as usize, b.0 as usize);
            if a.max(b) >= by_keyspace.len() {
                return Err(no_such_keyspace());
            }
            by_keyspace.swap(a, b);
            Ok(())
        })
    }

    /// Runs `look` in a moment in which nobody is inside, with the number and the entries of each
    /// keyspace's space, and the next number.
    ///
    /// # Errors
    /// `Busy` if an operation does not end.
    pub(crate) fn in_a_still_moment<T>(
        &self,
        operation: &'static str,
        look: impl FnOnce(Vec<(u64, u64)>, u64) -> T,
    ) -> Result<T> {
        let next_id = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        let _gate = self.close(operation)?;
        let spaces = {
            let guard = self.epochs.enter();
            let spaces = &self.spaces.load(&guard).by_keyspace;
            spaces.iter().map(|space| (space.id, space.entries())).collect()
        };
        Ok(look(spaces, *next_id))
    }

    /// A number beyond those of all spaces there have been.
    pub(crate) fn next_space(&self) -> u64 {
        *self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, operation: &'static str) -> Result<ClosedGate<'_>> {
        let gate = ClosedGate::close(&self.gate.0);
        let ended = self.epochs.bump();
        if self.epochs.wait_safe(ended).is_err() {
            return Err(Error::new(ErrorKind::Busy, operation, "an operation does not end"));
        }
        Ok(gate)
    }

    fn exchange(
        &self,
        operation: &'static str,
        append: impl FnOnce() -> Result<CommitTicket>,
        change: impl FnOnce(&mut Vec<Arc<Space>>, &mut u64) -> Result<()>,
    ) -> Result<CommitTicket> {
        let mut next_id = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = self.close(operation)?;
        let (mut by_keyspace, before) = {
            let guard = self.epochs.enter();
            let spaces = self.spaces.load(&guard);
            (spaces.by_keyspace.clone(), spaces.ticket)
        };
        let mut changed_next_id = *next_id;
        change(&mut by_keyspace, &mut changed_next_id)?;
        let ticket = append()?;
        *next_id = changed_next_id;
        self.spaces.replace(Spaces::new(by_keyspace, before.join(ticket)));
        drop(gate);
        Ok(ticket)
    }
}

/// Opens the gate again however the exchange ends.
struct ClosedGate<'a>(&'a AtomicU64);

impl<'a> ClosedGate<'a> {
    fn close(gate: &'a AtomicU64) -> Self {
        gate.store(1, Ordering::SeqCst);
        Self(gate)
    }
}

impl Drop for ClosedGate<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

#[cold]
fn no_such_keyspace() -> Error {
    Error::invalid("keyspace", "the keyspace id is beyond the limit")
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    /// Appends nothing.
    fn nothing() -> Result<CommitTicket> {
        Ok(CommitTicket::NONE)
    }

    #[test]
    fn an_exchange_waits_until_nobody_is_inside_and_keeps_newcomers_out() {
        let epochs = Arc::new(Epochs::new(4));
        let keyspaces = Keyspaces::new(2, Arc::clone(&epochs));
        let id = |guard: &Guard<'_>, keyspace| {
            keyspaces.load(guard).unwrap().of(KeyspaceId(keyspace)).unwrap().id()
        };
        let inside = epochs.enter();
        assert_eq!(id(&inside, 0), 0);
        std::thread::scope(|scope| {
            let swap = scope.spawn(|| keyspaces.swap(KeyspaceId(0), KeyspaceId(1), nothing));
            while keyspaces.gate.0.load(Ordering::SeqCst) == 0 && !swap.is_finished() {
                std::thread::yield_now();
            }
            for _ in 0..1000 {
                std::thread::yield_now();
                assert!(!swap.is_finished(), "somebody inside works with the old names");
                assert!(keyspaces.load(&epochs.enter()).is_err(), "the gate is closed");
            }
            drop(inside);
            swap.join().unwrap().unwrap();
        });
        assert_eq!((id(&epochs.enter(), 0), id(&epochs.enter(), 1)), (1, 0));
    }

    #[test]
    fn a_cleared_keyspace_has_a_space_that_never_was() {
        let epochs = Arc::new(Epochs::new(4));
        let keyspaces = Keyspaces::new(2, Arc::clone(&epochs));
        keyspaces.load(&epochs.enter()).unwrap().of(KeyspaceId(1)).unwrap().count_added();
        assert_eq!(keyspaces.clear(KeyspaceId(1), nothing).unwrap().0, 1);
        let guard = epochs.enter();
        let spaces = keyspaces.load(&guard).unwrap();
        let space = spaces.of(KeyspaceId(1)).unwrap();
        assert_eq!((space.id(), space.entries()), (2, 0));
        assert!(spaces.by_id(1).is_none() && spaces.by_id(2).is_some());
        // A key may go before the one who brought it has counted it.
        space.count_removed();
        assert_eq!(space.entries(), 0);
        space.count_added();
        space.count_added();
        assert_eq!(space.entries(), 1);
        assert!(spaces.of(KeyspaceId(2)).is_err());
    }
}
