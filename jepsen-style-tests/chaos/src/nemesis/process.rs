//! Faults of processes: killed, paused, restarted. And who looks after processes that end by themselves.

use std::{sync::Arc, time::Duration};

use logcheck::nemesis::Line;
use tokio::time::{Instant, sleep};

use super::{Hit, Nemesis};
use crate::{
    cluster::node::{Ended, Node},
    error::ChaosError,
    fault::Fault,
};

/// How often it is looked whether all processes are there.
const LOOK: Duration = Duration::from_millis(50);
/// From the end of a process to its next start.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A node that ended by itself so often without a fault that explains it is left alone.
const UNEXPECTED_MAX: u32 = 3;

impl Nemesis {
    pub(super) fn kill(&self, fault: Fault, aimed: u8, random: &mut fastrand::Rng) -> Hit {
        let nodes = usize::from(self.cluster.size());
        let targets = match fault {
            Fault::KillMajority => self.with_others(aimed, nodes / 2, random),
            Fault::KillAll => self.with_others(aimed, nodes, random),
            _ => vec![aimed],
        };
        targets.iter().for_each(|id| self.cluster.node(*id).strike());
        targets.iter().for_each(|id| self.cluster.node(*id).kill());
        Hit { targets, detail: String::new() }
    }

    pub(super) fn start(&self, targets: &[u8]) -> Result<(), ChaosError> {
        targets.iter().try_for_each(|id| self.cluster.start_node(self.cluster.node(*id)))
    }

    /// Writes down which processes ended by themselves, and starts them again. Runs until it is dropped.
    pub async fn watch_processes(&self) -> Result<(), ChaosError> {
        let mut unexpected = vec![0; usize::from(self.cluster.size()) + 1];
        let mut again: Vec<(Instant, Arc<Node>)> = vec![];
        loop {
            sleep(LOOK).await;
            for node in self.cluster.nodes() {
                let Some(ended) = node.take_ended() else { continue };
                let count = &mut unexpected[usize::from(node.id)];
                *count += u32::from(ended.excuse.is_none());
                self.note_end(node, ended)?;
                if *count <= UNEXPECTED_MAX {
                    again.push((Instant::now() + AGAIN_AFTER, node.clone()));
                }
            }
            let (due, later) = again.into_iter().partition(|(at, _)| *at <= Instant::now());
            again = later;
            for (_, node) in due {
                // Whoever stopped it meanwhile does not want it back yet.
                if node.is_missing() {
                    self.cluster.start_node(&node)?;
                }
            }
        }
    }

    fn note_end(&self, node: &Node, ended: Ended) -> Result<(), ChaosError> {
        let expected = ended.excuse.is_some();
        let why = ended.excuse.map_or("no fault explains it".to_string(), |fault| format!("after {fault}"));
        let words = node.last_words(3);
        let what = format!("ended by itself ({}), {why}; its last words: {words}", ended.status);
        self.note(&Line::NodeFailure { at: self.recorder.now(), node: node.name(), what, expected })
    }
}
