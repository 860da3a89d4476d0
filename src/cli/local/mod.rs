//! `flotilla local`: a cluster of real processes on loopback, everything below one directory.
//!
//! Promises: nodes outlive this command; ports, data and ids stay the same over restarts; `start`
//! returns once all nodes answer as one cluster; signals never reach a process that is not ours.

#[cfg(test)]
mod fuzz;
mod nodes;
mod process;
mod restart;
mod state;

use std::{process::Child, time::Duration};

use clap::{Args, Subcommand};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

pub use process::{cpu_seconds, written_bytes};

use super::{
    contexts,
    contexts::Context,
    exit::Failure,
    global::Global,
    output::{self, FormatArg, OutputFormat, or_none, print_json, print_table},
    terminal::say,
    units,
};
use crate::client::{Admin, Cluster};
use nodes::{ANSWER_TIMEOUT, DirArg, NodeArgs, POLL, find, load, stop_nodes, wait_for};
use process::{ProcessState, log_tail, spawn, state_of};
use state::{CONTEXT, KAFKA_PORT, Node, State, default_directory, directory};

pub const EXAMPLES: &str = "\
Examples:
  flotilla local start --nodes 3
  flotilla local status
  flotilla local kill 2          SIGKILL: the process is gone at once
  flotilla local restart 2
  flotilla local pause 3         SIGSTOP: it holds its sockets and says nothing
  flotilla local resume 3
  flotilla local stop";

/// More processes than that on one machine is a mistake.
const NODES_MAX: u64 = 32;

