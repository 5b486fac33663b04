//! CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO: caches of clients, kept up to date.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use ferrokit_redis::transaction::Overlay;

use super::super::{Context, Outcome, Refusal, table};
use crate::client::flag;
use crate::resp::parse_integer;
use crate::session::{Session, special};
use crate::shared::Shared;
use crate::tracking::{Choice, Options, OwnRead};

/// What CLIENT TRACKING asks for.
#[derive(Default)]
struct Wanted<'w> {
    redirect_to: u64,
    is_broadcast: bool,
    opts_in: bool,
    opts_out: bool,
    is_no_loop: bool,
    prefixes: Vec<&'w [u8]>,
}

impl<'w> Wanted<'w> {
    fn parse(cx: &Context<'w>) -> Result<Self, Refusal> {
        let mut wanted = Self::default();
        let mut index = 3;
        while let Some(option) = cx.args.get(index) {
            let value = cx.args.get(index + 1);
            match (option.to_ascii_lowercase().as_slice(), value) {
                (b"redirect", Some(id)) => {
                    wanted.redirect_to = redirection(cx, wanted.redirect_to, id)?;
                    index += 1;
                }
                (b"prefix", Some(prefix)) => {
                    wanted.prefixes.push(prefix);
                    index += 1;
                }
                (b"bcast", _) => wanted.is_broadcast = true,
                (b"optin", _) => wanted.opts_in = true,
                (b"optout", _) => wanted.opts_out = true,
                (b"noloop", _) => wanted.is_no_loop = true,
                _ => return Err(Refusal::SYNTAX),
            }
            index += 1;
        }
        Ok(wanted)
    }

    /// Whether it goes together, and with what the client asked for before.
    fn check(&self, session: &Session) -> Result<(), Refusal> {
        let before = session.tracking.as_deref();
        let refuse = |text| Err(Refusal::text(text));
        if !self.is_broadcast && !self.prefixes.is_empty() {
            return refuse("ERR PREFIX option requires BCAST mode to be enabled");
        }
        if before.is_some() && session.client.is(flag::BROADCAST) != self.is_broadcast {
            return refuse(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this \
                 client, and then re-enabling it with a different mode.",
            );
        }
        if self.is_broadcast && (self.opts_in || self.opts_out) {
            return refuse("ERR OPTIN and OPTOUT are not compatible with BCAST");
        }
        if self.opts_in && self.opts_out {
            return refuse("ERR You can't specify both OPTIN mode and OPTOUT mode");
        }
        let choice = before.map_or(Choice::All, |it| it.choice);
        if self.opts_in && choice == Choice::Out || self.opts_out && choice == Choice::In {
            return refuse(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this \
                 client, and then re-enabling it with a different mode.",
            );
        }
        let none = BTreeSet::new();
        let prefixes = before.map_or(&none, |it| &it.prefixes);
        self.check_bytes(prefixes)?;
        self.check_prefixes(prefixes)
    }

    /// All prefixes of a client are bounded together.
    fn check_bytes(&self, before: &BTreeSet<Vec<u8>>) -> Result<(), Refusal> {
        if !self.is_broadcast {
            return Ok(());
        }
        let added: usize = self.prefixes.iter().map(|prefix| prefix.len() + PREFIX_BYTES).sum();
        let held: usize = before.iter().map(|prefix| prefix.len() + PREFIX_BYTES).sum();
        // None stands for all keys.
        if added.max(PREFIX_BYTES) + held > PREFIX_BYTES_MAX {
            return Err(Refusal::text("ERR the prefixes of the client take too much"));
        }
        Ok(())
    }

    /// No prefix may begin with another one of the client's.
    fn check_prefixes(&self, before: &BTreeSet<Vec<u8>>) -> Result<(), Refusal> {
        let Some(index) = first_overlapping(&self.prefixes, before) else { return Ok(()) };
        let (Some(prefix), later) =
            (self.prefixes.get(index), self.prefixes.iter().skip(index + 1))
        else {
            return Ok(());
        };
        let overlaps = |other: &[u8]| prefix.starts_with(other) || other.starts_with(prefix);
        let existing = before.iter().map(Vec::as_slice).find(|other| overlaps(other));
        let (what, other) = match existing {
            Some(other) => ("an existing", other),
            None => {
                ("another provided", later.copied().find(|it| overlaps(it)).unwrap_or_default())
            }
        };
        let (one, other) = (String::from_utf8_lossy(prefix), String::from_utf8_lossy(other));
        Err(Refusal::Text(
            format!(
                "ERR Prefix '{one}' overlaps with {what} prefix '{other}'. Prefixes for a single \
                 client must not overlap."
            )
            .into(),
        ))
    }
}

