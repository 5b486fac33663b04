//! Transactions: MULTI, EXEC, WATCH and their like.
//!
//! What is queued is checked when it is queued, and run at EXEC inside one
//! [`Transaction`](ferrokit_redis::Transaction) over the keys of all commands and those that are
//! watched.

use ferrokit_engine::KeyspaceId;
use ferrokit_redis::{KeySet, Transaction, WatchList};

use super::client::tracking;
use super::table::{self, CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::resp::{OwnedCommand, parse_integer};
use crate::session::{Session, special};
use crate::shared::Shared;

const TRANSACTION: CommandInfo = CommandInfo {
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::ALLOW_BUSY,
    categories: category::TRANSACTION,
    group: "transactions",
    ..CommandInfo::DEFAULT
};

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "discard",
        since: "2.0.0",
        complexity: "O(N), when N is the number of queued commands",
        summary: "Discards a transaction.",
        handler: Handler::Discard,
        ..TRANSACTION
    },
    CommandInfo {
        name: "exec",
        flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::SKIP_SLOWLOG,
        since: "1.2.0",
        complexity: "Depends on commands in the transaction",
        summary: "Executes all commands in a transaction.",
        handler: Handler::Exec,
        ..TRANSACTION
    },
    CommandInfo {
        name: "multi",
        since: "1.2.0",
        summary: "Starts a transaction.",
        handler: Handler::Multi,
        ..TRANSACTION
    },
    CommandInfo {
        name: "unwatch",
        since: "2.2.0",
        summary: "Forgets about watched keys of a transaction.",
        handler: Handler::Unwatch,
        ..TRANSACTION
    },
    CommandInfo {
        name: "watch",
        arity: -2,
        keys: Keys::all(1, &["RO"]),
        since: "2.2.0",
        complexity: "O(1) for every key.",
        summary: "Monitors changes to keys to determine the execution of a transaction.",
        handler: Handler::Watch,
        ..TRANSACTION
    },
];

/// Bytes of queued requests, at most: what a client may make the server hold.
const QUEUE_BYTES_MAX: usize = 1 << 30;
/// What a queued request takes beside its arguments.
const QUEUED_BYTES: usize = size_of::<(&CommandInfo, OwnedCommand)>() + 32;

/// A session that watches keys, or queues commands.
#[derive(Default)]
pub(crate) struct Transacting {
    watched: WatchList,
    /// Keys were watched before the engine was open: nobody saw what became of them.
    has_watched_nothing: bool,
    /// After MULTI.
    queue: Option<Queue>,
}

impl Transacting {
    /// What the queue takes.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// What the watches take.
    pub(crate) fn watched_bytes(&self) -> usize {
        self.watched.bytes()
    }
}

