//! MONITOR.

use std::sync::atomic::Ordering;

use super::table::{CommandInfo, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::client::flag as client_flag;
use crate::monitor;
use crate::session::special;

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "monitor",
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    complexity: "",
    summary: "Listens for all requests received by the server in real-time.",
    handler: Handler::Monitor,
    ..CommandInfo::DEFAULT
}];

/// A monitor that asks again is not answered, as in Redis.
pub(super) fn monitor(cx: &mut Context<'_>) -> Outcome {
    if cx.session.special & special::EXECUTING != 0 {
        return Err(Refusal::text("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    let client = &cx.session.client;
    if client.is(client_flag::MONITOR) {
        return Ok(());
    }
    cx.shared.add_monitor(client);
    cx.reply.ok();
    Ok(())
}

/// Shows the command in hand to the monitors. Administration is not shown, nor are passwords.
#[cold]
pub(super) fn show(cx: &Context<'_>) {
    if cx.info.flags & flag::ADMIN != 0 {
        return;
    }
    let mut secrets = 0..0;
    match cx.info.handler {
        Handler::Auth => secrets = 1..cx.args.len(),
        Handler::Hello => {
            let option =
                (2..cx.args.len()).find(|at| cx.args.at(*at).eq_ignore_ascii_case(b"auth"));
            secrets = option.map_or(0..0, |at| at + 1..at + 3);
        }
        _ => {}
    }
    let arguments = cx.args.from(0).enumerate().map(|(index, argument)| {
        if secrets.contains(&index) { b"(redacted)".as_slice() } else { argument }
    });
    let client = &cx.session.client;
    let database = client.database.load(Ordering::Relaxed);
    let line = monitor::line(cx.shared.host.env.clock.now(), database, client, arguments);
    cx.shared.monitors.send(&line);
}
