//! Clients that mean harm: each kind is a table row, driven by a thread of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::SockRef;

use crate::support::{request, sleep};

/// How a kind of hostile clients behaves.
pub(crate) struct Kind {
    name: &'static str,
    /// What each sends first.
    prelude: fn() -> Vec<u8>,
    /// What it sends then, again and again.
    body: fn() -> Vec<u8>,
    /// So much of it at a time.
    chunk_bytes: usize,
    /// Whether it takes its replies.
    reads: bool,
    /// Milliseconds between two chunks of a client.
    pause_ms: u64,
    /// After so many chunks it leaves, and another comes.
    chunks: usize,
}

const KIND: Kind = Kind {
    name: "",
    prelude: Vec::new,
    body: Vec::new,
    chunk_bytes: 64 << 10,
    reads: true,
    pause_ms: 1,
    chunks: usize::MAX,
};

pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "sends a command byte by byte",
        prelude: || b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n".to_vec(),
        body: || vec![b'x'; 64],
        chunk_bytes: 1,
        pause_ms: 20,
        ..KIND
    },
    Kind {
        name: "announces a giant",
        prelude: || b"*1048576\r\n$536870912\r\n".to_vec(),
        body: || vec![b'x'; 4096],
        chunk_bytes: 4096,
        pause_ms: 5,
        chunks: 4000,
        ..KIND
    },
    Kind {
        name: "reads no reply",
        prelude: || request(&["SET", "big", &"x".repeat(100_000)]),
        body: || b"GET big\r\n".repeat(100),
        reads: false,
        ..KIND
    },
    Kind {
        name: "sends a pipeline without end",
        body: || b"INCR n\r\nSET k v\r\nGET k\r\nGET k\r\nPING\r\n".repeat(2000),
        ..KIND
    },
    Kind { name: "sends garbage", body: garbage, chunk_bytes: 512, pause_ms: 5, ..KIND },
    Kind { name: "connects and leaves", body: || b"PING\r\n".to_vec(), chunks: 1, ..KIND },
    Kind {
        name: "subscribes and does not read",
        prelude: || {
            let channels = (0..1000).map(|it| format!("news{it}")).collect::<Vec<_>>().join(" ");
            format!("SUBSCRIBE news {channels}\r\nPSUBSCRIBE n* ne* *s\r\n").into_bytes()
        },
        body: || request(&["PUBLISH", "news", "again"]),
        reads: false,
        pause_ms: 10,
        ..KIND
    },
    Kind {
        name: "publishes without end",
        body: || request(&["PUBLISH", "news", &"x".repeat(1000)]).repeat(8),
        chunk_bytes: 8 << 10,
        pause_ms: 5,
        ..KIND
    },
    Kind {
        name: "watches without end",
        body: || {
            (0..40_000).flat_map(|it| format!("WATCH watched:{it}\r\n").into_bytes()).collect()
        },
        ..KIND
    },
    Kind {
        name: "queues without end",
        prelude: || b"MULTI\r\n".to_vec(),
        body: || request(&["SET", "queued", &"x".repeat(1000)]).repeat(64),
        ..KIND
    },
];

/// Pieces of commands, in no order.
fn garbage() -> Vec<u8> {
    const PIECES: &[&[u8]] = &[
        b"*3\r\n",
        b"$5\r\n",
        b"\r\n",
        b"GET",
        b" ",
        b"\x00\xff",
        b"\"",
        b"SET k",
        b"PING\r\n",
        b"*-1\r\n",
        b"$-1\r\n",
        b"MGET a b\r\n",
        b"HELLO 3\r\n",
        b"EVAL x 0\r\n",
        b"*1\r\n$0\r\n\r\n",
    ];
    let mut state = 7_u64;
    let mut next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    (0..10_000).flat_map(|_| PIECES[next() % PIECES.len()].to_vec()).collect()
}

/// One hostile client.
#[derive(Default)]
struct Foe {
    stream: Option<TcpStream>,
    /// Of the prelude.
    rest: Vec<u8>,
    /// Where in the body it is.
    at: usize,
    chunks: usize,
}

/// `count` clients of a kind do what they do until it is over.
pub(crate) fn harass(kind: &Kind, count: usize, port: u16, is_over: &AtomicBool) {
    // They stand for other machines: server and honest clients have the processor before them.
    let me = rustix::thread::gettid();
    let _ = rustix::process::setpriority_process(Some(me), 19);
    let body = (kind.body)();
    let mut foes: Vec<Foe> = (0..count).map(|_| Foe::default()).collect();
    let (mut sent, mut connected) = (0_u64, 0_u64);
    let mut buffer = vec![0; 64 << 10];
    while !is_over.load(Ordering::Relaxed) {
        for foe in &mut foes {
            if foe.stream.is_none() {
                *foe = Foe::connect(port, (kind.prelude)());
                connected += u64::from(foe.stream.is_some());
            }
            match foe.act(kind, &body, &mut buffer) {
                Ok(bytes) => sent += bytes as u64,
                Err(_) => foe.stream = None,
            }
        }
        sleep(kind.pause_ms);
    }
    println!("{count} times one that {}: {connected} connections, {sent} bytes", kind.name);
}

impl Foe {
    fn connect(port: u16, prelude: Vec<u8>) -> Self {
        let connected = TcpStream::connect(("127.0.0.1", port)).and_then(|stream| {
            stream.set_nonblocking(true)?;
            // It leaves with a reset: no port is kept waiting.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            Ok(stream)
        });
        Self { stream: connected.ok(), rest: prelude, at: 0, chunks: 0 }
    }

    /// Sends a chunk as far as the server takes it; how much that was.
    fn act(&mut self, kind: &Kind, body: &[u8], buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(stream) = &mut self.stream else { return Ok(0) };
        let from_prelude = !self.rest.is_empty();
        let chunk = if from_prelude {
            &self.rest[..]
        } else {
            &body[self.at..body.len().min(self.at + kind.chunk_bytes)]
        };
        let sent = match stream.write(chunk) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if from_prelude {
            self.rest.drain(..sent);
        } else {
            self.at = (self.at + sent) % body.len();
            self.chunks += usize::from(sent > 0);
        }
        if kind.reads {
            // What it is answered, as long as there is some.
            for _ in 0..16 {
                match stream.read(buffer) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(bytes) if bytes == buffer.len() => {}
                    Ok(_) => break,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        if self.chunks >= kind.chunks {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        Ok(sent)
    }
}