/// The first of `wanted` that begins another one or that another one begins, be it among `before`.
///
/// In order, whatever a prefix begins follows it at once: one pass finds all that overlap.
fn first_overlapping(wanted: &[&[u8]], before: &BTreeSet<Vec<u8>>) -> Option<usize> {
    let given = wanted.iter().enumerate().map(|(index, prefix)| (*prefix, Some(index)));
    let held = before.iter().map(|prefix| (prefix.as_slice(), None));
    let mut all: Vec<(&[u8], Option<usize>)> = given.chain(held).collect();
    all.sort_unstable();
    let mut first: Option<usize> = None;
    let mut root: Option<(&[u8], Option<usize>)> = None;
    for (prefix, index) in all {
        match root {
            Some((start, root_index)) if prefix.starts_with(start) => {
                first = first.into_iter().chain(index).chain(root_index).min();
            }
            _ => root = Some((prefix, index)),
        }
    }
    first
}

fn redirection(cx: &Context<'_>, before: u64, id: &[u8]) -> Result<u64, Refusal> {
    if before != 0 {
        return Err(Refusal::text("ERR A client can only redirect to a single other client"));
    }
    let id = parse_integer(id).ok_or(Refusal::NOT_AN_INTEGER)?;
    u64::try_from(id)
        .ok()
        .filter(|id| cx.shared.clients.by_id(*id).is_some())
        .ok_or(Refusal::text("ERR The client ID you want redirect to does not exist"))
}

/// CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP].
pub(in crate::commands) fn tracking(cx: &mut Context<'_>) -> Outcome {
    let wanted = Wanted::parse(cx)?;
    match cx.args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => {
            wanted.check(cx.session)?;
            enable(cx, &wanted);
        }
        b"off" => disable(cx.shared, cx.session),
        _ => return Err(Refusal::SYNTAX),
    }
    cx.reply.ok();
    Ok(())
}

/// What the prefixes of one client may take together.
const PREFIX_BYTES_MAX: usize = 1 << 20;
/// What one takes beside its own bytes.
const PREFIX_BYTES: usize = 64;

fn enable(cx: &mut Context<'_>, wanted: &Wanted<'_>) {
    let (shared, session) = (cx.shared, &mut *cx.session);
    let client = &session.client;
    let options = session.tracking.get_or_insert_default();
    let has_all: &[&[u8]] = &[b""];
    let prefixes = if wanted.prefixes.is_empty() { has_all } else { &wanted.prefixes };
    options.choice = match (wanted.opts_in, wanted.opts_out) {
        (true, _) => Choice::In,
        (_, true) => Choice::Out,
        _ => Choice::All,
    };
    client.redirect_to.store(wanted.redirect_to, Ordering::Relaxed);
    client.set_flag(flag::BROKEN_REDIRECT, false);
    client.set_flag(flag::NO_LOOP, wanted.is_no_loop);
    client.set_flag(flag::BROADCAST, wanted.is_broadcast);
    client.set_flag(flag::TRACKING, true);
    shared.tracking.add(client);
    if wanted.is_broadcast {
        for prefix in prefixes {
            shared.tracking.broadcast(prefix, client);
            options.prefixes.insert(prefix.to_vec());
        }
    }
    session.set_special(special::TRACKING, !wanted.is_broadcast);
    shared.refresh_interest();
}

/// Ends the tracking of a session, if there is any.
pub(crate) fn disable(shared: &Shared, session: &mut Session) {
    if session.tracking.take().is_none() {
        return;
    }
    let flags = flag::TRACKING | flag::BROKEN_REDIRECT | flag::BROADCAST | flag::NO_LOOP;
    session.client.set_flag(flags, false);
    session.client.redirect_to.store(0, Ordering::Relaxed);
    session.set_special(special::TRACKING | special::CACHING, false);
    shared.tracking.remove(&session.client);
    shared.refresh_interest();
}

