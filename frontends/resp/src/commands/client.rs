//! CLIENT.

use std::sync::atomic::Ordering;

use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::session::Replies;

const SUBCOMMAND: CommandInfo = CommandInfo {
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE,
    categories: category::CONNECTION,
    group: "connection",
    ..CommandInfo::DEFAULT
};

const ADMIN: u32 = flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE;

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "client",
    arity: -2,
    group: "connection",
    since: "2.4.0",
    complexity: "Depends on subcommand.",
    summary: "A container for client connection commands.",
    subcommands: SUBCOMMANDS,
    handler: Handler::Container,
    ..CommandInfo::DEFAULT
}];

const SUBCOMMANDS: &[CommandInfo] = &[
    CommandInfo {
        name: "client|getname",
        arity: 2,
        since: "2.6.9",
        summary: "Returns the name of the connection.",
        handler: Handler::ClientGetName,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|id",
        arity: 2,
        since: "5.0.0",
        summary: "Returns the unique client ID of the connection.",
        handler: Handler::ClientId,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|info",
        arity: 2,
        tips: &["nondeterministic_output"],
        since: "6.2.0",
        summary: "Returns information about the connection.",
        handler: Handler::ClientInfo,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|list",
        arity: -2,
        flags: ADMIN,
        tips: &["nondeterministic_output"],
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Lists open connections.",
        handler: Handler::ClientList,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|no-evict",
        arity: 3,
        flags: ADMIN,
        since: "7.0.0",
        summary: "Sets the client eviction mode of the connection.",
        handler: Handler::ClientNoEvict,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|reply",
        arity: 3,
        since: "3.2.0",
        summary: "Instructs the server whether to reply to commands.",
        handler: Handler::ClientReply,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|setinfo",
        arity: 4,
        since: "7.2.0",
        summary: "Sets information specific to the client or connection.",
        handler: Handler::ClientSetInfo,
        ..SUBCOMMAND
    },
    CommandInfo {
        name: "client|setname",
        arity: 3,
        since: "2.6.9",
        summary: "Sets the connection name.",
        handler: Handler::ClientSetName,
        ..SUBCOMMAND
    },
];

/// Names and versions are kept up to this length.
const NAME_BYTES_MAX: usize = 4096;

/// A name: printable ASCII without spaces, so that CLIENT LIST stays readable.
fn checked(text: &[u8]) -> Option<String> {
    let is_name = text.len() <= NAME_BYTES_MAX && text.iter().all(u8::is_ascii_graphic);
    is_name.then(|| String::from_utf8_lossy(text).into_owned())
}

pub(super) fn check_name(name: &[u8]) -> Result<String, Refusal> {
    checked(name).ok_or(Refusal::text(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

pub(super) fn set_name(cx: &mut Context<'_>) -> Outcome {
    let name = check_name(cx.args.at(2))?;
    cx.session.client.change_identity(|identity| identity.name = name);
    cx.reply.ok();
    Ok(())
}

pub(super) fn get_name(cx: &mut Context<'_>) -> Outcome {
    let name = cx.session.client.identity().name;
    if name.is_empty() {
        cx.reply.null()
    } else {
        cx.reply.bulk(name.as_bytes())
    }
    Ok(())
}

pub(super) fn set_info(cx: &mut Context<'_>) -> Outcome {
    let (attribute, value) = (cx.args.at(2), cx.args.at(3));
    let is_name = attribute.eq_ignore_ascii_case(b"lib-name");
    if !is_name && !attribute.eq_ignore_ascii_case(b"lib-ver") {
        let attribute = String::from_utf8_lossy(attribute.get(..128).unwrap_or(attribute));
        return Err(Refusal::Text(format!("ERR Unrecognized option '{attribute}'").into()));
    }
    let what = if is_name { "lib-name" } else { "lib-ver" };
    let value = checked(value).ok_or_else(|| {
        let text = format!("ERR {what} cannot contain spaces, newlines or special characters.");
        Refusal::Text(text.into())
    })?;
    cx.session.client.change_identity(|identity| {
        if is_name {
            identity.library_name = value;
        } else {
            identity.library_version = value;
        }
    });
    cx.reply.ok();
    Ok(())
}

pub(super) fn id(cx: &mut Context<'_>) -> Outcome {
    cx.reply.integer(i64::try_from(cx.session.client.id).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) fn info(cx: &mut Context<'_>) -> Outcome {
    let mut line = String::new();
    cx.session.client.describe(cx.shared.uptime(), &mut line);
    line.push('\n');
    cx.reply.verbatim(&line);
    Ok(())
}

/// CLIENT LIST [TYPE NORMAL|MASTER|REPLICA|PUBSUB] [ID id ...].
pub(super) fn list(cx: &mut Context<'_>) -> Outcome {
    let mut ids = None;
    let mut shows_any = true;
    match cx.args.get(2) {
        None => {}
        Some(option) if option.eq_ignore_ascii_case(b"type") && cx.args.len() == 4 => {
            let kind = cx.args.at(3);
            shows_any = match kind.to_ascii_lowercase().as_slice() {
                b"normal" => true,
                b"master" | b"replica" | b"slave" | b"pubsub" => false,
                _ => {
                    let kind = String::from_utf8_lossy(kind.get(..128).unwrap_or(kind));
                    let text = format!("ERR Unknown client type '{kind}'");
                    return Err(Refusal::Text(text.into()));
                }
            };
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
    if shows_any {
        for client in cx.shared.clients.all() {
            if ids.as_ref().is_none_or(|ids| ids.contains(&client.id)) {
                client.describe(cx.shared.uptime(), &mut lines);
                lines.push('\n');
            }
        }
    }
    cx.reply.verbatim(&lines);
    Ok(())
}

/// Client eviction does not take place; the wish is kept and shown in CLIENT LIST.
pub(super) fn no_evict(cx: &mut Context<'_>) -> Outcome {
    let is_exempt = match cx.args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => true,
        b"off" => false,
        _ => return Err(Refusal::SYNTAX),
    };
    cx.session.client.is_eviction_exempt.store(is_exempt, Ordering::Relaxed);
    cx.reply.ok();
    Ok(())
}

pub(super) fn reply(cx: &mut Context<'_>) -> Outcome {
    match cx.args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => {
            cx.session.replies = Replies::On;
            cx.reply.ok();
        }
        b"off" => cx.session.replies = Replies::Off,
        b"skip" if cx.session.replies != Replies::Off => cx.session.replies = Replies::SkipNext,
        b"skip" => {}
        _ => return Err(Refusal::SYNTAX),
    }
    Ok(())
}
