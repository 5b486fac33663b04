//! The examples, run.

use std::path::PathBuf;

use ferrokit::block_on;

use crate::common::URLS;

macro_rules! example {
    ($name:ident, $path:literal) => {
        #[path = $path]
        #[expect(dead_code, reason = "its main is for cargo run")]
        mod $name;
    };
}

example!(backup, "../../examples/backup.rs");
example!(counters, "../../examples/counters.rs");
example!(engine_swap, "../../examples/engine_swap.rs");
example!(login_cache, "../../examples/login_cache.rs");
example!(queue, "../../examples/queue.rs");

/// Runs `body` with a directory of its own.
fn with_directory(name: &str, body: impl FnOnce(&str)) {
    let path: PathBuf =
        std::env::temp_dir().join(format!("ferrokit-example-{name}-{}", std::process::id()));
    std::fs::remove_dir_all(&path).ok();
    body(&path.display().to_string());
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn backups_are_made_and_restored() {
    with_directory("backup", |directory| backup::run(directory).unwrap());
}

#[test]
fn counters_count() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(counters::run("memory:")).unwrap();
    with_directory("counters", |directory| {
        runtime.block_on(counters::run(&format!("lsm:{directory}"))).unwrap();
    });
}

#[test]
fn one_application_runs_on_every_engine() {
    with_directory("engine_swap", |directory| {
        for (_, url) in URLS {
            let url = url.replace("lsm:data", &format!("lsm:{directory}"));
            block_on(engine_swap::run(&url)).unwrap();
        }
    });
}

#[test]
fn logins_end() {
    block_on(login_cache::run("memory:")).unwrap();
}

#[test]
fn a_queue_is_worked_off() {
    with_directory("queue", |directory| {
        smol::block_on(queue::run(&format!("lsm:{directory}"))).unwrap();
    });
}
