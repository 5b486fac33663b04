//! The server itself: SHUTDOWN, TIME.

use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal};

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "shutdown",
        arity: -1,
        flags: flag::ADMIN
            | flag::NOSCRIPT
            | flag::LOADING
            | flag::STALE
            | flag::NO_MULTI
            | flag::ALLOW_BUSY,
        complexity: "O(1): the log holds everything already.",
        summary: "Synchronously saves the database(s) to disk and shuts down the Redis server.",
        handler: Handler::Shutdown,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "time",
        flags: flag::LOADING | flag::STALE | flag::FAST,
        categories: category::FAST,
        tips: &["nondeterministic_output"],
        since: "2.6.0",
        summary: "Returns the server time.",
        handler: Handler::Time,
        ..CommandInfo::DEFAULT
    },
];

/// Ends the server in order, without a reply, whatever the option: there is nothing to save that
/// the log does not hold, and closing the engine makes the log durable.
pub(super) fn shutdown(cx: &mut Context<'_>) -> Outcome {
    let (mut saves, mut saves_not) = (false, false);
    for option in cx.args.from(1) {
        match option.to_ascii_lowercase().as_slice() {
            b"save" => saves = true,
            b"nosave" => saves_not = true,
            b"now" | b"force" => {}
            b"abort" if cx.args.len() == 2 => {
                return Err(Refusal::text("ERR No shutdown in progress."));
            }
            _ => return Err(Refusal::SYNTAX),
        }
    }
    if saves && saves_not {
        return Err(Refusal::SYNTAX);
    }
    tracing::info!(client = %cx.session.client.peer, "a client asks the server to stop");
    cx.shared.request_shutdown();
    cx.session.is_closing = true;
    Ok(())
}

pub(super) fn time(cx: &mut Context<'_>) -> Outcome {
    let now = cx.shared.host.env.clock.now().0;
    cx.reply.array(2);
    cx.reply.bulk((now / 1000).to_string().as_bytes());
    cx.reply.bulk((now % 1000 * 1000).to_string().as_bytes());
    Ok(())
}
