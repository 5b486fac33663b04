//! The command line, from arguments to JSON.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "real files are what the program writes")]

use std::process::{Command, Output};

use serde_json::Value;

fn bench(name: &str, arguments: &[&str]) -> (Output, Vec<Value>) {
    let directory =
        std::env::temp_dir().join(format!("ferrokit-bench-{name}-{}", std::process::id()));
    let json = directory.with_extension("jsonl");
    let output = Command::new(env!("CARGO_BIN_EXE_ferrokit-bench"))
        .args(arguments)
        .arg("--directory")
        .arg(&directory)
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let lines = std::fs::read_to_string(&json).unwrap_or_default();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let left = std::fs::read_dir(&directory).map_or(0, |pids| {
        pids.map(|pid| std::fs::read_dir(pid.unwrap().path()).unwrap().count()).sum()
    });
    assert_eq!(left, 0, "directories of runs are left over");
    let _ = std::fs::remove_dir_all(&directory);
    let _ = std::fs::remove_file(&json);
    (output, lines)
}

fn of(lines: &[Value], record: &str) -> Vec<Value> {
    lines.iter().filter(|line| line["record"] == record).cloned().collect()
}

#[test]
fn a_comparison_interleaves_rounds_and_reports_ratios() {
    let (output, lines) = bench(
        "compare",
        &[
            "compare",
            "--engines",
            "memory,memory",
            "--workloads",
            "ycsb-a,ycsb-e",
            "--rounds",
            "3",
            "--records",
            "500",
            "--operations",
            "1000",
            "--durability",
            "memory",
        ],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{progress}");
    let runs = of(&lines, "run");
    assert_eq!(runs.len(), 2 * 3 * 2);
    let rounds: Vec<_> = runs.iter().take(6).map(|run| run["round"].as_u64().unwrap()).collect();
    assert_eq!(rounds, [0, 0, 1, 1, 2, 2], "rounds are interleaved");
    for run in &runs {
        assert_eq!((&run["engine"], &run["seed"]), (&"memory".into(), &42.into()));
        assert_eq!(run["operations"], 1000);
        assert_eq!(run["parameters"]["durability"], "memory");
        assert!(run["unsupported"].is_null());
        assert!(run["ops_per_s"].as_f64().unwrap() > 0.0);
        let latency = &run["latency_ns"];
        let figures = ["p50", "p90", "p99", "p999", "max"].map(|name| latency[name].as_u64());
        assert!(figures.is_sorted() && figures[0].is_some(), "{figures:?}");
        assert!(run["live_bytes"].as_u64().unwrap() >= 500 * 116);
        assert!(run["cpu_s"].as_f64().unwrap() > 0.0);
        assert!(run["user_bytes"].as_u64().unwrap() > 0);
        assert_eq!(run["samples"].as_array().unwrap().last().unwrap()["operations"], 1000);
    }
    let machine = &lines[0];
    assert_eq!((&machine["record"], &machine["schema"]), (&"machine".into(), &1.into()));
    assert!(machine["cores"].as_u64().unwrap() >= 1 && machine["kernel"].is_string());
    let ratios = of(&lines, "ratio");
    assert_eq!(ratios.len(), 2);
    for ratio in &ratios {
        let ratio = &ratio["ops_per_s"];
        assert_eq!(ratio["rounds"], 3);
        let [min, median, max] = ["min", "median", "max"].map(|name| ratio[name].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max);
    }
    assert!(text.contains("workload ycsb-e:") && text.contains("baseline"), "{text}");
    assert!(progress.contains("ycsb-a round 2/3 memory"), "{progress}");
}

#[test]
fn what_an_engine_cannot_do_is_printed() {
    let arguments = ["run", "--engine", "hybridlog:", "--records", "500", "--operations", "100"];
    let scan = [&arguments[..], &["--workloads", "scan-10", "--durability", "memory"]].concat();
    let (output, lines) = bench("scan", &scan);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("cannot: ") && text.contains("in no order"), "{text}");
    assert!(of(&lines, "run")[0]["unsupported"].is_string());

    let arguments = ["run", "--engine", "memory:", "--records", "500", "--operations", "100"];
    let synced = [&arguments[..], &["--workloads", "ycsb-a", "--durability", "synced"]].concat();
    let (output, lines) = bench("synced", &synced);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("durability Synced asked"), "{text}");
    assert!(of(&lines, "run")[0]["unsupported"].is_string());
}

#[test]
fn mistakes_end_with_an_error() {
    for (name, arguments, part) in [
        ("unknown", &["run", "--engine", "nosuch:"][..], "nosuch"),
        ("path", &["run", "--engine", "memory:/tmp/x"], "path"),
        ("option", &["run", "--engine", "memory:?nosuch=1"], "nosuch"),
        ("small", &["run", "--engine", "memory:", "--value-size", "3"], "value-size"),
        ("rounds", &["run", "--engine", "memory:", "--rounds", "0"], "rounds"),
        ("plan", &["run", "--engine", "memory:", "--records", "99999999999"], "records"),
    ] {
        let (output, _) = bench(name, arguments);
        let progress = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name}");
        assert!(progress.contains(part), "{name}: {progress}");
    }
}

