//! [`Batch`]: the whole requests of an input, run one after the other.
//!
//! Before other requests are run, the engine is told of their keys and of those of the requests
//! behind them, so that it can fetch ahead.
//!
//! GETs that follow each other are put off and run together, so that the engine can overlap their
//! waits. Such a run is kept within the soft bound of unsent replies: where the values are larger
//! than that, it is given up before anything of it was answered, and shorter runs follow.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;

use ferrokit_redis::Tally;

use crate::commands::{self, Context};
use crate::observe::Taken;
use crate::resp::{Arguments, ParseLimits, Parsed, parse_within};
use crate::session::{Session, special};
use crate::shared::special as shared_special;
use crate::turns::Turn;
use crate::worker::Worker;
use crate::workspace::Workspace;

/// A batch pauses to send when it has written so many bytes of replies.
const SEND_AT_BYTES: usize = 256 << 10;
/// Keys of one batched read, as long as their values are of usual size.
pub(crate) const GETS_MAX: usize = 64;
/// Requests that are looked at ahead of their turn, and the longest such.
const AHEAD_MAX: usize = 16;
const AHEAD_BYTES_MAX: usize = 1 << 10;
/// Arguments of a request, and their length, before a client has said who it is.
const ARGUMENTS_BEFORE_AUTH: u32 = 10;
const BYTES_BEFORE_AUTH: u32 = 16 << 10;

/// What a batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// All whole requests were run; the next one ends at `needed` unread bytes or later.
    All { needed: usize },
    /// There may be more whole requests, but replies should be sent first, or others have their turn.
    Paused,
    /// The next request is put off by CLIENT PAUSE.
    Held,
    /// The session is over, once its replies are sent.
    Over,
}

/// The requests of one input.
pub(crate) struct Batch<'b> {
    worker: &'b Rc<Worker>,
    session: &'b mut Session,
    workspace: &'b mut Workspace,
    turn: &'b mut Turn,
    /// The end of the replies before this batch.
    mark: usize,
    /// How much of the unread input was run.
    pub(crate) offset: usize,
    /// Where the last request that was run begins.
    last: usize,
    pub(crate) commands: u64,
    /// How many of them were answered.
    pub(crate) replies: usize,
    /// Pushes are among the replies.
    pub(crate) has_pushes: bool,
    /// How much of the input behind `offset` was parsed and put off: a run of GETs.
    deferred: usize,
    /// Up to where requests were looked at ahead of their turn.
    looked_at: usize,
    /// What the requests came to beyond their replies.
    pub(crate) tally: Tally,
}

impl<'b> Batch<'b> {
    pub(crate) fn new(
        worker: &'b Rc<Worker>,
        session: &'b mut Session,
        workspace: &'b mut Workspace,
        turn: &'b mut Turn,
    ) -> Self {
        workspace.gets.clear();
        let mark = workspace.reply.mark();
        Self {
            worker,
            session,
            workspace,
            turn,
            mark,
            offset: 0,
            last: 0,
            commands: 0,
            replies: 0,
            has_pushes: false,
            deferred: 0,
            looked_at: 0,
            tally: Tally::default(),
        }
    }

    pub(crate) async fn run(&mut self) -> Ran {
        let now = commands::begin_batch(&self.worker.shared, self.session);
        self.turn.begin_batch(now);
        let has_waited = Cell::new(false);
        let ran = {
            let mut run_all = pin!(self.run_all(&has_waited));
            poll_fn(|cx| {
                let polled = run_all.as_mut().poll(cx);
                if polled.is_pending() {
                    has_waited.set(true);
                }
                polled
            })
            .await
        };
        self.settle_wait(&has_waited);
        if let Some(taken) = commands::end_batch(&self.worker.shared, self.session) {
            self.note_slow(taken);
        }
        self.turn.end_batch(self.session.meter.seen());
        ran
    }

    /// Takes note of the last command, which took long: its request is parsed once more.
    #[cold]
    fn note_slow(&mut self, taken: Taken) {
        let Workspace { input, arguments, .. } = &mut *self.workspace;
        let request = input.unread().get(self.last..).unwrap_or_default();
        arguments.reset();
        let limits = self.worker.shared.parse_limits();
        if let Ok(Parsed::Request { .. }) = parse_within(&limits, request, arguments) {
            let args = arguments.command(request);
            commands::note_slow(&self.worker.shared, self.session, taken, args);
        }
        arguments.reset();
    }

