//! [`Session`]: what a connection remembers between commands.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrokit_engine::KeyspaceId;

use crate::batch::GETS_MAX;
use crate::client::{Client, flag};
use crate::commands::Transacting;
use crate::observe::Meter;
use crate::pubsub::Subscriptions;
use crate::tracking;

/// Whether a client wants replies (CLIENT REPLY).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replies {
    On,
    Off,
    /// None for the command in hand.
    SkipThis,
    /// None for the next command.
    SkipNext,
}

/// What makes the commands of a session more than themselves; bits of [`Session::special`].
pub(crate) mod special {
    /// Replies are off, or one is skipped.
    pub(crate) const REPLIES: u32 = 1;
    /// It is subscribed to something.
    pub(crate) const SUBSCRIBED: u32 = 1 << 1;
    /// The command in hand is part of a transaction: its reply is an element of another.
    pub(crate) const EXECUTING: u32 = 1 << 2;
    /// The keys it reads may be remembered.
    pub(crate) const TRACKING: u32 = 1 << 3;
    /// CLIENT CACHING was given.
    pub(crate) const CACHING: u32 = 1 << 4;
}

/// The state of a client's session.
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    /// Which worker's counters are its own.
    pub(crate) worker: usize,
    pub(crate) keyspace: KeyspaceId,
    replies: Replies,
    /// The client may run commands: no password is asked for, or it knew it.
    pub(crate) is_authenticated: bool,
    /// What makes its commands more than themselves: bits of [`special`].
    pub(crate) special: u32,
    pub(crate) subscriptions: Option<Box<Subscriptions>>,
    /// After CLIENT TRACKING ON.
    pub(crate) tracking: Option<Box<tracking::Options>>,
    /// The command in hand wrote pushes: CLIENT REPLY does not concern them.
    pub(crate) has_pushed: bool,
    /// Present while it watches keys, or queues commands.
    pub(crate) transacting: Option<Box<Transacting>>,
    /// GETs that may be put off to be run together.
    pub(crate) gets_max: usize,
    /// What its commands take.
    pub(crate) meter: Meter,
    /// The connection ends after the replies written so far.
    pub(crate) is_closing: bool,
}

impl Session {
    pub(crate) fn new(client: Arc<Client>, worker: usize) -> Self {
        Self {
            client,
            worker,
            keyspace: KeyspaceId::DEFAULT,
            replies: Replies::On,
            is_authenticated: false,
            special: 0,
            subscriptions: None,
            tracking: None,
            has_pushed: false,
            transacting: None,
            gets_max: GETS_MAX,
            meter: Meter::default(),
            is_closing: false,
        }
    }

    /// Whether GETs are answered one like the other, so that several may be read at once.
    #[inline]
    pub(crate) fn may_defer_gets(&self) -> bool {
        self.special == 0 && self.transacting.is_none() && self.is_authenticated
    }

    /// Shows others what is remembered for the client.
    #[inline]
    pub(crate) fn show_memory(&self) {
        if self.transacting.is_some() || self.subscriptions.is_some() {
            self.show_much();
        } else {
            self.client.sizes.queued.store(0, Ordering::Relaxed);
            self.client.sizes.interests.store(0, Ordering::Relaxed);
        }
    }

    #[cold]
    fn show_much(&self) {
        let transacting = self.transacting.as_deref();
        let queued = transacting.map_or(0, Transacting::queued_bytes);
        let watched = transacting.map_or(0, Transacting::watched_bytes);
        let subscribed = self.subscriptions.as_ref().map_or(0, |it| it.bytes());
        self.client.sizes.queued.store(queued, Ordering::Relaxed);
        self.client.sizes.interests.store(watched + subscribed, Ordering::Relaxed);
    }

    pub(crate) fn replies(&self) -> Replies {
        self.replies
    }

    pub(crate) fn set_replies(&mut self, replies: Replies) {
        self.replies = replies;
        self.set_special(special::REPLIES, replies != Replies::On);
    }

    /// Unsubscribes from everything, without a word.
    pub(crate) fn give_up_subscriptions(&mut self) {
        self.subscriptions = None;
        self.set_special(special::SUBSCRIBED, false);
    }

    /// After a command: CLIENT CACHING held for that one, or for the transaction it is queued for.
    pub(crate) fn forget_caching(&mut self) {
        let is_client_command = self.client.last_command().starts_with("client|");
        if is_client_command || self.client.is(flag::MULTI) {
            return;
        }
        self.set_special(special::CACHING, false);
        if let Some(options) = &mut self.tracking {
            options.is_caching_given = false;
        }
    }

    pub(crate) fn set_special(&mut self, bit: u32, is_set: bool) {
        if is_set {
            self.special |= bit;
        } else {
            self.special &= !bit;
        }
    }

    /// Whether the command in hand is answered; steps CLIENT REPLY SKIP.
    pub(crate) fn wants_reply(&mut self) -> bool {
        let has_pushed = std::mem::take(&mut self.has_pushed);
        match self.replies {
            Replies::On => return true,
            Replies::Off => {}
            Replies::SkipThis => self.set_replies(Replies::On),
            Replies::SkipNext => self.set_replies(Replies::SkipThis),
        }
        has_pushed
    }
}
