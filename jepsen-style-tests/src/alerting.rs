//! Whether the shipped alert rules fire on what real brokers say. Their `/metrics` are scraped while a fault
//! lasts, and Prometheus' own evaluator (`promtool test rules`) runs the rules over these values. Only time is
//! stretched: scrapes taken a moment apart stand half a minute apart, since rules wait for minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, QUICK, root},
    command::{pause, run},
    scrape::Scrape,
};

/// Of the rules' time: how far apart two scrapes stand. Prometheus scrapes as often.
const INTERVAL_S: usize = 30;

/// What the brokers of a cluster said over some time: for each series its value at each scrape, none while
/// its broker did not answer.
#[derive(Default)]
pub struct Recording {
    scrapes: usize,
    series: BTreeMap<String, Vec<Option<f64>>>,
}

impl Recording {
    /// `scrapes` of all brokers, `every` apart.
    pub fn of(cluster: &Cluster, scrapes: usize, every: Duration) -> Recording {
        let (mut recording, wanted) = (Recording::default(), named_in_rules());
        let nodes = cluster.status();
        for _ in 0..scrapes {
            let next = Instant::now() + every;
            for node in &nodes {
                // One that is down is not scraped, as by Prometheus.
                let Ok(scrape) = Scrape::of(node) else { continue };
                scrape
                    .series()
                    .filter(|(name, _)| wanted.iter().any(|wanted| is_series_of(name, wanted)))
                    .for_each(|(name, value)| recording.add(with_instance(name, node.id), value));
            }
            recording.scrapes += 1;
            while Instant::now() < next {
                pause();
            }
        }
        recording
    }

    fn add(&mut self, series: String, value: f64) {
        let values = self.series.entry(series).or_default();
        values.resize(self.scrapes, None);
        values.push(Some(value));
    }

    /// The alerts that fire at its end.
    #[track_caller]
    pub fn firing(&self) -> BTreeSet<String> {
        assert!(!self.series.is_empty(), "no broker said anything that a rule names");
        alerts().into_iter().filter(|alert| self.fires(alert)).collect()
    }

    fn fires(&self, alert: &str) -> bool {
        let path = std::env::temp_dir().join(format!("flotilla-alerts-{}-{alert}.yml", std::process::id()));
        fs::write(&path, self.test_of(alert)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let finished = run(Command::new("promtool").args(["test", "rules"]).arg(&path), b"", QUICK);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        // Anything but a wrong number of alerts is a fault of the test.
        assert!(finished.code == 0 || said.contains("got: nil"), "{alert}: {said}");
        let _ = fs::remove_file(path);
        finished.code == 0
    }

    /// A test for promtool that passes if the alert fires.
    fn test_of(&self, alert: &str) -> String {
        let rules = rules_file();
        let mut text = format!(
            "rule_files: [{}]\nevaluation_interval: {INTERVAL_S}s\ntests:\n  - interval: {INTERVAL_S}s\n    \
             input_series:\n",
            rules.display()
        );
        for (name, values) in &self.series {
            let value = |value: &Option<f64>| value.map_or("_".to_string(), |value| value.to_string());
            let values: Vec<String> = values.iter().map(value).collect();
            let _ = writeln!(text, "      - {{ series: '{name}', values: '{}' }}", values.join(" "));
        }
        let end = (self.scrapes.max(1) - 1) * INTERVAL_S;
        let _ = write!(
            text,
            "    promql_expr_test:\n      - expr: clamp_max(count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}), 1)\n        \
             eval_time: {end}s\n        exp_samples:\n          - {{ labels: '{{}}', value: 1 }}\n"
        );
        text
    }
}

fn rules_file() -> PathBuf {
    root().join("scripts").join("alerts").join("flotilla.yml")
}

fn rules() -> String {
    fs::read_to_string(rules_file()).expect("the rules are part of the repository")
}

/// Every alert of the shipped rules.
pub fn alerts() -> BTreeSet<String> {
    let rules = rules();
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_string).collect()
}

fn named_in_rules() -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let text = rules();
    let words = text.split(|c: char| !is_part(c)).filter(|word| word.starts_with("flotilla_"));
    words.map(str::to_string).collect()
}

fn is_series_of(series: &str, name: &str) -> bool {
    series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
}

/// As a scrape labels it.
fn with_instance(series: &str, node: u64) -> String {
    match series.strip_suffix('}') {
        Some(open) => format!("{open},instance=\"n{node}\"}}"),
        None => format!("{series}{{instance=\"n{node}\"}}"),
    }
}

#[test]
fn series_are_told_from_others_that_begin_alike() {
    assert!(is_series_of("a_b{le=\"1\"}", "a_b") && is_series_of("a_b", "a_b"));
    assert!(!is_series_of("a_b_total", "a_b"));
    assert_eq!(with_instance("a{le=\"1\"}", 2), "a{le=\"1\",instance=\"n2\"}");
    assert_eq!(with_instance("a", 2), "a{instance=\"n2\"}");
}

/// A recording in which a broker was away for a scrape keeps the others' values at their places.
#[test]
fn a_missing_scrape_leaves_a_hole() {
    let mut recording = Recording::default();
    recording.add("a".into(), 1.0);
    recording.scrapes = 2;
    recording.add("a".into(), 3.0);
    assert_eq!(recording.series["a"], [Some(1.0), None, Some(3.0)]);
    recording.scrapes = 3;
    assert!(recording.test_of("X").contains("values: '1 _ 3'"), "{}", recording.test_of("X"));
}
