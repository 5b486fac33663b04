//! A server on a free port, and a client of bytes.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ferrokit_engine::{Env, block_on};
use ferrokit_server::{Config, Limits, Server};
use ferrokit_storage::{Host, IoBackend};

/// No reply takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that is removed at the end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ferrokit-server-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    pub(crate) fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server in this process.
pub(crate) struct TestServer {
    pub(crate) server: Server,
    _directory: Directory,
}

/// The engines the tests run on, `{}` standing for a directory.
pub(crate) const ENGINES: &[&str] = &[
    "memory:",
    "hybridlog:?memory=64MiB",
    "hybridlog:{}?memory=16MiB&page=1MiB",
    "dash:",
    "lsm:{}",
    "mvcc+memory:",
];

impl TestServer {
    pub(crate) fn on(engine: &str) -> Self {
        Self::with(engine, |_| {})
    }

    pub(crate) fn with(engine: &str, change: impl FnOnce(&mut Config)) -> Self {
        let directory = Directory::new();
        let mut config = Config::default();
        let engine = engine.replace("{}", &directory.path());
        for (name, value) in [("port", "0"), ("engine", &engine), ("workers", "2")] {
            config.set(name, value).unwrap();
        }
        change(&mut config);
        let host = Host::system(IoBackend::Auto).unwrap();
        let server = Server::start(&host, &config).unwrap();
        Self { server, _directory: directory }
    }

    pub(crate) fn memory_with(limits: Limits) -> Self {
        Self::with("memory:", |config| config.limits = limits)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.server.port())
    }
}

/// Runs a test on each engine.
pub(crate) fn on_each_engine(test: impl Fn(&TestServer)) {
    for engine in ENGINES {
        println!("engine {engine}");
        test(&TestServer::on(engine));
    }
}

pub(crate) fn sleep(millis: u64) {
    block_on(Env::system().timer.sleep(Duration::from_millis(millis)));
}

/// What `/health` says, head and all.
pub(crate) fn health(server: &Server) -> String {
    let mut http = TcpStream::connect(server.metrics_address().unwrap()).unwrap();
    http.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    http.read_to_string(&mut reply).unwrap();
    reply
}

/// Waits until `is_so`.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return;
        }
        sleep(50);
    }
    panic!("in vain: {what}");
}

/// A connection of raw bytes.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Reads exactly the bytes expected.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &[u8]) {
        let mut got = vec![0; expected.len()];
        let mut len = 0;
        while len < got.len() && got[..len] == expected[..len] {
            match self.0.read(&mut got[len..]) {
                Ok(0) => break,
                Ok(bytes) => len += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!(
                    "{error} after {:?}, expected {:?}",
                    String::from_utf8_lossy(&got[..len]),
                    String::from_utf8_lossy(expected)
                ),
            }
        }
        assert!(
            got[..len] == *expected,
            "got {:?}, expected {:?}",
            String::from_utf8_lossy(&got[..len]),
            String::from_utf8_lossy(expected)
        );
    }

    /// The connection ends, without another byte.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    /// Sends words as an array, and expects a reply.
    #[track_caller]
    pub(crate) fn check(&mut self, words: &str, reply: &str) {
        self.send(&request(&words.split(' ').collect::<Vec<_>>()));
        println!("{words}");
        self.expect(reply.as_bytes());
        // Nothing may follow: a PING's reply comes next.
        self.send(b"*2\r\n$4\r\nECHO\r\n$2\r\n~~\r\n");
        self.expect(b"$2\r\n~~\r\n");
    }

    /// Sends words as an array, and expects a reply; of a client that queues what it sends.
    #[track_caller]
    pub(crate) fn check_in_multi(&mut self, words: &str, reply: &str) {
        self.send(&request(&words.split(' ').collect::<Vec<_>>()));
        println!("{words}");
        self.expect(reply.as_bytes());
    }

    /// Sends words, and reads one reply of any kind.
    pub(crate) fn ask(&mut self, words: &str) -> Value {
        self.send(&request(&words.split(' ').collect::<Vec<_>>()));
        self.read_value()
    }

    /// All keys a SCAN with these options returns, sorted.
    pub(crate) fn scan(&mut self, options: &str) -> Vec<String> {
        let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
        for _ in 0..100_000 {
            let reply = self.ask(format!("SCAN {cursor} {options}").trim_end());
            let [next, found] = reply.array() else { panic!("{reply:?}") };
            keys.extend(found.array().iter().map(|key| key.text().to_owned()));
            cursor = next.text().to_owned();
            if cursor == "0" {
                keys.sort_unstable();
                keys.dedup();
                return keys;
            }
        }
        panic!("the scan does not end");
    }

    fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.0.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line[..line.len() - 2].to_vec()).unwrap()
    }

    pub(crate) fn read_value(&mut self) -> Value {
        let line = self.read_line();
        let (kind, rest) = line.split_at(1);
        let len: i64 = rest.parse().unwrap_or(-1);
        match kind {
            "*" if len < 0 => Value::Null,
            "*" | "~" | ">" | "%" => {
                let count = if kind == "%" { 2 * len } else { len };
                Value::Array((0..count).map(|_| self.read_value()).collect())
            }
            "$" | "=" if len >= 0 => {
                let mut bytes = vec![0; len as usize + 2];
                self.0.read_exact(&mut bytes).unwrap();
                Value::Text(String::from_utf8_lossy(&bytes[..len as usize]).into_owned())
            }
            "$" | "_" => Value::Null,
            ":" => Value::Integer(len),
            "-" => Value::Error(rest.to_owned()),
            _ => Value::Text(rest.to_owned()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Error(String),
    Array(Vec<Value>),
}

impl Value {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    pub(crate) fn array(&self) -> &[Value] {
        match self {
            Self::Array(values) => values,
            other => panic!("{other:?} is no array"),
        }
    }

    pub(crate) fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            other => panic!("{other:?} is no number"),
        }
    }
}

