//! [`Session`]: what a connection remembers between commands.

use std::sync::Arc;

use ferrokit_engine::KeyspaceId;

use crate::batch::GETS_MAX;
use crate::clients::Client;
use crate::commands::Transacting;

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

/// The state of a client's session.
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    /// Which worker's counters are its own.
    pub(crate) worker: usize,
    pub(crate) keyspace: KeyspaceId,
    pub(crate) replies: Replies,
    /// The client may run commands: no password is asked for, or it knew it.
    pub(crate) is_authenticated: bool,
    /// Present while it watches keys, or queues commands.
    pub(crate) transacting: Option<Box<Transacting>>,
    /// GETs that may be put off to be run together.
    pub(crate) gets_max: usize,
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
            transacting: None,
            gets_max: GETS_MAX,
            is_closing: false,
        }
    }

    /// Whether GETs are answered one like the other, so that several may be read at once.
    #[inline]
    pub(crate) fn may_defer_gets(&self) -> bool {
        self.replies == Replies::On && self.transacting.is_none() && self.is_authenticated
    }

    /// Whether the command in hand is answered; steps CLIENT REPLY SKIP.
    pub(crate) fn wants_reply(&mut self) -> bool {
        match self.replies {
            Replies::On => true,
            Replies::Off => false,
            Replies::SkipThis => {
                self.replies = Replies::On;
                false
            }
            Replies::SkipNext => {
                self.replies = Replies::SkipThis;
                false
            }
        }
    }
}
