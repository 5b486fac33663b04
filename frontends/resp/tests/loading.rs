//! While the engine opens: the server listens, and tells clients that it is loading.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};

use ferrokit_engine::Result;
use ferrokit_server::{Config, Server};
use ferrokit_storage::{DirEntry, DirLock, File, Fs, Host, IoBackend, OpenMode, ThreadIo};
use support::{Client, Directory, Value, command, health, info_field, until};

/// Opens when it is told to.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        let is_open = self.0.lock().unwrap();
        drop(self.1.wait_while(is_open, |is_open| !*is_open).unwrap());
    }
}

/// A file system on which no directory is locked, and so no engine opened, before a gate is open.
struct GatedFs(Arc<dyn Fs>, Arc<Gate>);

impl Fs for GatedFs {
    fn backend(&self) -> &'static str {
        self.0.backend()
    }

    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn File>> {
        self.0.open(path, mode)
    }

    fn create_like(&self, path: &str, like: &str) -> Result<Arc<dyn File>> {
        self.0.create_like(path, like)
    }

    fn create_dir_all(&self, path: &str) -> Result<()> {
        self.0.create_dir_all(path)
    }

    fn list(&self, path: &str) -> Result<Vec<DirEntry>> {
        self.0.list(path)
    }

    fn exists(&self, path: &str) -> Result<bool> {
        self.0.exists(path)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.0.rename(from, to)
    }

    fn hard_link(&self, from: &str, to: &str) -> Result<()> {
        self.0.hard_link(from, to)
    }

    fn remove_file(&self, path: &str) -> Result<()> {
        self.0.remove_file(path)
    }

    fn remove_dir_all(&self, path: &str) -> Result<()> {
        self.0.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &str) -> Result<()> {
        self.0.sync_dir(path)
    }

    fn lock_dir(&self, path: &str) -> Result<Box<dyn DirLock>> {
        self.1.pass();
        self.0.lock_dir(path)
    }

    fn register_thread(&self) -> Result<Option<Box<dyn ThreadIo>>> {
        self.0.register_thread()
    }
}

/// A server whose engine opens when the gate does.
fn begin(directory: &Directory, gate: &Arc<Gate>) -> (Host, Server) {
    let mut host = Host::system(IoBackend::Auto).unwrap();
    host.fs = Arc::new(GatedFs(Arc::clone(&host.fs), Arc::clone(gate)));
    let mut config = Config::default();
    let engine = format!("lsm:{}", directory.path());
    for (name, value) in
        [("port", "0"), ("engine", &engine), ("workers", "2"), ("metrics-addr", "127.0.0.1:0")]
    {
        config.set(name, value).unwrap();
    }
    let server = Server::begin(&host, &config).unwrap();
    (host, server)
}

const LOADING: &str = "-LOADING Redis is loading the dataset in memory\r\n";

#[test]
fn until_the_engine_is_open_clients_are_told_so_and_then_served() {
    let (directory, gate) = (Directory::new(), Arc::new(Gate::default()));
    let (host, server) = begin(&directory, &gate);
    let mut client = Client::connect(server.port());
    for words in ["PING", "GET k", "SET k v", "DBSIZE", "SAVE", "DEBUG POPULATE 1"] {
        client.check_in_multi(words, LOADING);
    }
    client.send(b"GET a\r\nGET b\r\n");
    client.expect(LOADING.repeat(2).as_bytes());
    // What Redis allows meanwhile.
    client.check_in_multi("SELECT 1", "+OK\r\n");
    client.check_in_multi("CLIENT SETNAME early", "+OK\r\n");
    client.check_in_multi("CONFIG SET appendfsync always", "+OK\r\n");
    client.check_in_multi("WATCH k", "+OK\r\n");
    client.check_in_multi("MULTI", "+OK\r\n");
    client.check_in_multi("SET k v", LOADING);
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    client.check_in_multi("EXEC", aborted);
    assert_eq!(info_field(&mut client, "loading"), "1");
    assert_ne!(info_field(&mut client, "loading_start_time"), "0");
    let health_then = health(&server);
    assert!(health_then.starts_with("HTTP/1.1 503 "), "{health_then}");
    client.check_in_multi("WATCH k", "+OK\r\n");

    gate.open();
    host.wait(server.opened()).unwrap();
    assert_eq!(info_field(&mut client, "loading"), "0");
    // What became of the key while nothing could be seen of it, nobody knows.
    client.check_in_multi("MULTI", "+OK\r\n");
    client.check_in_multi("SET k v", "+QUEUED\r\n");
    client.check_in_multi("EXEC", "*-1\r\n");
    client.check("WATCH k", "+OK\r\n");
    client.check_in_multi("MULTI", "+OK\r\n");
    client.check_in_multi("SET k v", "+QUEUED\r\n");
    client.check_in_multi("EXEC", "*1\r\n+OK\r\n");
    assert_eq!(client.ask("CLIENT GETNAME"), Value::Text("early".to_owned()));
    assert_eq!(info_field(&mut client, "appendfsync"), "always");
    assert_eq!(info_field(&mut client, "db1"), "keys=1,expires=0,avg_ttl=0");
    assert!(health(&server).starts_with("HTTP/1.1 200 "));
    server.shutdown().unwrap();
}

#[test]
fn a_server_that_ends_before_its_engine_is_open_leaves_nothing_open() {
    let (directory, gate) = (Directory::new(), Arc::new(Gate::default()));
    let (_host, server) = begin(&directory, &gate);
    let mut client = Client::connect(server.port());
    client.check_in_multi("PING", LOADING);
    server.shutdown().unwrap();
    client.expect_end();
    gate.open();
    // Its lock is free as soon as it was opened and closed.
    until("another one opens", || {
        let (host, server) = begin(&directory, &gate);
        host.wait(server.opened()).is_ok_and(|()| server.shutdown().is_ok())
    });
}

#[test]
fn a_signal_or_shutdown_ends_a_server_that_is_loading() {
    for end in ["TERM", "INT", "SHUTDOWN"] {
        let directory = Directory::new();
        let path = directory.path();
        // Opened for reading, a pipe waits for a writer: so does the server.
        let pipe = format!("mkdir -p {path} && mkfifo {path}/CURRENT");
        assert!(Command::new("sh").args(["-c", &pipe]).status().unwrap().success());
        let engine = format!("lsm:{path}");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child =
            command(&["--engine", &engine, "--port", &port.to_string()]).spawn().unwrap();
        let mut client = None;
        until("it listens", || {
            client = TcpStream::connect(("127.0.0.1", port)).ok().map(Client);
            client.is_some()
        });
        let mut client = client.unwrap();
        client.check_in_multi("GET k", LOADING);
        match end {
            "SHUTDOWN" => client.send(b"SHUTDOWN SAVE\r\n"),
            signal => {
                let pid = child.id().to_string();
                assert!(
                    Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success()
                );
            }
        }
        until("it ends", || child.try_wait().unwrap().is_some());
        assert!(child.wait().unwrap().success(), "{end}");
    }
}
