//! The connection itself: PING, ECHO, HELLO, AUTH, QUIT, RESET.

use std::sync::atomic::Ordering;

use ferrokit_engine::KeyspaceId;

use super::client::check_name;
use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::auth;
use crate::client;
use crate::resp::{Protocol, parse_integer};
use crate::session::{Replies, special};

/// The version of Redis whose behaviour this is.
pub(super) const REDIS_VERSION: &str = "7.2.0";

const CONNECTION: CommandInfo = CommandInfo {
    flags: flag::FAST,
    categories: category::CONNECTION,
    group: "connection",
    ..CommandInfo::DEFAULT
};

const ALWAYS: u32 =
    flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::NO_AUTH | flag::ALLOW_BUSY;

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "auth",
        arity: -2,
        flags: ALWAYS,
        complexity: "O(N) where N is the number of passwords defined for the user",
        summary: "Authenticates the connection.",
        handler: Handler::Auth,
        ..CONNECTION
    },
    CommandInfo {
        name: "echo",
        arity: 2,
        flags: flag::LOADING | flag::STALE | flag::FAST,
        summary: "Returns the given string.",
        handler: Handler::Echo,
        ..CONNECTION
    },
    CommandInfo {
        name: "hello",
        arity: -1,
        flags: ALWAYS,
        since: "6.0.0",
        summary: "Handshakes with the Redis server.",
        handler: Handler::Hello,
        ..CONNECTION
    },
    CommandInfo {
        name: "ping",
        arity: -1,
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        summary: "Returns the server's liveliness response.",
        handler: Handler::Ping,
        ..CONNECTION
    },
    CommandInfo {
        name: "quit",
        arity: -1,
        flags: ALWAYS,
        summary: "Closes the connection.",
        handler: Handler::Quit,
        ..CONNECTION
    },
    CommandInfo {
        name: "reset",
        flags: ALWAYS,
        since: "6.2.0",
        summary: "Resets the connection.",
        handler: Handler::Reset,
        ..CONNECTION
    },
];

pub(super) fn ping(cx: &mut Context<'_>) -> Outcome {
    let is_subscribed = cx.session.special & special::SUBSCRIBED != 0;
    match cx.args.len() {
        1 | 2 if is_subscribed && cx.reply.protocol() == Protocol::Resp2 => {
            // As a message, so that it can be told from one.
            cx.reply.array(2);
            cx.reply.bulk(b"pong");
            cx.reply.bulk(cx.args.get(1).unwrap_or_default());
        }
        1 => cx.reply.raw(b"+PONG\r\n"),
        2 => cx.reply.bulk(cx.args.at(1)),
        _ => return Err(Refusal::wrong_arity("ping")),
    }
    Ok(())
}

pub(super) fn echo(cx: &mut Context<'_>) -> Outcome {
    cx.reply.bulk(cx.args.at(1));
    Ok(())
}

/// AUTH [user] password. Where there is no password, to give one alone is an error.
pub(super) fn auth(cx: &mut Context<'_>) -> Outcome {
    let (user, password) = match cx.args.len() {
        2 if !auth::is_required(&cx.shared.settings) => {
            return Err(Refusal::text(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        2 => (b"default".as_slice(), cx.args.at(1)),
        3 => (cx.args.at(1), cx.args.at(2)),
        _ => return Err(Refusal::SYNTAX),
    };
    authenticate(cx, user, password)?;
    cx.reply.ok();
    Ok(())
}

fn authenticate(cx: &mut Context<'_>, user: &[u8], password: &[u8]) -> Outcome {
    if !auth::admits(&cx.shared.settings, user, password) {
        tracing::debug!(client = %cx.session.client.peer, "a wrong password");
        return Err(Refusal::text("WRONGPASS invalid username-password pair or user is disabled."));
    }
    cx.session.is_authenticated = true;
    Ok(())
}

pub(super) fn hello(cx: &mut Context<'_>) -> Outcome {
    let mut protocol = cx.reply.protocol();
    if let Some(version) = cx.args.get(1) {
        protocol = match parse_integer(version) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Refusal::text("NOPROTO unsupported protocol version")),
            None => {
                return Err(Refusal::text(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
        };
    }
    let mut name = None;
    let mut index = 2;
    while let Some(option) = cx.args.get(index) {
        let remaining = cx.args.len() - index - 1;
        if option.eq_ignore_ascii_case(b"auth") && remaining >= 2 {
            authenticate(cx, cx.args.at(index + 1), cx.args.at(index + 2))?;
            index += 3;
        } else if option.eq_ignore_ascii_case(b"setname") && remaining >= 1 {
            name = Some(check_name(cx.args.at(index + 1))?);
            index += 2;
        } else {
            let option = String::from_utf8_lossy(option.get(..128).unwrap_or(option));
            let text = format!("ERR Syntax error in HELLO option '{option}'");
            return Err(Refusal::Text(text.into()));
        }
    }
    if !cx.session.is_authenticated {
        return Err(Refusal::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    let client = &cx.session.client;
    if let Some(name) = name {
        client.change_identity(|identity| identity.name = name);
    }
    let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
    client.set_protocol(protocol, cx.reply);

    let id = i64::try_from(client.id).unwrap_or(i64::MAX);
    let reply = &mut *cx.reply;
    reply.map(7);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    for (key, value) in [("proto", i64::from(version)), ("id", id)] {
        reply.bulk(key.as_bytes());
        reply.integer(value);
    }
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

pub(super) fn quit(cx: &mut Context<'_>) -> Outcome {
    cx.session.is_closing = true;
    cx.reply.ok();
    Ok(())
}

pub(super) fn reset(cx: &mut Context<'_>) -> Outcome {
    super::end_transaction(cx.shared, cx.session);
    let client = &cx.session.client;
    client.change_identity(|identity| identity.name.clear());
    client.database.store(0, Ordering::Relaxed);
    client.set_flag(client::flag::NO_EVICT | client::flag::NO_TOUCH, false);
    client.set_protocol(Protocol::Resp2, cx.reply);
    cx.session.keyspace = KeyspaceId::DEFAULT;
    cx.session.is_authenticated = !auth::is_required(&cx.shared.settings);
    // The reply to this very command stays skipped if that was asked for.
    if cx.session.replies() != Replies::SkipThis {
        cx.session.set_replies(Replies::On);
    }
    cx.session.give_up_subscriptions();
    super::disable_tracking(cx.shared, cx.session);
    cx.shared.remove_monitor(&cx.session.client);
    cx.session.client.take_pushes(cx.reply);
    cx.reply.status("RESET");
    Ok(())
}
