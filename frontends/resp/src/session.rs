//! [`Session`]: what a connection remembers between commands.

use std::sync::Arc;

use ferrokit_engine::{CommitTicket, KeyspaceId};

use crate::batch::GETS_MAX;
use crate::clients::Client;

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
    /// What must be durable before the replies of the batch leave.
    pub(crate) ticket: CommitTicket,
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
            ticket: CommitTicket::NONE,
            gets_max: GETS_MAX,
            is_closing: false,
        }
    }

    /// Takes note of what a command saw or did.
    #[inline]
    pub(crate) fn join(&mut self, ticket: CommitTicket) {
        self.ticket = self.ticket.join(ticket);
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