#[test]
fn an_engine_that_fails_does_not_end_what_others_do() {
    let page = std::env::temp_dir().join(format!("ferrokit-failure-{}.html", std::process::id()));
    let html = page.to_str().unwrap().to_owned();
    let (output, lines) = bench(
        "failure",
        &[
            "compare",
            "--engines",
            "dash,memory",
            "--workloads",
            "fill-random,read-uniform",
            "--rounds",
            "2",
            "--records",
            "50000",
            "--operations",
            "500",
            "--memory",
            "1MiB",
            "--durability",
            "memory",
            "--html",
            &html,
        ],
    );
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "a failure is not kept quiet: {progress}");
    assert!(progress.contains("2 runs failed") && progress.contains("FAILED"), "{progress}");
    let runs = of(&lines, "run");
    let of_engine = |engine: &str| runs.iter().filter(|run| run["engine"] == engine).count();
    assert_eq!((of_engine("dash"), of_engine("memory")), (2, 4), "left out of the second rounds");
    for run in &runs {
        let is_dash = run["engine"] == "dash";
        assert_eq!(run["unsupported"].is_string(), is_dash, "{run}");
        if is_dash {
            assert!(run["unsupported"].as_str().unwrap().starts_with("it failed: "), "{run}");
        }
    }
    let text = std::fs::read_to_string(&page).unwrap();
    std::fs::remove_file(&page).unwrap();
    assert!(text.contains("<html") && text.contains("it failed"), "the page tells it");
}

#[test]
fn opening_is_measured_after_a_close_and_after_a_crash() {
    let (output, lines) = bench(
        "opening",
        &[
            "compare",
            "--engines",
            "lsm,memory",
            "--workloads",
            "open-clean,open-crash",
            "--rounds",
            "1",
            "--records",
            "300",
            "--operations",
            "3",
            "--durability",
            "memory",
        ],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let runs = of(&lines, "run");
    assert_eq!(runs.len(), 4);
    for run in runs {
        assert_eq!(run["parameters"]["durability"], "os", "something must survive: {run}");
        if run["engine"] == "memory" {
            assert!(run["unsupported"].is_string(), "{run}");
            continue;
        }
        assert_eq!((&run["operations"], &run["parameters"]["operations"]), (&3.into(), &3.into()));
        assert_eq!(run["live_bytes"], 300 * 116, "{run}");
        assert!(run["rss_bytes"].as_u64().unwrap() > 0, "it is still open: {run}");
    }
}

#[test]
fn a_replay_says_how_much_its_trace_holds() {
    let trace = std::env::temp_dir().join(format!("ferrokit-trace-{}", std::process::id()));
    std::fs::write(&trace, "get a\nput b 50\nget b\nrmw a\ndelete b\nget b\n").unwrap();
    let workload = format!("replay:{}", trace.to_str().unwrap());
    let arguments = ["run", "--engine", "memory:", "--durability", "memory", "--workloads"];
    let (output, lines) = bench("replay", &[&arguments[..], &[&workload]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 records with values recorded, 6 operations"), "{text}");
    let run = &of(&lines, "run")[0];
    assert_eq!(run["operations"], 6);
    let parameters = &run["parameters"];
    assert_eq!((&parameters["records"], &parameters["operations"]), (&1.into(), &6.into()));

    // A bad trace is found before the first run of anything.
    std::fs::write(&trace, "get a\nnonsense\n").unwrap();
    let both = format!("ycsb-a,{workload}");
    let (output, lines) = bench("bad-replay", &[&arguments[..], &[&both]].concat());
    std::fs::remove_file(&trace).unwrap();
    assert!(!output.status.success() && lines.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 2"));
}

#[test]
fn a_mistake_leaves_earlier_results_alone() {
    let json = std::env::temp_dir().join(format!("ferrokit-kept-{}.jsonl", std::process::id()));
    std::fs::write(&json, "earlier\n").unwrap();
    let path = json.to_str().unwrap();
    for wrong in [
        &["compare", "--engines", "memory,dash", "--baseline", "nosuch"][..],
        &["run", "--engine", "memory", "--threads", "0"],
        &["run", "--engine", "memory", "--tasks", "4"],
        &["run", "--engine", "memory", "--workloads", "replay:/nonexistent"],
        &["run", "--engine", "memory", "--html", "/nonexistent/page.html"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrokit-bench"));
        let output = command.args(wrong).args(["--json", path]).output().unwrap();
        assert!(!output.status.success(), "{wrong:?}");
        assert_eq!(std::fs::read_to_string(&json).unwrap(), "earlier\n", "{wrong:?}");
    }
    std::fs::remove_file(&json).unwrap();
}

#[test]
fn advice_names_an_engine_and_why_others_are_left_out() {
    let arguments = "advise --workloads ycsb-e --rounds 1 --records 500 --operations 200";
    let (output, lines) = bench("advise", &arguments.split(' ').collect::<Vec<_>>());
    let text = String::from_utf8_lossy(&output.stdout);
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{progress}");
    assert!(text.contains("hybridlog is left out: it keeps its keys in no order"), "{text}");
    assert!(text.contains("Use lsm") || text.contains("Use memory"), "{text}");
    assert!(progress.contains("[1/2] ycsb-e round 1/1 lsm"), "{progress}");
    assert_eq!(of(&lines, "run").len(), 2);

    let (output, lines) = bench("no-advice", &["advise", "--rounds", "0"]);
    assert!(!output.status.success() && lines.is_empty());
}
