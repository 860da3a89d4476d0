//! Does to the cluster what the schedule says, and writes down what was done, to whom, and what they led.

mod damage;
mod disk;
mod links;
mod process;
mod transfer;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use flotilla::client::{BrokerId, PartitionId, TopicPartition};
use logcheck::{
    nemesis::{Done, Fault as Noted, Line},
    recorder::Recorder,
};
use tokio::time::{Instant, sleep_until};

use crate::{
    cluster::Cluster,
    error::ChaosError,
    fault::{Fault, Reach},
    leaders::Watch,
    schedule::{SETTLE_MS, Schedule, Slot, Step},
};

/// How long a cluster may take to be whole again around a fault that takes a node's files. Until then there is no second one.
const WHOLE_MAX: Duration = Duration::from_secs(60);

/// What was done: the frame in which throughput and recovery are measured.
#[derive(Clone, Debug)]
pub struct Window {
    pub fault: Fault,
    pub from: u64,
    pub to: u64,
    /// Partitions of the main topic whose leaders were hit.
    pub partitions: Vec<u32>,
    pub has_led: bool,
    pub outcome: Done,
}

/// What happened in a slot, from its first fault to the end of its last.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    pub from: u64,
    pub to: u64,
    pub windows: Vec<Window>,
}

impl Stretch {
    /// Whether at least a majority was left alone all the time.
    pub fn spares_majority(&self) -> bool {
        self.windows.iter().all(|window| window.fault.reach() != Reach::Cluster)
    }
}

#[derive(Clone)]
pub struct Nemesis {
    pub cluster: Arc<Cluster>,
    /// The main topic.
    pub topic: Arc<str>,
    pub recorder: Recorder,
    pub leaders: Watch,
    /// What is wrong at the moment, for whoever watches.
    pub current: Arc<Mutex<Vec<String>>>,
    pub history: std::path::PathBuf,
}

/// A fault that is installed.
struct Hit {
    targets: Vec<u8>,
    /// More about it, for people: which tail, how long.
    detail: String,
    /// A node that was started after it has to say that something is wrong.
    must_be_noticed: bool,
}

impl Hit {
    fn of(targets: &[u8]) -> Hit {
        Hit::told(targets, String::new())
    }

    fn told(targets: &[u8], detail: String) -> Hit {
        Hit { targets: targets.to_vec(), detail, must_be_noticed: false }
    }
}

impl Nemesis {
    /// Carries the schedule out, from `began` on, and leaves a cluster that is healed. No slot begins after `span`.
    pub async fn run(&self, schedule: &Schedule, span: Duration) -> Result<Vec<Stretch>, ChaosError> {
        let began = Instant::now();
        let mut stretches = vec![];
        for slot in &schedule.slots {
            // What took longer than planned moves what comes after it.
            let at = (began + Duration::from_millis(slot.at_ms)).max(Instant::now());
            // With one node out for good, the next fault could take the majority.
            if at >= began + span || self.cluster.has_given_up() {
                break;
            }
            sleep_until(at).await;
            let stretch = self.slot(slot).await?;
            sleep_until(Instant::now() + Duration::from_millis(SETTLE_MS)).await;
            stretches.push(stretch);
        }
        sleep_until(began + span).await;
        Ok(stretches)
    }

    async fn slot(&self, slot: &Slot) -> Result<Stretch, ChaosError> {
        let takes_files = slot.steps.iter().any(|step| step.fault.takes_files());
        if takes_files && self.cluster.wait_healthy(WHOLE_MAX).await.is_err() {
            return self.skip(slot);
        }
        let from = self.recorder.now();
        let windows = match slot.steps.as_slice() {
            [one] => vec![self.step(one, self.aimed(one)).await?],
            [one, other] => {
                // A node that is gone has no links to worsen: the second is for another one.
                let first = self.aimed(one);
                let second = self.leaders.now().beside(first, &self.cluster.ids());
                self.let_lead(second).await;
                let (one, other) = tokio::join!(self.step(one, first), self.step(other, second));
                vec![one?, other?]
            }
            _ => vec![],
        };
        Ok(Stretch { from, to: self.recorder.now(), windows })
    }

    /// A node that has not caught up is as good as one whose files are gone, and there must not be two.
    fn skip(&self, slot: &Slot) -> Result<Stretch, ChaosError> {
        let at = self.recorder.now();
        for step in &slot.steps {
            let (fault, targets, led) = (step.fault.to_string(), vec![], vec![]);
            self.note(&Line::Start(Noted { at, fault, targets, outcome: Done::Skipped, led }))?;
        }
        Ok(Stretch { from: at, to: at, windows: vec![] })
    }

    /// Gives a partition to a node that leads none, as it is after all others were restarted: a fault is to hit a leader. If it
    /// cannot be given, the check says that nobody was hit.
    async fn let_lead(&self, node: u8) {
        let leaders = self.leaders.now();
        let Some(&partition) = leaders.partitions.keys().next() else { return };
        if !leaders.partitions_of(&[node]).is_empty() {
            return;
        }
        let at = TopicPartition::new(&*self.topic, PartitionId(partition as i32));
        let admin = self.cluster.admin();
        if admin.transfer_leader(at).to(BrokerId(node.into())).send().await.is_ok() {
            self.leaders.moved(partition, node);
        }
    }

    /// The node that a fault is for.
    fn aimed(&self, step: &Step) -> u8 {
        let mut random = fastrand::Rng::with_seed(step.seed);
        self.leaders.now().aimed(step.aim, &self.cluster.ids(), &mut random)
    }

