//! Put, delete and update of one key.

use ferrokit_engine::{
    CommitTicket, Durability, Entry as Lent, Error, KeyspaceId, Op, Result, UnixMillis, Update,
};

use super::chain::{Append, Cold, Found, Lookup};
use super::erase::is_counted;
use super::known::{Asked, ColdKey, Known};
use super::{Name, Store, shown_expiry, with_scratch};
use crate::address::LogicalAddress;
use crate::epoch::Guard;
use crate::index::table::{Access, Table};
use crate::interrupt::{Attempt, Interrupt};
use crate::journal::{Change, Journal};
use crate::keyspaces::Space;
use crate::log::Purpose;
use crate::log::record::{Blueprint, Latched};

/// A value that fills less than one part in so many of a record's room moves to a smaller record.
const SHRINK_FACTOR: usize = 4;
/// Records with no more room than this are not shrunk.
const SHRINK_MIN_BYTES: usize = 256;

/// The pure function of an update.
pub(crate) type ChangeValue<'a> = dyn FnMut(Option<Lent<'_>>, &mut Vec<u8>) -> Update + Send + 'a;

/// What a write is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intent<'a> {
    /// For messages.
    pub(crate) operation: &'static str,
    pub(crate) keyspace: KeyspaceId,
    pub(crate) key: &'a [u8],
    pub(crate) durability: Durability,
    /// Whether it must be known if the key was present before.
    pub(crate) reports_existed: bool,
}

#[cfg(test)]
impl<'a> Intent<'a> {
    /// A write in memory.
    pub(crate) fn plain(keyspace: KeyspaceId, key: &'a [u8]) -> Self {
        let durability = Durability::Memory;
        Self { operation: "test", keyspace, key, durability, reports_existed: true }
    }
}

/// What a record holds of a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored<'a> {
    /// The value, or a manifest in its place.
    pub(super) bytes: &'a [u8],
    pub(super) is_long: bool,
}

impl<'a> From<&'a [u8]> for Stored<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes, is_long: false }
    }
}

/// A value to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewValue<'a> {
    /// All of it, as the log of changes has it.
    pub(super) whole: &'a [u8],
    /// What the record is to hold of it.
    pub(super) stored: Stored<'a>,
    /// When it expires; 0 = never.
    pub(super) expire_at: u64,
}

impl<'a> NewValue<'a> {
    /// One that fits a record.
    pub(super) fn short(value: &'a [u8], expire_at: u64) -> Self {
        Self { whole: value, stored: value.into(), expire_at }
    }
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Whether the key was present before; a guess unless it was to be reported.
    pub(crate) existed: bool,
    pub(crate) ticket: CommitTicket,
}

/// What a search for the key to be written leads to.
pub(super) enum Step {
    /// It was written, or nothing had to be.
    Done(Outcome),
    /// The chain changed meanwhile: search again.
    Again,
}

impl Step {
    /// Done if a record was linked.
    pub(super) fn linked(ticket: Option<CommitTicket>, existed: bool) -> Self {
        ticket.map_or(Self::Again, |ticket| Self::Done(Outcome { existed, ticket }))
    }

    pub(super) fn unchanged(existed: bool) -> Self {
        Self::Done(Outcome { existed, ticket: CommitTicket::NONE })
    }
}

/// Where a key is written.
pub(super) struct Site<'g> {
    pub(super) table: &'g Table,
    pub(super) name: Name<'g>,
    pub(super) space: &'g Space,
    pub(super) known: &'g Known,
    /// The journal, if the write is logged.
    pub(super) journal: Option<&'g Journal>,
    pub(super) intent: Intent<'g>,
}

impl Site<'_> {
    /// What is known of the key in a cold part of its chain; an interrupt that asks if nothing is.
    fn known_of(&self, cold: &Cold<'_>) -> Attempt<&ColdKey> {
        self.known
            .key(cold.address, &self.name)
            .ok_or_else(|| Interrupt::Cold(vec![Asked::key(cold, &self.name)]))
    }
}

