//! Put, delete and update of one key.

use ferrokit_engine::{Entry as Lent, KeyspaceId, Result, UnixMillis, Update};

use super::chain::{Found, Lookup};
use super::{Name, Store, shown_expiry, with_scratch};
use crate::epoch::Guard;
use crate::index::table::{Access, Table};
use crate::interrupt::Attempt;
use crate::keyspaces::Space;
use crate::log::Purpose;
use crate::log::record::{Blueprint, Latched};

/// A value that fills less than one part in so many of a record's room moves to a smaller record.
const SHRINK_FACTOR: usize = 4;
/// Records with no more room than this are not shrunk.
const SHRINK_MIN_BYTES: usize = 256;

/// The pure function of an update.
pub(crate) type Change<'a> = dyn FnMut(Option<Lent<'_>>, &mut Vec<u8>) -> Update + Send + 'a;

/// What a search for the key to be written leads to.
enum Step {
    /// It was written; whether the key was present before.
    Done(bool),
    /// The chain changed meanwhile: search again.
    Again,
}

impl Store {
    /// Stores a value; answers whether the key was present before.
    ///
    /// # Errors
    /// `InvalidArgument`, `OutOfSpace`, `Busy`.
    pub(crate) fn put(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
        expire_at: Option<UnixMillis>,
    ) -> Result<bool> {
        if self.is_past(expire_at) {
            return self.delete(keyspace, key);
        }
        let expire_at = expire_at.map_or(0, |at| at.0);
        self.run_write("put", keyspace, key, |table, name, space, _| {
            match self.find(table, name, Access::Shared)? {
                Lookup::Found(found) => self.put_found(&found, name, value, expire_at),
                Lookup::Absent(place) => {
                    let plan = blueprint(name, value, expire_at, value.len());
                    let inserted = self.insert(table, place, name, &plan, space)?;
                    Ok(if inserted { Step::Done(false) } else { Step::Again })
                }
            }
        })
    }

