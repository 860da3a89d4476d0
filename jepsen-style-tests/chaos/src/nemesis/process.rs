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
/// How long a rolling restart waits for one node before it goes on to the next.
const WELL_AGAIN_MAX: Duration = Duration::from_secs(15);
/// How much faster or slower a skewed clock runs.
const SKEW: f64 = 0.2;
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
        Hit::of(&targets)
    }

    pub(super) fn pause(&self, aimed: u8) -> Hit {
        self.cluster.node(aimed).pause();
        Hit::of(&[aimed])
    }

    /// A graceful stop, which hands leaderships over first.
    pub(super) async fn stop(&self, id: u8) -> Result<Hit, ChaosError> {
        let node = self.cluster.node(id).clone();
        let stopped = tokio::task::spawn_blocking(move || node.stop()).await;
        if !stopped.map_err(|error| ChaosError::Broken(error.to_string()))? {
            let (at, node) = (self.recorder.now(), self.cluster.node(id).name());
            let what = "did not stop in time after SIGTERM, and was killed".to_string();
            self.note(&Line::NodeFailure { at, node, what, expected: false })?;
        }
        Ok(Hit::of(&[id]))
    }

    /// One node after the other, each when the one before is well again. Those that find no time stay up.
    pub(super) async fn roll(&self, until: Instant) -> Result<(), ChaosError> {
        for id in self.all() {
            if Instant::now() >= until {
                break;
            }
            self.stop(id).await?;
            self.start(&[id])?;
            // One that is not well by then is no reason to wait: the next fault would not wait either.
            let _ = self.cluster.wait_healthy(WELL_AGAIN_MAX).await;
        }
        Ok(())
    }

    pub(super) fn jump_clock(&self, aimed: u8, random: &mut fastrand::Rng) -> Result<Hit, ChaosError> {
        const HALF_AN_HOUR_MS: &str = "1800000";
        let (text, detail) = match random.u8(..3) {
            0 => (HALF_AN_HOUR_MS.to_string(), "ahead"),
            1 => (format!("-{HALF_AN_HOUR_MS}"), "behind"),
            _ => ("stopped".to_string(), "stopped"),
        };
        self.cluster.node(aimed).set_clock(&text)?;
        Ok(Hit::told(&[aimed], detail.into()))
    }

    /// The clock runs at another rate.
    pub(super) async fn skew_clock(
        &self,
        hit: &Hit,
        until: Instant,
        random: &mut fastrand::Rng,
    ) -> Result<(), ChaosError> {
        let (began, rate) = (Instant::now(), if random.bool() { SKEW } else { -SKEW });
        while Instant::now() < until {
            let off_ms = (began.elapsed().as_millis() as f64 * rate) as i64;
            hit.targets.iter().try_for_each(|id| self.cluster.node(*id).set_clock(&off_ms.to_string()))?;
            sleep(LOOK).await;
        }
        Ok(())
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
