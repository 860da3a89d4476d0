//! What people read: the table, an anomaly with the operations around it, and the verdict.

use crate::{
    check, context,
    files::{self},
    generate::Plan,
    meta::Meta,
    mutate::{History, Mutation},
    rules::Rule,
    show,
};

#[test]
fn an_anomaly_is_shown_with_the_operations_around_it() {
    let plan = Plan { sends: 3_000, poll_records: 50, ..Plan::default() };
    let nemesis = crate::nemesis::Nemesis { lines: plan.nemesis(), torn: false };
    let mut history = History { meta: plan.meta(), nemesis, names: plan.workers(), workers: plan.events() };
    let what = Mutation::LoseValue.apply(&mut history, 9).expect("something to lose");
    let dir = tempfile::tempdir().expect("a directory");
    history.write(dir.path()).expect("write");
    let report = check(dir.path()).expect("a history");
    let rule = &report.rules[Rule::LostWrite as usize];
    let anomaly = &rule.anomalies[0];
    let seen = context::around(dir.path(), &[&anomaly.found], 6).expect("a history");
    let meta = Meta::read(&files::meta_path(dir.path())).expect("meta");
    let text = show::anomaly(rule, anomaly, &seen[0], &meta);
    let value = anomaly.found.values[0];
    assert!(what.contains(&format!("value {value} ")), "{what}: {text}");
    assert!(text.starts_with("lost-write: made-up/"), "{text}");
    assert!(text.contains(&format!("value: {value},")) && text.contains("Sent(Sent { outcome: Ok"), "{text}");
    assert!(text.lines().count() >= 8, "{text}");
    let table = show::report(&report);
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).expect("a row").to_string();
    assert!(row("lost-write").ends_with("1 ANOMALIES"), "{}", row("lost-write"));
    assert!(row("phantom").ends_with("passed"), "{}", row("phantom"));
    assert!(show::verdict(&report).starts_with("verdict: invalid (lost-write"));
}

#[test]
fn rules_have_names_and_pages() {
    let readme = include_str!("../../README.md");
    for rule in Rule::ALL {
        assert!(readme.contains(&format!("`{}`", rule.name())), "README.md says nothing of {}", rule.name());
        assert!(!rule.says().is_empty() && !rule.source().is_empty() && !rule.of().is_empty());
    }
    for kind in Mutation::ALL {
        assert!(readme.contains(&format!("`{}`", kind.name())), "README.md says nothing of {}", kind.name());
    }
}
