//! CLIENT LIST, KILL, PAUSE: clients as others see and stop them.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Context, Outcome, Refusal, help, shown};
use crate::client::{Client, Ending};
use crate::output_limits::Class;
use crate::pause::Paused;
use crate::shared::Shared;

/// What the arguments of the command in hand take.
fn argument_bytes(cx: &Context<'_>) -> usize {
    cx.args.from(0).map(<[u8]>::len).sum()
}

pub(in crate::commands) fn info(cx: &mut Context<'_>) -> Outcome {
    let mut line = String::new();
    cx.session.client.describe(cx.shared.uptime(), argument_bytes(cx), &mut line);
    line.push('\n');
    cx.reply.verbatim(&line);
    Ok(())
}

/// A type of clients: a class, or `MASTER`, of which there are none.
fn client_type(name: &[u8]) -> Result<Option<Class>, Refusal> {
    if name.eq_ignore_ascii_case(b"master") {
        return Ok(None);
    }
    Class::from_name(name)
        .map(Some)
        .ok_or_else(|| Refusal::Text(format!("ERR Unknown client type '{}'", shown(name)).into()))
}

/// CLIENT LIST [TYPE NORMAL|MASTER|REPLICA|PUBSUB] [ID id ...].
pub(in crate::commands) fn list(cx: &mut Context<'_>) -> Outcome {
    let mut ids = None;
    let mut class = None;
    match cx.args.get(2) {
        None => {}
        Some(option) if option.eq_ignore_ascii_case(b"type") && cx.args.len() == 4 => {
            class = Some(client_type(cx.args.at(3))?);
        }
        Some(option) if option.eq_ignore_ascii_case(b"id") && cx.args.len() > 3 => {
            let mut wanted = Vec::new();
            for index in 3..cx.args.len() {
                let id = cx.integer(index).map_err(|_| Refusal::text("ERR Invalid client ID"))?;
                // No client has a negative one.
                wanted.extend(u64::try_from(id));
            }
            ids = Some(wanted);
        }
        Some(_) => return Err(Refusal::SYNTAX),
    }
    let mut lines = String::new();
    for client in live(cx.shared) {
        let is_asked = ids.as_ref().is_none_or(|ids| ids.contains(&client.id))
            && class.is_none_or(|class| class == Some(client.class()));
        if is_asked {
            let is_self = client.id == cx.session.client.id;
            let argument_bytes = if is_self { argument_bytes(cx) } else { 0 };
            client.describe(cx.shared.uptime(), argument_bytes, &mut lines);
            lines.push('\n');
        }
    }
    cx.reply.verbatim(&lines);
    Ok(())
}

/// All clients but those that were cut off and only have yet to notice.
fn live(shared: &Shared) -> impl Iterator<Item = Arc<Client>> + use<> {
    shared.clients.all().into_iter().filter(|client| client.ending() != Ending::Cut)
}

/// What CLIENT KILL looks for.
#[derive(Default)]
struct Filter<'f> {
    id: Option<u64>,
    class: Option<Option<Class>>,
    peer: Option<&'f [u8]>,
    local: Option<&'f [u8]>,
    spares_self: bool,
}

impl<'f> Filter<'f> {
    /// Of pairs of options and values.
    fn parse(cx: &Context<'f>) -> Result<Self, Refusal> {
        let mut filter = Self { spares_self: true, ..Self::default() };
        let mut index = 2;
        while let Some(option) = cx.args.get(index) {
            let value = cx.args.get(index + 1).ok_or(Refusal::SYNTAX)?;
            match option.to_ascii_lowercase().as_slice() {
                b"id" => {
                    let id = cx.integer(index + 1).ok().filter(|id| *id > 0);
                    let id = id.ok_or(Refusal::text("ERR client-id should be greater than 0"))?;
                    filter.id = Some(id.unsigned_abs());
                }
                b"type" => filter.class = Some(client_type(value)?),
                b"addr" => filter.peer = Some(value),
                b"laddr" => filter.local = Some(value),
                // All clients are the default user.
                b"user" if value == b"default" => {}
                b"user" => {
                    return Err(Refusal::Text(
                        format!("ERR No such user '{}'", shown(value)).into(),
                    ));
                }
                b"skipme" => {
                    filter.spares_self = match value.to_ascii_lowercase().as_slice() {
                        b"yes" => true,
                        b"no" => false,
                        _ => return Err(Refusal::SYNTAX),
                    };
                }
                _ => return Err(Refusal::SYNTAX),
            }
            index += 2;
        }
        Ok(filter)
    }

    fn admits(&self, client: &Client, own_id: u64) -> bool {
        self.id.is_none_or(|id| id == client.id)
            && self.class.is_none_or(|class| class == Some(client.class()))
            && self.peer.is_none_or(|peer| client.peer.to_string().as_bytes() == peer)
            && self.local.is_none_or(|local| client.local.to_string().as_bytes() == local)
            && !(self.spares_self && client.id == own_id)
    }
}

/// CLIENT KILL address, or by options: ID, TYPE, USER, ADDR, LADDR, SKIPME.
pub(in crate::commands) fn kill(cx: &mut Context<'_>) -> Outcome {
    let is_old_form = cx.args.len() == 3;
    let filter = if is_old_form {
        Filter { peer: Some(cx.args.at(2)), ..Filter::default() }
    } else {
        Filter::parse(cx)?
    };
    let own_id = cx.session.client.id;
    let mut killed = 0;
    for client in live(cx.shared).filter(|client| filter.admits(client, own_id)) {
        killed += 1;
        if client.id == own_id {
            // The reply comes first.
            cx.session.is_closing = true;
        } else {
            client.end(Ending::Cut);
        }
    }
    match killed {
        0 if is_old_form => return Err(Refusal::text("ERR No such client")),
        _ if is_old_form => cx.reply.ok(),
        _ => cx.reply.integer(killed),
    }
    Ok(())
}

/// CLIENT PAUSE milliseconds [WRITE|ALL].
pub(in crate::commands) fn pause(cx: &mut Context<'_>) -> Outcome {
    if cx.args.len() > 4 {
        return Err(help::wrong_subcommand(cx, "CLIENT"));
    }
    let what = match cx.args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => Paused::All,
        Some(b"write") => Paused::Writes,
        Some(_) => return Err(Refusal::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let millis = cx
        .integer(2)
        .map_err(|_| Refusal::text("ERR timeout is not an integer or out of range"))?;
    let millis = u64::try_from(millis).map_err(|_| Refusal::text("ERR timeout is negative"))?;
    let now = cx.shared.host.env.clock.now().0;
    let end = now.checked_add(millis).and_then(|end| i64::try_from(end).ok());
    end.ok_or(Refusal::text("ERR timeout is out of range"))?;
    cx.shared.begin_pause(what, Duration::from_millis(millis));
    cx.reply.ok();
    Ok(())
}

pub(in crate::commands) fn unpause(cx: &mut Context<'_>) -> Outcome {
    cx.shared.end_pause();
    cx.reply.ok();
    Ok(())
}

/// CLIENT UNBLOCK id [TIMEOUT|ERROR]. No command waits in a way that it could end.
pub(in crate::commands) fn unblock(cx: &mut Context<'_>) -> Outcome {
    if cx.args.len() > 4 {
        return Err(help::wrong_subcommand(cx, "CLIENT"));
    }
    match cx.args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"timeout" | b"error") => {}
        Some(_) => {
            return Err(Refusal::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
    }
    cx.integer(2)?;
    cx.reply.integer(0);
    Ok(())
}
