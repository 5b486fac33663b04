//! The commands: one table, one file per group.
//!
//! Dispatch and COMMAND answer from the same rows. A handler writes its reply straight into the
//! connection's buffer; when it refuses, what it wrote is taken back and the refusal is the reply.
//! Handlers are async functions called through one `match`: one whose answers are ready runs
//! through without a future being boxed.

mod client;
mod command;
mod config;
mod connection;
mod counters;
mod databases;
mod expire_time;
mod expiry;
mod info;
mod keys;
mod scan;
mod server;
mod strings;
mod table;

use std::borrow::Cow;

use ferrokit_engine::{Error, ErrorKind, Op, Update, Written};

use crate::resp::{Command, Reply, parse_integer};
use crate::session::Session;
use crate::shared::Shared;
use crate::stats::WorkerStats;
use crate::workspace::Scratch;

pub(crate) use strings::get_run;
use table::CommandInfo;

/// What a command works with.
pub(crate) struct Context<'c> {
    pub(crate) shared: &'c Shared,
    pub(crate) session: &'c mut Session,
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
        reply: &'c mut Reply,
        scratch: &'c mut Scratch,
        args: Command<'c>,
    ) -> Self {
        Self { shared, session, reply, scratch, args, info: table::UNKNOWN }
    }

    fn stats(&self) -> &'c WorkerStats {
        &self.shared.stats[self.session.worker]
    }

    /// Begins an update of a key of the session's database.
    fn update<'a>(&self, key: &'a [u8], change: &'a mut Change<'a>) -> Op<'a, Written>
    where
        'c: 'a,
    {
        let shared = self.shared;
        shared.engine.update(self.session.keyspace, key, &shared.write_options(), change)
    }

    /// Counts a read of keys.
    fn count_reads(&self, found: usize, missed: usize) {
        let stats = self.stats();
        if found > 0 {
            stats.keyspace_hits.add(found as u64);
        }
        if missed > 0 {
            stats.keyspace_misses.add(missed as u64);
        }
    }

    /// Argument `index` as an integer.
    fn integer(&self, index: usize) -> Result<i64, Refusal> {
        parse_integer(self.args.at(index)).ok_or(Refusal::NOT_AN_INTEGER)
    }
}

/// What an update does to an entry; see [`KvEngine::update`](ferrokit_engine::KvEngine::update).
type Change<'a> = dyn FnMut(Option<ferrokit_engine::Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a;

/// A command's end: its reply is written, or it is refused.
type Outcome = Result<(), Refusal>;

/// Why a command was refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// In these words, the code first.
    Text(Cow<'static, str>),
    /// By the engine.
    Engine(Error),
}

impl Refusal {
    const SYNTAX: Self = Self::Text(Cow::Borrowed("ERR syntax error"));
    const NOT_AN_INTEGER: Self =
        Self::Text(Cow::Borrowed("ERR value is not an integer or out of range"));
    const NOT_A_FLOAT: Self = Self::Text(Cow::Borrowed("ERR value is not a valid float"));
    const NO_SUCH_DATABASE: Self = Self::Text(Cow::Borrowed("ERR DB index is out of range"));

    const fn text(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// As a client sees it.
    fn into_text(self) -> Cow<'static, str> {
        match self {
            Self::Text(text) => text,
            Self::Engine(error) => engine_error_text(&error).into(),
        }
    }

    fn wrong_arity(name: &str) -> Self {
        Self::Text(format!("ERR wrong number of arguments for '{name}' command").into())
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// An engine's error as a client sees it.
pub(crate) fn engine_error_text(error: &Error) -> String {
    let code = match error.kind() {
        ErrorKind::Poisoned | ErrorKind::Corruption | ErrorKind::Io => "MISCONF",
        ErrorKind::OutOfSpace => "OOM",
        ErrorKind::Busy | ErrorKind::Conflict => "TRYAGAIN",
        _ => "ERR",
    };
    format!("{code} {error}")
}

/// Runs one request and writes its reply.
pub(crate) async fn execute(cx: &mut Context<'_>) {
    let mark = cx.reply.mark();
    let outcome = match table::find(cx.args) {
        Ok(info) => {
            cx.info = info;
            cx.session.client.set_last_command(info.name);
            info.handler.run(cx).await
        }
        Err(_) if is_http(cx.args.at(0)) => {
            let client = &cx.session.client.peer;
            tracing::warn!(%client, "disconnected: it speaks HTTP, somebody may misuse a browser");
            cx.session.is_closing = true;
            return;
        }
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = outcome {
        cx.stats().errors.add(1);
        cx.reply.rewind(mark);
        cx.reply.error(&refusal.into_text());
    }
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
    Append => op strings::append,
    ClientGetName => now client::get_name,
    ClientId => now client::id,
    ClientInfo => now client::info,
    ClientList => now client::list,
    ClientNoEvict => now client::no_evict,
    ClientReply => now client::reply,
    ClientSetInfo => now client::set_info,
    ClientSetName => now client::set_name,
    Command => now command::all,
    CommandCount => now command::count,
    CommandDocs => now command::docs,
    CommandGetKeys => now command::get_keys,
    CommandInfo => now command::info,
    CommandList => now command::list,
    ConfigGet => now config::get,
    ConfigResetStat => now config::reset_stat,
    ConfigRewrite => now config::rewrite,
    ConfigSet => now config::set,
    Container => now command::container,
    DbSize => op databases::db_size,
    Decr => op counters::decr,
    DecrBy => op counters::decr_by,
    Del => op keys::del,
    Echo => now connection::echo,
    Exists => op keys::exists,
    Expire => op expiry::expire,
    ExpireAt => op expiry::expire_at,
    ExpireTime => op expiry::expire_time,
    FlushAll => boxed databases::flush_all,
    FlushDb => op databases::flush_db,
    Get => op strings::get,
    GetDel => op strings::get_del,
    GetEx => op strings::get_ex,
    GetRange => op strings::get_range,
    GetSet => op strings::get_set,
    Hello => now connection::hello,
    Incr => op counters::incr,
    IncrBy => op counters::incr_by,
    IncrByFloat => boxed counters::incr_by_float,
    Info => boxed info::info,
    MGet => op strings::mget,
    MSet => op strings::mset,
    PExpire => op expiry::pexpire,
    PExpireAt => op expiry::pexpire_at,
    PExpireTime => op expiry::pexpire_time,
    PSetEx => op strings::pset_ex,
    Persist => op expiry::persist,
    Ping => now connection::ping,
    Pttl => op expiry::pttl,
    Quit => now connection::quit,
    Reset => now connection::reset,
    Auth => now connection::auth,
    Scan => boxed scan::scan,
    Select => now databases::select,
    Set => op strings::set,
    SetEx => op strings::set_ex,
    SetNx => op strings::set_nx,
    Shutdown => now server::shutdown,
    StrLen => op strings::str_len,
    SwapDb => op databases::swap_db,
    Time => now server::time,
    Ttl => op expiry::ttl,
    Type => op keys::key_type,
}
