//! The commands: one table, one file per group.
//!
//! Dispatch and COMMAND answer from the same rows. A handler writes its reply straight into the
//! connection's buffer; when it refuses, what it wrote is taken back and the refusal is the reply.
//! Handlers are async functions called through one `match`: one whose answers are ready runs
//! through without a future being boxed.

mod acl;
mod bitmaps;
mod client;
mod cluster;
mod command;
mod config;
mod connection;
mod counters;
mod databases;
mod debug;
mod docs;
mod expire_time;
mod expiry;
mod functions;
mod gate;
mod help;
mod hyperloglog;
mod info;
mod key_specs;
mod keys;
mod keyspace;
mod latency;
mod lcs;
mod memory;
mod metering;
mod monitor;
mod object;
mod payloads;
mod pubsub;
mod replication;
mod saves;
mod scan;
mod server;
mod slow_log;
mod sort;
mod strings;
mod table;
mod transactions;

use std::borrow::Cow;

use ferrokit_redis::{ClientId, Db, Refusal, Tally};

use crate::client::flag as client_flag;
use crate::resp::{Command, Reply, parse_integer};
use crate::session::{Session, special as session_special};
use crate::shared::{Shared, special};
use crate::stats::WorkerStats;
use crate::workspace::Scratch;

pub(crate) use client::tracking::disable as disable_tracking;
pub(crate) use gate::is_paused;
pub(crate) use metering::{begin_batch, count_gets, end_batch, note_slow};
pub(crate) use strings::get_run;
use table::CommandInfo;
pub(crate) use table::by_number;
pub(crate) use transactions::{Transacting, end as end_transaction};

/// What a command works with.
pub(crate) struct Context<'c> {
    pub(crate) shared: &'c Shared,
    pub(crate) session: &'c mut Session,
    /// The session's database, inside the transaction under way, if there is one.
    pub(crate) db: Db<'c>,
    pub(crate) reply: &'c mut Reply,
    pub(crate) scratch: &'c mut Scratch,
    pub(crate) args: Command<'c>,
    /// The row of the command in hand.
    info: &'static CommandInfo,
}

impl<'c> Context<'c> {
    pub(crate) fn new(
        shared: &'c Shared,
        session: &'c mut Session,
        tally: &'c mut Tally,
        reply: &'c mut Reply,
        scratch: &'c mut Scratch,
        args: Command<'c>,
    ) -> Self {
        let db = db_of(shared, session, tally);
        Self { shared, session, db, reply, scratch, args, info: table::UNKNOWN }
    }

    fn stats(&self) -> &'c WorkerStats {
        &self.shared.stats[self.session.worker]
    }

    /// Argument `index` as an integer.
    fn integer(&self, index: usize) -> Result<i64, Refusal> {
        parse_integer(self.args.at(index)).ok_or(Refusal::NOT_AN_INTEGER)
    }
}

/// The database of a session. What a client reads after CLIENT NO-TOUCH is not taken for used.
#[inline]
pub(crate) fn db_of<'c>(shared: &'c Shared, session: &Session, tally: &'c mut Tally) -> Db<'c> {
    let mut db = shared.store.db(session.keyspace, ClientId(session.client.id), tally);
    if session.client.is(client_flag::NO_TOUCH) {
        db.set_touching(false);
    }
    db
}

/// A command's end: its reply is written, or it is refused.
type Outcome = Result<(), Refusal>;

/// Runs one request and writes its reply, or queues it.
pub(crate) async fn execute(cx: &mut Context<'_>) {
    let outcome = match table::find(cx.args) {
        Ok(info) => {
            cx.info = info;
            cx.session.client.set_last_command(info.name);
            let admitted = if let Err(refusal) = gate::admit(cx) {
                Err(refusal)
            } else if !cx.shared.is_within_data_limit() {
                make_room(cx).await
            } else {
                Ok(())
            };
            match admitted {
                Err(refusal) if info.handler == Handler::Exec => {
                    Err(transactions::abort(cx, refusal))
                }
                Err(refusal) => {
                    transactions::spoil(cx.session);
                    Err(refusal)
                }
                Ok(()) if !transactions::is_to_be_queued(cx) => return run(cx).await,
                Ok(()) => transactions::queue(cx),
            }
        }
        Err(_) if is_http(cx.args.at(0)) => {
            let client = &cx.session.client.peer;
            tracing::warn!(%client, "disconnected: it speaks HTTP, somebody may misuse a browser");
            cx.session.is_closing = true;
            return;
        }
        Err(refusal) if cx.args.at(0).eq_ignore_ascii_case(b"exec") => {
            Err(transactions::abort(cx, refusal))
        }
        Err(refusal) => {
            transactions::spoil(cx.session);
            Err(refusal)
        }
    };
    if let Err(refusal) = outcome {
        metering::count_rejected(cx);
        let mark = cx.reply.mark();
        refuse(cx, mark, refusal);
    }
}

