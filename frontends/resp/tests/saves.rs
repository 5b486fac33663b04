//! Checkpoints: SAVE, BGSAVE, points of time, SHUTDOWN and signals.

mod support;

use support::{ChildServer, Client, Directory, Value, info_field, until};

const OK: &str = "+OK\r\n";

/// A server on the lsm engine, whose checkpoints go to a directory of their own.
struct Saving {
    server: ChildServer,
    directory: Directory,
}

impl Saving {
    fn start(options: &[&str]) -> Self {
        let directory = Directory::new();
        #[expect(
            clippy::disallowed_methods,
            clippy::unwrap_used,
            reason = "an operator's directory"
        )]
        std::fs::create_dir_all(directory.path()).unwrap();
        let dir = directory.path();
        let mut all =
            vec!["--engine", "lsm:data", "--dir", &dir, "--enable-protected-configs", "yes"];
        all.extend(options);
        Self { server: ChildServer::start(&all), directory }
    }

    fn checkpoint(&self) -> String {
        format!("{}/checkpoint", self.directory.path())
    }

    /// A server in the same directory, on another engine.
    fn beside(&self, engine: &str, options: &[&str]) -> ChildServer {
        let dir = self.directory.path();
        let mut all = vec!["--engine", engine, "--dir", &dir, "--enable-protected-configs", "yes"];
        all.extend(options);
        ChildServer::start(&all)
    }

    /// A server on the checkpoint.
    fn restored(&self) -> ChildServer {
        ChildServer::start(&["--engine", &format!("lsm:{}", self.checkpoint())])
    }

    fn signal(&self, signal: &str) {
        let pid = self.server.child.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().is_ok());
    }
}

/// The error of a SAVE.
#[track_caller]
fn refused(client: &mut Client) -> String {
    match client.ask("SAVE") {
        Value::Error(error) => error,
        other => panic!("it was saved: {other:?}"),
    }
}

/// A directory with one file of somebody's.
#[expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "an operator's directory")]
fn make_directory(path: &str, name: &str) {
    std::fs::create_dir_all(path).unwrap();
    std::fs::write(format!("{path}/{name}"), "w").unwrap();
}

fn exists(path: &str) -> bool {
    std::path::Path::new(path).exists()
}

fn idle(client: &mut Client) -> bool {
    info_field(client, "rdb_bgsave_in_progress") == "0"
        && info_field(client, "aof_rewrite_in_progress") == "0"
}

#[test]
fn a_saved_server_can_be_opened_elsewhere() {
    let saving = Saving::start(&[]);
    let mut client = saving.server.client();
    client.check("SET k v1", OK);
    client.check("SAVE", OK);
    assert_eq!(info_field(&mut client, "rdb_changes_since_last_save"), "0");
    client.check("SET k v2", OK);
    assert_eq!(info_field(&mut client, "rdb_changes_since_last_save"), "1");
    saving.restored().client().check("GET k", "$2\r\nv1\r\n");
    // The next one takes its place.
    let before = client.ask("LASTSAVE").integer();
    support::sleep(1100);
    client.check("BGSAVE", "+Background saving started\r\n");
    until("it is saved", || idle(&mut client));
    assert!(client.ask("LASTSAVE").integer() > before);
    saving.restored().client().check("GET k", "$2\r\nv2\r\n");
    client.check("BGREWRITEAOF", "+Background append only file rewriting started\r\n");
    until("it is rewritten", || idle(&mut client));
    assert!(!std::path::Path::new(&format!("{}.new", saving.checkpoint())).exists());
    client.check("BGSAVE SCHEDULE x", "-ERR syntax error\r\n");
    client.check("BGSAVE x", "-ERR syntax error\r\n");
    client.check("SAVE x", "-ERR wrong number of arguments for 'save' command\r\n");
}

