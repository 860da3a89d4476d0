//! What a check costs: `cargo test --release -p logcheck --test budget -- --nocapture`.

use std::process::Command;

use logcheck::mutate::Mutation;
use serde_json::Value;

/// A history of a million sends that is read three times takes no more.
const SECONDS_MAX: f64 = 2.0;
const PEAK_BYTES_MAX: u64 = 400 << 20;

/// Others use the machine as well: the best of so many counts.
const TRIES: usize = 3;

fn logcheck(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_logcheck")).args(args).output().expect("logcheck runs");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

/// `LOGCHECK_SENDS`: how many; the budgets grow with it.
#[test]
#[cfg_attr(debug_assertions, ignore = "the budget is that of a release build")]
fn a_million_sends_read_three_times_are_checked_in_two_seconds_and_400_mb() {
    let sends: u64 = std::env::var("LOGCHECK_SENDS").map_or(1_000_000, |text| text.parse().expect("a number"));
    let scale = sends as f64 / 1e6;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("history");
    let path = path.to_str().expect("text");
    assert_eq!(logcheck(&["generate", path, "--sends", &sends.to_string(), "--members", "0"]).0, Some(0));
    let mut costs = vec![];
    for _ in 0..TRIES {
        let (code, text) = logcheck(&["check", path, "--json"]);
        let report: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((code, &report["report"]["verdict"]), (Some(0), &Value::from("valid")));
        let summary = &report["report"]["summary"];
        let read = summary["records_read"].as_u64().expect("a number");
        let cost = &report["cost"];
        let (seconds, peak) =
            (cost["seconds"].as_f64().expect("a number"), cost["peak_bytes"].as_u64().expect("a number"));
        println!("{sends} sends, {read} records read, {} polls: {seconds:.2} s, {} MB", summary["polls"], peak >> 20);
        assert!(read as f64 > 2.9 * sends as f64, "{read} records read");
        costs.push((seconds, peak));
    }
    let seconds = costs.iter().map(|(seconds, _)| *seconds).fold(f64::MAX, f64::min);
    let peak = costs.iter().map(|(_, peak)| *peak).max().unwrap_or(0);
    assert!(seconds <= SECONDS_MAX * scale.max(1.0), "{seconds} s");
    assert!(peak as f64 <= PEAK_BYTES_MAX as f64 * scale.max(1.0), "{peak} bytes");
}

/// Exit codes are an interface.
#[test]
fn the_exit_code_is_the_verdict() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("text").to_string();
    let (fine, bad) = (path("fine"), path("bad"));
    assert_eq!(logcheck(&["generate", &fine, "--sends", "2000"]).0, Some(0));
    let (code, text) = logcheck(&["check", &fine]);
    assert!(code == Some(0) && text.ends_with("verdict: valid\n"), "{text}");
    assert_eq!(logcheck(&["mutate", &fine, &bad, "--kind", "lose-value", "--seed", "7"]).0, Some(0));
    let (code, text) = logcheck(&["check", &bad]);
    assert!(code == Some(1) && text.contains("verdict: invalid (lost-write"), "{text}");
    let meta = format!("{fine}/meta.json");
    let text = std::fs::read_to_string(&meta).expect("text").replace("\"finished\": true", "\"finished\": false");
    std::fs::write(&meta, text).expect("write");
    assert_eq!(logcheck(&["check", &fine]).0, Some(2));
    assert_eq!(logcheck(&["check", &path("nowhere")]).0, Some(65));
    assert_eq!(logcheck(&["generate", &fine]).0, Some(74));
    assert_eq!(logcheck(&["chek"]).0, Some(64));
    let (_, help) = logcheck(&["mutate", "--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(Mutation::ALL.iter().all(|kind| help.contains(kind.name())), "{help}");
    let (code, text) = logcheck(&["dump", &bad, "--value", "3"]);
    assert!(code == Some(0) && text.lines().count() > 1, "{text}");
}
