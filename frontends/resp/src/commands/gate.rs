//! What stands before a command beyond its own checks: the state of its session and of the server.
//!
//! None of it is looked at while no bit of [`special`](crate::session::special) is set, the engine is
//! open, and the last checkpoint did not fail.

use super::table::{self, flag};
use super::{Context, Handler, Refusal, transactions};
use crate::pause::Paused;
use crate::resp::{Command, Protocol};
use crate::session::{Session, special};
use crate::shared::Shared;

/// Whether the command in hand may run now.
#[inline]
pub(super) fn admit(cx: &Context<'_>) -> Result<(), Refusal> {
    let is_loading = cx.shared.is_loading();
    let is_saved = !cx.shared.saves.has_failed();
    if cx.session.special == 0 && cx.session.is_authenticated && !is_loading && is_saved {
        return Ok(());
    }
    admit_special(cx)
}

#[cold]
fn admit_special(cx: &Context<'_>) -> Result<(), Refusal> {
    if !cx.session.is_authenticated && cx.info.flags & flag::NO_AUTH == 0 {
        return Err(Refusal::text("NOAUTH Authentication required."));
    }
    if is_stopped_unsaved(cx) {
        return Err(Refusal::text(
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to \
             persist to disk. Commands that may modify the data set are disabled, because this \
             instance is configured to report errors during writes if RDB snapshotting fails \
             (stop-writes-on-bgsave-error option). Please check the Redis logs for details about \
             the RDB error.",
        ));
    }
    let is_subscribed = cx.session.special & special::SUBSCRIBED != 0;
    if is_subscribed && cx.reply.protocol() == Protocol::Resp2 && !is_allowed_subscribed(cx) {
        return Err(Refusal::Text(
            format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
                 RESET are allowed in this context",
                cx.info.name
            )
            .into(),
        ));
    }
    if cx.shared.is_loading() && !is_allowed_loading(cx) {
        return Err(Refusal::text("LOADING Redis is loading the dataset in memory"));
    }
    Ok(())
}

/// Whether the command in hand writes what the checkpoints that are configured would not hold. PING
/// tells of it, too.
fn is_stopped_unsaved(cx: &Context<'_>) -> bool {
    let settings = &cx.shared.settings;
    cx.shared.saves.has_failed()
        && settings.stop_writes_on_bgsave_error.get()
        && !settings.save.get().0.is_empty()
        && (transactions::flags(cx) & flag::WRITE != 0 || cx.info.handler == Handler::Ping)
}

/// DEBUG may, in Redis; here it works on data that is not there yet.
fn is_allowed_loading(cx: &Context<'_>) -> bool {
    cx.info.flags & flag::LOADING != 0 && cx.info.name != "debug"
}

/// Whether a pause puts the request off. One that will be refused is not put off.
pub(crate) fn is_paused(shared: &Shared, session: &Session, request: Command<'_>) -> bool {
    let Some(what) = shared.paused() else { return false };
    let Ok(info) = table::find(request) else { return false };
    let is_write = info.flags & (flag::WRITE | flag::MAY_REPLICATE) != 0;
    let is_refused = !session.is_authenticated && info.flags & flag::NO_AUTH == 0;
    (what == Paused::All || is_write) && !is_refused
}

/// In RESP2 a subscriber's replies could not be told from messages.
fn is_allowed_subscribed(cx: &Context<'_>) -> bool {
    matches!(
        cx.info.handler,
        Handler::Subscribe
            | Handler::Unsubscribe
            | Handler::PSubscribe
            | Handler::PUnsubscribe
            | Handler::SSubscribe
            | Handler::SUnsubscribe
            | Handler::Ping
            | Handler::Quit
            | Handler::Reset
    )
}
