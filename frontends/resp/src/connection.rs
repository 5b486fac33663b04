//! One client: bytes in, commands run, replies out.
//!
//! The task of a connection alternates between a *batch* (run all whole requests of the input, then
//! wait once for their durability) and an *exchange* (write what is unsent in one write, read what
//! is there). It holds no buffers while it waits for a client that has sent nothing; of half a
//! request it keeps just its bytes.
//!
//! # Bounds
//! Above [`output_soft_bytes`](crate::Limits) of unsent replies it stops reading; above
//! `output_hard_bytes`, or when nothing was taken for `output_stall`, it ends. Up to the soft bound
//! it reads on while a write waits: a client may send a long pipeline before it reads any reply.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll, ready};

use ferrokit_engine::CommitTicket;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use crate::clients::{Client, Ending};
use crate::commands::{self, Context};
use crate::resp::{Arguments, Parsed, Protocol, parse_within};
use crate::session::{Replies, Session};
use crate::worker::Worker;
use crate::workspace::Workspace;

/// A batch pauses to send when so many reply bytes have gathered.
const SEND_AT_BYTES: usize = 256 << 10;
/// Keys of one batched read.
const GETS_MAX: usize = 64;
/// After so many commands of one client others get their turn.
const COMMANDS_PER_TURN: u64 = 4096;
/// Bytes read and thrown away behind an error, so that the client gets to read it.
const LINGER_BYTES: usize = 1 << 20;
/// How long that may take.
const LINGER_SECS: u64 = 1;

/// What a batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ran {
    /// All whole requests were run; the next one ends at `needed` unread bytes or later.
    All { needed: usize },
    /// There may be more whole requests, but replies should be sent first.
    Paused,
    /// The session is over, once its replies are sent.
    Over,
}

/// What an exchange came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchanged {
    /// So many bytes came in.
    Input(usize),
    /// Nothing to send, nothing to read, and no part of a request.
    Idle,
    /// Enough was sent.
    Sent,
    /// The client will send no more.
    Ended,
    /// To end at once: asked to, or the connection broke.
    Cut,
}

/// What an exchange is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To read more.
    Read,
    /// To get below the soft bound.
    Relieve,
    /// To send everything.
    Drain,
}

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
}

/// Serves a client until it leaves, errs, or is cut off.
pub(crate) async fn serve(stream: TcpStream, worker: Rc<Worker>, client: Arc<Client>) {
    poll_fn(|cx| {
        client.set_waker(cx.waker());
        Poll::Ready(())
    })
    .await;
    let session = Session::new(client, worker.index);
    let mut connection = Connection {
        stream,
        worker,
        session,
        protocol: Protocol::default(),
        workspace: None,
        rest: None,
    };
    connection.run().await;
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
                Exchanged::Ended | Exchanged::Sent => {
                    self.exchange(Purpose::Drain, needed).await;
                    return;
                }
                Exchanged::Cut => return,
            }
            loop {
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
                        _ => tokio::task::yield_now().await,
                    },
                    Ran::Over => return self.finish().await,
                }
            }
        }
    }

    /// Waits, without any buffer, until there is something to read.
    async fn wait_for_input(&self) -> io::Result<()> {
        let (stream, client) = (&self.stream, &self.session.client);
        poll_fn(|cx| match client.ending() {
            Ending::Open => stream.poll_read_ready(cx),
            _ => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        })
        .await
    }

    /// Gives the workspace back, keeping what arrived of the next request.
    fn park(&mut self, needed: usize) {
        let Some(mut workspace) = self.workspace.take() else { return };
        self.protocol = workspace.reply.protocol();
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
        workspace.reply.prepare(self.protocol, self.worker.shared.limits.output_hard_bytes);
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
        let shared = &self.worker.shared;
        self.worker.stats().input_bytes.add(bytes as u64);
        self.session.client.last_active_at.store(shared.uptime(), Ordering::Relaxed);
    }

    fn has_overflowed(&self) -> bool {
        let has = self.workspace.as_ref().is_some_and(|it| it.reply.has_overflowed());
        if has {
            self.worker.stats().output_disconnections.add(1);
            let client = &self.session.client;
            tracing::warn!(client = %client.peer, "disconnected: replies beyond the output limit");
        }
        has
    }

    /// Runs the whole requests of the input, and waits until what they saw and did is durable.
    async fn run_batch(&mut self) -> Ran {
        let Some(workspace) = &mut self.workspace else { return Ran::Over };
        let (worker, session) = (&self.worker, &mut self.session);
        let mark = workspace.reply.mark();
        let mut batch = Batch { worker, session, workspace, offset: 0, commands: 0, replies: 0 };
        let ran = batch.run().await;
        let (replies, commands, offset) = (batch.replies, batch.commands, batch.offset);
        workspace.input.consume(offset);
        worker.stats().commands.add(commands);
        if session.ticket != CommitTicket::NONE {
            let ticket = std::mem::take(&mut session.ticket);
            if let Err(error) = worker.shared.engine.committed(ticket).await {
                // None of them may be shown: each request gets the failure instead.
                workspace.reply.rewind(mark);
                for _ in 0..replies {
                    workspace.reply.error(&commands::engine_error_text(&error));
                }
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
        poll_fn(|cx| exchange.poll(cx)).await
    }

    /// Sends the last replies and takes leave. What the client still sends is read and thrown away
    /// for a moment: closing on unread bytes would reset the connection, and the client would lose
    /// the reply that tells why.
    async fn finish(&mut self) {
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

/// The requests of one input.
struct Batch<'b> {
    worker: &'b Rc<Worker>,
    session: &'b mut Session,
    workspace: &'b mut Workspace,
    /// How much of the unread input was run.
    offset: usize,
    commands: u64,
    /// How many of them were answered.
    replies: usize,
}

impl Batch<'_> {
    async fn run(&mut self) -> Ran {
        let limits = self.worker.shared.limits.request;
        self.workspace.gets.clear();
        let mut deferred = 0;
        let ran = loop {
            if self.commands >= COMMANDS_PER_TURN
                || self.workspace.reply.unsent().len() > SEND_AT_BYTES
            {
                break Ran::Paused;
            }
            let Workspace { input, arguments, gets, .. } = &mut *self.workspace;
            let unread = input.unread().get(self.offset + deferred..).unwrap_or_default();
            let len = match parse_within(&limits, unread, arguments) {
                Ok(Parsed::Request { len }) => len,
                Ok(Parsed::Incomplete { needed }) => break Ran::All { needed },
                Err(error) => {
                    self.run_gets(&mut deferred).await;
                    self.workspace.reply.error(&format!("ERR {}", error.text()));
                    break Ran::Over;
                }
            };
            if let Some((start, key_len)) = deferrable_get(unread, arguments, self.session) {
                gets.push((self.offset + deferred + start, key_len));
                deferred += len;
                if gets.len() == GETS_MAX {
                    self.run_gets(&mut deferred).await;
                }
                continue;
            }
            if deferred > 0 {
                self.run_gets(&mut deferred).await;
            }
            self.run_one().await;
            self.offset += len;
            if self.session.is_closing {
                break Ran::Over;
            }
        };
        self.run_gets(&mut deferred).await;
        ran
    }

    /// Runs the request at the offset, which was parsed.
    async fn run_one(&mut self) {
        let Workspace { input, arguments, reply, scratch, .. } = &mut *self.workspace;
        let request = arguments.command(input.unread().get(self.offset..).unwrap_or_default());
        if request.is_empty() {
            return;
        }
        self.commands += 1;
        let mark = reply.mark();
        let mut context = Context::new(&self.worker.shared, self.session, reply, scratch, request);
        commands::execute(&mut context).await;
        if !self.session.wants_reply() {
            reply.rewind(mark);
        }
        self.replies += usize::from(reply.mark() > mark);
    }

    /// Runs the GETs that were put off, and takes their `deferred` bytes as run.
    async fn run_gets(&mut self, deferred: &mut usize) {
        if *deferred == 0 {
            return;
        }
        let Workspace { input, reply, gets, scratch, .. } = &mut *self.workspace;
        commands::get_run(&self.worker.shared, self.session, reply, scratch, input.unread(), gets)
            .await;
        self.commands += gets.len() as u64;
        self.replies += gets.len();
        gets.clear();
        self.offset += std::mem::take(deferred);
    }
}

/// Where the key of the request lies, if it is a GET that may wait for the GETs behind it.
#[inline]
fn deferrable_get(
    unread: &[u8],
    arguments: &Arguments,
    session: &Session,
) -> Option<(usize, usize)> {
    let request = arguments.command(unread);
    let is_get = request.len() == 2
        && request.get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"get"))
        && session.replies == Replies::On;
    if is_get { arguments.place(1) } else { None }
}