    /// Removes a key; answers whether it was present before.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(crate) fn delete(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool> {
        self.run_write("delete", keyspace, key, |table, name, space, _| {
            let Lookup::Found(found) = self.find(table, name, Access::Shared)? else {
                return Ok(Step::Done(false));
            };
            let Some(latched) = found.record.latch() else { return Ok(Step::Again) };
            let existed = !self.is_expired(latched.expire_at());
            self.remove(&found, latched, space);
            Ok(Step::Done(existed))
        })
    }

    /// Reads, changes and writes a key under its record's latch; answers whether it was present
    /// before.
    ///
    /// # Errors
    /// As [`put`](Self::put), and `InvalidArgument` for a new value longer than `max_value_bytes`.
    pub(crate) fn update(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        max_value_bytes: usize,
        change: &mut Change<'_>,
    ) -> Result<bool> {
        let mut new = Vec::new();
        self.run_write("update", keyspace, key, |table, name, space, new_too_long| {
            new.clear();
            match self.find(table, name, Access::Shared)? {
                Lookup::Found(found) => {
                    let Some(latched) = found.record.latch() else { return Ok(Step::Again) };
                    let (existed, update) = self.change_latched(&latched, &mut new, change);
                    match update {
                        Update::Keep if existed => Ok(Step::Done(true)),
                        Update::Put { expire_at } if !self.is_past(expire_at) => {
                            new_too_long(new.len(), max_value_bytes)?;
                            let expire_at = expire_at.map_or(0, |at| at.0);
                            self.put_latched(&found, latched, name, &new, expire_at)
                        }
                        Update::Keep | Update::Put { .. } | Update::Delete => {
                            self.remove(&found, latched, space);
                            Ok(Step::Done(existed))
                        }
                    }
                }
                Lookup::Absent(place) => match change(None, &mut new) {
                    Update::Put { expire_at } if !self.is_past(expire_at) => {
                        new_too_long(new.len(), max_value_bytes)?;
                        let expire_at = expire_at.map_or(0, |at| at.0);
                        let plan = blueprint(name, &new, expire_at, new.len());
                        let inserted = self.insert(table, place, name, &plan, space)?;
                        Ok(if inserted { Step::Done(false) } else { Step::Again })
                    }
                    _ => Ok(Step::Done(false)),
                },
            }
        })
    }

    /// Runs the steps of a write until one is done, and helps an index that grows.
    fn run_write(
        &self,
        operation: &'static str,
        keyspace: KeyspaceId,
        key: &[u8],
        mut step: impl FnMut(
            &Table,
            &Name<'_>,
            &Space,
            &dyn Fn(usize, usize) -> Result<()>,
        ) -> Attempt<Step>,
    ) -> Result<bool> {
        let too_long = |bytes: usize, limit: usize| {
            if bytes <= limit {
                return Ok(());
            }
            Err(ferrokit_engine::Error::invalid(
                operation,
                format!("value bytes: {bytes}, the limit is {limit}"),
            )
            .with_key(key))
        };
        self.run(operation, |guard: &Guard<'_>| {
            let space = self.keyspaces.load(guard)?.of(keyspace)?;
            let name = self.name(space.id(), key);
            let table = self.table_for(&name, guard)?;
            loop {
                if let Step::Done(existed) = step(table, &name, space, &too_long)? {
                    self.help_index(guard);
                    return Ok(existed);
                }
            }
        })
    }

    /// Shows the present value to `change`. Whether there is one, and what it decided.
    fn change_latched(
        &self,
        latched: &Latched<'_>,
        new: &mut Vec<u8>,
        change: &mut Change<'_>,
    ) -> (bool, Update) {
        with_scratch(|scratch| {
            let copied = latched.copy_value(scratch);
            let existed = !self.is_expired(copied.expire_at);
            let expire_at = shown_expiry(copied.expire_at);
            let present =
                existed.then_some(Lent { value: scratch.as_slice(), expire_at, sequence: None });
            (existed, change(present, new))
        })
    }

    fn put_found(
        &self,
        found: &Found<'_>,
        name: &Name<'_>,
        value: &[u8],
        expire_at: u64,
    ) -> Attempt<Step> {
        match found.record.latch() {
            Some(latched) => self.put_latched(found, latched, name, value, expire_at),
            None => Ok(Step::Again),
        }
    }

    /// Overwrites in place what fits, and moves to the tail what does not.
    fn put_latched(
        &self,
        found: &Found<'_>,
        mut latched: Latched<'_>,
        name: &Name<'_>,
        value: &[u8],
        expire_at: u64,
    ) -> Attempt<Step> {
        let existed = !self.is_expired(latched.expire_at());
        let room = latched.capacity();
        let wastes_room = room > SHRINK_MIN_BYTES && value.len() < room / SHRINK_FACTOR;
        if !wastes_room && latched.overwrite(value, expire_at) {
            return Ok(Step::Done(existed));
        }
        // What grew once is likely to grow again.
        let grows = value.len() > latched.value_len();
        let slack = if grows { value.len() / 100 * self.slack_percent } else { 0 };
        let plan = self.with_slack(blueprint(name, value, expire_at, value.len()), slack);
        let replaced = self.replace(found, latched, &plan, Purpose::Write)?;
        Ok(if replaced { Step::Done(existed) } else { Step::Again })
    }

    /// The record with room to grow, as far as a record may be long.
    fn with_slack<'a>(&self, plan: Blueprint<'a>, slack: usize) -> Blueprint<'a> {
        let slackened = Blueprint { capacity: plan.capacity + slack, ..plan };
        if slackened.words() <= self.log.page_words() / 2 { slackened } else { plan }
    }

    /// Whether an expiry has passed already.
    #[inline]
    pub(super) fn is_past(&self, expire_at: Option<UnixMillis>) -> bool {
        expire_at.is_some_and(|at| at <= self.clock.now())
    }

    /// Begins to grow an index that is crowded, or does a little of a growth under way.
    #[inline]
    pub(super) fn help_index(&self, guard: &Guard<'_>) {
        if self.index.wants_growth(guard) && self.index.start_growth(guard).is_ok() {
            self.want_maintenance();
        }
        self.index.help_grow_a_little(&*self.log, guard);
    }
}

/// The record of a key with room for `capacity` bytes of value.
pub(super) fn blueprint<'a>(
    name: &Name<'a>,
    value: &'a [u8],
    expire_at: u64,
    capacity: usize,
) -> Blueprint<'a> {
    Blueprint {
        space: name.space,
        hash_low: name.hash.low(),
        key: name.key,
        value,
        expire_at,
        capacity,
    }
}
