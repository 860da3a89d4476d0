//! What a check came to: for each rule what it looked at and what it found, and the verdict.

use serde::Serialize;

use crate::rules::Rule;

/// Anomalies of one rule that are kept; all are counted.
pub const KEPT_MAX: usize = 50;

/// What a run has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No rule was broken, and the run was of the kind that it was meant to be.
    Valid,
    /// A rule was broken, or the harness is at fault.
    Invalid,
    /// Nothing wrong was seen, but what was seen proves nothing: not a success.
    Unknown,
}

impl Verdict {
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Valid => 0,
            Verdict::Invalid => 1,
            Verdict::Unknown => 2,
        }
    }
}

/// How much an anomaly weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Allowed by what was promised; told, because somebody may want to know.
    Report,
    /// An anomaly, unless what the history lacks explains it: the verdict is unknown.
    Doubt,
    /// A broken promise: the verdict is invalid.
    Fatal,
}

/// One thing that should not be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// In words, with the values.
    pub says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<u32>,
    /// The values that it is about.
    pub values: Vec<u64>,
    /// Operations that it is about, as (process, operation).
    pub ops: Vec<(u32, u64)>,
    /// When it showed, in nanoseconds of the run.
    pub at: u64,
}

impl Found {
    pub fn new(at: u64, says: String) -> Found {
        Found { says, at, ..Found::default() }
    }

    pub fn key(self, key: u32) -> Found {
        Found { key: Some(key), ..self }
    }

    pub fn values<const N: usize>(self, values: [u64; N]) -> Found {
        Found { values: values.to_vec(), ..self }
    }

    pub fn ops<const N: usize>(self, ops: [(u32, u64); N]) -> Found {
        Found { ops: ops.to_vec(), ..self }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Anomaly {
    pub severity: Severity,
    #[serde(flatten)]
    pub found: Found,
}

/// What one rule came to.
#[derive(Clone, Debug, Serialize)]
pub struct RuleResult {
    pub rule: Rule,
    /// How many things it was applied to; of what kind, the rule's page says. None: it did not apply.
    pub checked: u64,
    pub fatal: u64,
    pub doubts: u64,
    pub reported: u64,
    /// Why it did not apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_applied: Option<String>,
    pub notes: Vec<String>,
    /// The first of them, fatal ones first.
    pub anomalies: Vec<Anomaly>,
}

/// Where rules write what they find.
#[derive(Debug)]
pub struct Sheet {
    results: Vec<RuleResult>,
}

impl Default for Sheet {
    fn default() -> Sheet {
        let empty = |rule: &Rule| RuleResult {
            rule: *rule,
            checked: 0,
            fatal: 0,
            doubts: 0,
            reported: 0,
            not_applied: None,
            notes: vec![],
            anomalies: vec![],
        };
        Sheet { results: Rule::ALL.iter().map(empty).collect() }
    }
}

impl Sheet {
    fn of(&mut self, rule: Rule) -> &mut RuleResult {
        &mut self.results[rule as usize]
    }

    /// The rule was applied to so many more things.
    pub fn checked(&mut self, rule: Rule, count: u64) {
        self.of(rule).checked += count;
    }

    /// The rule says nothing of this run.
    pub fn not_applied(&mut self, rule: Rule, why: &str) {
        self.of(rule).not_applied = Some(why.into());
    }

    pub fn note(&mut self, rule: Rule, note: String) {
        self.of(rule).notes.push(note);
    }

    /// Counts an anomaly, and keeps it if it is one of the first of its weight.
    pub fn add(&mut self, rule: Rule, severity: Severity, found: impl FnOnce() -> Found) {
        let result = self.of(rule);
        let count = match severity {
            Severity::Fatal => &mut result.fatal,
            Severity::Doubt => &mut result.doubts,
            Severity::Report => &mut result.reported,
        };
        *count += 1;
        if *count <= KEPT_MAX as u64 {
            let anomaly = Anomaly { severity, found: found() };
            let place = result.anomalies.partition_point(|kept| kept.severity >= severity);
            result.anomalies.insert(place, anomaly);
            result.anomalies.truncate(KEPT_MAX);
        }
    }

    pub fn results(self) -> Vec<RuleResult> {
        self.results
    }
}

/// What a run must have shown, or must not have done, beside what rules say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guard {
    pub name: &'static str,
    /// What is missing or wrong. None: nothing is.
    pub fails: Vec<String>,
    /// What it does to the verdict if it fails.
    pub verdict: Verdict,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub verdict: Verdict,
    pub summary: Summary,
    pub guards: Vec<Guard>,
    pub rules: Vec<RuleResult>,
}

/// How much history there was.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    pub events: u64,
    pub keys: usize,
    pub sends: usize,
    pub acknowledged: u64,
    pub unknown: u64,
    pub failed: u64,
    pub polls: usize,
    pub records_read: usize,
    pub faults_installed: usize,
    /// Length of the run.
    pub seconds: f64,
}

impl Report {
    pub fn new(summary: Summary, guards: Vec<Guard>, rules: Vec<RuleResult>) -> Report {
        let broken = |verdict| guards.iter().any(|guard| !guard.fails.is_empty() && guard.verdict == verdict);
        let verdict = if rules.iter().any(|rule| rule.fatal > 0) || broken(Verdict::Invalid) {
            Verdict::Invalid
        } else if rules.iter().any(|rule| rule.doubts > 0) || broken(Verdict::Unknown) {
            Verdict::Unknown
        } else {
            Verdict::Valid
        };
        Report { verdict, summary, guards, rules }
    }

    /// Rules with an anomaly that makes the run invalid, by name.
    pub fn broken(&self) -> Vec<&'static str> {
        self.rules.iter().filter(|result| result.fatal > 0).map(|result| result.rule.name()).collect()
    }
}
