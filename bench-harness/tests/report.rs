//! Reports of real and of hostile results.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "real files are what the program reads and writes")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("ferrokit-report-{name}-{}", std::process::id());
        let place = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&place).unwrap();
        Self(place)
    }

    fn write(&self, name: &str, lines: &[Value]) -> String {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ferrokit-bench")).args(arguments).output().unwrap()
}

/// The page and the Markdown of some files.
fn report(place: &Path, files: &[&str]) -> (String, String) {
    let html = place.join("page.html").to_str().unwrap().to_owned();
    let markdown = place.join("page.md").to_str().unwrap().to_owned();
    let options = ["--html", &html, "--markdown", &markdown, "--title", "A <title>"];
    let output = bench(&[&["report"], files, &options].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (std::fs::read_to_string(html).unwrap(), std::fs::read_to_string(markdown).unwrap())
}

fn machine(command: &str) -> Value {
    json!({
        "record": "machine", "schema": 1, "version": "0.1.0", "command": command,
        "started_unix_ms": 0, "cpu_model": "A processor", "cores": 2, "memory_bytes": 1 << 30,
        "kernel": "Linux", "file_system": "ext4", "memory_cgroup": true,
    })
}

/// A run at so many operations per second, each of which took `1e9 / speed` of processor time.
fn run(engine: &str, workload: &str, records: u64, round: u64, speed: f64) -> Value {
    let latency = json!({"p50": 1000, "p90": 2000, "p99": 5000, "p999": 9000, "max": 100_000});
    json!({
        "record": "run", "engine": engine, "skipped_cases": "batches: <none>",
        "workload": workload, "summary": "reads",
        "parameters": {
            "records": records, "operations": 100, "value_bytes": 100, "threads": 2,
            "distribution": "zipfian", "durability": "memory", "memory_bytes": 1 << 20,
            "rate_per_s": null, "caller": "sync", "tasks": 16, "warmup_operations": 0,
        },
        "round": round, "seed": 1, "unsupported": null, "settings": "a <setting> & more",
        "operations": 100, "elapsed_s": 3.0, "ops_per_s": speed, "latency_ns": latency,
        "read_latency_ns": null, "write_latency_ns": null,
        "latency_curve": [[0.0, 900], [0.5, 1000], [0.99, 5000], [1.0, 100_000]],
        "cpu_s": 100.0 / speed, "settle_cpu_s": 0.0, "rss_bytes": 3000, "anonymous_bytes": 2000,
        "file_mapped_bytes": 1000, "disk_bytes": 500, "live_bytes": 400, "written_bytes": 900,
        "read_bytes": 0, "user_bytes": 300, "errors": 0,
        "samples": [
            {"t_s": 1.0, "operations": 40, "rss_bytes": 1, "written_bytes": 0},
            {"t_s": 2.0, "operations": 41, "rss_bytes": 1, "written_bytes": 0},
            {"t_s": 3.0, "operations": 100, "rss_bytes": 1, "written_bytes": 0},
        ],
    })
}

fn cannot(engine: &str, workload: &str, reason: &str) -> Value {
    let mut record = run(engine, workload, 1000, 0, 1.0);
    record.as_object_mut().unwrap().retain(|name, _| {
        let names = ["record", "engine", "skipped_cases", "workload", "summary", "parameters"];
        names.contains(&name.as_str()) || ["round", "seed"].contains(&name.as_str())
    });
    record["unsupported"] = reason.into();
    record
}

fn server(name: &str, speed: f64) -> Value {
    json!({
        "record": "server", "server": name, "settings": "start <it>", "workload": "set",
        "parameters": {
            "connections": 50, "pipeline": 16, "client_threads": 1, "value_bytes": 100,
            "records": 10, "durability": "memory", "rate_per_s": null, "distribution": "uniform",
        },
        "round": 0, "seed": 1, "operations": 100, "elapsed_s": 1.0, "ops_per_s": speed,
        "latency_ns": {"p50": 10, "p90": 20, "p99": 30, "p999": 40, "max": 50},
        "cpu_s": 0.5, "ops_per_cpu_s": speed * 2.0, "rss_bytes": 1 << 20, "errors": 0,
    })
}

fn everything() -> Vec<Value> {
    let mut lines = vec![machine("bench <script>alert(1)</script>")];
    for round in 0..3 {
        for records in [1000, 10_000] {
            lines.push(run("base", "ycsb-c", records, round, 200.0));
            lines.push(run("x\"><b>|", "ycsb-c", records, round, 300.0 + round as f64));
        }
        for workload in ["commit-1", "commit-8"] {
            let mut commit = run("base", workload, 1000, round, 50.0);
            commit["parameters"]["threads"] = if workload == "commit-1" { 1 } else { 8 }.into();
            lines.push(commit);
        }
    }
    lines.push(cannot("x\"><b>|", "scan-10", "keys <in> no order"));
    lines.push(json!({"record": "ratio", "workload": "ycsb-c", "engine": "x", "baseline": "base"}));
    lines.extend([server("ours", 1e5), server("other", 5e4)]);
    lines
        .push(json!({"record": "ratio", "workload": "set", "engine": "other", "baseline": "ours"}));
    lines.push(json!({"record": "of a later version"}));
    lines
}

#[test]
fn a_page_has_every_part_and_needs_nothing_else() {
    let place = Place::new("parts");
    let file = place.write("results.jsonl", &everything());
    let (html, markdown) = report(&place.0, &[&file]);
    for part in [
        "id=\"overview\"",
        "Growth with the number of records",
        "Durable commits by writers",
        "Throughput over time",
        "CPU time per operation",
        "Resident memory",
        "Space amplification",
        "Write amplification",
        "percent of operations that take no longer",
        "prefers-color-scheme:dark",
        "name=\"viewport\"",
        "id=\"servers\"",
        "Conformance cases not passed",
        "cannot",
        "1.50×",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    for outside in ["http:", "https:", "<script", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    for part in ["## Overview", "### ycsb-c", "1.50×", "0.50×", "cannot: keys", "## Servers"] {
        assert!(markdown.contains(part), "{part}");
    }
}

#[test]
fn text_of_files_is_text() {
    let place = Place::new("text");
    let file = place.write("results.jsonl", &everything());
    let (html, markdown) = report(&place.0, &[&file]);
    for (shown, meant) in [
        ("A &lt;title&gt;", "A <title>"),
        ("x&quot;&gt;&lt;b&gt;|", "x\"><b>"),
        ("a &lt;setting&gt; &amp; more", "<setting>"),
        ("keys &lt;in&gt; no order", "<in>"),
        ("alert(1)&lt;/script&gt;", "</script>"),
        ("start &lt;it&gt;", "<it>"),
        ("batches: &lt;none&gt;", "<none>"),
    ] {
        assert!(html.contains(shown), "{shown}");
        assert!(!html.contains(meant), "{meant}");
        assert!(!markdown.contains(meant), "{meant}");
    }
    assert!(markdown.contains("x\"&gt;&lt;b&gt;\\|"), "{markdown}");
}

#[test]
fn equal_results_make_equal_pages() {
    let place = Place::new("equal");
    let file = place.write("results.jsonl", &everything());
    assert_eq!(report(&place.0, &[&file]), report(&place.0, &[&file]));
}

#[test]
fn an_engine_that_takes_part_twice_is_two() {
    let place = Place::new("twice");
    let rounds = (0..2).flat_map(|round| {
        [run("one", "ycsb-c", 10, round, 100.0), run("one", "ycsb-c", 10, round, 102.0)]
    });
    let file = place.write("results.jsonl", &rounds.collect::<Vec<_>>());
    let (_, markdown) = report(&place.0, &[&file]);
    assert!(markdown.contains("| one (2) | 102 | 1.02× | 1.02×–1.02× |"), "{markdown}");
    // The same engine in another file has further rounds, and is no other.
    let more = place.write("more.jsonl", &[run("one", "ycsb-c", 10, 0, 104.0)]);
    let (_, markdown) = report(&place.0, &[&file, &more]);
    assert!(markdown.contains("rounds: 3") && !markdown.contains("one (3)"), "{markdown}");
}

#[test]
fn figures_out_of_reason_make_a_page_all_the_same() {
    let place = Place::new("odd");
    let odd = [0.0, -5.0, 1e300, 1e-300].map(|speed| {
        let mut line = run("odd", "ycsb-c", 10, 0, speed);
        line["latency_curve"] = json!([[-3.0, 5], [7.0, 0], [1.0, u64::MAX]]);
        line["samples"][1]["t_s"] = json!(-1e300);
        line["operations"] = 0.into();
        line["cpu_s"] = json!(-1.0);
        line
    });
    let file = place.write("results.jsonl", &odd);
    let (html, _) = report(&place.0, &[&file]);
    assert!(!html.contains("NaN") && !html.contains("inf"));
}

#[test]
fn mistakes_end_with_an_error() {
    let place = Place::new("mistakes");
    let good = place.write("good.jsonl", &[run("one", "ycsb-c", 10, 0, 100.0)]);
    let none = place.write("none.jsonl", &[machine("bench")]);
    let mut torn = run("one", "ycsb-c", 10, 0, 100.0);
    torn.as_object_mut().unwrap().remove("cpu_s");
    let torn = place.write("torn.jsonl", &[machine("bench"), torn]);
    for (arguments, part) in [
        (&["report", "/nonexistent"][..], "/nonexistent"),
        (&["report", &none], "no measurements"),
        (&["report", &torn], "line 2"),
        (&["report", &good, "--baseline", "two"], "two"),
        (&["report", &good, "--html", "/nonexistent/x"], "/nonexistent/x"),
        (&["diff", &good, &none], "nothing was measured"),
        (&["diff", &good, &torn], "line 2"),
        (&["diff", &good, &good, "--threshold", "0.03"], "percentage"),
    ] {
        let output = bench(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(part), "{arguments:?}: {text}");
        let code = if arguments[0] == "diff" { 2 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn a_diff_says_what_became_slower() {
    let place = Place::new("diff");
    let five = |speed: f64, other: f64| -> Vec<Value> {
        (0..5)
            .flat_map(|round| {
                let noise = 1.0 + 0.004 * round as f64;
                [
                    run("one", "ycsb-c", 10, round, speed * noise),
                    run("two", "ycsb-c", 10, round, other * noise),
                ]
            })
            .collect()
    };
    let old = place.write("old.jsonl", &[five(100.0, 100.0), vec![server("ours", 9.0)]].concat());
    let new = place.write("new.jsonl", &five(90.0, 110.0));
    let output = bench(&["diff", &old, &new]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("one ycsb-c").ends_with("slower, by processor time"), "{text}");
    assert!(line("two ycsb-c").ends_with("faster, by processor time"), "{text}");
    assert!(line("one ycsb-c").contains("0.900 (0.89-0.91)"), "{text}");
    assert!(line("ours set").contains("only"), "{text}");
    let output = bench(&["diff", &old, &old, "--threshold", "5 %"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("same, within") && text.contains("too few rounds"), "{text}");

    let gone = place.write("gone.jsonl", &[cannot("one", "ycsb-c", "no")]);
    let had = run("one", "ycsb-c", 1000, 0, 1.0);
    let had = place.write("had.jsonl", &[had]);
    assert_eq!(bench(&["diff", &had, &gone]).status.code(), Some(1));
}

#[test]
fn many_engines_have_the_room_they_need() {
    let place = Place::new("many");
    let lines = |engines: usize| {
        let runs = (0..engines).map(|n| run(&format!("engine{n}"), "ycsb-a", 1000, 0, 1000.0));
        [machine("x")].into_iter().chain(runs).collect::<Vec<_>>()
    };
    let few = place.write("few.jsonl", &lines(4));
    let (page, _) = report(&place.0, &[&few]);
    assert!(!page.contains("class=\"wide\"") && !page.contains("class=\"heat many\""));
    let many = place.write("many.jsonl", &lines(15));
    let (page, _) = report(&place.0, &[&many]);
    assert!(page.contains("class=\"wide\"") && page.contains("class=\"heat many\""));
}

#[test]
fn a_round_that_failed_is_told_beside_those_that_did_not() {
    let place = Place::new("failed");
    let mut failed = cannot("lsm", "ycsb-a", "it failed: no space");
    failed["round"] = 1.into();
    let lines = [machine("x"), run("lsm", "ycsb-a", 1000, 0, 1000.0), failed];
    let file = place.write("failed.jsonl", &lines);
    let (page, _) = report(&place.0, &[&file]);
    assert!(page.contains("lsm cannot, after 1 rounds: it failed: no space"), "the reason");
    assert!(page.contains("1 k"), "and the figures of the round that did not");
}

#[test]
fn a_run_with_a_broken_measurement_is_named() {
    let place = Place::new("broken");
    let mut broken = run("lsm", "ycsb-a", 1000, 0, 1000.0);
    broken.as_object_mut().unwrap().remove("cpu_s");
    let file = place.write("broken.jsonl", &[machine("x"), broken]);
    for arguments in [&["report", &file][..], &["diff", &file, &file]] {
        let output = bench(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("line 2"), "{text}");
        assert!(text.contains("cpu_s"), "{text}");
    }
}
