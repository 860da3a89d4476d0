//! `flotilla local restart`: returns once the node serves, or says why it does not.

use std::{io, process::Child};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    nodes::{ANSWER_TIMEOUT, NodeArgs, POLL, find, stop_nodes},
    process::{ProcessState, log_tail, spawn, state_of},
    state::{Node, State},
};
use crate::cli::{exit::Failure, global::Global, terminal::say};

/// How many bytes an answer of `/readyz` may have: it is a status line, some headers and one sentence.
const READYZ_BYTES_MAX: u64 = 16 * 1024;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Ready,
    /// The node does not serve clients, for this reason.
    NotReady(String),
}

pub async fn run(args: NodeArgs, global: &Global) -> Result<(), Failure> {
    let (dir, node) = find(args)?;
    stop_nodes(std::slice::from_ref(&node)).await?;
    let mut state = State::load(&dir)?.ok_or_else(|| Failure::failed("the cluster's state file has vanished"))?;
    state.complete()?;
    let mut child = spawn(&node)?;
    let pid = i32::try_from(child.id()).ok();
    state.nodes.iter_mut().filter(|n| n.id == node.id).for_each(|n| n.pid = pid);
    state.save(&dir)?;
    let running = state.nodes.iter().filter(|n| state_of(n) == ProcessState::Running).count();
    let has_majority = running > state.nodes.len() / 2;
    let end = Instant::now() + global.timeout;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(ended(&node, &status.to_string()));
        }
        let said = readyz(&node.http).await;
        match &said {
            Ok(Said::Ready) => {
                say(&format!("node {} is up", node.id));
                return Ok(());
            }
            // Nothing more can come of it now.
            Ok(Said::NotReady(why)) if !has_majority => return started(&node, &mut child, why).await,
            Ok(Said::NotReady(_)) | Err(_) => {}
        }
        if Instant::now() >= end {
            let why = match said {
                Ok(Said::NotReady(why)) => why,
                Ok(Said::Ready) => "it is ready too late".into(),
                Err(error) => format!("{} does not answer: {error}", node.http),
            };
            let (id, within) = (node.id, global.timeout.as_secs());
            return Err(Failure::failed(format!("node {id} does not serve after {within} s: {why}")));
        }
        sleep(POLL).await;
    }
}

/// Without a majority a node waits. What it refuses by itself it has refused when it waits for others.
async fn started(node: &Node, child: &mut Child, why: &str) -> Result<(), Failure> {
    if let Ok(Some(status)) = child.try_wait() {
        return Err(ended(node, &status.to_string()));
    }
    say(&format!("node {} is started; it serves once a majority of the nodes runs ({why})", node.id));
    Ok(())
}

fn ended(node: &Node, status: &str) -> Failure {
    Failure::failed(format!("node {} ended ({status}); its log ends with:\n{}", node.id, log_tail(node)))
}

/// Asks a node's HTTP listener whether it serves clients.
async fn readyz(address: &str) -> io::Result<Said> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(READYZ_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = timeout(ANSWER_TIMEOUT, ask).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::Error::other("it does not speak HTTP"))
}

pub(super) fn parse(answer: &str) -> Option<Said> {
    let status = answer.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    Some(match status {
        "200" => Said::Ready,
        _ => Said::NotReady(body.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_readyz() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n"), Some(Said::Ready));
        let not_yet = "HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nthis broker is not registered yet\n";
        assert_eq!(parse(not_yet), Some(Said::NotReady("this broker is not registered yet".into())));
        assert_eq!(parse("SSH-2.0-x"), None);
        assert_eq!(parse(""), None);
    }
}
