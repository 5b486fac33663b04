//! CLIENT: what a client says about itself, and asks for itself.

pub(super) mod peers;
mod rows;
pub(crate) mod tracking;

use super::{Context, Outcome, Refusal, help};
use crate::client::flag;
use crate::session::Replies;
pub(super) use rows::ROWS;

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

/// ON or OFF, as the last argument.
fn on_or_off(cx: &Context<'_>) -> Result<bool, Refusal> {
    match cx.args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(Refusal::SYNTAX),
    }
}

pub(super) fn no_evict(cx: &mut Context<'_>) -> Outcome {
    let is_on = on_or_off(cx)?;
    cx.session.client.set_flag(flag::NO_EVICT, is_on);
    cx.reply.ok();
    Ok(())
}

pub(super) fn no_touch(cx: &mut Context<'_>) -> Outcome {
    let is_on = on_or_off(cx)?;
    cx.session.client.set_flag(flag::NO_TOUCH, is_on);
    cx.reply.ok();
    Ok(())
}

pub(super) fn reply(cx: &mut Context<'_>) -> Outcome {
    match cx.args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => {
            cx.session.set_replies(Replies::On);
            cx.reply.ok();
        }
        b"off" => cx.session.set_replies(Replies::Off),
        b"skip" if cx.session.replies() != Replies::Off => {
            cx.session.set_replies(Replies::SkipNext);
        }
        b"skip" => {}
        _ => return Err(Refusal::SYNTAX),
    }
    Ok(())
}

const HELP: &[&str] = &[
    "CACHING (YES|NO)",
    "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are:",
    "    * LIB-NAME: the client lib name.",
    "    * LIB-VER: the client lib version.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
    "         [OPTIN] [OPTOUT] [NOLOOP]",
    "    Control server assisted client side caching.",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Will not touch LRU/LFU stats when this mode is on.",
];

pub(super) fn show_help(cx: &mut Context<'_>) -> Outcome {
    help::write(cx.reply, "CLIENT", HELP);
    Ok(())
}