impl Store {
    /// Stores a value.
    ///
    /// # Errors
    /// `InvalidArgument`, `OutOfSpace`, `Busy`; those of the log and of cold reads.
    pub(crate) fn put<'a>(
        &'a self,
        intent: Intent<'a>,
        value: &'a [u8],
        expire_at: Option<UnixMillis>,
    ) -> Op<'a, Outcome> {
        if self.is_past(expire_at) {
            return self.delete(intent);
        }
        let expire_at = expire_at.map_or(0, |at| at.0);
        if self.is_long(value.len()) {
            return self.put_long(intent, value, expire_at);
        }
        let value = NewValue::short(value, expire_at);
        self.drive(intent.operation, move |guard, known| {
            self.write_one(guard, known, intent, |site| self.put_at(site, value))
        })
    }

    /// Stores a value that is longer than a record: first its pieces, then what leads to them.
    #[cold]
    fn put_long<'a>(
        &'a self,
        intent: Intent<'a>,
        whole: &'a [u8],
        expire_at: u64,
    ) -> Op<'a, Outcome> {
        let Intent { operation, keyspace, key, .. } = intent;
        Op::pending(async move {
            loop {
                let unlinked = self.write_pieces(operation, keyspace, key, whole).await?;
                let (space, stored) = (unlinked.space(), unlinked.stored());
                let value = NewValue { whole, stored, expire_at };
                let put = self.drive(operation, |guard, known| {
                    if self.keyspaces.load(guard)?.of(keyspace)?.id() != space {
                        return Ok(None);
                    }
                    self.write_one(guard, known, intent, |site| self.put_at(site, value)).map(Some)
                });
                // Else the keyspace was exchanged since.
                if let Some(outcome) = put.await? {
                    unlinked.set_linked();
                    return Ok(outcome);
                }
            }
        })
    }

    /// Removes a key.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(crate) fn delete<'a>(&'a self, intent: Intent<'a>) -> Op<'a, Outcome> {
        self.drive(intent.operation, move |guard, known| {
            self.write_one(guard, known, intent, |site| self.delete_at(site))
        })
    }

    /// Reads, changes and writes a key under its record's latch.
    ///
    /// # Errors
    /// As [`put`](Self::put), and `InvalidArgument` for a new value longer than `max_value_bytes`.
    pub(crate) fn update<'a>(
        &'a self,
        intent: Intent<'a>,
        max_value_bytes: usize,
        change: &'a mut ChangeValue<'a>,
    ) -> Op<'a, Outcome> {
        let mut new = Vec::new();
        self.drive(intent.operation, move |guard, known| {
            self.write_one(guard, known, intent, |site| {
                self.update_at(site, max_value_bytes, &mut new, change)
            })
        })
    }

    /// Runs the steps of a write until one is done, and helps an index that grows.
    fn write_one(
        &self,
        guard: &Guard<'_>,
        known: &Known,
        intent: Intent<'_>,
        mut step: impl FnMut(&Site<'_>) -> Attempt<Step>,
    ) -> Attempt<Outcome> {
        let spaces = self.keyspaces.load(guard)?;
        let space = spaces.of(intent.keyspace)?;
        let name = self.name(space.id(), intent.key);
        let table = self.table_for(&name, guard)?;
        let journal = self.logging(intent.durability);
        let site = Site { table, name, space, known, journal, intent };
        loop {
            if let Step::Done(outcome) = step(&site)? {
                self.help_index(guard);
                if !intent.reports_existed {
                    return Ok(outcome);
                }
                // It tells of what it saw.
                let ticket = outcome.ticket.join(self.ticket_of(spaces, &name));
                return Ok(Outcome { ticket, ..outcome });
            }
        }
    }

    fn put_at(&self, site: &Site<'_>, value: NewValue<'_>) -> Attempt<Step> {
        match self.find(site.table, &site.name, Access::Shared)? {
            Lookup::Found(found) => match found.record.latch() {
                Some(latched) if self.is_to_tell(&latched) => self.tell(site, &found, latched),
                Some(latched) => self.put_latched(site, &found, latched, value),
                None => Ok(Step::Again),
            },
            Lookup::Absent(place) => self.with_append_of_put(site, value, |append| {
                let plan = value.blueprint(&site.name);
                let ticket = self.insert(site.table, place, &site.name, &plan, append)?;
                if ticket.is_some() {
                    site.space.count_added();
                }
                Ok(Step::linked(ticket, false))
            }),
            Lookup::Cold(cold) => {
                let (existed, link) = if self.must_know(site) {
                    let known = site.known_of(&cold)?;
                    if self.is_cold_to_tell(known) {
                        return self.tell_cold(site, &cold, known.link);
                    }
                    (self.is_live(known), Some(known.link))
                } else {
                    // One of its tag is on disk: most likely itself.
                    (true, site.known.key(cold.address, &site.name).map(|known| known.link))
                };
                self.put_over(site, &cold, link, value, existed)
            }
        }
    }

    /// Puts a record before the cold part of a chain; `link` is what is left of it, where that is
    /// known.
    fn put_over(
        &self,
        site: &Site<'_>,
        cold: &Cold<'_>,
        link: Option<LogicalAddress>,
        value: NewValue<'_>,
        existed: bool,
    ) -> Attempt<Step> {
        let previous = behind(cold, link);
        self.with_append_of_put(site, value, |append| {
            let plan = value.blueprint(&site.name);
            let place = (cold.slot, cold.head);
            let ticket = self.insert_at(place, previous, &plan, Purpose::Write, append)?;
            if ticket.is_some() {
                let old = site.known.key(cold.address, &site.name);
                self.count_cold_dead(&site.name, old, plan.words());
                if !is_counted(old) {
                    site.space.count_added();
                }
            }
            Ok(Step::linked(ticket, existed))
        })
    }

    /// Whether a write has to know what it replaces on disk.
    fn must_know(&self, site: &Site<'_>) -> bool {
        site.intent.reports_existed || self.tells_expiries() || self.may_be_long(&site.name)
    }

    fn delete_at(&self, site: &Site<'_>) -> Attempt<Step> {
        match self.find(site.table, &site.name, Access::Shared)? {
            Lookup::Found(found) => {
                let Some(latched) = found.record.latch() else { return Ok(Step::Again) };
                if self.is_to_tell(&latched) {
                    return self.tell(site, &found, latched);
                }
                let existed = !latched.is_tombstone() && !self.is_expired(latched.expire_at());
                self.erase(site, &found, latched, existed)
            }
            Lookup::Absent(place) => self.log_absence(site, place),
            Lookup::Cold(cold) => {
                let (existed, link) = if self.must_know(site) {
                    let known = site.known_of(&cold)?;
                    if self.is_cold_to_tell(known) {
                        return self.tell_cold(site, &cold, known.link);
                    }
                    if known.value.is_none() {
                        return self.log_absence(site, Some((cold.slot, cold.head)));
                    }
                    (self.is_live(known), Some(known.link))
                } else {
                    (true, None)
                };
                self.erase_over(site, &cold, link, existed)
            }
        }
    }

    fn update_at(
        &self,
        site: &Site<'_>,
        max_value_bytes: usize,
        new: &mut Vec<u8>,
        change: &mut ChangeValue<'_>,
    ) -> Attempt<Step> {
        let mut puts = false;
        let mut change = |present: Option<Lent<'_>>, new: &mut Vec<u8>| {
            let update = change(present, new);
            puts = matches!(update, Update::Put { expire_at } if !self.is_past(expire_at));
            update
        };
        let step = self.change_at(site, max_value_bytes, new, &mut change)?;
        if puts && self.is_long(new.len()) && matches!(step, Step::Done(_)) {
            site.known.set_linked();
        }
        Ok(step)
    }

    fn change_at(
        &self,
        site: &Site<'_>,
        max_value_bytes: usize,
        new: &mut Vec<u8>,
        change: &mut ChangeValue<'_>,
    ) -> Attempt<Step> {
        let check_length = |new: &[u8]| -> Result<()> {
            if new.len() <= max_value_bytes {
                return Ok(());
            }
            let message = format!("value bytes: {}, the limit is {max_value_bytes}", new.len());
            Err(Error::invalid(site.intent.operation, message).with_key(site.name.key))
        };
        new.clear();
        let space = site.name.space;
        match self.find(site.table, &site.name, Access::Shared)? {
            Lookup::Found(found) => {
                let Some(latched) = found.record.latch() else { return Ok(Step::Again) };
                if self.is_to_tell(&latched) {
                    return self.tell(site, &found, latched);
                }
                let (existed, update) =
                    self.change_latched(site.known, space, &latched, new, change)?;
                match update {
                    Update::Keep if existed => Ok(Step::unchanged(true)),
                    Update::Put { expire_at } if !self.is_past(expire_at) => {
                        check_length(new)?;
                        let value = self.new_value(site, new, expire_at)?;
                        self.put_latched(site, &found, latched, value)
                    }
                    Update::Keep | Update::Put { .. } | Update::Delete => {
                        self.erase(site, &found, latched, existed)
                    }
                }
            }
            Lookup::Absent(place) => match change(None, new) {
                Update::Put { expire_at } if !self.is_past(expire_at) => {
                    check_length(new)?;
                    let value = self.new_value(site, new, expire_at)?;
                    self.with_append_of_put(site, value, |append| {
                        let plan = value.blueprint(&site.name);
                        let ticket = self.insert(site.table, place, &site.name, &plan, append)?;
                        if ticket.is_some() {
                            site.space.count_added();
                        }
                        Ok(Step::linked(ticket, false))
                    })
                }
                Update::Keep => Ok(Step::unchanged(false)),
                Update::Put { .. } | Update::Delete => self.log_absence(site, place),
            },
            Lookup::Cold(cold) => {
                let known = site.known_of(&cold)?;
                if self.is_cold_to_tell(known) {
                    return self.tell_cold(site, &cold, known.link);
                }
                let existed = self.is_live(known);
                let present = match known.value.as_ref().filter(|_| existed) {
                    None => None,
                    Some(it) => Some(Lent {
                        value: match it.is_long {
                            true => self.whole(site.known, space, &it.value)?,
                            false => &it.value,
                        },
                        expire_at: shown_expiry(it.expire_at),
                        sequence: None,
                    }),
                };
                match change(present, new) {
                    Update::Put { expire_at } if !self.is_past(expire_at) => {
                        check_length(new)?;
                        let value = self.new_value(site, new, expire_at)?;
                        self.put_over(site, &cold, Some(known.link), value, existed)
                    }
                    Update::Keep => Ok(Step::unchanged(existed)),
                    Update::Put { .. } | Update::Delete if existed => {
                        self.erase_over(site, &cold, Some(known.link), true)
                    }
                    Update::Put { .. } | Update::Delete => {
                        self.log_absence(site, Some((cold.slot, cold.head)))
                    }
                }
            }
        }
    }

    fn is_live(&self, known: &ColdKey) -> bool {
        known.value.as_ref().is_some_and(|value| !self.is_expired(value.expire_at))
    }

    /// Shows the present value to `change`. Whether there is one, and what it decided.
    fn change_latched(
        &self,
        known: &Known,
        space: u64,
        latched: &Latched<'_>,
        new: &mut Vec<u8>,
        change: &mut ChangeValue<'_>,
    ) -> Attempt<(bool, Update)> {
        with_scratch(|scratch| {
            let mut copied = latched.copy_value(scratch);
            let existed = !latched.is_tombstone() && !self.is_expired(copied.expire_at);
            if existed {
                copied = self.resolve(known, space, copied, scratch, 0)?;
            }
            let expire_at = shown_expiry(copied.expire_at);
            let present =
                existed.then_some(Lent { value: scratch.as_slice(), expire_at, sequence: None });
            Ok((existed, change(present, new)))
        })
    }

    /// What an update made, to be written; an interrupt that asks for its pieces if it is long.
    fn new_value<'v>(
        &self,
        site: &Site<'v>,
        new: &'v mut Vec<u8>,
        expire_at: Option<UnixMillis>,
    ) -> Attempt<NewValue<'v>> {
        let expire_at = expire_at.map_or(0, |at| at.0);
        if !self.is_long(new.len()) {
            return Ok(NewValue::short(new, expire_at));
        }
        match site.known.written(site.name.space, new) {
            Some(unlinked) => Ok(NewValue { whole: new, stored: unlinked.stored(), expire_at }),
            None => Err(Interrupt::Cold(vec![Asked::Pieces {
                keyspace: site.intent.keyspace,
                key: site.name.key.into(),
                value: std::mem::take(new),
            }])),
        }
    }

    /// Overwrites in place what fits, and moves to the tail what does not, or may not be changed
    /// any more where it is.
    fn put_latched(
        &self,
        site: &Site<'_>,
        found: &Found<'_>,
        mut latched: Latched<'_>,
        value: NewValue<'_>,
    ) -> Attempt<Step> {
        let (new_len, expire_at) = (value.stored.bytes.len(), value.expire_at);
        let was_counted = !latched.is_tombstone();
        let existed = was_counted && !self.is_expired(latched.expire_at());
        let step = self.with_append_of_put(site, value, |append| -> Attempt<Step> {
            let room = latched.capacity();
            let wastes_room = room > SHRINK_MIN_BYTES && new_len < room / SHRINK_FACTOR;
            if !wastes_room
                && self.log.is_mutable(found.address)
                && latched.fits(new_len, expire_at)
                && !latched.is_long()
                && !value.stored.is_long
            {
                let ticket = append.map_or(Ok(CommitTicket::NONE), |append| append())?;
                self.count_other_expiry(&latched, expire_at);
                latched.overwrite(value.whole, expire_at);
                if !was_counted {
                    self.log.uncount_dead(found.address, found.record.size_words());
                }
                return Ok(Step::Done(Outcome { existed, ticket }));
            }
            // What grew once is likely to grow again.
            let grows = was_counted && !value.stored.is_long && new_len > latched.value_len();
            let slack = if grows { new_len / 100 * self.slack_percent } else { 0 };
            let plan = value.blueprint(&site.name);
            let plan = self.with_slack(plan, slack);
            let ticket = self.replace(found, latched, &plan, Purpose::Write, append)?;
            Ok(Step::linked(ticket, existed))
        })?;
        if !was_counted && matches!(step, Step::Done(_)) {
            site.space.count_added();
        }
        Ok(step)
    }

    /// Takes note that a record gets another expiry in place.
    #[inline]
    fn count_other_expiry(&self, latched: &Latched<'_>, expire_at: u64) {
        let old = if latched.is_tombstone() { 0 } else { latched.expire_at() };
        if old != expire_at
            && let Some(tiers) = &self.tiers
        {
            let words = latched.record().size_words();
            tiers.expiring.remove(old, words);
            tiers.expiring.add(expire_at, words);
        }
    }

    /// Runs `write` with what appends a put to the log, if it is logged.
    fn with_append_of_put<T>(
        &self,
        site: &Site<'_>,
        value: NewValue<'_>,
        write: impl FnOnce(Option<&Append<'_>>) -> T,
    ) -> T {
        let NewValue { whole: value, expire_at, .. } = value;
        self.note_expiry(expire_at);
        let Some(journal) = site.journal else { return write(None) };
        let (keyspace, key) = (site.intent.keyspace, site.name.key);
        let change = Change::Put { keyspace, key, value, expire_at: shown_expiry(expire_at) };
        self.with_append(site, journal, change, write)
    }

    /// Runs `write` with what appends a delete to the log, if it is logged.
    pub(super) fn with_append_of_delete<T>(
        &self,
        site: &Site<'_>,
        write: impl FnOnce(Option<&Append<'_>>) -> T,
    ) -> T {
        let Some(journal) = site.journal else { return write(None) };
        let change = Change::Delete { keyspace: site.intent.keyspace, key: site.name.key };
        self.with_append(site, journal, change, write)
    }

    fn with_append<T>(
        &self,
        site: &Site<'_>,
        journal: &Journal,
        change: Change<'_>,
        write: impl FnOnce(Option<&Append<'_>>) -> T,
    ) -> T {
        let (hash, durability) = (site.name.hash.0, site.intent.durability);
        let append = || journal.append(hash, self.clock.now(), change, durability);
        write(Some(&append))
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
        if self.index.wants_growth(guard) {
            self.want_growth(guard);
        }
        self.index.help_grow_a_little(&*self.log, guard);
    }
}

/// What a new record is linked to: all of the chain, or what is left of a cold one without the
/// key's own record.
pub(super) fn behind(cold: &Cold<'_>, link: Option<LogicalAddress>) -> LogicalAddress {
    match link {
        Some(link) if cold.head.address() == cold.address => link,
        _ => cold.head.address(),
    }
}

impl<'a> NewValue<'a> {
    /// The record of a key that holds it.
    pub(super) fn blueprint(&self, name: &Name<'a>) -> Blueprint<'a> {
        blueprint(name, self.stored, self.expire_at, self.stored.bytes.len())
    }
}

/// The record of a key with room for `capacity` bytes of value.
pub(super) fn blueprint<'a>(
    name: &Name<'a>,
    value: Stored<'a>,
    expire_at: u64,
    capacity: usize,
) -> Blueprint<'a> {
    Blueprint {
        space: name.space,
        hash_low: name.hash.low(),
        key: name.key,
        value: value.bytes,
        expire_at,
        capacity,
        is_tombstone: false,
        is_long: value.is_long,
    }
}

/// The record that says that a key is absent.
pub(super) fn tombstone<'a>(name: &Name<'a>) -> Blueprint<'a> {
    Blueprint { is_tombstone: true, ..blueprint(name, Stored::from(&[][..]), 0, 0) }
}
