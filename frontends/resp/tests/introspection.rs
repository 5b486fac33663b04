//! What a server tells of itself: COMMAND, INFO, SLOWLOG, LATENCY, MEMORY, DEBUG and the like.

mod support;

use support::{Client, TestServer, Value, info_field, request, until};

const OK: &str = "+OK\r\n";

fn debuggable() -> TestServer {
    TestServer::with("memory:", |config| {
        config.set("enable-debug-command", "yes").expect("a value of the parameter");
    })
}

/// The fields of an INFO section.
fn info(client: &mut Client, section: &str) -> Vec<(String, String)> {
    let text = client.ask(&format!("INFO {section}"));
    let fields = text.text().lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn field(fields: &[(String, String)], name: &str) -> String {
    let found = fields.iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("no {name} in {fields:?}")).1.clone()
}

fn number(value: &str, name: &str) -> u64 {
    let (_, rest) = value.split_once(&format!("{name}=")).expect("the figure");
    rest.split(',').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn commands_are_counted_with_what_they_took_and_how_they_ended() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    client.check("CONFIG RESETSTAT", OK);
    let batch: Vec<u8> = (0..40).flat_map(|_| request(&["SET", "k", "v"])).collect();
    client.send(&batch);
    client.expect(&b"+OK\r\n".repeat(40));
    let gets: Vec<u8> = (0..10).flat_map(|_| request(&["GET", "k"])).collect();
    client.send(&gets);
    client.expect(&b"$1\r\nv\r\n".repeat(10));
    client.check("INCR k", "-ERR value is not an integer or out of range\r\n");
    client.ask("INCR");
    client.ask("NOPE");
    client.ask("OBJECT NOPE k");
    client.check_in_multi("MULTI", OK);
    client.check_in_multi("SET k 1", "+QUEUED\r\n");
    client.check_in_multi("INCR k", "+QUEUED\r\n");
    client.check("EXEC", "*2\r\n+OK\r\n:2\r\n");
    let stats = info(&mut client, "commandstats");
    let set = field(&stats, "cmdstat_set");
    assert_eq!((number(&set, "calls"), number(&set, "failed_calls")), (41, 0), "{set}");
    assert_eq!(number(&field(&stats, "cmdstat_get"), "calls"), 10);
    let incr = field(&stats, "cmdstat_incr");
    let figures = ["calls", "rejected_calls", "failed_calls"].map(|it| number(&incr, it));
    assert_eq!(figures, [2, 1, 1], "{incr}");
    assert_eq!(number(&field(&stats, "cmdstat_exec"), "calls"), 1);
    assert_eq!(number(&field(&stats, "cmdstat_config|resetstat"), "calls"), 1);
    let errors = info(&mut client, "errorstats");
    let count = number(&field(&errors, "errorstat_ERR"), "count");
    assert_eq!(count.to_string(), info_field(&mut client, "total_error_replies"));
    assert!(count >= 4, "{count}");
    let latencies = field(&info(&mut client, "latencystats"), "latency_percentiles_usec_set");
    assert!(latencies.starts_with("p50=") && latencies.contains(",p99.9="), "{latencies}");
    let histogram = client.ask("LATENCY HISTOGRAM set nope config|resetstat");
    let [Value::Text(name), Value::Array(set), ..] = histogram.array() else { panic!() };
    assert_eq!((name.as_str(), set[1].integer()), ("set", 41));
    let last = set[3].array().last().unwrap();
    assert_eq!(last.integer(), 41, "all are at the last step");
    assert_eq!(histogram.array().len(), 4);

    client.check("CONFIG RESETSTAT", OK);
    assert!(info(&mut client, "commandstats").iter().all(|(name, _)| name != "cmdstat_set"));
    assert!(info(&mut client, "errorstats").is_empty());
    client.check("LATENCY HISTOGRAM set", "*0\r\n");
    client.check("CONFIG SET latency-tracking no", OK);
    client.check("SET k v", OK);
    client.check("LATENCY HISTOGRAM set", "*0\r\n");
    assert!(info(&mut client, "latencystats").is_empty());
}