#[test]
fn checkpoints_go_where_dir_and_dbfilename_say() {
    let saving = Saving::start(&[]);
    let mut client = saving.server.client();
    let failed = "-ERR CONFIG SET failed (possibly related to argument ";
    client.check(
        "CONFIG SET dir /nonexistent",
        &format!("{failed}'dir') - No such file or directory\r\n"),
    );
    client.check("CONFIG SET dir /dev/null", &format!("{failed}'dir') - Not a directory\r\n"));
    client.check(
        "CONFIG SET dbfilename a/b",
        &format!("{failed}'dbfilename') - dbfilename can't be a path, just a filename\r\n"),
    );
    assert_eq!(client.ask("CONFIG GET dir").array()[1].text(), saving.directory.path());
    let other = Directory::new();
    #[expect(clippy::disallowed_methods, reason = "an operator's directory")]
    std::fs::create_dir_all(other.path()).unwrap();
    client.check(&format!("CONFIG SET dir {} dbfilename copy", other.path()), OK);
    client.check("SET k v", OK);
    client.check("SAVE", OK);
    assert!(std::path::Path::new(&format!("{}/copy/CURRENT", other.path())).exists());
    // The engine's own files stay where they are.
    client.check("SET k w", OK);
    client.check("GET k", "$1\r\nw\r\n");

    let server = ChildServer::start(&["--engine", "memory:"]);
    let refused = format!("{failed}'dir') - can't set protected config\r\n");
    server.client().check("CONFIG SET dir /tmp", &refused);
}

#[test]
fn an_engine_without_checkpoints_says_so() {
    let server = ChildServer::start(&["--engine", "hybridlog:?memory=64MiB"]);
    let mut client = server.client();
    for words in ["SAVE", "BGSAVE", "BGREWRITEAOF"] {
        let Value::Error(error) = client.ask(words) else { panic!("{words}") };
        assert!(error.contains("the engine hybridlog takes no"), "{words}: {error}");
    }
    client.check("SHUTDOWN SAVE", "-ERR Errors trying to SHUTDOWN. Check logs.\r\n");
    client.check("SHUTDOWN ABORT", "-ERR No shutdown in progress.\r\n");
    client.check("SHUTDOWN SAVE NOSAVE", "-ERR syntax error\r\n");
    client.check("PING", "+PONG\r\n");
    client.send(b"SHUTDOWN SAVE FORCE\r\n");
    client.expect_end();
    server.expect_success();
}

#[test]
fn a_point_of_time_saves_by_itself() {
    let saving = Saving::start(&["--save", "3600", "1", "--save", "1", "2"]);
    let mut client = saving.server.client();
    assert_eq!(client.ask("CONFIG GET save").array()[1].text(), "3600 1 1 2");
    client.check("SET a 1", OK);
    support::sleep(2500);
    assert!(!std::path::Path::new(&saving.checkpoint()).exists(), "one change is not two");
    client.check("SET b 1", OK);
    until("it is saved", || info_field(&mut client, "rdb_changes_since_last_save") == "0");
    assert!(std::path::Path::new(&saving.checkpoint()).exists());
    for (words, error) in [("1", "save"), ("1 a", "save"), ("0 1", "save")] {
        client.send(&support::request(&["CONFIG", "SET", "save", words]));
        let Value::Error(text) = client.read_value() else { panic!("{words}") };
        assert!(
            text.ends_with(&format!("argument '{error}') - Invalid save parameters")),
            "{text}"
        );
    }
}

