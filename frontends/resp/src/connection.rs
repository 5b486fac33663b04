//! One client: bytes in, commands run, replies out.
//!
//! The task of a connection alternates between a *batch* (run all whole requests of the input, then
//! wait once for their durability) and an *exchange* (write what is unsent in one write, read what
//! is there). It holds no buffers while it waits for a client that has sent nothing; of half a
//! request it keeps just its bytes. A client that sends more than a [turn](crate::turns) of work
//! shares the worker with others.
//!
//! # Bounds
//! Above [`output_soft_bytes`](crate::Limits) of unsent replies it stops reading; above
//! `output_hard_bytes`, or when nothing was taken for `output_stall`, it ends. Up to the soft bound
//! it reads on while a write waits: a client may send a long pipeline before it reads any reply.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use ferrokit_redis::refusal::engine_error_text;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use crate::auth;
use crate::batch::{Batch, Ran};
use crate::client::{Client, Ending, flag};
use crate::commands;
use crate::exchange::{Exchange, Exchanged, Purpose};
use crate::resp::{Arguments, Protocol};
use crate::session::Session;
use crate::turns::Turn;
use crate::worker::Worker;
use crate::workspace::Workspace;

/// Bytes read and thrown away behind an error, so that the client gets to read it.
const LINGER_BYTES: usize = 1 << 20;
/// How long that may take.
const LINGER_SECS: u64 = 1;
/// Replies that may wait for a client that did not say who it is.
const UNSENT_BEFORE_AUTH: usize = 16 << 10;

/// The bytes of half a request, kept while the rest is awaited.
struct Rest {
    input: Vec<u8>,
    arguments: Arguments,
    needed: usize,
}

struct Connection {
    stream: TcpStream,
    worker: Rc<Worker>,
    session: Session,
    protocol: Protocol,
    /// Present while there is something in it.
    workspace: Option<Box<Workspace>>,
    rest: Option<Rest>,
    turn: Turn,
}

/// Serves a client until it leaves, errs, or is cut off.
pub(crate) async fn serve(stream: TcpStream, worker: Rc<Worker>, client: Arc<Client>) {
    poll_fn(|cx| {
        client.set_waker(cx.waker());
        Poll::Ready(())
    })
    .await;
    let mut session = Session::new(client, worker.index);
    session.is_authenticated = !auth::is_required(&worker.shared.settings);
    let mut connection = Connection {
        stream,
        worker,
        session,
        protocol: Protocol::default(),
        workspace: None,
        rest: None,
        turn: Turn::default(),
    };
    connection.run().await;
    commands::end_transaction(&connection.worker.shared, &mut connection.session);
    commands::disable_tracking(&connection.worker.shared, &mut connection.session);
    connection.note_end();
}

impl Connection {
    async fn run(&mut self) {
        let mut needed = 1;
        loop {
            if self.workspace.is_none() {
                if self.wait_for_input().await.is_err() {
                    return;
                }
                needed = self.unpark();
            }
            match self.exchange(Purpose::Read, needed).await {
                Exchanged::Input(bytes) => self.note_input(bytes),
                Exchanged::Idle => {
                    self.park(needed);
                    continue;
                }
                Exchanged::Ended | Exchanged::Sent => return self.finish().await,
                Exchanged::Cut => return,
            }
            loop {
                if self.hoards_unauthenticated() {
                    return;
                }
                let ran = self.run_batch().await;
                if self.has_overflowed() {
                    return;
                }
                match ran {
                    Ran::All { needed: more } => {
                        needed = more;
                        break;
                    }
                    Ran::Paused => match self.exchange(Purpose::Relieve, needed).await {
                        Exchanged::Cut => return,
                        _ => self.pass_turn().await,
                    },
                    Ran::Held => match Box::pin(self.hold()).await {
                        Exchanged::Cut => return,
                        Exchanged::Ended => return self.finish().await,
                        _ => {}
                    },
                    Ran::Over => return self.finish().await,
                }
            }
        }
    }

    /// Waits, without any buffer, until there is something to read.
    async fn wait_for_input(&mut self) -> io::Result<()> {
        self.turn.renew();
        let (stream, client) = (&self.stream, &self.session.client);
        poll_fn(|cx| match client.ending() {
            Ending::Open if client.has_pushes() => Poll::Ready(Ok(())),
            Ending::Open => stream.poll_read_ready(cx),
            _ => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        })
        .await
    }

    /// Gives the workspace back, keeping what arrived of the next request.
    fn park(&mut self, needed: usize) {
        let Some(mut workspace) = self.workspace.take() else { return };
        self.protocol = workspace.reply.protocol();
        let sizes = &self.session.client.sizes;
        sizes.input.store(workspace.input.unread().len(), Ordering::Relaxed);
        sizes.input_room.store(0, Ordering::Relaxed);
        sizes.reply_capacity.store(0, Ordering::Relaxed);
        self.worker.shared.count_memory(&self.session.client);
        if !workspace.input.unread().is_empty() {
            self.rest = Some(Rest {
                input: workspace.input.take_unread(),
                arguments: {
                    let mut arguments = std::mem::take(&mut workspace.arguments);
                    arguments.shrink_to(0);
                    arguments
                },
                needed,
            });
        }
        self.worker.workspaces.give_back(workspace);
    }

    /// Takes a workspace; how many unread bytes the next request needs.
    fn unpark(&mut self) -> usize {
        let mut workspace = self.worker.workspaces.take();
        workspace.reply.prepare(self.protocol, self.session.client.output_limit());
        let mut needed = 1;
        if let Some(rest) = self.rest.take() {
            workspace.input.put_back(rest.input);
            workspace.arguments = rest.arguments;
            needed = rest.needed;
        }
        self.workspace = Some(workspace);
        needed
    }