    /// A wait for the engine, when others went on, is no part of the turn.
    #[inline]
    fn settle_wait(&mut self, has_waited: &Cell<bool>) {
        if has_waited.take() {
            self.turn.resume(self.worker.shared.host.env.clock.monotonic());
        }
    }

    async fn run_all(&mut self, has_waited: &Cell<bool>) -> Ran {
        let mut limits = self.limits();
        loop {
            self.settle_wait(has_waited);
            // Only what this batch wrote counts: replies the client does not take yet are no reason
            // to stop short of the soft bound, again and again.
            let written = self.workspace.reply.mark() - self.mark;
            if self.turn.is_over_at(self.session.meter.seen()) || written > SEND_AT_BYTES {
                self.run_gets().await;
                return Ran::Paused;
            }
            let Workspace { input, arguments, gets, .. } = &mut *self.workspace;
            let unread = input.unread().get(self.offset + self.deferred..).unwrap_or_default();
            let special = self.worker.shared.special();
            let may_defer = special == 0 && self.session.may_defer_gets();
            let parsed = parse_within(&limits, unread, arguments);
            if let Ok(Parsed::Request { len }) = parsed
                && let Some((start, key_len)) = deferrable_get(unread, arguments, may_defer)
            {
                gets.push((self.offset + self.deferred + start, key_len));
                self.deferred += len;
                if gets.len() >= self.session.gets_max {
                    self.run_gets().await;
                }
                continue;
            }
            if !self.run_gets().await {
                continue;
            }
            match parsed {
                Ok(Parsed::Request { len }) => {
                    if special & shared_special::PAUSED != 0 && self.is_paused() {
                        return Ran::Held;
                    }
                    if self.offset >= self.looked_at && special == 0 {
                        self.look_ahead(len, &limits);
                    }
                    let was_authenticated = self.session.is_authenticated;
                    self.run_one(len).await;
                    if !was_authenticated {
                        limits = self.limits();
                    }
                }
                Ok(Parsed::Incomplete { needed }) => return Ran::All { needed },
                Err(error) => {
                    let text = match error {
                        _ if self.session.is_authenticated => error.text(),
                        error => error.text_unauthenticated(),
                    };
                    let text = format!("ERR {text}");
                    self.worker.stats().count_errors(&text, 1);
                    self.workspace.reply.error(&text);
                    return Ran::Over;
                }
            }
            if self.session.is_closing {
                return Ran::Over;
            }
        }
    }

    /// Tells the engine the keys of the request of `len` bytes at the offset, and of those behind it:
    /// what stands first behind the name, which is a key more often than not.
    fn look_ahead(&mut self, len: usize, limits: &ParseLimits) {
        let keyspace =
            commands::db_of(&self.worker.shared, self.session, &mut self.tally).keyspace();
        let engine = self.worker.shared.store.engine();
        let Workspace { input, ahead, arguments, scratch, .. } = &mut *self.workspace;
        let unread = input.unread();
        let mut at = self.offset + len;
        let is_last = at >= unread.len();
        if is_last || !self.session.is_authenticated || !engine.prefetch(keyspace, &[]) {
            return;
        }
        let mut keys = scratch.take_keys();
        let first = unread.get(self.offset..).unwrap_or_default();
        keys.extend(arguments.place(1).and_then(|(start, len)| first.get(start..start + len)));
        // Requests without a key count, too: this is work that no turn bounds.
        for _ in 1..AHEAD_MAX {
            let rest = unread.get(at..).unwrap_or_default();
            let rest = rest.get(..AHEAD_BYTES_MAX).unwrap_or(rest);
            let Ok(Parsed::Request { len }) = parse_within(limits, rest, ahead) else { break };
            keys.extend(ahead.place(1).and_then(|(start, len)| rest.get(start..start + len)));
            at += len;
        }
        ahead.reset();
        if keys.len() > 1 {
            engine.prefetch(keyspace, &keys);
        }
        self.looked_at = at;
        scratch.give_back_keys(keys);
    }