#[test]
fn the_end_saves_where_that_is_asked_for() {
    for (options, end, saves) in [
        (&[][..], "SHUTDOWN", false),
        (&[], "SHUTDOWN SAVE", true),
        (&["--save", "3600", "1"], "SHUTDOWN", true),
        (&["--save", "3600", "1"], "SHUTDOWN NOSAVE", false),
        (&["--save", "3600", "1"], "-TERM", true),
        (&["--save", "3600", "1", "--shutdown-on-sigterm", "nosave", "now"], "-TERM", false),
        (&["--shutdown-on-sigint", "save"], "-INT", true),
        (&["--shutdown-on-sigint", "save"], "-TERM", false),
    ] {
        let saving = Saving::start(options);
        let mut client = saving.server.client();
        client.check("SET k v", OK);
        if end.starts_with('-') {
            saving.signal(end);
        } else {
            client.send(format!("{end}\r\n").as_bytes());
        }
        client.expect_end();
        let path = saving.checkpoint();
        saving.server.expect_success();
        assert_eq!(std::path::Path::new(&path).exists(), saves, "{options:?} {end}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an operator's directory")]
fn a_checkpoint_that_fails_stops_writes_if_there_is_a_time_for_them() {
    let saving = Saving::start(&["--save", "3600", "1000000"]);
    let mut client = saving.server.client();
    client.check("SET k v", OK);
    let other = Directory::new();
    std::fs::create_dir_all(other.path()).unwrap();
    client.check(&format!("CONFIG SET dir {}", other.path()), OK);
    std::fs::remove_dir(other.path()).unwrap();
    std::fs::write(other.path(), b"in its place").unwrap();
    client.check("BGSAVE", "+Background saving started\r\n");
    until("it failed", || info_field(&mut client, "rdb_last_bgsave_status") == "err");
    let stopped = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to \
                   persist to disk. Commands that may modify the data set are disabled, because \
                   this instance is configured to report errors during writes if RDB snapshotting \
                   fails (stop-writes-on-bgsave-error option). Please check the Redis logs for \
                   details about the RDB error.\r\n";
    for words in ["SET k w", "DEL k", "PING"] {
        client.check(words, &format!("-{stopped}"));
    }
    client.check("GET k", "$1\r\nv\r\n");
    client.check_in_multi("MULTI", OK);
    client.check_in_multi("INCR n", &format!("-{stopped}"));
    client.check("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    // What decides about it acts at once.
    let mut operator = saving.server.client();
    let mut set = |name: &str, value: &str| {
        operator.send(&support::request(&["CONFIG", "SET", name, value]));
        operator.expect(OK.as_bytes());
    };
    for (name, way, back) in
        [("stop-writes-on-bgsave-error", "no", "yes"), ("save", "", "3600 1000000")]
    {
        set(name, way);
        client.check("SET k w", OK);
        client.check_in_multi("MULTI", OK);
        client.check_in_multi("SET k w", "+QUEUED\r\n");
        set(name, back);
        client.check("EXEC", &format!("-EXECABORT Transaction discarded because of: {stopped}"));
        client.check("SET k x", &format!("-{stopped}"));
    }
    std::fs::remove_file(other.path()).unwrap();
    std::fs::create_dir_all(other.path()).unwrap();
    client.check("BGSAVE", "+Background saving started\r\n");
    until("it is saved", || info_field(&mut client, "rdb_last_bgsave_status") == "ok");
    client.check("SET k x", OK);
    client.check("PING", "+PONG\r\n");
}

#[test]
fn a_save_never_takes_the_place_of_the_running_engine() {
    let saving = Saving::start(&[]);
    saving.server.client().check("SAVE", OK);
    let dir = saving.directory.path();
    let (parent, name) = dir.rsplit_once('/').unwrap_or(("/", &dir));
    for engine in ["lsm:./checkpoint", "lsm:checkpoint/?memtable=1MiB"] {
        let server = saving.beside(engine, &["--appendfsync", "always"]);
        assert!(server.log.contains("no checkpoint can be saved"), "{}", server.log);
        let mut client = server.client();
        client.check("SET one 1", OK);
        let places = [
            (dir.clone(), "checkpoint"),
            (format!("{dir}/."), "checkpoint"),
            (saving.checkpoint(), "within"),
            (parent.to_owned(), name),
        ];
        for (dir, name) in places {
            client.check(&format!("CONFIG SET dir {dir} dbfilename {name}"), OK);
            let error = refused(&mut client);
            assert!(error.contains("the running engine; set dir or dbfilename"), "{error}");
        }
        client.check(&format!("CONFIG SET dir {dir} dbfilename checkpoint"), OK);
        client.check("BGSAVE", "+Background saving started\r\n");
        until("it fails", || info_field(&mut client, "rdb_last_bgsave_status") == "err");
        client.check("SHUTDOWN SAVE", "-ERR Errors trying to SHUTDOWN. Check logs.\r\n");
        client.check("SET two 2", OK);
        server.kill();
        let server = saving.beside(engine, &["--dbfilename", "other"]);
        assert!(!server.log.contains("no checkpoint can be saved"), "{}", server.log);
        let mut client = server.client();
        client.check("MGET one two", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
        client.check("SAVE", OK);
        // Beside names that end as those of a checkpoint under way do.
        client.check("CONFIG SET dbfilename checkpoint.old", OK);
        client.check("SAVE", OK);
        client.check("DEL one two", ":2\r\n");
    }
}

#[test]
fn the_engine_is_not_taken_for_a_checkpoint_under_way() {
    for suffix in ["new", "old"] {
        let saving = Saving::start(&[]);
        let server = saving.beside(&format!("lsm:checkpoint.{suffix}"), &[]);
        let mut client = server.client();
        client.check("SET k v", OK);
        let error = refused(&mut client);
        assert!(error.contains(&format!("({}.{suffix})", saving.checkpoint())), "{error}");
        server.kill();
        saving
            .beside(&format!("lsm:checkpoint.{suffix}"), &[])
            .client()
            .check("GET k", "$1\r\nv\r\n");
    }
}

#[test]
fn only_a_checkpoint_is_replaced() {
    let saving = Saving::start(&[]);
    let mut client = saving.server.client();
    client.check("SET k v", OK);
    for suffix in ["", ".new", ".old"] {
        let path = format!("{}{suffix}", saving.checkpoint());
        make_directory(&path, "model.bin");
        let error = refused(&mut client);
        assert!(error.contains(&format!("({path})")), "{error}");
        assert!(exists(&format!("{path}/model.bin")), "{path}");
        let moved = format!("{}/moved{suffix}", saving.directory.path());
        #[expect(clippy::disallowed_methods, reason = "an operator's directory")]
        std::fs::rename(&path, moved).unwrap();
    }
    // A file is none either; an empty directory is nobody's.
    make_directory(&saving.directory.path(), "checkpoint");
    refused(&mut client);
    #[expect(clippy::disallowed_methods, reason = "an operator's directory")]
    {
        std::fs::remove_file(saving.checkpoint()).unwrap();
        std::fs::create_dir_all(saving.checkpoint()).unwrap();
    }
    client.check("SAVE", OK);
    client.check("SAVE", OK);
    saving.restored().client().check("GET k", "$1\r\nv\r\n");
    for suffix in [".new", ".old"] {
        assert!(!exists(&format!("{}{suffix}", saving.checkpoint())), "{suffix}");
    }
}

#[test]
fn a_checkpoint_that_became_a_servers_data_is_not_replaced() {
    let saving = Saving::start(&[]);
    let mut client = saving.server.client();
    client.check("SAVE", OK);
    let other = saving.beside("lsm:checkpoint", &[]);
    let error = refused(&mut client);
    assert!(error.contains("the directory is open in process"), "{error}");
    // It may be opened to look at it, but not be written to.
    other.kill();
    client.check("SAVE", OK);
    let other = saving.beside("lsm:checkpoint", &[]);
    let mut writer = other.client();
    writer.check("SET k v", OK);
    writer.send(b"SHUTDOWN NOSAVE\r\n");
    writer.expect_end();
    other.expect_success();
    let error = refused(&mut client);
    assert!(error.contains("is no checkpoint"), "{error}");
    saving.restored().client().check("GET k", "$1\r\nv\r\n");
}

#[test]
fn the_last_checkpoint_gets_its_name_back() {
    let saving = Saving::start(&[]);
    let mut client = saving.server.client();
    client.check("SET k v", OK);
    client.check("SAVE", OK);
    let cut_short = || {
        let old = format!("{}.old", saving.checkpoint());
        #[expect(clippy::disallowed_methods, reason = "what a crash leaves")]
        std::fs::rename(saving.checkpoint(), old).unwrap();
    };
    cut_short();
    saving.beside("lsm:checkpoint", &[]).client().check("GET k", "$1\r\nv\r\n");
    // The save to come may fail.
    cut_short();
    make_directory(&format!("{}.new", saving.checkpoint()), "model.bin");
    refused(&mut client);
    saving.restored().client().check("GET k", "$1\r\nv\r\n");
}
