//! The web console and its API: any broker shows the whole cluster, in the command line's own words.

use jepsen_style_tests::{
    cluster::{Cli, Cluster, Node, QUICK},
    command::{run, wait_for},
    consumer::Consumer,
    scrape::get,
    workload::{Plan, numbered},
};
use serde_json::{Value, json};

const PARTITIONS: u32 = 3;
const RECORDS: usize = 300;

#[test]
fn every_brokers_console_says_what_the_command_line_says() {
    let cluster = Cluster::start("console", 3);
    let cli = &cluster.cli;
    cli.create_topic("orders", PARTITIONS);
    let produced = cli.produce(&Plan::new("orders", PARTITIONS), numbered("o", 20).take(RECORDS)).finish_all(QUICK);
    produced.assert_all_acked();
    let read = Consumer::start(cli, &["orders", "--group", "billing", "-n", "100"]).ended(QUICK).ok();
    assert_eq!(read.len(), 100);

    let mut records = 0;
    for node in cluster.status() {
        for (path, args) in [
            ("health", &["cluster", "health"][..]),
            ("nodes", &["cluster", "nodes"]),
            ("topics", &["topic", "list"]),
            ("topic?name=orders", &["topic", "describe", "orders"]),
            ("groups", &["group", "list"]),
        ] {
            same(&format!("node {}: {path}", node.id), || (api(&node, path), cli.json(args)));
        }
        same(&format!("node {}: group", node.id), || {
            let args = ["group", "describe", "billing"];
            (without_ages(api(&node, "group?name=billing")), without_ages(cli.json(&args)))
        });
        for partition in 0..PARTITIONS {
            // Led by whichever broker: this one asks it.
            let path = format!("records?topic=orders&partition={partition}&from=start&limit=500");
            let page = api(&node, &path);
            assert_eq!(page["records"], consumed(cli, partition), "node {}: {path}", node.id);
            records += page["records"].as_array().map_or(0, Vec::len);
        }
        let (status, page) = get(&node, "localhost", "/records?topic=orders&partition=0").expect("a page");
        assert!(status == 200 && page.contains("<td data-label=\"Key\">"), "{status}: {page}");
        let (status, refused) = get(&node, "evil.example", "/api/v1/topics").expect("an answer");
        assert!(status == 421 && !refused.contains("orders"), "{status}: {refused}");
    }
    assert_eq!(records, 3 * RECORDS, "each node shows every record once");
    wait_for("a history of what was produced", QUICK, || {
        let nodes = cluster.status();
        // Looked at through one node: it asks the others.
        let samples = |of: &Node| api(&nodes[0], &format!("history?node={}", of.id))["samples"].clone();
        let all: Vec<Value> = nodes.iter().flat_map(|of| samples(of).as_array().cloned().unwrap_or_default()).collect();
        let rate = |sample: &Value| sample["produced_records_per_s"].as_f64().unwrap_or(0.0);
        if all.iter().any(|sample| rate(sample) > 0.0) { Ok(()) } else { Err(format!("{all:?}")) }
    });
    println!("  console: {records} records shown by 3 nodes");
    cluster.finish();
}

#[track_caller]
fn api(node: &Node, path: &str) -> Value {
    let (status, body) = get(node, &node.http, &format!("/api/v1/{path}")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

/// Leaders may move between the two questions: waits until both say the same.
#[track_caller]
fn same(what: &str, both: impl Fn() -> (Value, Value)) {
    wait_for(what, QUICK, || {
        let (console, command_line) = both();
        if console == command_line { Ok(()) } else { Err(format!("{console}\nand {command_line}")) }
    });
}

/// Lag in seconds grows while one looks.
fn without_ages(mut group: Value) -> Value {
    for partition in group["partitions"].as_array_mut().expect("partitions") {
        partition["lag_seconds"] = json!(partition["lag_seconds"].is_number());
    }
    group
}

fn consumed(cli: &Cli, partition: u32) -> Value {
    let partition = partition.to_string();
    let args = ["consume", "orders", "-p", &partition, "--exit-at-end", "--format", "json"];
    let lines = run(&mut cli.brokered(&args), b"", QUICK).ok();
    lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record")).collect()
}
