//! [`Client`]: a connection, as others see it and reach it.
//!
//! # Pushes
//! What others send to a client (messages, invalidations, lines for MONITOR) is appended to its
//! *outbox*; the connection's task moves it behind the replies whenever none is half written. The
//! outbox is an empty vector until the first push. A client that lets more wait than its class may
//! is cut off.
//!
//! The protocol a push is written in is read, and changed, under the lock of the outbox: behind the
//! reply to HELLO no push is in the old one.
//!
//! Locks: `outbox`, `identity`, `waker` and `last_command` are leaves; nothing is locked under them.

use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::input::STANDARD_BYTES;
use crate::output_limits::Class;
use crate::push::{Invalidation, Push};
use crate::resp::{Protocol, Reply};
use crate::settings::Settings;

/// What is asked of a connection from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Ending {
    /// Nothing.
    Open = 0,
    /// To end once the replies under way are sent.
    Finish = 1,
    /// To end at once.
    Cut = 2,
}

/// What a client is; bits of [`Client::flags`].
pub(crate) mod flag {
    pub(crate) const MONITOR: u32 = 1;
    /// Subscribed to a channel, a pattern or a shard channel.
    pub(crate) const PUBSUB: u32 = 1 << 1;
    /// Between MULTI and EXEC.
    pub(crate) const MULTI: u32 = 1 << 2;
    pub(crate) const BLOCKED: u32 = 1 << 3;
    pub(crate) const TRACKING: u32 = 1 << 4;
    /// The client its invalidations were redirected to is gone.
    pub(crate) const BROKEN_REDIRECT: u32 = 1 << 5;
    pub(crate) const BROADCAST: u32 = 1 << 6;
    /// It is not told of its own changes.
    pub(crate) const NO_LOOP: u32 = 1 << 7;
    pub(crate) const CLOSING: u32 = 1 << 8;
    pub(crate) const NO_EVICT: u32 = 1 << 9;
    pub(crate) const NO_TOUCH: u32 = 1 << 10;
}

/// How a client calls itself.
#[derive(Debug, Default, Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) library_name: String,
    pub(crate) library_version: String,
}

/// The sizes of a connection's buffers, as of its last exchange.
#[derive(Default)]
pub(crate) struct BufferSizes {
    /// Bytes that arrived and were not run.
    pub(crate) input: AtomicUsize,
    /// Room behind them.
    pub(crate) input_room: AtomicUsize,
    /// Replies that were not sent.
    pub(crate) unsent: AtomicUsize,
    /// The memory of the buffer they are in.
    pub(crate) reply_capacity: AtomicUsize,
    /// Commands that MULTI has queued.
    pub(crate) queued: AtomicUsize,
    /// Watches and subscriptions.
    pub(crate) interests: AtomicUsize,
    /// What of all this the sum over all clients holds.
    pub(crate) counted: AtomicUsize,
}

/// To how much a client is subscribed.
#[derive(Default)]
pub(crate) struct SubscriptionCounts {
    pub(crate) channels: AtomicU32,
    pub(crate) patterns: AtomicU32,
    pub(crate) shard_channels: AtomicU32,
}

/// A connection, as others see it.
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) descriptor: i32,
    /// In seconds since the server started, as all times here.
    pub(crate) connected_at: u64,
    pub(crate) last_active_at: AtomicU64,
    /// Since when replies wait and none was taken; 0 if that is not so.
    pub(crate) stalled_since: AtomicU64,
    /// Since when more waits than the soft limit of its class; 0 if that is not so.
    pub(crate) over_soft_since: AtomicU64,
    pub(crate) sizes: BufferSizes,
    pub(crate) database: AtomicU32,
    pub(crate) subscriptions: SubscriptionCounts,
    /// Commands queued by MULTI; -1 outside of a transaction.
    pub(crate) queued: AtomicI32,
    /// Where its invalidations go: a client, or 0 if to itself.
    pub(crate) redirect_to: AtomicU64,
    protocol: AtomicU8,
    flags: AtomicU32,
    /// The name of the last command run.
    last_command: Mutex<&'static str>,
    identity: Mutex<Option<Box<Identity>>>,
    ending: AtomicU8,
    /// More waited than the class of the client may let wait.
    is_over_limit: AtomicBool,
    has_pushes: AtomicBool,
    outbox: Mutex<Vec<u8>>,
    waker: Mutex<Option<Waker>>,
    settings: Arc<Settings>,
    /// Output beyond this may never wait.
    output_bound: usize,
}

/// The addresses of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) descriptor: i32,
}