    fn note_input(&self, bytes: usize) {
        if let Some(workspace) = &self.workspace {
            let sizes = &self.session.client.sizes;
            sizes.input.store(workspace.input.unread().len(), Ordering::Relaxed);
            sizes.input_room.store(workspace.input.room(), Ordering::Relaxed);
            sizes.reply_capacity.store(workspace.reply.capacity(), Ordering::Relaxed);
        }
        let shared = &self.worker.shared;
        self.worker.stats().input_bytes.add(bytes as u64);
        self.session.client.last_active_at.store(shared.uptime(), Ordering::Relaxed);
    }

    fn has_overflowed(&self) -> bool {
        let has = self.workspace.as_ref().is_some_and(|it| it.reply.has_overflowed());
        if has {
            self.session.client.end_over_limit();
        }
        has
    }

    /// Whether a client that did not say who it is leaves its replies untaken: it may not have much
    /// of the server's memory.
    fn hoards_unauthenticated(&self) -> bool {
        let unsent = self.workspace.as_ref().map_or(0, |it| it.reply.unsent().len());
        let hoards = !self.session.is_authenticated && unsent > UNSENT_BEFORE_AUTH;
        if hoards {
            self.worker.stats().output_disconnections.add(1);
        }
        hoards
    }

    /// Takes note of a client that is cut off for what it let wait.
    fn note_end(&self) {
        let client = &self.session.client;
        if client.is_over_limit() {
            self.worker.stats().output_disconnections.add(1);
            tracing::warn!(client = %client.peer, "disconnected: output beyond its limit");
        }
    }

    /// Runs the whole requests of the input, and waits until what they saw and did is durable.
    async fn run_batch(&mut self) -> Ran {
        let Some(workspace) = &mut self.workspace else { return Ran::Over };
        let (worker, session) = (&self.worker, &mut self.session);
        workspace.reply.set_limit(session.client.output_limit());
        let mark = workspace.reply.mark();
        let mut batch = Batch::new(worker, session, workspace, &mut self.turn);
        let ran = batch.run().await;
        let (replies, commands, offset) = (batch.replies, batch.commands, batch.offset);
        let (tally, has_pushes) = (batch.tally, batch.has_pushes);
        workspace.input.consume(offset);
        worker.stats().commands.add(commands);
        worker.stats().add(&tally);
        session.client.sizes.unsent.store(workspace.reply.unsent().len(), Ordering::Relaxed);
        session.show_memory();
        worker.shared.count_memory(&session.client);
        if let Err(error) = worker.shared.store.committed(tally.ticket).await {
            // None of them may be shown: each request gets the failure instead.
            workspace.reply.rewind(mark);
            worker.shared.note_engine_error(&error);
            let text = engine_error_text(&error);
            worker.stats().count_errors(&text, replies as u64);
            for _ in 0..replies {
                workspace.reply.error(&text);
            }
            if has_pushes {
                // They are lost with the replies: a client that relies on them must start anew.
                return Ran::Over;
            }
        }
        ran
    }

    async fn exchange(&mut self, purpose: Purpose, needed: usize) -> Exchanged {
        let soft_bytes = self.worker.shared.limits.output_soft_bytes;
        let Some(workspace) = &mut self.workspace else { return Exchanged::Cut };
        if purpose == Purpose::Read {
            workspace.input.make_room(needed);
        }
        let mut exchange = Exchange {
            stream: &mut self.stream,
            worker: &self.worker,
            client: &self.session.client,
            workspace,
            soft_bytes,
            purpose,
        };
        let turn = &mut self.turn;
        poll_fn(|cx| {
            let polled = exchange.poll(cx);
            if polled.is_pending() {
                turn.renew();
                exchange.worker.shared.count_memory(exchange.client);
            }
            polled
        })
        .await
    }

    /// Lets others go on, if its turn is over.
    async fn pass_turn(&mut self) {
        if self.turn.is_over() {
            self.worker.turns.wait(&mut self.turn).await;
        }
    }

    /// Waits until the pause that puts a request off may be over; replies and pushes go on.
    async fn hold(&mut self) -> Exchanged {
        let (shared, client) = (Arc::clone(&self.worker.shared), Arc::clone(&self.session.client));
        client.set_flag(flag::BLOCKED, true);
        let outcome = tokio::select! {
            outcome = self.exchange(Purpose::Hold, 0) => outcome,
            () = shared.pause.over(shared.host.env.clock.monotonic()) => Exchanged::Sent,
        };
        client.set_flag(flag::BLOCKED, false);
        outcome
    }

    /// Has others take it for gone: once it has read its last reply, nobody may count on it.
    fn leave(&mut self) {
        let (shared, session) = (&self.worker.shared, &mut self.session);
        session.client.set_flag(flag::CLOSING, true);
        session.give_up_subscriptions();
        commands::disable_tracking(shared, session);
        shared.remove_monitor(&session.client);
    }

    /// Sends the last replies and takes leave. What the client still sends is read and thrown away
    /// for a moment: closing on unread bytes would reset the connection, and the client would lose
    /// the reply that tells why.
    async fn finish(&mut self) {
        self.leave();
        if self.exchange(Purpose::Drain, 0).await == Exchanged::Cut {
            return;
        }
        let stream = &mut self.stream;
        let linger = async {
            if poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx)).await.is_err() {
                return;
            }
            let mut discarded = 0;
            let mut buffer = [0; 1024];
            while discarded < LINGER_BYTES {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(bytes) => discarded += bytes,
                }
            }
        };
        let timeout = std::time::Duration::from_secs(LINGER_SECS);
        // Boxed: it would make every connection larger.
        let _ = tokio::time::timeout(timeout, Box::pin(linger)).await;
    }
}