/// A request as an array of strings.
pub(crate) fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// The value of a field of INFO.
pub(crate) fn info_field(client: &mut Client, field: &str) -> String {
    let info = client.ask("INFO");
    let prefix = format!("{field}:");
    let found = info.text().lines().find_map(|line| line.strip_prefix(&prefix));
    found.unwrap_or_else(|| panic!("no {field}")).to_owned()
}

/// The line of the log that says the server serves, up to its port.
const READY: &str = " ready to accept connections port=";

/// The server as a process of its own.
pub(crate) struct ChildServer {
    pub(crate) child: Child,
    pub(crate) port: u16,
    /// What it logged until it was ready.
    pub(crate) log: String,
}

impl ChildServer {
    /// Starts one on a free port and waits until it is ready.
    pub(crate) fn start(options: &[&str]) -> Self {
        let mut command = command(options);
        command.arg("--port").arg("0");
        Self::of(command)
    }

    /// Starts one by a command, and waits until it is ready.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut lines = String::new();
        let port = loop {
            let start = lines.len();
            assert!(log.read_line(&mut lines).unwrap() > 0, "it did not start: {lines}");
            let line = &lines[start..];
            if line.contains(" ready to ") {
                let digits = line.split_once(READY).and_then(|(_, rest)| rest.split(' ').next());
                break digits.and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
            }
        };
        // The pipe must stay open and be read, or the server could not log.
        Env::system()
            .spawner
            .spawn(
                "log",
                Box::new(move || {
                    let _ = std::io::copy(&mut log, &mut std::io::sink());
                }),
            )
            .unwrap();
        Self { child, port, log: lines }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// As `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for an orderly end.
    #[track_caller]
    pub(crate) fn expect_success(mut self) {
        until("the server ends", || self.child.try_wait().unwrap().is_some());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server that must refuse to start; what it says.
pub(crate) fn refusal(options: &[&str]) -> String {
    refusal_of(command(options))
}

/// The same, of a command.
pub(crate) fn refusal_of(mut command: Command) -> String {
    let mut child = command.spawn().unwrap();
    for _ in 0..400 {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        sleep(50);
    }
    // One that was not refused would go on for ever.
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "it was not refused: {command:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains(" WARN ")).collect();
    assert_eq!(lines.len(), 1, "not one line: {text}");
    lines[0].to_owned()
}

/// The server with these options, yet to be started.
pub(crate) fn command(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrokit-server"));
    command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // What the tests read must not hang on how whoever runs them likes colours.
    command.env_remove("NO_COLOR");
    command
}