/// Runs the command in hand, whose row was found, and writes its reply.
async fn run(cx: &mut Context<'_>) {
    let mark = cx.reply.mark();
    if cx.session.special & session_special::TRACKING != 0 {
        client::tracking::remember(cx);
    }
    let timing = metering::begin(cx);
    let outcome = cx.info.handler.run(cx).await;
    metering::end(cx, &timing, &outcome);
    if let Err(refusal) = outcome {
        refuse(cx, mark, refusal);
    }
    if cx.shared.special() & special::MONITORED != 0 {
        monitor::show(cx);
    }
}

/// Evicts until the data is within its limit. Where that fails the command in hand is refused if it
/// needs memory.
#[cold]
async fn make_room(cx: &mut Context<'_>) -> Outcome {
    // Boxed: it would make every connection larger.
    let has_room = Box::pin(cx.shared.make_room(cx.db.tally())).await;
    let client = &cx.session.client;
    if client.has_pushes() && cx.session.special & session_special::REPLIES == 0 {
        // What was evicted is told before the reply, which may show it anew.
        client.take_pushes(cx.reply);
        cx.session.has_pushed = true;
    }
    if !transactions::needs_memory(cx) || has_room? {
        return Ok(());
    }
    Err(Refusal::text("OOM command not allowed when used memory > 'maxmemory'."))
}

#[cold]
fn refuse(cx: &mut Context<'_>, mark: usize, refusal: Refusal) {
    cx.shared.note_refusal(&refusal);
    let text = refusal.into_text();
    cx.stats().count_errors(&text, 1);
    cx.reply.rewind(mark);
    cx.reply.error(&text);
}

/// How much of an argument an error shows.
const SHOWN_BYTES: usize = 128;

/// An argument as an error shows it.
fn shown(argument: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(argument.get(..SHOWN_BYTES).unwrap_or(argument))
}

/// Whether a "command" is a line of an HTTP request: somebody makes a browser talk to us.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// Declares the handlers: `now` ones are plain functions, `op` ones async, `boxed` ones async and
/// rare or large, so that they do not make every connection larger.
macro_rules! handlers {
    ($($variant:ident => $kind:ident $($path:ident)::+,)*) => {
        /// The code behind a row of the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Handler { $($variant,)* }

        impl Handler {
            #[inline]
            async fn run(self, cx: &mut Context<'_>) -> Outcome {
                match self {
                    $(Self::$variant => handlers!(@$kind cx $($path)::+),)*
                }
            }
        }
    };
    (@now $cx:ident $path:path) => { $path($cx) };
    (@op $cx:ident $path:path) => { $path($cx).await };
    (@boxed $cx:ident $path:path) => { Box::pin($path($cx)).await };
}

