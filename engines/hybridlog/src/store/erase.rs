//! What a removal leaves: nothing without a disk, else a tombstone, in place of the record or before it.

use ferrokit_engine::CommitTicket;

use super::chain::{Append, Cold, Found};
use super::known::ColdKey;
use super::write::{Outcome, Site, Step, behind, tombstone};
use super::{Name, Store};
use crate::address::LogicalAddress;
use crate::index::entry::Entry;
use crate::index::table::{Access, Slot};
use crate::interrupt::Attempt;
use crate::keyspaces::Space;
use crate::log::Purpose;
use crate::log::record::{End, Latched};

/// What a tombstone is put before.
pub(super) struct Before<'a> {
    /// The cold part of the chain.
    pub(super) cold: &'a Cold<'a>,
    /// What is left of it, where that is known.
    pub(super) link: Option<LogicalAddress>,
    /// What it says of the key, where that is known.
    pub(super) old: Option<&'a ColdKey>,
}

/// Whether a key on disk is among the entries of its keyspace, as it is until it is removed, expired
/// or not; what is not known most likely is.
pub(super) fn is_counted(old: Option<&ColdKey>) -> bool {
    old.is_none_or(|old| old.value.is_some())
}

impl Store {
    /// Removes a latched record's key: the record itself if there is no disk, else by a tombstone.
    pub(super) fn erase(
        &self,
        site: &Site<'_>,
        found: &Found<'_>,
        latched: Latched<'_>,
        existed: bool,
    ) -> Attempt<Step> {
        self.with_append_of_delete(site, |append| {
            let ticket = self.erase_logged(&site.name, site.space, found, latched, append)?;
            Ok(Step::linked(ticket, existed))
        })
    }

    /// As [`erase`](Self::erase), with `append` to log it; `None` if the chain is another by now.
    pub(super) fn erase_logged(
        &self,
        name: &Name<'_>,
        space: &Space,
        found: &Found<'_>,
        latched: Latched<'_>,
        append: Option<&Append<'_>>,
    ) -> Attempt<Option<CommitTicket>> {
        let log_it = || append.map_or(Ok(CommitTicket::NONE), |append| append());
        if latched.is_tombstone() {
            // What made it one may not have been logged.
            return Ok(Some(log_it()?));
        }
        let is_mutable = self.log.is_mutable(found.address);
        if self.tiers.is_none() {
            let ticket = log_it()?;
            self.remove(found, latched, space);
            return Ok(Some(ticket));
        }
        // Even if nothing older is left: an index that is made from pages goes by what is in them.
        if is_mutable && latched.fits(0, 0) {
            let ticket = log_it()?;
            self.bury(found.address, latched, space);
            return Ok(Some(ticket));
        }
        let plan = tombstone(name);
        let ticket = self.replace(found, latched, &plan, Purpose::Write, append)?;
        if ticket.is_some() {
            space.count_removed();
        }
        Ok(ticket)
    }

    /// Logs the removal of a key that is absent: what made it so may not have been logged, and an
    /// older put of it may. Its place in the log is that of a record which is linked for as long.
    pub(super) fn log_absence(
        &self,
        site: &Site<'_>,
        place: Option<(Slot<'_>, Entry)>,
    ) -> Attempt<Step> {
        self.with_append_of_delete(site, |append| {
            let (Some(append), Some(journal)) = (append, site.journal) else {
                return Ok(Step::unchanged(false));
            };
            if self.tiers.as_ref().is_none_or(|tiers| !tiers.has_unlogged()) {
                // The log knows. As any write, this one is durable when what came before it is.
                let ticket = CommitTicket::at(journal.log().end().0, site.intent.durability);
                return Ok(Step::Done(Outcome { existed: false, ticket }));
            }
            let (slot, head) = match place {
                Some(place) => place,
                None => {
                    let begin = self.log.begin();
                    site.table.find_or_create(site.name.hash, Access::Shared, begin)?
                }
            };
            let plan = tombstone(&site.name);
            let linked = self.link(slot, head, head.address(), &plan, Purpose::Write, append);
            if linked.is_err() && head.address() == LogicalAddress::NULL {
                // An entry without a record is not left behind.
                let _ = slot.exchange(head, Entry::FREE);
            }
            let Some((new, ticket)) = linked? else { return Ok(Step::Again) };
            new.end(End::Removed);
            Ok(Step::Done(Outcome { existed: false, ticket }))
        })
    }

    /// Puts a tombstone before the cold part of a chain.
    pub(super) fn erase_over(
        &self,
        site: &Site<'_>,
        cold: &Cold<'_>,
        link: Option<LogicalAddress>,
        existed: bool,
    ) -> Attempt<Step> {
        self.with_append_of_delete(site, |append| {
            let name = &site.name;
            let old = site.known.key(cold.address, name);
            let before = Before { cold, link, old };
            let ticket = self.erase_over_logged(name, site.space, &before, append)?;
            Ok(Step::linked(ticket, existed))
        })
    }

    /// As [`erase_over`](Self::erase_over), with `append` to log it; `None` if the chain is another
    /// by now.
    pub(super) fn erase_over_logged(
        &self,
        name: &Name<'_>,
        space: &Space,
        before: &Before<'_>,
        append: Option<&Append<'_>>,
    ) -> Attempt<Option<CommitTicket>> {
        let Before { cold, link, old } = *before;
        let (previous, plan) = (behind(cold, link), tombstone(name));
        let place = (cold.slot, cold.head);
        let ticket = self.insert_at(place, previous, &plan, Purpose::Write, append)?;
        if ticket.is_some() {
            self.count_cold_dead(name, old, plan.words());
            if is_counted(old) {
                space.count_removed();
            }
        }
        Ok(ticket)
    }

    /// Removes a latched record that has expired, so that a feed hears of it; then the write begins
    /// again, with a key that is absent.
    pub(super) fn tell(
        &self,
        site: &Site<'_>,
        found: &Found<'_>,
        latched: Latched<'_>,
    ) -> Attempt<Step> {
        self.with_append_of_expiry(site.intent.keyspace, &site.name, |append| {
            self.erase_logged(&site.name, site.space, found, latched, append)
        })?;
        Ok(Step::Again)
    }

    /// As [`tell`](Self::tell), of an expired record on disk.
    pub(super) fn tell_cold(
        &self,
        site: &Site<'_>,
        cold: &Cold<'_>,
        link: LogicalAddress,
    ) -> Attempt<Step> {
        self.with_append_of_expiry(site.intent.keyspace, &site.name, |append| {
            let old = site.known.key(cold.address, &site.name);
            let before = Before { cold, link: Some(link), old };
            self.erase_over_logged(&site.name, site.space, &before, append)
        })?;
        Ok(Step::Again)
    }
}