#[derive(Default)]
struct Queue {
    requests: Vec<(&'static CommandInfo, OwnedCommand)>,
    bytes: usize,
    /// Of all requests.
    flags: u32,
    /// A command was refused: EXEC will run none.
    is_spoiled: bool,
}

/// Ends what a session has begun: its watches, its queue.
pub(crate) fn end(shared: &Shared, session: &mut Session) {
    if let Some(mut transacting) = session.transacting.take() {
        shared.store.unwatch(&mut transacting.watched);
    }
    session.client.show_queued(None);
}

fn queue_of(session: &mut Session) -> Option<&mut Queue> {
    session.transacting.as_mut()?.queue.as_mut()
}

/// After MULTI, makes the EXEC fail that is to come.
pub(super) fn spoil(session: &mut Session) {
    if let Some(queue) = queue_of(session) {
        queue.is_spoiled = true;
    }
}

/// What EXEC answers, and ends with, when it is itself refused.
pub(super) fn abort(cx: &mut Context<'_>, refusal: Refusal) -> Refusal {
    end(cx.shared, cx.session);
    cx.shared.note_refusal(&refusal);
    let text = refusal.into_text();
    let why = text.strip_prefix("ERR ").unwrap_or(&text);
    Refusal::Text(format!("EXECABORT Transaction discarded because of: {why}").into())
}

/// The flags of the command in hand; with EXEC, those of what it runs, too.
pub(super) fn flags(cx: &Context<'_>) -> u32 {
    let queue = cx.session.transacting.as_ref().and_then(|it| it.queue.as_ref());
    let of_queue = if cx.info.name == "exec" { queue.map_or(0, |it| it.flags) } else { 0 };
    cx.info.flags | of_queue
}

/// Whether the command in hand needs memory: for what it does, or for being kept until EXEC.
pub(super) fn needs_memory(cx: &Context<'_>) -> bool {
    flags(cx) & flag::DENYOOM != 0 || is_to_be_queued(cx)
}

/// Whether the command in hand waits for EXEC.
#[inline]
pub(super) fn is_to_be_queued(cx: &Context<'_>) -> bool {
    let is_queueing = cx.session.transacting.as_ref().is_some_and(|it| it.queue.is_some());
    is_queueing
        && !matches!(cx.info.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

/// Puts off the command in hand until EXEC.
pub(super) fn queue(cx: &mut Context<'_>) -> Outcome {
    let Some(queue) = queue_of(cx.session) else { return Ok(()) };
    if cx.info.flags & flag::NO_MULTI != 0 {
        queue.is_spoiled = true;
        return Err(Refusal::text("ERR Command not allowed inside a transaction"));
    }
    let request = cx.args.to_owned();
    queue.bytes += request.bytes() + QUEUED_BYTES;
    if queue.bytes > QUEUE_BYTES_MAX {
        *queue = Queue { is_spoiled: true, ..Queue::default() };
        return Err(Refusal::text("ERR the transaction is too large: its commands are over 1 GiB"));
    }
    queue.requests.push((cx.info, request));
    queue.flags |= cx.info.flags;
    let queued = queue.requests.len();
    cx.session.client.show_queued(Some(queued));
    cx.reply.status("QUEUED");
    Ok(())
}

pub(super) fn multi(cx: &mut Context<'_>) -> Outcome {
    let transacting = cx.session.transacting.get_or_insert_default();
    if transacting.queue.is_some() {
        return Err(Refusal::text("ERR MULTI calls can not be nested"));
    }
    transacting.queue = Some(Queue::default());
    cx.session.client.show_queued(Some(0));
    cx.reply.ok();
    Ok(())
}

pub(super) fn discard(cx: &mut Context<'_>) -> Outcome {
    if queue_of(cx.session).is_none() {
        return Err(Refusal::text("ERR DISCARD without MULTI"));
    }
    end(cx.shared, cx.session);
    cx.reply.ok();
    Ok(())
}

pub(super) async fn watch(cx: &mut Context<'_>) -> Outcome {
    let is_loading = cx.shared.is_loading();
    let transacting = cx.session.transacting.get_or_insert_default();
    if transacting.queue.is_some() {
        return Err(Refusal::text("ERR WATCH inside MULTI is not allowed"));
    }
    transacting.has_watched_nothing |= is_loading;
    for key in cx.args.from(1) {
        let watched = &mut transacting.watched;
        cx.shared.store.watch(watched, cx.session.keyspace, key, cx.db.tally()).await?;
    }
    cx.reply.ok();
    Ok(())
}

/// Outside MULTI ends the watches; inside, it is too late for them to matter.
pub(super) fn unwatch(cx: &mut Context<'_>) -> Outcome {
    if let Some(transacting) = &mut cx.session.transacting {
        cx.shared.store.unwatch(&mut transacting.watched);
        transacting.has_watched_nothing = false;
    }
    cx.reply.ok();
    Ok(())
}

pub(super) async fn exec(cx: &mut Context<'_>) -> Outcome {
    let shared = cx.shared;
    if queue_of(cx.session).is_none() {
        return Err(Refusal::text("ERR EXEC without MULTI"));
    }
    let mut transacting = cx.session.transacting.take().unwrap_or_default();
    let queue = transacting.queue.take().unwrap_or_default();
    cx.session.client.show_queued(None);
    let watched = &mut transacting.watched;
    if queue.is_spoiled {
        shared.store.unwatch(watched);
        return Err(Refusal::text("EXECABORT Transaction discarded because of previous errors."));
    }
    let keys = keys_of(cx, &queue, watched);
    let mut transaction = Transaction::begin(&shared.store, keys).await;
    let is_touched =
        watched.is_touched(shared.now()) || transacting.has_watched_nothing && !shared.is_loading();
    shared.store.unwatch(watched);
    if is_touched {
        cx.reply.null_array();
        return Ok(());
    }
    cx.reply.array(queue.requests.len());
    cx.session.set_special(special::EXECUTING, true);
    for (info, request) in &queue.requests {
        let keyspace = cx.session.keyspace;
        let mut inner = Context {
            shared,
            db: cx.db.at(keyspace).inside(transaction.overlay()),
            session: &mut *cx.session,
            reply: &mut *cx.reply,
            scratch: &mut *cx.scratch,
            args: request.as_command(),
            info,
        };
        super::run(&mut inner).await;
    }
    cx.session.set_special(special::EXECUTING, false);
    let client = ferrokit_redis::ClientId(cx.session.client.id);
    let own_reads = tracking::split_own_reads(cx, transaction.overlay());
    let outcome = transaction.publish(client, cx.db.tally()).await;
    // The keys are still locked.
    tracking::remember_own_reads(cx, &own_reads);
    drop(transaction);
    outcome
}

/// The keys that the queued commands may touch, and those that are watched.
fn keys_of(cx: &Context<'_>, queue: &Queue, watched: &WatchList) -> KeySet {
    let mut keyspace = cx.session.keyspace;
    let mut keys: Vec<(KeyspaceId, &[u8])> = watched.keys().collect();
    for (info, request) in &queue.requests {
        let args = request.as_command();
        if info.name == "select" {
            let number = args.get(1).and_then(parse_integer).unwrap_or(-1);
            keyspace = cx.shared.store.database(number).unwrap_or(keyspace);
        } else if touches_any_key(info) {
            return KeySet::all();
        } else {
            keys.extend(table::keys(info, args).map(|key| (keyspace, key)));
        }
    }
    KeySet::of(keys)
}

/// Whether a command's arguments do not tell the keys it touches.
fn touches_any_key(info: &CommandInfo) -> bool {
    let is_of_keyspace = info.all_categories() & category::KEYSPACE != 0;
    let has_no_keys = info.keys.first == 0;
    has_no_keys && (is_of_keyspace || info.flags & flag::WRITE != 0)
        || matches!(info.name, "copy" | "move" | "sort" | "sort_ro")
}
