//! Checkpoints and the end: SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE, SHUTDOWN.

use ferrokit_engine::ErrorKind;

use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::saves::Purpose;
use crate::shutdown::ShutdownFlags;

const SAVE: CommandInfo =
    CommandInfo { flags: flag::ADMIN | flag::NOSCRIPT, ..CommandInfo::DEFAULT };

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "bgrewriteaof",
        flags: flag::NO_ASYNC_LOADING | flag::ADMIN | flag::NOSCRIPT,
        summary: "Asynchronously rewrites the append-only file to disk.",
        handler: Handler::BgRewriteAof,
        ..SAVE
    },
    CommandInfo {
        name: "bgsave",
        arity: -1,
        flags: flag::NO_ASYNC_LOADING | flag::ADMIN | flag::NOSCRIPT,
        summary: "Asynchronously saves the database(s) to disk.",
        handler: Handler::BgSave,
        ..SAVE
    },
    CommandInfo {
        name: "lastsave",
        flags: flag::LOADING | flag::STALE | flag::FAST,
        categories: category::ADMIN | category::DANGEROUS,
        tips: &["nondeterministic_output"],
        summary: "Returns the Unix timestamp of the last successful save to disk.",
        handler: Handler::LastSave,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "save",
        flags: flag::NO_ASYNC_LOADING | flag::ADMIN | flag::NOSCRIPT | flag::NO_MULTI,
        complexity: "O(N) where N is the total number of keys in all databases",
        summary: "Synchronously saves the database(s) to disk.",
        handler: Handler::Save,
        ..SAVE
    },
    CommandInfo {
        name: "shutdown",
        arity: -1,
        flags: flag::ADMIN
            | flag::NOSCRIPT
            | flag::LOADING
            | flag::STALE
            | flag::NO_MULTI
            | flag::ALLOW_BUSY,
        complexity: "O(1), or that of SAVE.",
        summary: "Synchronously saves the database(s) to disk and shuts down the Redis server.",
        handler: Handler::Shutdown,
        ..CommandInfo::DEFAULT
    },
];

const SAVING: Refusal = Refusal::text("ERR Background save already in progress");
const NO_SPACE: Refusal =
    Refusal::text("MISCONF There is no space left for the checkpoint. The server's log says more.");
const REWRITING: &str = "ERR Background append only file rewriting already in progress";

pub(super) async fn save(cx: &mut Context<'_>) -> Outcome {
    let outcome = cx.shared.begin_save(Purpose::Save).map_err(|_| SAVING)?;
    // The thread is gone only if there was none.
    match outcome.await.map_err(|_| Refusal::text("ERR no thread for a checkpoint"))? {
        Ok(()) => cx.reply.ok(),
        // Of the checkpoint's device; that of the data may be another.
        Err(error) if error.kind() == ErrorKind::OutOfSpace => return Err(NO_SPACE),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// BGSAVE [SCHEDULE].
pub(super) fn bg_save(cx: &mut Context<'_>) -> Outcome {
    let schedules = match cx.args.get(1) {
        None => false,
        Some(word) if cx.args.len() == 2 && word.eq_ignore_ascii_case(b"schedule") => true,
        Some(_) => return Err(Refusal::SYNTAX),
    };
    check_capability(cx)?;
    match cx.shared.begin_save(Purpose::Save) {
        Ok(_) => cx.reply.status("Background saving started"),
        Err(Purpose::Save) => return Err(SAVING),
        Err(Purpose::Rewrite) if schedules => {
            cx.shared.saves.schedule();
            cx.reply.status("Background saving scheduled");
        }
        Err(Purpose::Rewrite) => {
            return Err(Refusal::text(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE \
                 SCHEDULE in order to schedule a BGSAVE whenever possible.",
            ));
        }
    }
    Ok(())
}

/// Has the engine write what is in its log to its tables, so that the log becomes short.
pub(super) fn bg_rewrite_aof(cx: &mut Context<'_>) -> Outcome {
    check_capability(cx)?;
    match cx.shared.begin_save(Purpose::Rewrite) {
        Ok(_) => cx.reply.status("Background append only file rewriting started"),
        Err(Purpose::Rewrite) => return Err(Refusal::text(REWRITING)),
        Err(Purpose::Save) => return Err(SAVING),
    }
    Ok(())
}

fn check_capability(cx: &Context<'_>) -> Outcome {
    if cx.shared.engine.as_checkpoint().is_some() {
        return Ok(());
    }
    let engine = cx.shared.engine.capabilities().engine;
    Err(Refusal::Text(format!("ERR the engine {engine} takes no checkpoints").into()))
}

pub(super) fn last_save(cx: &mut Context<'_>) -> Outcome {
    cx.reply.integer(i64::try_from(cx.shared.saves.last_at()).unwrap_or(i64::MAX));
    Ok(())
}

/// SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] [ABORT]: ends the server in order, without a reply. Closing
/// the engine makes the log durable; a checkpoint is taken if that was asked for, or by default if
/// there are points of time for them.
pub(super) async fn shutdown(cx: &mut Context<'_>) -> Outcome {
    let mut flags = ShutdownFlags::default();
    for option in cx.args.from(1) {
        if option.eq_ignore_ascii_case(b"abort") && cx.args.len() == 2 {
            return abort(cx);
        }
        flags.add(option).map_err(|_| Refusal::SYNTAX)?;
    }
    if flags.is_contradictory() {
        return Err(Refusal::SYNTAX);
    }
    tracing::info!(client = %cx.session.client.peer, "a client asks the server to stop");
    if !cx.shared.prepare_shutdown(flags).await {
        return Err(Refusal::text("ERR Errors trying to SHUTDOWN. Check logs."));
    }
    cx.shared.request_shutdown();
    cx.session.is_closing = true;
    Ok(())
}

fn abort(cx: &mut Context<'_>) -> Outcome {
    if !cx.shared.abort_shutdown() {
        return Err(Refusal::text("ERR No shutdown in progress."));
    }
    cx.reply.ok();
    Ok(())
}