#[test]
fn info_shows_the_sections_that_are_asked_for() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    let titles = |text: &Value| -> Vec<String> {
        let lines = text.text().lines().filter_map(|line| line.strip_prefix("# "));
        lines.map(str::to_owned).collect()
    };
    let by_default = titles(&client.ask("INFO"));
    assert!(by_default.contains(&"Errorstats".to_owned()));
    assert!(!by_default.contains(&"Commandstats".to_owned()));
    assert_eq!(titles(&client.ask("INFO default")), by_default);
    assert_eq!(titles(&client.ask("INFO all")).len(), by_default.len() + 2);
    assert_eq!(titles(&client.ask("INFO Everything")).len(), by_default.len() + 2);
    assert_eq!(titles(&client.ask("INFO keyspace cpu nope")), ["CPU", "Keyspace"]);
    let mut named = titles(&client.ask("INFO default commandstats"));
    named.retain(|title| title == "Commandstats");
    assert_eq!(named.len(), 1);
    for (name, value) in info(&mut client, "everything") {
        assert!(!name.is_empty() && !value.is_empty() || name == "executable", "{name}:{value}");
    }
}

#[test]
fn slow_commands_are_logged_with_their_arguments_but_not_with_secrets() {
    let server = debuggable();
    let mut client = server.client();
    client.check("SLOWLOG LEN", ":0\r\n");
    client.check("CLIENT SETNAME me", OK);
    client.check("CONFIG SET slowlog-log-slower-than 20000", OK);
    client.check("DEBUG SLEEP 0.03", OK);
    client.check("PING", "+PONG\r\n");
    let logged = client.ask("SLOWLOG GET");
    let [entry] = logged.array() else { panic!("{logged:?}") };
    let entry = entry.array();
    assert_eq!(entry.len(), 6);
    assert!(entry[2].integer() >= 30_000, "{entry:?}");
    let arguments: Vec<&str> = entry[3].array().iter().map(Value::text).collect();
    assert_eq!((arguments, entry[5].text()), (vec!["DEBUG", "SLEEP", "0.03"], "me"));

    client.check("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 4", OK);
    client.check("SLOWLOG RESET", OK);
    client.ask("AUTH someone secret");
    client.ask("HELLO 2 AUTH someone secret SETNAME x");
    let long = "x".repeat(130);
    client.ask(&format!("ECHO {long}"));
    let many = ["a"; 40].join(" ");
    client.ask(&format!("EXISTS {many}"));
    client.check("CONFIG SET slowlog-log-slower-than -1", OK);
    let logged = client.ask("SLOWLOG GET -1");
    let lines: Vec<String> = logged
        .array()
        .iter()
        .map(|entry| {
            let arguments = entry.array()[3].array().iter().map(Value::text);
            arguments.collect::<Vec<_>>().join(" ")
        })
        .collect();
    let expected = [
        "CONFIG SET slowlog-log-slower-than -1".to_owned(),
        format!("EXISTS {}... (10 more arguments)", "a ".repeat(30)),
        format!("ECHO {}... (2 more bytes)", "x".repeat(128)),
        "HELLO 2 AUTH (redacted) (redacted) SETNAME x".to_owned(),
    ];
    // The command that turned the log off ran before it was off.
    let skipped = usize::from(lines.len() == 4 && lines[0] != expected[0]);
    assert_eq!(lines[..4 - skipped], expected[skipped..], "{lines:?}");
    assert!(!format!("{logged:?}").contains("secret"));
    client.check("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1\r\n");
    assert_eq!(client.ask("SLOWLOG GET 2").array().len(), 2);
}

#[test]
fn a_slow_command_at_the_end_of_a_batch_is_logged_whole() {
    let server = debuggable();
    let mut client = server.client();
    client.check("CONFIG SET slowlog-log-slower-than 2000", OK);
    // FAST by its flags, so that it is timed at the end of its batch.
    client.check("PING", "+PONG\r\n");
    client.check("SLOWLOG LEN", ":0\r\n");
    client.check_in_multi("MULTI", OK);
    client.check_in_multi("DEBUG SLEEP 0.01", "+QUEUED\r\n");
    client.check("EXEC", "*1\r\n+OK\r\n");
    let logged = client.ask("SLOWLOG GET");
    let [entry] = logged.array() else { panic!("EXEC is not logged: {logged:?}") };
    assert_eq!(entry.array()[3].array()[0].text(), "DEBUG");
}