handlers! {
    AclCat => now acl::cat,
    AclHelp => now acl::show_help,
    AclList => now acl::list,
    AclUsers => now acl::users,
    AclWhoAmI => now acl::who_am_i,
    Append => op strings::append,
    Auth => now connection::auth,
    BgRewriteAof => now saves::bg_rewrite_aof,
    BgSave => now saves::bg_save,
    BitCount => op bitmaps::bit_count,
    BitField => boxed bitmaps::bit_field,
    BitFieldRo => boxed bitmaps::bit_field_ro,
    BitOp => boxed bitmaps::bit_op,
    BitPos => op bitmaps::bit_pos,
    ClientCaching => now client::tracking::caching,
    ClientGetName => now client::get_name,
    ClientGetRedir => now client::tracking::get_redirection,
    ClientHelp => now client::show_help,
    ClientId => now client::id,
    ClientInfo => now client::peers::info,
    ClientKill => now client::peers::kill,
    ClientList => now client::peers::list,
    ClientNoEvict => now client::no_evict,
    ClientNoTouch => now client::no_touch,
    ClientPause => now client::peers::pause,
    ClientReply => now client::reply,
    ClientSetInfo => now client::set_info,
    ClientSetName => now client::set_name,
    ClientTracking => now client::tracking::tracking,
    ClientTrackingInfo => now client::tracking::info,
    ClientUnblock => now client::peers::unblock,
    ClientUnpause => now client::peers::unpause,
    ClusterHelp => now cluster::show_help,
    ClusterOff => now cluster::off,
    Command => now command::all,
    CommandCount => now command::count,
    CommandDocs => now command::docs,
    CommandGetKeys => now command::get_keys,
    CommandGetKeysAndFlags => now command::get_keys_and_flags,
    CommandHelp => now command::show_help,
    CommandInfo => now command::info,
    CommandList => now command::list,
    ConfigGet => now config::get,
    ConfigHelp => now config::help,
    ConfigResetStat => now config::reset_stat,
    ConfigRewrite => boxed config::rewrite,
    ConfigSet => boxed config::set,
    Container => now command::container,
    Copy => boxed keys::copy,
    DbSize => op databases::db_size,
    Debug => boxed debug::debug,
    Decr => op counters::decr,
    DecrBy => op counters::decr_by,
    Del => boxed keys::del,
    Discard => now transactions::discard,
    Dump => op payloads::dump,
    Echo => now connection::echo,
    Exec => boxed transactions::exec,
    Exists => op keys::exists,
    Expire => op expiry::expire,
    ExpireAt => op expiry::expire_at,
    ExpireTime => op expiry::expire_time,
    FlushAll => boxed databases::flush_all,
    FlushDb => boxed databases::flush_db,
    FunctionDelete => now functions::delete,
    FunctionFlush => now functions::flush,
    FunctionHelp => now functions::show_help,
    FunctionKill => now functions::kill,
    FunctionList => now functions::list,
    FunctionStats => now functions::stats,
    Get => op strings::get,
    GetBit => op bitmaps::get_bit,
    GetDel => op strings::get_del,
    GetEx => op strings::get_ex,
    GetRange => op strings::get_range,
    GetSet => op strings::get_set,
    Hello => now connection::hello,
    Incr => op counters::incr,
    IncrBy => op counters::incr_by,
    IncrByFloat => boxed counters::incr_by_float,
    Info => boxed info::info,
    Keys => boxed keyspace::keys,
    LastSave => now saves::last_save,
    LatencyDoctor => now latency::doctor,
    LatencyGraph => now latency::graph,
    LatencyHelp => now latency::show_help,
    LatencyHistogram => now latency::histogram,
    LatencyHistory => now latency::history,
    LatencyLatest => now latency::latest,
    LatencyReset => now latency::reset,
    Lcs => boxed lcs::lcs,
    Lolwut => now server::lolwut,
    MemoryDoctor => now memory::doctor,
    MemoryHelp => now memory::show_help,
    MemoryMallocStats => now memory::malloc_stats,
    MemoryPurge => now memory::purge,
    MemoryStats => boxed memory::stats,
    MemoryUsage => boxed memory::usage,
    MGet => op strings::mget,
    Monitor => now monitor::monitor,
    Move => boxed keys::move_key,
    MSet => boxed strings::mset,
    MSetNx => boxed strings::mset_nx,
    Multi => now transactions::multi,
    ObjectEncoding => op object::encoding,
    ObjectFreq => op object::freq,
    ObjectHelp => now object::show_help,
    ObjectIdleTime => op object::idle_time,
    ObjectRefCount => op object::ref_count,
    Persist => op expiry::persist,
    PExpire => op expiry::pexpire,
    PExpireAt => op expiry::pexpire_at,
    PExpireTime => op expiry::pexpire_time,
    PfAdd => boxed hyperloglog::pf_add,
    PfCount => boxed hyperloglog::pf_count,
    PfDebug => boxed hyperloglog::pf_debug,
    PfMerge => boxed hyperloglog::pf_merge,
    PfSelfTest => now hyperloglog::pf_self_test,
    Ping => now connection::ping,
    PSetEx => op strings::pset_ex,
    PSubscribe => now pubsub::psubscribe,
    Pttl => op expiry::pttl,
    Publish => now pubsub::publish,
    PubSubChannels => now pubsub::channels,
    PubSubHelp => now pubsub::show_help,
    PubSubNumPat => now pubsub::num_pat,
    PubSubNumSub => now pubsub::num_sub,
    PubSubShardChannels => now pubsub::shard_channels,
    PubSubShardNumSub => now pubsub::shard_num_sub,
    PUnsubscribe => now pubsub::punsubscribe,
    Quit => now connection::quit,
    RandomKey => boxed keyspace::random_key,
    Rename => boxed keys::rename,
    RenameNx => boxed keys::rename_nx,
    ReplicaOf => now replication::replica_of,
    Reset => now connection::reset,
    Restore => boxed payloads::restore,
    Role => now replication::role,
    Save => boxed saves::save,
    Scan => boxed scan::scan,
    Select => now databases::select,
    Set => op strings::set,
    SetBit => op bitmaps::set_bit,
    SetEx => op strings::set_ex,
    SetNx => op strings::set_nx,
    SetRange => op strings::set_range,
    Shutdown => boxed saves::shutdown,
    SlowLogGet => now slow_log::get,
    SlowLogHelp => now slow_log::show_help,
    SlowLogLen => now slow_log::len,
    SlowLogReset => now slow_log::reset,
    Sort => boxed sort::sort,
    SortRo => boxed sort::sort_ro,
    SPublish => now pubsub::spublish,
    SSubscribe => now pubsub::ssubscribe,
    StrLen => op strings::str_len,
    Subscribe => now pubsub::subscribe,
    SUnsubscribe => now pubsub::sunsubscribe,
    SwapDb => boxed databases::swap_db,
    Time => now server::time,
    Touch => op keys::touch,
    Ttl => op expiry::ttl,
    Type => op keys::key_type,
    Unsubscribe => now pubsub::unsubscribe,
    Unwatch => now transactions::unwatch,
    Wait => now replication::wait,
    WaitAof => boxed replication::wait_aof,
    Watch => boxed transactions::watch,
}