/// An empty outbox keeps so much memory.
const OUTBOX_KEPT_BYTES: usize = 512;

impl Client {
    pub(crate) fn new(
        id: u64,
        ends: Ends,
        now: u64,
        settings: Arc<Settings>,
        output_bound: usize,
    ) -> Self {
        Self {
            id,
            peer: ends.peer,
            local: ends.local,
            descriptor: ends.descriptor,
            connected_at: now,
            last_active_at: AtomicU64::new(now),
            stalled_since: AtomicU64::new(0),
            over_soft_since: AtomicU64::new(0),
            sizes: BufferSizes::default(),
            database: AtomicU32::new(0),
            subscriptions: SubscriptionCounts::default(),
            queued: AtomicI32::new(-1),
            redirect_to: AtomicU64::new(0),
            protocol: AtomicU8::new(2),
            flags: AtomicU32::new(0),
            last_command: Mutex::new("NULL"),
            identity: Mutex::new(None),
            ending: AtomicU8::new(Ending::Open as u8),
            is_over_limit: AtomicBool::new(false),
            has_pushes: AtomicBool::new(false),
            outbox: Mutex::default(),
            waker: Mutex::new(None),
            settings,
            output_bound,
        }
    }

    pub(crate) fn set_last_command(&self, name: &'static str) {
        *lock(&self.last_command) = name;
    }