    /// Whether a pause puts the request at the offset off, which was parsed.
    fn is_paused(&self) -> bool {
        let Workspace { input, arguments, .. } = &*self.workspace;
        let request = arguments.command(input.unread().get(self.offset..).unwrap_or_default());
        !request.is_empty() && commands::is_paused(&self.worker.shared, self.session, request)
    }

    /// What a request may be now; of a client that did not say who it is, little more than AUTH.
    fn limits(&self) -> ParseLimits {
        let limits = self.worker.shared.parse_limits();
        if self.session.is_authenticated {
            return limits;
        }
        ParseLimits { arguments: ARGUMENTS_BEFORE_AUTH, bulk_bytes: BYTES_BEFORE_AUTH, ..limits }
    }

    /// Runs the request of `len` bytes at the offset, which was parsed.
    async fn run_one(&mut self, len: usize) {
        let Workspace { input, arguments, reply, scratch, .. } = &mut *self.workspace;
        let request = arguments.command(input.unread().get(self.offset..).unwrap_or_default());
        self.last = self.offset;
        self.offset += len;
        if request.is_empty() {
            return;
        }
        self.commands += 1;
        let mark = reply.mark();
        let misses = self.tally.misses;
        let mut context = Context::new(
            &self.worker.shared,
            self.session,
            &mut self.tally,
            reply,
            scratch,
            request,
        );
        commands::execute(&mut context).await;
        self.has_pushes |= self.session.has_pushed;
        if !self.session.wants_reply() {
            reply.rewind(mark);
        }
        self.replies += usize::from(reply.mark() > mark);
        if self.session.special & special::CACHING != 0 {
            self.session.forget_caching();
        }
        if self.tally.misses > misses && self.worker.shared.store.has_due_expiries() {
            self.tell_expired().await;
        }
        self.worker.shared.tracking.flush();
        let reply = &mut self.workspace.reply;
        if self.session.client.has_pushes() {
            // Behind the reply of the command that may have caused them.
            self.session.client.take_pushes(reply);
            self.has_pushes = true;
        }
    }

    /// A key was not found that may have expired just now: whoever wants to know is told behind the
    /// reply, not when the expiry cycle comes by.
    #[cold]
    async fn tell_expired(&self) {
        // Boxed: it would make every connection larger.
        if let Err(refusal) = Box::pin(self.worker.shared.store.tell_expired()).await {
            tracing::debug!(%refusal, "expired keys are told of later");
        }
    }

    /// Runs the GETs that were put off, and takes their bytes as run. If their values are too much
    /// for one run, nothing is answered and they are to be parsed again: false.
    async fn run_gets(&mut self) -> bool {
        if self.deferred == 0 {
            return true;
        }
        let Workspace { input, arguments, reply, gets, scratch, .. } = &mut *self.workspace;
        let shared = &self.worker.shared;
        let limit_bytes = reply.limit();
        let mark = reply.mark();
        if gets.len() > 1 {
            let unsent = reply.unsent().len();
            reply.set_limit(limit_bytes.min(unsent + shared.limits.output_soft_bytes));
        }
        self.session.client.set_last_command("get");
        let misses = self.tally.misses;
        let mut db = commands::db_of(shared, self.session, &mut self.tally);
        if let Err(text) = commands::get_run(&mut db, reply, scratch, input.unread(), gets).await {
            self.worker.stats().count_errors(&text, gets.len() as u64);
        }
        reply.set_limit(limit_bytes);
        let deferred = std::mem::take(&mut self.deferred);
        if gets.len() > 1 && reply.has_overflowed() {
            reply.recover(mark);
            arguments.reset();
            self.session.gets_max = (gets.len() / 8).max(1);
            gets.clear();
            return false;
        }
        commands::count_gets(shared, self.session, gets.len());
        self.last = self.offset;
        self.commands += gets.len() as u64;
        self.replies += gets.len();
        self.offset += deferred;
        gets.clear();
        if self.tally.misses > misses && shared.store.has_due_expiries() {
            self.tell_expired().await;
        }
        true
    }
}

/// Where the key of the request lies, if it is a GET that may wait for the GETs behind it.
#[inline]
fn deferrable_get(unread: &[u8], arguments: &Arguments, may_defer: bool) -> Option<(usize, usize)> {
    let request = arguments.command(unread);
    let is_get = request.len() == 2
        && request.get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"get"))
        && may_defer;
    if is_get { arguments.place(1) } else { None }
}
