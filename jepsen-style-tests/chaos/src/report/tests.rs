use std::path::Path;

use logcheck::{
    event::Phase,
    generate::Plan as Made,
    mutate::{History, Mutation},
    nemesis::{Done, Fault, Line},
    recorder::Recorder,
    report::Verdict,
};
use tempfile::TempDir;

use super::*;
use crate::run::{Recovery, Unavailable};

/// What a clean history's report may weigh at most, as the issue of this page has it.
const BYTES_MAX: usize = 1 << 20;

fn made_up(dir: &Path, sends: u64) {
    Made { sends, ..Made::default() }.write(dir).expect("a history is written");
}

fn run() -> Run {
    Run {
        seed: 7,
        command: "flotilla chaos --minutes 5 --seed 7".into(),
        main: Span { from: 0, to: 60_000_000_000 },
        recoveries: [30, 400, 450].map(|took_ms| Recovery { fault: "made-up".into(), at: 1, took_ms }).into(),
        ..Run::default()
    }
}

fn page(dir: &Path) -> (Verdict, String) {
    let (verdict, path) = check_and_write(dir).expect("a report is written");
    let html = fs::read_to_string(path).expect("a report is read");
    // Whatever is in it: one script, ours, and nothing from elsewhere.
    assert_eq!(html.matches("<script").count(), 1);
    for elsewhere in ["src=", "@import", "url(", "href=\"http", "<img", "<link"] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    assert!(html.len() <= BYTES_MAX, "{} bytes", html.len());
    (verdict.verdict, html)
}

#[track_caller]
fn says(html: &str, parts: &[&str]) {
    let verdict =
        html.split("id=\"verdict\"").nth(1).and_then(|rest| rest.split("</section>").next()).unwrap_or_default();
    for part in parts {
        assert!(html.contains(part), "{part:?} is not in the page, which says {verdict}");
    }
}

#[test]
fn a_clean_run_is_told_as_valid_with_its_figures() {
    let dir = TempDir::new().expect("a directory");
    let dir = dir.path().join("run");
    made_up(&dir, 2_000);
    run().write(&dir).expect("run.json is written");
    let (verdict, html) = page(&dir);
    assert_eq!(verdict, Verdict::Valid);
    let text =
        ["Valid: nothing that was acknowledged was lost", "every one of them was read back", "1 fault of 1 kind"];
    says(&html, &text);
    says(
        &html,
        &["None. No rule found anything that should not be", "flotilla chaos --minutes 5 --seed 7", "Seed <b>7</b>"],
    );
    says(
        &html,
        &["<dt>Lost</dt><dd class=\"good\">0<", "to 500 ms</th><td><span class=\"bar\" style=\"width:100%\"></span>"],
    );
    says(
        &html,
        &["Every fault that was asked for could be done on this machine.", "<title>made-up n1, at 0:00; led made-up/0"],
    );
}

#[test]
fn what_a_mutation_broke_is_shown_with_the_operations_around_it() {
    let dir = TempDir::new().expect("a directory");
    let (clean, bad) = (dir.path().join("clean"), dir.path().join("bad"));
    made_up(&clean, 2_000);
    let mut history = History::read(&clean).expect("it is read");
    Mutation::LoseValue.apply(&mut history, 7).expect("there is a value to lose");
    history.write(&bad).expect("it is written");
    let (verdict, html) = page(&bad);
    assert_eq!(verdict, Verdict::Invalid);
    says(&html, &["Invalid: acknowledged records are lost", "missing. What must not be, and was: lost-write (1 time)"]);
    says(&html, &["<details open>", "was acknowledged at", "<li class=\"about\">", "producer-"]);
    // Escaped, as it is text of an event.
    says(&html, &["Send(Send {"]);
    assert!(!html.contains("None. No rule found"));
    says(&html, &["there is no run.json"]);
}