    async fn step(&self, step: &Step, aimed: u8) -> Result<Window, ChaosError> {
        let leaders = self.leaders.now();
        let mut random = fastrand::Rng::with_seed(step.seed);
        let (from, until) = (self.recorder.now(), Instant::now() + Duration::from_millis(step.length_ms));
        let hit = self.install(step.fault, aimed, &mut random).await?;
        let led = leaders.led_by(&hit.targets, &self.topic);
        let name =
            if hit.detail.is_empty() { step.fault.to_string() } else { format!("{} ({})", step.fault, hit.detail) };
        // Where there was nobody to do it to, it was not done.
        let outcome = if hit.targets.is_empty() { Done::Skipped } else { Done::Installed };
        let targets: Vec<String> = hit.targets.iter().map(|id| format!("n{id}")).collect();
        let shown = format!("{name} {}", targets.join(" "));
        self.current().push(shown.clone());
        let noted =
            |at, led: Vec<String>| Noted { at, fault: step.fault.to_string(), targets: targets.clone(), outcome, led };
        self.note(&Line::Start(noted(from, led.clone())))?;
        self.meanwhile(step.fault, &hit, until, &mut random).await?;
        self.heal(step.fault, &hit).await?;
        let to = self.recorder.now();
        self.note(&Line::Stop(noted(to, vec![])))?;
        self.current().retain(|current| *current != shown);
        let partitions = leaders.partitions_of(&hit.targets);
        Ok(Window { fault: step.fault, from, to, partitions, has_led: !led.is_empty(), outcome })
    }

    async fn install(&self, fault: Fault, aimed: u8, random: &mut fastrand::Rng) -> Result<Hit, ChaosError> {
        match fault {
            Fault::Kill | Fault::KillMajority | Fault::KillAll => Ok(self.kill(fault, aimed, random)),
            Fault::Pause => Ok(self.pause(aimed)),
            Fault::Restart => self.stop(aimed).await,
            Fault::RollingRestart => Ok(Hit::of(&self.all())),
            Fault::PartitionOne
            | Fault::PartitionHalves
            | Fault::PartitionBridge
            | Fault::PartitionRing
            | Fault::CutOutgoing
            | Fault::CutIncoming => Ok(self.cut_links(fault, aimed, random)),
            Fault::Delay | Fault::Stall | Fault::Bandwidth => Ok(self.worsen_links(fault, aimed, random)),
            Fault::Reset | Fault::Corrupt => Ok(Hit::of(&[aimed])),
            Fault::ClockJump => self.jump_clock(aimed, random),
            Fault::ClockSkew => Ok(Hit::of(&[aimed])),
            Fault::PowerCut | Fault::PowerCutAll => Ok(self.cut_power(fault, aimed, random)),
            Fault::FsyncError | Fault::FsyncSlow | Fault::DiskHung => Ok(self.worsen_disk(fault, aimed, random)),
            Fault::DiskFull => self.fill_disk(aimed, random).await,
            Fault::Damage | Fault::Wipe => self.spoil(fault, aimed, random).await,
            Fault::Transfer => Ok(Hit::of(&[aimed])),
        }
    }

    /// What goes on from a fault's beginning to its end.
    async fn meanwhile(
        &self,
        fault: Fault,
        hit: &Hit,
        until: Instant,
        random: &mut fastrand::Rng,
    ) -> Result<(), ChaosError> {
        match fault {
            Fault::RollingRestart => self.roll(until).await?,
            Fault::Reset => self.reset_links(hit, until, random).await,
            Fault::Corrupt => self.corrupt_links(hit, until, random).await,
            Fault::ClockSkew => self.skew_clock(hit, until, random).await?,
            Fault::Damage | Fault::Wipe => self.try_spoilt(fault, hit, until).await?,
            Fault::Transfer => self.transfer(hit, until, random).await,
            _ => {}
        }
        sleep_until(until).await;
        Ok(())
    }

    async fn heal(&self, fault: Fault, hit: &Hit) -> Result<(), ChaosError> {
        match fault {
            Fault::Kill | Fault::KillMajority | Fault::KillAll | Fault::Restart => self.start(&hit.targets),
            Fault::Pause => {
                hit.targets.iter().for_each(|id| self.cluster.node(*id).resume());
                Ok(())
            }
            // What was damaged was put back when it was seen what came of it.
            Fault::RollingRestart | Fault::Reset | Fault::Damage | Fault::Wipe | Fault::Transfer => Ok(()),
            Fault::PartitionOne
            | Fault::PartitionHalves
            | Fault::PartitionBridge
            | Fault::PartitionRing
            | Fault::CutOutgoing
            | Fault::CutIncoming => {
                self.mend_cuts();
                Ok(())
            }
            Fault::Delay | Fault::Stall | Fault::Bandwidth | Fault::Corrupt => {
                self.mend_links(fault, hit);
                Ok(())
            }
            Fault::ClockJump | Fault::ClockSkew => {
                hit.targets.iter().try_for_each(|id| self.cluster.node(*id).set_clock("0"))
            }
            Fault::PowerCut | Fault::PowerCutAll => self.power_on(hit),
            Fault::FsyncError | Fault::FsyncSlow | Fault::DiskHung | Fault::DiskFull => {
                self.mend_disk(fault, hit);
                Ok(())
            }
        }
    }

    fn all(&self) -> Vec<u8> {
        self.cluster.ids()
    }

    /// The aimed one and so many others.
    fn with_others(&self, aimed: u8, count: usize, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut others = self.cluster.ids();
        others.retain(|id| *id != aimed);
        random.shuffle(&mut others);
        let mut targets: Vec<u8> = [aimed].into_iter().chain(others.into_iter().take(count)).collect();
        targets.sort_unstable();
        targets
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.current.lock().expect("nobody panics with it")
    }

    pub fn note(&self, line: &Line) -> Result<(), ChaosError> {
        self.recorder.nemesis(line).map_err(ChaosError::file("cannot write the history below", &self.history))
    }
}
