//! What operators meet: metrics, health, systemd, the file of the process's number, other ports.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use ferrokit_engine::Env;
use support::{
    ChildServer, Client, Directory, TestServer, Value, command, refusal, refusal_of, until,
};

const OK: &str = "+OK\r\n";

/// The head and the body of the answer to a request.
#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn http(address: std::net::SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
        .write_all(format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.to_owned(), body.to_owned())
}

#[test]
fn metrics_count_what_the_server_did() {
    let server = TestServer::with("lsm:{}", |config| {
        config.set("metrics-addr", "127.0.0.1:0").unwrap();
    });
    let address = server.server.metrics_address().unwrap();
    let mut client = server.client();
    for number in 0..10 {
        client.check(&format!("SET k{number} v"), OK);
    }
    client.check("GET nope", "$-1\r\n");
    let (head, body) = http(address, "GET /metrics HTTP/1.1");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let figure = |name: &str| -> u64 {
        let line = body.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}: {body}")).parse().unwrap()
    };
    assert_eq!(figure("ferrokit_key_changes_total"), 10);
    assert_eq!(figure("ferrokit_keyspace_misses_total"), 1);
    assert_eq!(figure("ferrokit_connected_clients"), 1);
    assert!(figure("ferrokit_commands_total") >= 11);
    assert!(figure("ferrokit_engine_log_records{engine=\"lsm\"}") >= 10);
    // Every figure is described once, before it comes.
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let described = body.matches(&format!("# TYPE {name} ")).count();
        assert_eq!(described, 1, "{name}");
        assert!(body.find(&format!("# TYPE {name} ")) < body.find(line), "{name}");
    }
    assert_eq!(http(address, "GET /health HTTP/1.1").1, "ok\n");
    assert!(http(address, "GET / HTTP/1.1").0.starts_with("HTTP/1.1 404"));
    assert!(http(address, "POST /metrics HTTP/1.1").0.starts_with("HTTP/1.1 405"));
    assert!(http(address, "nonsense").0.starts_with("HTTP/1.1 400"));
    // Scrapers that say nothing keep nobody out for long, and end with the server.
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(http(address, "GET /health HTTP/1.1").1, "ok\n");
    let TestServer { server, .. } = server;
    server.shutdown().unwrap();
    assert!(TcpStream::connect(address).is_err());
    drop(silent);
}

#[test]
fn requests_that_do_not_end_keep_no_scraper_out() {
    let server = TestServer::with("memory:", |config| {
        config.set("metrics-addr", "127.0.0.1:0").unwrap();
    });
    let address = server.server.metrics_address().unwrap();
    let half = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nHost:").unwrap();
        stream
    };
    let clock = Env::system().clock;
    let begun = clock.monotonic();
    let mut last = half();
    // It is the only one, and has to end.
    let ended = |stream: &mut TcpStream| match stream.read(&mut [0; 64]) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    assert!(ended(&mut last), "half a request may last");
    assert!(clock.monotonic() - begun >= Duration::from_secs(1), "it had no time");

    let mut all: Vec<_> = (0..33).map(|_| half()).collect();
    assert_eq!(http(address, "GET /health HTTP/1.1").1, "ok\n");
    let mut last = all.pop().unwrap();
    assert!(ended(&mut all[0]), "the oldest one keeps its place");
    // It was not its time that ended it: that of the last one is hardly later.
    last.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(!ended(&mut last), "the youngest one lost its place");
}

#[test]
fn metrics_are_off_by_default_and_their_address_is_checked() {
    assert!(TestServer::on("memory:").server.metrics_address().is_none());
    for (address, expected) in
        [("9121", "argument must be an address and a port"), ("203.0.113.1:1", "choose another")]
    {
        let error = refusal(&["--engine", "memory:", "--port", "0", "--metrics-addr", address]);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn systemd_is_told_and_the_number_is_written() {
    let directory = Directory::new();
    #[expect(clippy::disallowed_methods, reason = "an operator's directory")]
    std::fs::create_dir_all(directory.path()).unwrap();
    let path = format!("{}/notify", directory.path());
    let number = format!("{}/pid", directory.path());
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let mut started = command(&["--engine", "memory:", "--port", "0", "--pidfile", &number]);
    started.args(["--supervised", "systemd"]).env("NOTIFY_SOCKET", &path);
    let server = ChildServer::of(started);
    assert!(told().starts_with("READY=1\n"));
    let written = std::fs::read_to_string(&number).unwrap();
    assert_eq!(written, format!("{}\n", server.child.id()));
    server.client().send(b"SHUTDOWN\r\n");
    assert!(told().starts_with("STOPPING=1\n"));
    server.expect_success();
    assert!(!std::path::Path::new(&number).exists());

    let mut wrong = command(&["--engine", "memory:", "--port", "0", "--supervised", "systemd"]);
    wrong.env_remove("NOTIFY_SOCKET");
    let error = refusal_of(wrong);
    assert!(error.contains("NOTIFY_SOCKET is not set"), "{error}");
}

/// Whether somebody who comes now is served.
fn answers(port: u16) -> bool {
    let mut reply = [0; 7];
    let asked = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut reply)
    });
    asked.is_ok() && reply == *b"+PONG\r\n"
}

#[test]
fn the_port_can_be_changed_while_the_server_runs() {
    let server = TestServer::on("memory:");
    let old = server.server.port();
    let mut client = server.client();
    let port = |client: &mut Client| -> u16 {
        client.ask("CONFIG GET port").array()[1].text().parse().unwrap()
    };
    // Taken by somebody else: nothing changes, of the other parameter neither.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let Value::Error(error) = client.ask(&format!("CONFIG SET timeout 77 port {taken_port}"))
    else {
        panic!()
    };
    let expected = "(possibly related to argument 'port') - Unable to listen on this port. Check \
                    server logs.";
    assert!(error.ends_with(expected), "{error}");
    assert_eq!(port(&mut client), old);
    assert_eq!(client.ask("CONFIG GET timeout").array()[1].text(), "0");
    Client::connect(old).check("PING", "+PONG\r\n");

    client.check("CONFIG SET port 0", OK);
    let new = port(&mut client);
    assert_ne!(new, old);
    Client::connect(new).check("PING", "+PONG\r\n");
    until("the old one is closed", || TcpStream::connect(("127.0.0.1", old)).is_err());
    client.check("PING", "+PONG\r\n");

    client.send(&support::request(&["CONFIG", "SET", "bind", "127.0.0.1 127.0.0.3"]));
    client.expect(OK.as_bytes());
    until("it listens there, too", || TcpStream::connect(("127.0.0.3", new)).is_ok());
    // Who came to a worker's old listener as it was closed has to come again.
    until("it listens where it did", || answers(new));
    let Value::Error(error) = client.ask("CONFIG SET bind 203.0.113.1") else { panic!() };
    assert!(error.ends_with("'bind') - Failed to bind to specified addresses."), "{error}");
    until("it still does", || answers(new));
}
