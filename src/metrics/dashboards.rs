//! Holds the dashboard and the alert rules under `scripts/` to the metrics that there are.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use super::*;

/// One of each, so that families with labels have a series.
fn series() -> BTreeSet<String> {
    let metrics = Metrics::new();
    metrics.export_writer(WriterSnapshot::default);
    metrics.export_lag(|| {
        let (group, topic) = ("g".to_string(), "t".to_string());
        Arc::new(vec![LagSample {
            group,
            topic,
            partition: 0,
            records: 1,
            age_ms: Some(1),
            retention_threatens: false,
        }])
    });
    metrics.requests().request_finished(Api::Produce, RequestResult::Ok);
    metrics.requests().produce_acknowledged(1, 1, Duration::ZERO);
    let text = metrics.encode();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_string).collect()
}

/// Every `flotilla_...` in a text.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !is_part(c)).filter(|word| word.starts_with("flotilla_"));
    words.map(str::to_string).collect()
}

fn missing(text: &str) -> Vec<String> {
    named(text).difference(&series()).cloned().collect()
}

fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn dashboard_and_alerts_name_only_metrics_that_there_are() {
    for name in ["grafana/flotilla.json", "alerts/flotilla.yml", "alerts/flotilla.test.yml"] {
        let text = script(name);
        assert!(named(&text).len() >= 10, "{name}: only {:?}", named(&text));
        assert_eq!(missing(&text), Vec::<String>::new(), "{name}");
    }
    assert_eq!(missing("rate(flotilla_no_such_thing_total[5m])"), ["flotilla_no_such_thing_total"]);
}

#[test]
fn every_panel_has_a_title_a_unit_and_a_query() {
    let dashboard: serde_json::Value = serde_json::from_str(&script("grafana/flotilla.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{panel}");
        assert!(ids.insert(panel["id"].as_i64()), "an id occurs twice: {panel}");
        if panel["type"] != "row" {
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "no unit: {panel}");
            let targets = panel["targets"].as_array().expect("targets");
            assert!(!targets.is_empty() && targets.iter().all(|target| target["expr"].is_string()), "{panel}");
        }
    }
    assert!(panels.len() > 20, "{} panels", panels.len());
}
