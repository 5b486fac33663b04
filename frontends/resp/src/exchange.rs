//! [`Exchange`]: what is unsent goes out in one write, what is there comes in.

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::client::{Client, Ending};
use crate::worker::Worker;
use crate::workspace::Workspace;

/// What an exchange came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchanged {
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
pub(crate) enum Purpose {
    /// To read more.
    Read,
    /// To get below the soft bound.
    Relieve,
    /// To send everything.
    Drain,
    /// To send what there is, on and on, while a request is put off.
    Hold,
}

/// One exchange with the client.
pub(crate) struct Exchange<'x> {
    pub(crate) stream: &'x mut TcpStream,
    pub(crate) worker: &'x Rc<Worker>,
    pub(crate) client: &'x Arc<Client>,
    pub(crate) workspace: &'x mut Workspace,
    pub(crate) soft_bytes: usize,
    pub(crate) purpose: Purpose,
}

impl Exchange<'_> {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Exchanged> {
        if self.client.has_pushes() {
            self.client.take_pushes(&mut self.workspace.reply);
            if self.workspace.reply.has_overflowed() {
                self.client.end_over_limit();
            }
        }
        let ending = self.client.ending();
        if ending == Ending::Cut || self.poll_send(cx).is_err() {
            return Poll::Ready(Exchanged::Cut);
        }
        let unsent = self.workspace.reply.unsent().len();
        match self.purpose {
            Purpose::Drain if unsent == 0 => return Poll::Ready(Exchanged::Sent),
            Purpose::Relieve if unsent <= self.soft_bytes => return Poll::Ready(Exchanged::Sent),
            Purpose::Hold => {
                let is_over = ending == Ending::Finish || self.has_left(cx);
                return if is_over { Poll::Ready(Exchanged::Ended) } else { Poll::Pending };
            }
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
    fn poll_send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
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
        self.client.sizes.unsent.store(reply.unsent().len(), Ordering::Relaxed);
        Ok(())
    }

    /// Whether the client has closed the connection. Behind requests that wait it is not seen.
    fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        let peeked = self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte));
        matches!(peeked, Poll::Ready(Ok(0) | Err(_)))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let end = self.workspace.input.end();
        let read = pin!(self.stream.read_buf(end));
        Poll::Ready(ready!(std::future::Future::poll(read, cx)))
    }
}