#[test]
fn names_of_a_run_are_text_and_nothing_else() {
    let hostile = "<script>alert(1)</script>\"'&`</style><img onerror=x>";
    let dir = TempDir::new().expect("a directory");
    let dir = dir.path().join("run");
    let recorder = Recorder::create(&dir, 1).expect("a directory for a run");
    recorder.worker("<script>").and_then(|worker| worker.finish()).expect("a worker");
    let fault = Fault {
        at: 1,
        fault: hostile.into(),
        targets: vec![hostile.into()],
        outcome: Done::Installed,
        led: vec![hostile.into()],
    };
    let what = hostile.to_string();
    let failure = Line::NodeFailure { at: 5, node: what.clone(), what: what.clone(), expected: false };
    for line in [Line::Start(fault.clone()), Line::Stop(fault), failure] {
        recorder.nemesis(&line).expect("a line");
    }
    let mut meta = Meta { format: 1, run: 1, keys: vec![what.clone()], finished: true, ..Meta::default() };
    (meta.git, meta.harness.errors) = (what.clone(), vec![what.clone()]);
    recorder.finish(&meta).expect("meta.json");
    let run = Run {
        command: what.clone(),
        version: what.clone(),
        nodes: vec![what.clone()],
        workloads: vec![what.clone()],
        unavailable: vec![Unavailable { fault: what.clone(), why: what.clone() }],
        recoveries: vec![Recovery { fault: what, at: 1, took_ms: 1 }],
        ..Run::default()
    };
    run.write(&dir).expect("run.json");
    let (verdict, html) = page(&dir);
    assert_eq!(verdict, Verdict::Invalid);
    assert_eq!(html.matches("</style>").count(), 1, "the sheet ends where we end it");
    assert!(!html.contains("alert(1)</script>"));
    // Command, version, nodes, workloads, commit, unavailable twice, lane, title thrice, table, failure twice, guard,
    // and the verdict's own sentence.
    let times = html.matches("alert(1)").count();
    assert!(times >= 14, "{times}");
}

#[test]
fn an_empty_run_is_drawn_and_is_no_success() {
    let dir = TempDir::new().expect("a directory");
    let dir = dir.path().join("run");
    let recorder = Recorder::create(&dir, 1).expect("a directory for a run");
    let mut worker = recorder.worker("w").expect("a worker");
    worker.enter(Phase::Final);
    worker.finish().expect("an end");
    recorder.finish(&Meta { format: 1, run: 1, finished: true, ..Meta::default() }).expect("meta.json");
    Run::default().write(&dir).expect("run.json");
    let (verdict, html) = page(&dir);
    assert_eq!(verdict, Verdict::Unknown);
    says(&html, &["Unknown: nothing wrong was seen", "not a success", "no send was ok"]);
    says(&html, &["No fault was installed.", "No recovery was measured.", "Nothing was done to the cluster."]);
    says(&html, &["<dt>Lost</dt><dd>not checked<", "1970-01-01 00:00:00 UTC"]);
}

#[test]
fn a_run_of_thousands_of_faults_stays_small() {
    let dir = TempDir::new().expect("a directory");
    let dir = dir.path().join("run");
    made_up(&dir, 500);
    let text: String = (0..5_000u64)
        .map(|n| {
            let targets = vec![format!("node {n} {}", "long ".repeat(200))];
            let fault = format!("kill-{} {}", n % 500, "long ".repeat(200));
            let fault = Fault { at: n * 1_000, fault, led: targets.clone(), targets, outcome: Done::Installed };
            serde_json::to_string(&Line::Start(fault)).expect("JSON") + "\n"
        })
        .collect();
    fs::write(files::nemesis_path(&dir), text).expect("nemesis.jsonl");
    let (verdict, html) = page(&dir);
    assert_eq!(verdict, Verdict::Valid);
    says(&html, &["5,000 faults of 500 kinds", "windows are not drawn"]);
}

#[test]
fn a_directory_that_is_none_of_a_run_is_refused_by_name() {
    let dir = TempDir::new().expect("a directory");
    let error = check_and_write(dir.path()).expect_err("there is nothing").to_string();
    assert!(error.contains("meta.json"), "{error}");
    made_up(&dir.path().join("run"), 100);
    fs::write(dir.path().join("run/run.json"), "{").expect("run.json");
    let error = check_and_write(&dir.path().join("run")).expect_err("run.json is broken").to_string();
    assert!(error.contains("run.json: EOF"), "{error}");
}
