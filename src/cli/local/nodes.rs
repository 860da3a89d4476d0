//! The nodes that a command is about: finding them, waiting for them, stopping them.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{
    process::{self, ProcessState, state_of},
    state::{Node, State, directory},
};
use crate::cli::{exit::Failure, terminal::say};

/// How long a node may take to stop by itself; then it is killed.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// How often a condition is looked at while waiting for it.
pub const POLL: Duration = Duration::from_millis(50);
/// How long one node's answer may take while all are waited for.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct DirArg {
    /// Where everything is kept [default: the last one started, or below XDG_STATE_HOME].
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

#[derive(Args)]
pub struct NodeArgs {
    /// The node's number.
    #[arg(value_name = "NODE", required_unless_present = "node")]
    pub id: Option<u64>,
    /// The same.
    #[arg(long, value_name = "NODE", conflicts_with = "id")]
    pub node: Option<u64>,
    #[command(flatten)]
    pub dir: DirArg,
}

pub fn load(dir: DirArg) -> Result<(PathBuf, State), Failure> {
    let dir = directory(dir.dir)?;
    let state = State::load(&dir)?.ok_or_else(|| {
        Failure::not_found(format!("no local cluster in {}; start one with `flotilla local start`", dir.display()))
    })?;
    Ok((dir, state))
}

pub fn find(args: NodeArgs) -> Result<(PathBuf, Node), Failure> {
    let (dir, state) = load(args.dir)?;
    let id = args.id.or(args.node).expect("clap requires one of them");
    let node = state.node(id)?.clone();
    Ok((dir, node))
}

/// Waits until a node is in the state that is wanted.
pub async fn wait_for(node: &Node, wanted: ProcessState, limit: Duration) -> Result<(), Failure> {
    let end = Instant::now() + limit;
    while state_of(node) != wanted {
        if Instant::now() >= end {
            return Err(Failure::failed(format!(
                "node {} is {}, not {}",
                node.id,
                state_of(node).name(),
                wanted.name()
            )));
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// Sends SIGTERM to all, and SIGKILL to those that are still there after the grace.
pub async fn stop_nodes(nodes: &[Node]) -> Result<(), Failure> {
    for node in nodes {
        process::signal(node, Signal::TERM)?;
        // A frozen process gets its SIGTERM only when it goes on.
        process::signal(node, Signal::CONT)?;
    }
    let end = Instant::now() + STOP_GRACE;
    while nodes.iter().any(|n| state_of(n) != ProcessState::Dead) {
        if Instant::now() >= end {
            for node in nodes.iter().filter(|n| state_of(n) != ProcessState::Dead) {
                say(&format!("node {} did not stop within {} s: killing it", node.id, STOP_GRACE.as_secs()));
                process::signal(node, Signal::KILL)?;
                wait_for(node, ProcessState::Dead, STOP_GRACE).await?;
            }
        }
        sleep(POLL).await;
    }
    Ok(())
}