#[test]
fn events_that_take_long_are_told_by_latency() {
    let server = debuggable();
    let mut client = server.client();
    client.check("LATENCY LATEST", "*0\r\n");
    assert!(client.ask("LATENCY DOCTOR").text().contains("latency-monitor-threshold"));
    client.check("DEBUG SLEEP 0.02", OK);
    client.check("LATENCY LATEST", "*0\r\n");
    client.check("CONFIG SET latency-monitor-threshold 10", OK);
    client.check("DEBUG SLEEP 0.02", OK);
    let latest = client.ask("LATENCY LATEST");
    let [event] = latest.array() else { panic!("{latest:?}") };
    assert_eq!(event.array()[0].text(), "command");
    assert!(event.array()[2].integer() >= 20 && event.array()[3].integer() >= 20);
    assert_eq!(client.ask("LATENCY HISTORY command").array().len(), 1);
    client.check("LATENCY HISTORY nope", "*0\r\n");
    assert!(client.ask("LATENCY GRAPH command").text().starts_with("command - high "));
    let none = "-ERR No samples available for event 'nope'\r\n";
    client.check("LATENCY GRAPH nope", none);
    assert!(client.ask("LATENCY DOCTOR").text().contains("SLOWLOG"));
    client.check("LATENCY RESET nope", ":0\r\n");
    client.check("LATENCY RESET", ":1\r\n");
    client.check("LATENCY LATEST", "*0\r\n");
}

#[test]
fn debug_is_refused_unless_it_is_allowed() {
    let server = TestServer::on("memory:");
    let reply = server.client().ask("DEBUG SLEEP 0");
    assert!(format!("{reply:?}").contains("DEBUG command not allowed"), "{reply:?}");
}

#[test]
fn debug_does_what_tests_ask_for() {
    let server = debuggable();
    let mut client = server.client();
    client.check("DEBUG POPULATE 100 p 10", OK);
    client.check("DBSIZE", ":100\r\n");
    client.check("GET p:7", "$10\r\nvalue:7\0\0\0\r\n");
    client.check("SET q:1 mine", OK);
    client.check("DEBUG POPULATE 2 q", OK);
    client.check("MGET q:0 q:1", "*2\r\n$7\r\nvalue:0\r\n$4\r\nmine\r\n");
    client.check("DEBUG ERROR OWN", "-OWN\r\n");
    client.check("DEBUG STRINGMATCH-LEN 10 a*", ":1\r\n");
    client.check("DEBUG STRINGMATCH-LEN 10 b*", ":0\r\n");
    client.check("DEBUG OBJECT nope", "-ERR no such key\r\n");
    assert!(client.ask("DEBUG OBJECT q:1").text().contains("encoding:embstr"));
    let digest = client.ask("DEBUG DIGEST").text().to_owned();
    client.check("SET q:1 other", OK);
    assert_ne!(client.ask("DEBUG DIGEST").text(), digest);
    client.check("SET q:1 mine", OK);
    assert_eq!(client.ask("DEBUG DIGEST").text(), digest);
    let id = info_field(&mut client, "master_replid");
    client.check("DEBUG CHANGE-REPL-ID", OK);
    assert_ne!(info_field(&mut client, "master_replid"), id);
    client.check("DEBUG PROTOCOL map", "*6\r\n:0\r\n:0\r\n:1\r\n:1\r\n:2\r\n:0\r\n");
    client.check("DEBUG PROTOCOL push", "-ERR RESP2 is not supported by this command\r\n");
    client.ask("HELLO 3");
    client.check("DEBUG PROTOCOL map", "%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n");
    client.check("DEBUG PROTOCOL double", ",3.141\r\n");
    let refused =
        "-ERR unknown subcommand or wrong number of arguments for 'NOPE'. Try DEBUG HELP.\r\n";
    client.check("DEBUG NOPE", refused);
}

#[test]
fn debug_reload_makes_durable_what_the_engine_keeps() {
    let server = TestServer::with("lsm:{}", |config| {
        config.set("enable-debug-command", "local").unwrap();
    });
    let mut client = server.client();
    client.check("SET k v", OK);
    client.check("DEBUG RELOAD", OK);
    client.check("GET k", "$1\r\nv\r\n");
    client.check("WAITAOF 1 0 0", "*2\r\n:1\r\n:0\r\n");
    debuggable()
        .client()
        .check("DEBUG RELOAD", "-ERR the engine keeps nothing that could be loaded again\r\n");
}

