//! The line of a client in CLIENT LIST.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::client::{Client, flag};
use crate::resp::Protocol;

/// Replies up to this size count as `obl`, what is beyond as `omem` in `oll` pieces of that size:
/// the fixed reply buffer and the reply list of Redis, which share one buffer here.
const REPLY_PIECE_BYTES: usize = 16 << 10;

/// The letters of CLIENT LIST, in its order.
const LETTERS: &[(u32, char)] = &[
    (flag::MONITOR, 'O'),
    (flag::PUBSUB, 'P'),
    (flag::MULTI, 'x'),
    (flag::BLOCKED, 'b'),
    (flag::TRACKING, 't'),
    (flag::BROKEN_REDIRECT, 'R'),
    (flag::BROADCAST, 'B'),
    (flag::CLOSING, 'c'),
    (flag::NO_EVICT, 'e'),
    (flag::NO_TOUCH, 'T'),
];

impl Client {
    fn letters(&self) -> String {
        let flags = self.flags();
        let set = LETTERS.iter().filter(|(flag, _)| flags & flag != 0);
        let letters: String = set.map(|(_, letter)| letter).collect();
        if letters.is_empty() { "N".to_owned() } else { letters }
    }

    /// Appends the client's line, without its end. `argument_bytes` is what the arguments of the
    /// command in hand take.
    pub(crate) fn describe(&self, now: u64, argument_bytes: usize, line: &mut String) {
        let identity = self.identity();
        let relaxed = Ordering::Relaxed;
        let (sizes, subscriptions) = (&self.sizes, &self.subscriptions);
        let waiting = self.waiting_bytes();
        let beyond = waiting.saturating_sub(REPLY_PIECE_BYTES);
        // Writing to a string cannot fail.
        let _ = write!(
            line,
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} \
             ssub={} multi={} qbuf={} qbuf-free={} argv-mem={argument_bytes} multi-mem={} rbs={} \
             rbp={} obl={} oll={} omem={beyond} tot-mem={} events={} cmd={} user=default redir={} \
             resp={} lib-name={} lib-ver={}",
            self.id,
            self.peer,
            self.local,
            self.descriptor,
            identity.name,
            now.saturating_sub(self.connected_at),
            now.saturating_sub(self.last_active_at.load(relaxed)),
            self.letters(),
            self.database.load(relaxed),
            subscriptions.channels.load(relaxed),
            subscriptions.patterns.load(relaxed),
            subscriptions.shard_channels.load(relaxed),
            self.queued.load(relaxed),
            sizes.input.load(relaxed),
            sizes.input_room.load(relaxed),
            sizes.queued.load(relaxed),
            sizes.reply_capacity.load(relaxed),
            sizes.reply_capacity.load(relaxed),
            waiting - beyond,
            beyond.div_ceil(REPLY_PIECE_BYTES),
            self.memory_bytes() + argument_bytes,
            if waiting > 0 { "rw" } else { "r" },
            self.last_command(),
            self.redirect(),
            if self.protocol() == Protocol::Resp3 { 3 } else { 2 },
            identity.library_name,
            identity.library_version,
        );
    }
}