/// One exchange with the client.
struct Exchange<'x> {
    stream: &'x mut TcpStream,
    worker: &'x Rc<Worker>,
    client: &'x Client,
    workspace: &'x mut Workspace,
    soft_bytes: usize,
    purpose: Purpose,
}

impl Exchange<'_> {
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Exchanged> {
        let ending = self.client.ending();
        if ending == Ending::Cut || self.poll_send(cx).is_err() {
            return Poll::Ready(Exchanged::Cut);
        }
        let unsent = self.workspace.reply.unsent().len();
        match self.purpose {
            Purpose::Drain if unsent == 0 => return Poll::Ready(Exchanged::Sent),
            Purpose::Relieve if unsent <= self.soft_bytes => return Poll::Ready(Exchanged::Sent),
            Purpose::Drain | Purpose::Relieve => return Poll::Pending,
            Purpose::Read if ending == Ending::Finish => return Poll::Ready(Exchanged::Ended),
            Purpose::Read if unsent > self.soft_bytes => return Poll::Pending,
            Purpose::Read => {}
        }
        match self.poll_receive(cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Exchanged::Ended),
            Poll::Ready(Ok(bytes)) => Poll::Ready(Exchanged::Input(bytes)),
            Poll::Ready(Err(_)) => Poll::Ready(Exchanged::Cut),
            Poll::Pending if unsent == 0 => Poll::Ready(Exchanged::Idle),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Sends what the connection takes.
    fn poll_send(&mut self, cx: &mut TaskContext<'_>) -> io::Result<()> {
        let reply = &mut self.workspace.reply;
        if reply.unsent().is_empty() {
            return Ok(());
        }
        while !reply.unsent().is_empty() {
            match Pin::new(&mut *self.stream).poll_write(cx, reply.unsent()) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => {
                    reply.mark_sent(bytes);
                    self.worker.stats().output_bytes.add(bytes as u64);
                    self.client.stalled_since.store(0, Ordering::Relaxed);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    if self.client.stalled_since.load(Ordering::Relaxed) == 0 {
                        let now = self.worker.shared.uptime().max(1);
                        self.client.stalled_since.store(now, Ordering::Relaxed);
                    }
                    break;
                }
            }
        }
        self.client.unsent_bytes.store(reply.unsent().len(), Ordering::Relaxed);
        Ok(())
    }

    fn poll_receive(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<usize>> {
        let end = self.workspace.input.end();
        let read = pin!(self.stream.read_buf(end));
        Poll::Ready(ready!(std::future::Future::poll(read, cx)))
    }
}
