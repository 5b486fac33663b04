//! Who may use the server.

mod support;

use support::{ChildServer, Client, TestServer, Value, command, request, until};

const OK: &str = "+OK\r\n";
const NOAUTH: &str = "-NOAUTH Authentication required.\r\n";
const WRONGPASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";

#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn with_password() -> TestServer {
    TestServer::with("memory:", |config| {
        config.set("requirepass", "foobar").unwrap();
    })
}

#[test]
fn nothing_but_auth_is_answered_before_the_password() {
    let server = with_password();
    let mut client = server.client();
    for words in ["SET k v", "GET k", "PING", "CONFIG GET requirepass", "MULTI"] {
        client.send(&request(&words.split(' ').collect::<Vec<_>>()));
        client.expect(NOAUTH.as_bytes());
    }
    // As Redis, it knows commands and counts arguments first.
    client.send(b"NOSUCH\r\nGET\r\n");
    client.expect(b"-ERR unknown command 'NOSUCH', with args beginning with: \r\n");
    client.expect(b"-ERR wrong number of arguments for 'get' command\r\n");
    // Pipelined GETs, which are otherwise run together.
    client.send(b"GET k\r\nGET k\r\nGET k\r\n");
    client.expect(NOAUTH.repeat(3).as_bytes());
    for (words, reply) in [
        ("AUTH wrong", WRONGPASS),
        ("AUTH default wrong", WRONGPASS),
        ("AUTH alice foobar", WRONGPASS),
        ("AUTH a b c", "-ERR syntax error\r\n"),
        ("HELLO 3 AUTH default wrong", WRONGPASS),
        (
            "HELLO 3",
            "-NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time\r\n",
        ),
        ("RESET", "+RESET\r\n"),
        ("AUTH foobar", OK),
        ("SET k v", OK),
        ("AUTH wrong", WRONGPASS),
        ("GET k", "$1\r\nv\r\n"),
        ("RESET", "+RESET\r\n"),
        ("GET k", NOAUTH),
        ("AUTH default foobar", OK),
        ("GET k", "$1\r\nv\r\n"),
    ] {
        client.send(&request(&words.split(' ').collect::<Vec<_>>()));
        client.expect(reply.as_bytes());
    }
    let mut client = server.client();
    client.send(&request(&["HELLO", "3", "AUTH", "default", "foobar", "SETNAME", "x"]));
    let hello = client.read_value();
    assert_eq!(hello.array()[1].text(), "redis");
    client.check("CLIENT GETNAME", "$1\r\nx\r\n");
}

#[test]
fn a_password_can_be_set_and_taken_away_while_the_server_runs() {
    let server = TestServer::on("memory:");
    let (mut admin, mut early) = (server.client(), server.client());
    early.check("PING", "+PONG\r\n");
    admin.check("AUTH default anything", OK);
    // Any bytes will do.
    admin.send(b"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$11\r\nrequirepass\r\n$7\r\nabc\0def\r\n");
    admin.expect(OK.as_bytes());
    // Who was let in stays in.
    early.check("PING", "+PONG\r\n");
    let mut late = server.client();
    late.send(b"PING\r\nAUTH abc\r\n*2\r\n$4\r\nAUTH\r\n$7\r\nabc\0def\r\nPING\r\n");
    late.expect(format!("{NOAUTH}{WRONGPASS}{OK}+PONG\r\n").as_bytes());
    admin.check("CONFIG SET requirepass ", OK);
    server.client().check("PING", "+PONG\r\n");
}

#[test]
fn a_client_without_a_password_gets_little_of_the_server() {
    let server = with_password();
    for (bytes, error) in [
        (&b"*100\r\n"[..], "unauthenticated multibulk length"),
        (b"*1\r\n$100000000\r\n", "unauthenticated bulk length"),
    ] {
        let mut client = server.client();
        client.send(bytes);
        client.expect(format!("-ERR Protocol error: {error}\r\n").as_bytes());
        client.expect_end();
    }
    // In one pipeline: after AUTH the limits are those of everybody.
    let mut client = server.client();
    let many = vec!["x"; 100];
    let mut input = request(&["AUTH", "foobar"]);
    input.extend(request(&[&["EXISTS"], many.as_slice()].concat()));
    client.send(&input);
    client.expect(b"+OK\r\n:0\r\n");

    let mut deaf = server.client();
    let requests = b"SET x 5\r\n".repeat(10_000);
    let is_cut_off = (0..1000).any(|_| std::io::Write::write_all(&mut deaf.0, &requests).is_err());
    assert!(is_cut_off, "its replies are kept for ever");
}

/// Another address of this machine, as another machine would see it.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: it only picks the address.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn other_machines_are_turned_away_while_there_is_no_password() {
    let Some(address) = own_address() else {
        eprintln!("skipped: the machine has no address but loopback");
        return;
    };
    let server = ChildServer::of({
        let mut command = command(&["--engine", "memory:", "--port", "0"]);
        command.args(["--bind", "0.0.0.0"]);
        command
    });
    let from_outside = || Client(std::net::TcpStream::connect((address, server.port)).unwrap());
    let mut outside = from_outside();
    let refused = outside.read_value();
    let Value::Error(error) = refused else { panic!("{refused:?}") };
    assert!(error.starts_with("DENIED Redis is running in protected mode"), "{error}");
    outside.expect_end();
    let mut inside = server.client();
    inside.check("PING", "+PONG\r\n");
    inside.check("CONFIG SET protected-mode no", OK);
    from_outside().check("PING", "+PONG\r\n");
    inside.check("CONFIG SET protected-mode yes", OK);
    until("it is refused again", || matches!(from_outside().read_value(), Value::Error(_)));
    inside.check("CONFIG SET requirepass x", OK);
    let mut outside = from_outside();
    outside.send(b"AUTH x\r\nPING\r\n");
    outside.expect(b"+OK\r\n+PONG\r\n");
}
