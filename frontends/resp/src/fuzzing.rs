//! The commands without a connection, for fuzz targets: any arguments are answered.

use std::sync::Arc;

use ferrokit_engine::Result;
use ferrokit_redis::Tally;
use ferrokit_storage::sim::SimMachine;

use crate::client::{Client, Ends};
use crate::commands::{self, Context};
use crate::config::Config;
use crate::listening::Listening;
use crate::opening;
use crate::resp::{Arguments, Parsed, Reply, parse};
use crate::session::Session;
use crate::shared::Shared;
use crate::workspace::Scratch;

/// Strings may be so long.
const STRING_BYTES_MAX: &str = "1mb";
/// Replies may be so long.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// A server of one client, on the memory engine, that listens nowhere.
pub struct Commands {
    shared: Shared,
    session: Session,
    arguments: Arguments,
    reply: Reply,
    scratch: Scratch,
}

impl Commands {
    /// An empty one.
    ///
    /// # Errors
    /// Those of the engine's opening.
    pub fn new() -> Result<Self> {
        let host = SimMachine::new(1).host();
        let config = Config::default();
        config.settings.set("engine", opening::IN_ITS_PLACE)?;
        config.settings.set("proto-max-bulk-len", STRING_BYTES_MAX)?;
        let shared = Shared::new(&host, &config, Listening::nowhere(1))?;
        opening::open(&shared, false)?;
        let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let ends = Ends { peer: nobody, local: nobody, descriptor: -1 };
        let client = Client::new(1, ends, 0, Arc::clone(&shared.settings), REPLY_BYTES_MAX);
        let mut session = Session::new(Arc::new(client), 0);
        session.is_authenticated = true;
        Ok(Self {
            shared,
            session,
            arguments: Arguments::new(),
            reply: Reply::default(),
            scratch: Scratch::default(),
        })
    }

    /// The names of all commands; those of subcommands with `|` in between.
    pub fn names() -> Vec<&'static str> {
        commands::by_number().iter().map(|info| info.name).collect()
    }

    /// Runs a request as it is sent; its reply. Empty for what is no whole request, or is put off.
    pub fn run(&mut self, request: &[u8]) -> &[u8] {
        self.arguments.reset();
        self.reply.prepare(self.reply.protocol(), REPLY_BYTES_MAX);
        let Ok(Parsed::Request { .. }) = parse(request, &mut self.arguments) else { return &[] };
        let args = self.arguments.command(request);
        if args.is_empty() || commands::is_paused(&self.shared, &self.session, args) {
            return &[];
        }
        let mut tally = Tally::default();
        commands::begin_batch(&self.shared, &mut self.session);
        let mut cx = Context::new(
            &self.shared,
            &mut self.session,
            &mut tally,
            &mut self.reply,
            &mut self.scratch,
            args,
        );
        self.shared.host.wait(commands::execute(&mut cx));
        if !self.session.wants_reply() {
            self.reply.rewind(0);
        }
        commands::end_batch(&self.shared, &mut self.session);
        self.shared.tracking.flush();
        if self.session.client.has_pushes() {
            self.session.client.take_pushes(&mut self.reply);
        }
        self.session.is_closing = false;
        self.reply.unsent()
    }
}