#[derive(Subcommand)]
pub enum LocalCommand {
    /// Start a cluster, new or again.
    Start(StartArgs),
    /// List the nodes.
    Status {
        #[command(flatten)]
        dir: DirArg,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Kill a node at once (SIGKILL).
    Kill(NodeArgs),
    /// Freeze a node (SIGSTOP).
    Pause(NodeArgs),
    /// Unfreeze a node (SIGCONT).
    Resume(NodeArgs),
    /// Stop a node, if it runs, and start it again.
    Restart(NodeArgs),
    /// Stop all nodes; data stays.
    Stop(DirArg),
}

#[derive(Args)]
pub struct StartArgs {
    /// How many [default: 3, or as many as there are].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=NODES_MAX))]
    nodes: Option<u64>,
    #[command(flatten)]
    dir: DirArg,
    /// A key of the nodes' configuration, for a new cluster; may be given again.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = units::key_value)]
    settings: Vec<(String, String)>,
}

pub async fn run(command: LocalCommand, global: &Global) -> Result<(), Failure> {
    match command {
        LocalCommand::Start(args) => start(args, global).await,
        LocalCommand::Status { dir, format } => status(dir, format),
        LocalCommand::Kill(args) => {
            let (_, node) = find(args)?;
            one(&node, Signal::KILL, "killed")?;
            wait_for(&node, ProcessState::Dead, global.timeout).await
        }
        LocalCommand::Pause(args) => {
            let (_, node) = find(args)?;
            one(&node, Signal::STOP, "paused")?;
            wait_for(&node, ProcessState::Paused, global.timeout).await
        }
        LocalCommand::Resume(args) => {
            let (_, node) = find(args)?;
            one(&node, Signal::CONT, "resumed")?;
            wait_for(&node, ProcessState::Running, global.timeout).await
        }
        LocalCommand::Restart(args) => restart::run(args, global).await,
        LocalCommand::Stop(dir) => stop(dir).await,
    }
}

/// Signals a node that must be there.
fn one(node: &Node, signal: Signal, done: &str) -> Result<(), Failure> {
    if !process::signal(node, signal)? {
        return Err(Failure::failed(format!("node {} is not running", node.id)));
    }
    say(&format!("node {} {done}", node.id));
    Ok(())
}

fn status(dir: DirArg, format: FormatArg) -> Result<(), Failure> {
    let (_, state) = load(dir)?;
    match format.format {
        OutputFormat::Json => print_json(&status_json(&state)),
        OutputFormat::Text => {
            let row = |n: &Node| {
                let process = state_of(n);
                let pid = n.pid.filter(|_| process != ProcessState::Dead).map_or("-".into(), |pid| pid.to_string());
                let mut row = vec![n.id.to_string(), pid, process.name().to_string()];
                row.extend([n.client.clone(), n.peer.clone(), n.http.clone(), or_none(&n.kafka)]);
                row.push(n.data_dir.display().to_string());
                row
            };
            print_table(
                &["NODE", "PID", "STATE", "CLIENT", "PEER", "HTTP", "KAFKA", "DATA"],
                state.nodes.iter().map(row).collect(),
            )
        }
    }
}

/// Returns the status' JSON, which is an interface.
fn status_json(state: &State) -> Value {
    let nodes: Vec<Value> = state
        .nodes
        .iter()
        .map(|n| {
            let process = state_of(n);
            json!({
                "id": n.id, "pid": n.pid.filter(|_| process != ProcessState::Dead), "state": process.name(),
                "client": n.client, "peer": n.peer, "http": n.http, "kafka": n.kafka, "data_dir": n.data_dir,
            })
        })
        .collect();
    json!({ "nodes": nodes })
}

async fn start(args: StartArgs, global: &Global) -> Result<(), Failure> {
    let (dir, kafka_from) = match args.dir.dir {
        Some(dir) => (directory(Some(dir))?, None),
        // Not the last one used: `start` without --dir means the usual place.
        None => (default_directory()?, Some(KAFKA_PORT)),
    };
    let mut state = match State::load(&dir)? {
        None => State::create(&dir, args.nodes.unwrap_or(3), &args.settings, kafka_from)?,
        Some(state) => {
            let there = state.nodes.len() as u64;
            if args.nodes.is_some_and(|nodes| nodes != there) {
                let dir = dir.display();
                return Err(Failure::usage(format!(
                    "{dir} holds a cluster of {there} nodes: give --nodes {there}, or another --dir"
                )));
            }
            if !args.settings.is_empty() {
                return Err(Failure::usage("--set is for a new cluster; change node.toml and restart the node"));
            }
            state
        }
    };
    state.complete()?;
    contexts::save(CONTEXT, Context { brokers: state.brokers(), local_dir: Some(dir.clone()) })?;
    let mut children = Vec::new();
    for node in &mut state.nodes {
        if state_of(node) == ProcessState::Dead {
            let child = spawn(node)?;
            node.pid = i32::try_from(child.id()).ok();
            children.push((node.id, child));
        }
    }
    state.save(&dir)?;
    wait_formed(&state, &mut children, global.timeout).await?;
    say(&format!("{} nodes are up; data and logs in {}", state.nodes.len(), dir.display()));
    for node in &state.nodes {
        let kafka = if node.kafka.is_empty() { String::new() } else { format!(", kafka {}", node.kafka) };
        say(&format!("  node {}: client {}, http {}{kafka}", node.id, node.client, node.http));
    }
    Ok(())
}

/// Waits until every node says that all are alive and somebody leads the metadata group.
async fn wait_formed(state: &State, children: &mut [(u64, Child)], limit: Duration) -> Result<(), Failure> {
    let bar = output::progress("waiting for the cluster to form");
    let cluster = Cluster::new(state.brokers())?;
    let admin = Admin::new(cluster, ANSWER_TIMEOUT);
    let end = Instant::now() + limit;
    let mut ready = 0;
    let mut last;
    while ready < state.nodes.len() {
        bar.tick();
        for (id, child) in children.iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                let node = state.node(*id)?;
                let tail = log_tail(node);
                return Err(Failure::failed(format!(
                    "node {id} ended ({status}); {} ends with:\n{tail}",
                    node.log.display()
                )));
            }
        }
        // Nodes become ready one by one and stay so: each is asked until it says yes.
        let node = &state.nodes[ready];
        match admin.describe_cluster_at(&node.client).await {
            Ok(m)
                if m.metadata_leader.is_some()
                    && m.brokers.iter().filter(|b| b.is_alive).count() >= state.nodes.len() =>
            {
                ready += 1;
                continue;
            }
            Ok(m) => {
                let alive = m.brokers.iter().filter(|b| b.is_alive).count();
                let leader = m.metadata_leader.unwrap_or_default();
                last = format!("node {} sees {alive} nodes, metadata leader {leader}", node.id);
            }
            Err(error) => last = error.to_string(),
        }
        if Instant::now() >= end {
            return Err(Failure::failed(format!(
                "the cluster did not form within {} s: {last}; see {}",
                limit.as_secs(),
                node.log.display()
            )));
        }
        sleep(POLL).await;
    }
    bar.finish_and_clear();
    Ok(())
}

async fn stop(dir: DirArg) -> Result<(), Failure> {
    let (_, state) = load(dir)?;
    stop_nodes(&state.nodes).await?;
    say(&format!("{} nodes are stopped", state.nodes.len()));
    Ok(())
}

/// Returns the pids of the running nodes of the local cluster, if the current context is one.
pub fn running_pids() -> Vec<i32> {
    let Ok(Context { local_dir: Some(dir), .. }) = contexts::current() else { return Vec::new() };
    let Ok(Some(state)) = State::load(&dir) else { return Vec::new() };
    state.nodes.iter().filter(|n| state_of(n) != ProcessState::Dead).filter_map(|n| n.pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statuss_json_is_frozen() {
        let node = Node {
            id: 1,
            pid: None,
            client: "127.0.0.1:1".into(),
            peer: "127.0.0.1:2".into(),
            http: "127.0.0.1:3".into(),
            kafka: "127.0.0.1:4".into(),
            data_dir: "/d/n1/data".into(),
            config: "/d/n1/node.toml".into(),
            log: "/d/n1/log".into(),
        };
        let want = json!({"nodes":[{"id":1,"pid":null,"state":"stopped","client":"127.0.0.1:1","peer":"127.0.0.1:2",
            "http":"127.0.0.1:3","kafka":"127.0.0.1:4","data_dir":"/d/n1/data"}]});
        assert_eq!(status_json(&State { nodes: vec![node] }), want);
    }
}