    pub(crate) fn last_command(&self) -> &'static str {
        *lock(&self.last_command)
    }

    pub(crate) fn identity(&self) -> Identity {
        lock(&self.identity).as_deref().cloned().unwrap_or_default()
    }

    pub(crate) fn change_identity(&self, change: impl FnOnce(&mut Identity)) {
        change(lock(&self.identity).get_or_insert_default());
    }

    /// Shows others how many commands MULTI has queued; `None` outside of a transaction.
    pub(crate) fn show_queued(&self, count: Option<usize>) {
        let shown = count.map_or(-1, |count| i32::try_from(count).unwrap_or(i32::MAX));
        self.queued.store(shown, Ordering::Relaxed);
        self.set_flag(flag::MULTI, count.is_some());
    }

    #[inline]
    pub(crate) fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is(&self, flag: u32) -> bool {
        self.flags() & flag != 0
    }

    pub(crate) fn set_flag(&self, flag: u32, is_set: bool) {
        if is_set {
            self.flags.fetch_or(flag, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flag, Ordering::Relaxed);
        }
    }

    /// Where its invalidations go, as CLIENT GETREDIR tells: -1 without tracking, 0 to itself.
    pub(crate) fn redirect(&self) -> i64 {
        if !self.is(flag::TRACKING) {
            return -1;
        }
        i64::try_from(self.redirect_to.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }

    /// The class whose limits hold for it. A monitor is a normal client.
    pub(crate) fn class(&self) -> Class {
        if self.is(flag::PUBSUB) { Class::PubSub } else { Class::Normal }
    }

    /// More output than this may not wait.
    #[inline]
    pub(crate) fn output_limit(&self) -> usize {
        match self.settings.client_output_buffer_limit.hard_bytes(self.class()) {
            0 => self.output_bound,
            bytes => bytes.min(self.output_bound),
        }
    }

    /// The task to wake when there is a push, or an ending is asked for.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
    }

    fn wake(&self) {
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn ending(&self) -> Ending {
        match self.ending.load(Ordering::Acquire) {
            0 => Ending::Open,
            1 => Ending::Finish,
            _ => Ending::Cut,
        }
    }

    pub(crate) fn end(&self, ending: Ending) {
        self.ending.fetch_max(ending as u8, Ordering::AcqRel);
        self.wake();
    }

    /// Cuts the client off for letting too much wait.
    pub(crate) fn end_over_limit(&self) {
        self.is_over_limit.store(true, Ordering::Relaxed);
        self.end(Ending::Cut);
    }

    pub(crate) fn is_over_limit(&self) -> bool {
        self.is_over_limit.load(Ordering::Relaxed)
    }

    pub(crate) fn protocol(&self) -> Protocol {
        match self.protocol.load(Ordering::Relaxed) {
            2 => Protocol::Resp2,
            _ => Protocol::Resp3,
        }
    }

    /// Changes the protocol, for its own task: pushes in the old one go to `reply` first.
    pub(crate) fn set_protocol(&self, protocol: Protocol, reply: &mut Reply) {
        let mut outbox = lock(&self.outbox);
        reply.raw(&outbox);
        outbox.clear();
        let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
        self.protocol.store(version, Ordering::Relaxed);
        reply.set_protocol(protocol);
    }

    /// Sends it a push, behind what it was sent before.
    pub(crate) fn push(&self, push: &Push) {
        self.append(push.len(), |outbox, protocol| push.write_in(protocol, outbox));
    }

    /// Sends it bytes that are replies of their own.
    pub(crate) fn push_raw(&self, bytes: &[u8]) {
        self.append(bytes.len(), |outbox, _| outbox.extend_from_slice(bytes));
    }

    /// Tells it that keys changed. In RESP2 only a subscriber can be told, of what another client
    /// has redirected to it.
    pub(crate) fn push_invalidation(&self, push: &Invalidation, is_redirected: bool) {
        let is_listening = is_redirected && self.is(flag::PUBSUB);
        self.append(push.len(), |outbox, protocol| {
            if protocol == Protocol::Resp3 || is_listening {
                push.write_in(protocol, outbox);
            }
        });
    }

    /// Tells it that the client its invalidations were redirected to is gone; not in RESP2.
    pub(crate) fn push_broken_redirect(&self, to: i64) {
        let mut push = Reply::new(Protocol::Resp3, usize::MAX);
        push.push(2);
        push.bulk(b"tracking-redir-broken");
        push.integer(to);
        self.append(push.unsent().len(), |outbox, protocol| {
            if protocol == Protocol::Resp3 {
                outbox.extend_from_slice(push.unsent());
            }
        });
    }

    fn append(&self, len: usize, write: impl FnOnce(&mut Vec<u8>, Protocol)) {
        if self.ending() == Ending::Cut {
            return;
        }
        let mut outbox = lock(&self.outbox);
        let waiting = self.sizes.unsent.load(Ordering::Relaxed) + outbox.len();
        if waiting + len > self.output_limit() {
            *outbox = Vec::new();
            drop(outbox);
            return self.end_over_limit();
        }
        write(&mut outbox, self.protocol());
        drop(outbox);
        if !self.has_pushes.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Whether there are pushes to take.
    #[inline]
    pub(crate) fn has_pushes(&self) -> bool {
        self.has_pushes.load(Ordering::Acquire)
    }

    /// Moves the pushes to `reply`, which ends with a whole reply; for its own task.
    #[cold]
    pub(crate) fn take_pushes(&self, reply: &mut Reply) {
        // First: a push from now on announces itself again.
        self.has_pushes.store(false, Ordering::Release);
        let mut outbox = lock(&self.outbox);
        reply.raw(&outbox);
        outbox.clear();
        outbox.shrink_to(OUTBOX_KEPT_BYTES);
    }

    /// The bytes of output that wait, replies and pushes.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.sizes.unsent.load(Ordering::Relaxed) + lock(&self.outbox).len()
    }

    /// The memory of the connection, as far as it grows with what the client does.
    pub(crate) fn memory_bytes(&self) -> usize {
        let sizes = [&self.sizes.input, &self.sizes.input_room, &self.sizes.reply_capacity];
        let buffers: usize = sizes.iter().map(|size| size.load(Ordering::Relaxed)).sum();
        let session = [&self.sizes.queued, &self.sizes.interests];
        let session: usize = session.iter().map(|size| size.load(Ordering::Relaxed)).sum();
        size_of::<Self>() + buffers + session + lock(&self.outbox).capacity()
    }

    /// What the client has the server hold: buffers as far as they are beyond those that are lent to
    /// every connection at work, and what its session remembers.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        let of = |size: &AtomicUsize| size.load(Ordering::Relaxed);
        let beyond = |used: usize, all: usize| used.max(all.saturating_sub(STANDARD_BYTES));
        let input = of(&self.sizes.input);
        let input = beyond(input, input + of(&self.sizes.input_room));
        let output = beyond(of(&self.sizes.unsent), of(&self.sizes.reply_capacity));
        // What is in the outbox is moved to the replies before long.
        input + output + of(&self.sizes.queued) + of(&self.sizes.interests)
    }

    /// Whether more has waited than the soft limit of its class for longer than it says; to be asked
    /// every second.
    pub(crate) fn is_over_soft_limit(&self, now: u64) -> bool {
        let limit = self.settings.client_output_buffer_limit.soft(self.class());
        if limit.bytes == 0 || self.waiting_bytes() <= limit.bytes {
            self.over_soft_since.store(0, Ordering::Relaxed);
            return false;
        }
        let since = self.over_soft_since.load(Ordering::Relaxed);
        if since == 0 {
            self.over_soft_since.store(now.max(1), Ordering::Relaxed);
            return false;
        }
        now.saturating_sub(since) > limit.secs
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