#[test]
fn a_server_alone_says_so() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    let off = "-ERR This instance has cluster support disabled\r\n";
    for (words, reply) in [
        ("ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
        ("REPLICAOF NO ONE", OK),
        ("SLAVEOF no one", OK),
        ("REPLICAOF host x", "-ERR Invalid master port\r\n"),
        (
            "REPLICAOF host 1",
            "-ERR this server cannot be a replica: only REPLICAOF NO ONE is supported\r\n",
        ),
        ("WAIT 0 0", ":0\r\n"),
        ("WAIT 1 10", ":0\r\n"),
        ("WAIT 1 -1", "-ERR timeout is negative\r\n"),
        (
            "WAITAOF 1 0 0",
            "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n",
        ),
        ("WAITAOF 0 0 0", "*2\r\n:0\r\n:0\r\n"),
        ("CLUSTER INFO", off),
        ("ASKING", off),
        ("READONLY", off),
        ("READWRITE", off),
        ("FUNCTION FLUSH", OK),
        ("FUNCTION FLUSH SYNC", OK),
        ("FUNCTION LIST", "*0\r\n"),
        ("FUNCTION KILL", "-NOTBUSY No scripts in execution right now.\r\n"),
        ("ACL WHOAMI", "$7\r\ndefault\r\n"),
        ("ACL USERS", "*1\r\n$7\r\ndefault\r\n"),
        ("ACL CAT nope", "-ERR Unknown category 'nope'\r\n"),
        ("MEMORY USAGE nope", "$-1\r\n"),
        ("MEMORY PURGE", OK),
    ] {
        client.check(words, reply);
    }
    client.check("SET key value", OK);
    assert!(client.ask("MEMORY USAGE key SAMPLES 0").integer() >= 8);
    let strings = client.ask("ACL CAT string");
    assert!(strings.array().iter().any(|name| name.text() == "getrange"));
    for (words, version) in [
        ("LOLWUT", "7.2"),
        ("LOLWUT x y", "7.2"),
        ("LOLWUT version", "7.2"),
        ("LOLWUT VERSION 7 x", "7.0.0"),
        ("LOLWUT version 5 20 2 2", "5.0.0"),
        ("LOLWUT VERSION 6 2000000 0", "6.0.0"),
    ] {
        let picture = client.ask(words);
        assert!(picture.text().contains(&format!("Redis ver. {version}")), "{words}: {picture:?}");
    }
    assert_eq!(client.ask("LOLWUT VERSION 6 7 3").text().find("\n\n"), Some(8 * 3 - 1));
    for words in ["x", "99999999999999999999", "5 x", "5 1 x", "5 1 1 x", "6 x", "6 1 x"] {
        let refused = "-ERR value is not an integer or out of range\r\n";
        client.check(&format!("LOLWUT VERSION {words}"), refused);
    }
    for container in ["ACL", "CLUSTER", "COMMAND", "FUNCTION", "LATENCY", "MEMORY", "SLOWLOG"] {
        let help = client.ask(&format!("{container} HELP"));
        let help: Vec<&str> = help.array().iter().map(Value::text).collect();
        assert!(help[0].starts_with(container) && help.len() > 4, "{help:?}");
        assert_eq!(help[help.len() - 2..], ["HELP", "    Print this help."]);
    }
}

#[test]
fn while_jobs_are_paused_silent_clients_stay() {
    let server = debuggable();
    let (mut client, mut silent) = (server.client(), server.client());
    silent.check("PING", "+PONG\r\n");
    client.check("DEBUG PAUSE-CRON x", "-ERR value is not an integer or out of range\r\n");
    client.check("DEBUG PAUSE-CRON 1", OK);
    client.check("CONFIG SET timeout 1", OK);
    for _ in 0..40 {
        // It keeps itself from being silent.
        client.check("PING", "+PONG\r\n");
        support::sleep(100);
    }
    assert_eq!(info_field(&mut client, "connected_clients"), "2");
    client.check("DEBUG PAUSE-CRON 0", OK);
    until("the silent client is gone", || info_field(&mut client, "connected_clients") == "1");
}

#[test]
fn rates_are_those_of_the_last_second() {
    let server = TestServer::on("memory:");
    let mut client = server.client();
    until("a rate is told", || {
        for _ in 0..100 {
            client.check("PING", "+PONG\r\n");
        }
        let stats = info(&mut client, "stats");
        field(&stats, "instantaneous_ops_per_sec") != "0"
            && field(&stats, "instantaneous_input_kbps") != "0.00"
            && field(&stats, "instantaneous_output_kbps") != "0.00"
    });
}
