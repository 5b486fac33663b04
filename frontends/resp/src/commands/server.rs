//! The server itself: TIME.

use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome};

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "time",
    flags: flag::LOADING | flag::STALE | flag::FAST,
    categories: category::FAST,
    tips: &["nondeterministic_output"],
    since: "2.6.0",
    summary: "Returns the server time.",
    handler: Handler::Time,
    ..CommandInfo::DEFAULT
}];

pub(super) fn time(cx: &mut Context<'_>) -> Outcome {
    let now = cx.shared.host.env.clock.now().0;
    cx.reply.array(2);
    cx.reply.bulk((now / 1000).to_string().as_bytes());
    cx.reply.bulk((now % 1000 * 1000).to_string().as_bytes());
    Ok(())
}