/// CLIENT CACHING YES|NO, for the next command.
pub(in crate::commands) fn caching(cx: &mut Context<'_>) -> Outcome {
    let Some(options) = &mut cx.session.tracking else {
        return Err(Refusal::text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN \
             or OPTOUT mode enabled",
        ));
    };
    match cx.args.at(2).to_ascii_lowercase().as_slice() {
        b"yes" if options.choice == Choice::In => {}
        b"yes" => {
            return Err(Refusal::text(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
        b"no" if options.choice == Choice::Out => {}
        b"no" => {
            return Err(Refusal::text(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
        _ => return Err(Refusal::SYNTAX),
    }
    options.is_caching_given = true;
    cx.session.set_special(special::CACHING, true);
    cx.reply.ok();
    Ok(())
}

pub(in crate::commands) fn get_redirection(cx: &mut Context<'_>) -> Outcome {
    cx.reply.integer(cx.session.client.redirect());
    Ok(())
}

pub(in crate::commands) fn info(cx: &mut Context<'_>) -> Outcome {
    let client = &cx.session.client;
    let mut flags = Vec::new();
    let mut prefixes = None;
    match cx.session.tracking.as_deref() {
        None => flags.push("off"),
        Some(Options { choice, is_caching_given, prefixes: set, .. }) => {
            flags.push("on");
            flags.extend(client.is(flag::BROADCAST).then_some("bcast"));
            let (name, caching) = match choice {
                Choice::All => (None, None),
                Choice::In => (Some("optin"), Some("caching-yes")),
                Choice::Out => (Some("optout"), Some("caching-no")),
            };
            flags.extend(name);
            flags.extend(caching.filter(|_| *is_caching_given));
            flags.extend(client.is(flag::NO_LOOP).then_some("noloop"));
            flags.extend(client.is(flag::BROKEN_REDIRECT).then_some("broken_redirect"));
            prefixes = Some(set);
        }
    }
    let reply = &mut *cx.reply;
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(client.redirect());
    reply.bulk(b"prefixes");
    reply.array(prefixes.map_or(0, BTreeSet::len));
    prefixes.into_iter().flatten().for_each(|prefix| reply.bulk(prefix));
    Ok(())
}

/// Remembers the keys that the command in hand is about to read; what the transaction around it has
/// written, when that is committed.
#[cold]
pub(in crate::commands) fn remember(cx: &mut Context<'_>) {
    let Some(options) = cx.session.tracking.as_mut().filter(|it| it.wants_keys()) else { return };
    if cx.info.flags & table::flag::READONLY == 0 {
        return;
    }
    for key in table::keys(cx.info, cx.args) {
        match cx.db.write_stamp(key) {
            None => cx.shared.tracking.remember(key, cx.session.client.id),
            Some(stamp) => {
                let keyspace = cx.db.keyspace();
                options.own_reads.push(OwnRead { keyspace, key: key.into(), stamp });
            }
        }
    }
}

/// Before a transaction is committed: remembers the keys that it has written again behind its last
/// read, so that its client is told of them. The others are to be
/// [remembered](remember_own_reads) before anybody else can write them.
pub(in crate::commands) fn split_own_reads(
    cx: &mut Context<'_>,
    overlay: &Overlay,
) -> Vec<OwnRead> {
    let Some(options) = &mut cx.session.tracking else { return Vec::new() };
    let mut own_reads = std::mem::take(&mut options.own_reads);
    own_reads.retain(|read| {
        let is_last = overlay.stamp(read.keyspace, &read.key).is_none_or(|it| it == read.stamp);
        if !is_last {
            cx.shared.tracking.remember(&read.key, cx.session.client.id);
        }
        is_last
    });
    own_reads
}

/// Remembers keys as the transaction that was just committed left them.
pub(in crate::commands) fn remember_own_reads(cx: &Context<'_>, own_reads: &[OwnRead]) {
    for read in own_reads {
        cx.shared.tracking.remember(&read.key, cx.session.client.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared pair by pair.
    fn first_overlapping_slowly(wanted: &[&[u8]], before: &BTreeSet<Vec<u8>>) -> Option<usize> {
        let overlap = |one: &[u8], other: &[u8]| one.starts_with(other) || other.starts_with(one);
        wanted.iter().enumerate().position(|(index, one)| {
            before.iter().any(|other| overlap(one, other))
                || wanted.iter().skip(index + 1).any(|other| overlap(one, other))
        })
    }

    proptest::proptest! {
        #[test]
        fn overlapping_prefixes_are_found_as_by_comparing_all(
            wanted in proptest::collection::vec("[ab]{0,6}", 0..8),
            before in proptest::collection::btree_set("[ab]{2,6}", 0..4),
        ) {
            // Those a client has do not overlap.
            let mut held = BTreeSet::new();
            for prefix in before.into_iter().map(String::into_bytes) {
                if first_overlapping(&[&prefix], &held).is_none() {
                    held.insert(prefix);
                }
            }
            let wanted: Vec<&[u8]> = wanted.iter().map(String::as_bytes).collect();
            proptest::prop_assert_eq!(
                first_overlapping(&wanted, &held),
                first_overlapping_slowly(&wanted, &held)
            );
        }
    }
}
