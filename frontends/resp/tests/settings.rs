//! Parameters: CONFIG, and where a server takes them from when it starts.

mod support;

use std::process::Stdio;

use support::{ChildServer, Client, Directory, TestServer, Value, command, refusal, refusal_of};

const OK: &str = "+OK\r\n";
const FAILED: &str = "-ERR CONFIG SET failed (possibly related to argument ";

#[track_caller]
fn value(client: &mut Client, name: &str) -> String {
    match client.ask(&format!("CONFIG GET {name}")).array() {
        [shown, value] => {
            assert_eq!(shown.text(), name);
            value.text().to_owned()
        }
        other => panic!("{name}: {other:?}"),
    }
}

fn on_memory() -> (TestServer, Client) {
    let server = TestServer::on("memory:");
    let client = server.client();
    (server, client)
}

#[test]
fn config_get_takes_names_and_patterns_and_answers_each_name_once() {
    let (_server, mut client) = on_memory();
    client.check("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
    client.check("CONFIG GET nope", "*0\r\n");
    client.check("CONFIG GET nope nope*", "*0\r\n");
    client.check("CONFIG GET Databases", "*2\r\n$9\r\nDatabases\r\n$2\r\n16\r\n");
    assert_eq!(client.ask("CONFIG GET maxm*").array().len(), 10);
    assert_eq!(client.ask("CONFIG GET maxmemory maxm* MAXMEMORY").array().len(), 10);
    client.check("CONFIG GET *aveof", "*2\r\n$7\r\nslaveof\r\n$0\r\n\r\n");
    assert_eq!(client.ask("CONFIG GET slaveof replicaof").array().len(), 4);
    client.check("CONFIG GET", "-ERR wrong number of arguments for 'config|get' command\r\n");
    client.check("CONFIG HELP x", "-ERR wrong number of arguments for 'config|help' command\r\n");
    assert_eq!(client.ask("CONFIG HELP").array().len(), 11);
    client.check("CONFIG FOO", "-ERR unknown subcommand 'FOO'. Try CONFIG HELP.\r\n");
}

#[test]
fn config_set_refuses_in_the_words_of_redis() {
    let (_server, mut client) = on_memory();
    let integer = "argument couldn't be parsed into an integer";
    for (words, error) in [
        ("tcp-backlog 5", "'tcp-backlog') - can't set immutable config"),
        ("databases 3", "'databases') - can't set immutable config"),
        ("timeout abc", &*format!("'timeout') - {integer}")),
        ("timeout 5k", &*format!("'timeout') - {integer}")),
        ("timeout -1", "'timeout') - argument must be between 0 and 2147483647 inclusive"),
        ("maxclients 0", "'maxclients') - argument must be between 1 and 4294967295 inclusive"),
        ("maxmemory xx", "'maxmemory') - argument must be a memory value"),
        ("maxmemory -1", "'maxmemory') - argument must be a memory value"),
        ("maxmemory 1.5gb", "'maxmemory') - argument must be a memory value"),
        ("appendonly maybe", "'appendonly') - argument must be 'yes' or 'no'"),
        (
            "appendfsync nope",
            "'appendfsync') - argument(s) must be one of the following: everysec, always, no",
        ),
        (
            "maxmemory-policy nope",
            "'maxmemory-policy') - argument(s) must be one of the following: volatile-lru, \
             volatile-lfu, volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, \
             allkeys-random, noeviction",
        ),
        (
            "notify-keyspace-events KEQ",
            "'notify-keyspace-events') - Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
        ),
        (
            "latency-tracking-info-percentiles x",
            "'latency-tracking-info-percentiles') - Invalid latency-tracking-info-percentiles \
             parameters",
        ),
        ("rdbcompression no", "'rdbcompression') - there are no RDB files"),
        ("timeout 1 timeout 2", "'timeout') - duplicate parameter"),
        ("replicaof x", "'replicaof') - can't set immutable config"),
    ] {
        client.check(&format!("CONFIG SET {words}"), &format!("{FAILED}{error}\r\n"));
    }
    client.check(
        "CONFIG SET nope 1",
        "-ERR Unknown option or number of arguments for CONFIG SET - 'nope'\r\n",
    );
    client.check("CONFIG SET timeout 1 appendonly", "-ERR syntax error\r\n");
    client
        .check("CONFIG SET timeout", "-ERR wrong number of arguments for 'config|set' command\r\n");
    let Value::Error(error) = client.ask("CONFIG SET maxclients 1000000000") else { panic!() };
    assert!(error.contains("The operating system is not able to handle"), "{error}");
    assert_ne!(value(&mut client, "maxclients"), "1000000000");
}

#[test]
fn config_set_takes_all_or_nothing() {
    let (_server, mut client) = on_memory();
    client.check("CONFIG SET timeout 7 MaxMemory 1gb slowlog-max-len 5", OK);
    assert_eq!(value(&mut client, "timeout"), "7");
    assert_eq!(value(&mut client, "maxmemory"), "1073741824");
    for wrong in ["maxmemory x", "nope 1", "databases 1", "timeout 9", "maxclients 1000000000"] {
        let reply = client.ask(&format!("CONFIG SET timeout 8 slowlog-max-len 6 {wrong}"));
        assert!(matches!(reply, Value::Error(_)), "{wrong}: {reply:?}");
        assert_eq!(value(&mut client, "timeout"), "7", "{wrong}");
        assert_eq!(value(&mut client, "slowlog-max-len"), "5", "{wrong}");
    }
    assert_ne!(value(&mut client, "maxclients"), "1000000000");
}

/// What CONFIG GET shows is taken back, and comes to the same.
#[test]
fn what_is_shown_can_be_set() {
    let (_server, mut client) = on_memory();
    let all = |client: &mut Client| client.ask("CONFIG GET *").array().to_vec();
    let before = all(&mut client);
    assert!(before.len() > 60, "{}", before.len());
    for pair in before.chunks(2) {
        let (name, value) = (pair[0].text(), pair[1].text());
        client.send(&support::request(&["CONFIG", "SET", name, value]));
        match client.read_value() {
            Value::Text(text) => assert_eq!(text, "OK"),
            Value::Error(error) => {
                assert!(
                    error.ends_with("can't set immutable config")
                        || error.ends_with("can't set protected config"),
                    "{error}"
                )
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(all(&mut client), before);
    for (name, set, shown) in [
        ("notify-keyspace-events", "KEA", "AKE"),
        ("notify-keyspace-events", "g$lshzxet", "g$lshzxet"),
        ("notify-keyspace-events", "g$lshzxetd", "A"),
        ("notify-keyspace-events", "KEnm", "nKEm"),
        ("appendonly", "NO", "no"),
        ("maxmemory-policy", "ALLKEYS-LRU", "allkeys-lru"),
        ("maxmemory", "2k", "2000"),
    ] {
        client.check(&format!("CONFIG SET {name} {set}"), OK);
        assert_eq!(value(&mut client, name), shown);
        client.check(&format!("CONFIG SET {name} {shown}"), OK);
        assert_eq!(value(&mut client, name), shown);
    }
}

/// An engine that keeps nothing cannot be told to.
#[test]
fn durability_is_refused_where_it_cannot_be_had() {
    let (_server, mut client) = on_memory();
    assert_eq!(value(&mut client, "appendonly"), "no");
    for words in ["appendfsync always", "appendonly yes"] {
        let Value::Error(error) = client.ask(&format!("CONFIG SET {words}")) else { panic!() };
        assert!(error.contains("memory"), "{error}");
    }
    assert_eq!(value(&mut client, "appendonly"), "no");
    assert_eq!(value(&mut client, "appendfsync"), "everysec");
    let error = refusal(&["--engine", "memory:", "--appendonly", "yes"]);
    assert!(error.contains("needs an engine that keeps data"), "{error}");

    let server = TestServer::on("lsm:{}");
    let mut client = server.client();
    assert_eq!(value(&mut client, "appendonly"), "yes");
    client.check("CONFIG SET appendfsync always", OK);
    client.check("SET k v", OK);
    client.check("CONFIG RESETSTAT", OK);
}

/// With `appendonly no` nothing is logged; switched on, what follows is.
#[test]
fn appendonly_switches_the_log_of_writes() {
    let directory = Directory::new();
    let engine = format!("lsm:{}", directory.path());
    let options = ["--engine", engine.as_str(), "--appendfsync", "always", "--appendonly", "no"];
    let server = ChildServer::start(&options);
    let mut client = server.client();
    let log = |client: &mut Client| support::info_field(client, "engine_log_records");
    let before = log(&mut client);
    client.check("SET lost v", OK);
    assert_eq!(log(&mut client), before);
    client.check("CONFIG SET appendonly yes", OK);
    client.check("SET kept v", OK);
    assert_ne!(log(&mut client), before);
    server.kill();
    let server = ChildServer::start(&["--engine", &engine]);
    let mut client = server.client();
    client.check("GET kept", "$1\r\nv\r\n");
    client.check("GET lost", "$-1\r\n");
}

#[expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a file of an operator")]
fn write(directory: &Directory, name: &str, text: &str) -> String {
    std::fs::create_dir_all(directory.path()).unwrap();
    let path = format!("{}/{name}", directory.path());
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn later_sources_count_for_more() {
    let directory = Directory::new();
    let included = write(&directory, "more.conf", "slowlog-max-len 3\n");
    let file = write(
        &directory,
        "redis.conf",
        &format!(
            "# comment\n\n  timeout 11\nMAXMEMORY 1mb\nmaxmemory-samples 9\nrequirepass ''\n\
             logfile \"\"\nengine memory:\nrdbcompression yes\ncluster-enabled no\ntls-port 0\n\
             include {included}\n"
        ),
    );
    let options = [file.as_str(), "--maxmemory-samples", "3", "--maxmemory=4mb", "--port", "0"];
    let mut command = command(&options);
    command.env("FERROKIT_MAXMEMORY", "2mb").env("FERROKIT_TIMEOUT", "12");
    command.env("FERROKIT_BIND", "127.0.0.1 -::1");
    let server = ChildServer::of(command);
    // Read from the log, for it is told there that it does nothing.
    assert!(server.log.contains("rdbcompression"), "{}", server.log);
    let mut client = server.client();
    for (name, expected) in [
        ("timeout", "12"),
        ("maxmemory", "4194304"),
        ("maxmemory-samples", "3"),
        ("slowlog-max-len", "3"),
        ("bind", "127.0.0.1 -::1"),
        ("port", &server.port.to_string()),
    ] {
        assert_eq!(value(&mut client, name), expected, "{name}");
    }
}

#[test]
fn toml_and_standard_input_are_read() {
    let directory = Directory::new();
    let file = write(
        &directory,
        "server.toml",
        "engine = 'memory:' # here\nbind = ['127.0.0.1']\nport = 0\nlatency_tracking = false\n\
         [memory]\nmaxmemory = '3mb'\nmaxmemory-samples = 4\n",
    );
    let mut started = command(&[&file, "-"]);
    started.stdin(Stdio::piped());
    // Small enough for the pipe to take it before anybody reads.
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"maxmemory-samples 8\ntimeout 5\n").unwrap();
    drop(writer);
    started.stdin(reader);
    let server = ChildServer::of(started);
    let mut client = server.client();
    for (name, expected) in [
        ("maxmemory", "3145728"),
        ("maxmemory-samples", "8"),
        ("timeout", "5"),
        ("latency-tracking", "no"),
    ] {
        assert_eq!(value(&mut client, name), expected, "{name}");
    }
}

#[test]
fn what_cannot_be_understood_stops_the_start_with_a_line() {
    let directory = Directory::new();
    for (text, expected) in [
        ("timeout 1\nfoo 1", "line 2: foo: unknown parameter; ferrokit-server --help lists them"),
        ("timeout", "line 1: timeout '': wrong number of arguments"),
        ("timeout 1 2", "line 1: timeout '1 2': wrong number of arguments"),
        ("timeout x", "line 1: timeout 'x': argument couldn't be parsed into an integer"),
        ("logfile \"a", "line 1: a quote is not closed"),
        ("tls-port 6380", "line 1: tls-port: there is no TLS"),
        ("user alice on", "line 1: user: there is one user"),
        ("rename-command FLUSHALL ''", "line 1: rename-command: commands keep their names"),
        ("cluster-enabled yes", "line 1: cluster-enabled 'yes': only 'no' is possible here"),
        ("bind localhorst", "'localhorst' is no IP address"),
        ("bind \"\"", "no address to listen on; give --bind"),
    ] {
        let file = write(&directory, "redis.conf", text);
        let error = refusal(&[&file, "--engine", "memory:", "--port", "0"]);
        assert!(error.contains(expected), "{text}: {error}");
    }
    for (text, expected) in [
        ("timeout = 1\nfoo = 1", "line 2: foo: unknown parameter"),
        ("timeout = [[1]]", "line 1: timeout: must be a string, a number, true, false"),
        ("timeout = ", "line 1: "),
        ("[[a]]\nx = 1", "a table cannot stand here"),
    ] {
        let file = write(&directory, "server.toml", text);
        let error = refusal(&[&file, "--engine", "memory:", "--port", "0"]);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let circle = write(&directory, "circle.conf", "");
    write(&directory, "circle.conf", &format!("include {circle}\n"));
    for (options, expected) in [
        (
            &["/nonexistent/a.conf"][..],
            "/nonexistent/a.conf: the configuration file cannot be read",
        ),
        (&[&circle], "is it a circle?"),
        (&["--port"], "--port '': wrong number of arguments"),
        (&["--port", "--loglevel", "verbose"], "--port '--loglevel verbose': wrong number"),
        (&["--foo", "1"], "--foo: unknown parameter"),
        (&["x.conf", "y"], "'y' is no option"),
        (&["--engine", "memory:", "--logfile", "/nonexistent/x"], "choose another file"),
    ] {
        let error = refusal(options);
        assert!(error.contains(expected), "{options:?}: {error}");
    }
    let mut wrong = command(&["--engine", "memory:", "--port", "0"]);
    wrong.env("FERROKIT_MAXCLIENTS", "many");
    let error = refusal_of(wrong);
    assert!(error.contains("FERROKIT_MAXCLIENTS 'many': argument couldn't"), "{error}");
}

#[test]
fn the_command_line_explains_itself() {
    for (option, expected) in [
        ("--help", &["--maxmemory-policy", "FERROKIT_PORT", "[default: 6379]", "--save"][..]),
        ("--version", &["ferrokit-server 0."]),
        ("--engines", &["lsm:./data"]),
    ] {
        let mut command = command(&[option]);
        let output = command.stdout(Stdio::piped()).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        for expected in expected {
            assert!(text.contains(expected), "{option} lacks {expected}: {text}");
        }
    }
}

#[test]
fn the_log_goes_to_a_file_that_can_be_moved_away() {
    let directory = Directory::new();
    let log = write(&directory, "log", "before\n");
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut started = command(&["--engine", "memory:", "--port", "0", "--logfile", &log]);
    started.args(["--log-format", "json"]);
    let mut child = started.stderr(Stdio::null()).spawn().unwrap();
    support::until("it is ready", || read(&log).contains("ready to accept connections"));
    let text = read(&log);
    assert!(text.starts_with("before\n"), "{text}");
    let ready = text.lines().find(|line| line.contains("ready to")).unwrap();
    assert!(ready.starts_with('{') && ready.ends_with('}'), "{ready}");
    let port = ready.split_once("\"port\":").unwrap().1.split([',', '}']).next().unwrap();
    let mut client = Client::connect(port.parse().unwrap());

    let moved = format!("{log}.1");
    #[expect(clippy::disallowed_methods, reason = "as logrotate does")]
    std::fs::rename(&log, &moved).unwrap();
    let hang_up = || {
        let pid = child.id().to_string();
        assert!(
            std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success()
        );
    };
    hang_up();
    support::until("the file is there again", || std::path::Path::new(&log).exists());
    client.check("CONFIG SET loglevel nothing", OK);
    client.send(b"POST / HTTP/1.1\r\n");
    client.expect_end();
    assert_eq!(read(&log), "");
    let mut client = Client::connect(port.parse().unwrap());
    client.check("CONFIG SET loglevel warning", OK);
    client.send(b"POST / HTTP/1.1\r\n");
    client.expect_end();
    support::until("it is told", || read(&log).contains("it speaks HTTP"));
    child.kill().unwrap();
    child.wait().unwrap();
}
