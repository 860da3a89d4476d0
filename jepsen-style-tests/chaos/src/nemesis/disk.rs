//! Faults of disks: the power goes, syncs fail, take their time or hang, and disks fill up.

use std::{process::Command, time::Duration};

use powerfs::{Cut, Power, SyncErrors, TAILS, cut_all};
use tokio::time::Instant;

use super::{Hit, Nemesis};
use crate::{error::ChaosError, fault::Fault};

const SLOW_MS: std::ops::Range<u64> = 20..200;
/// What is free on a disk that is called full.
const LEFT_BYTES: std::ops::Range<u64> = 0..8 << 20;
/// One of so many failing disks fails until it is healed; the others fail one sync.
const FOREVER_ONE_IN: u32 = 3;
/// So long after its healing a fault still explains that a process ended: a watchdog looks now and then.
const EXCUSED_FOR: Duration = Duration::from_secs(20);

impl Nemesis {
    fn powers(&self, targets: &[u8]) -> Vec<Power> {
        targets.iter().filter_map(|id| self.cluster.power(*id).cloned()).collect()
    }

    /// The power goes, and no process outlives it.
    pub(super) fn cut_power(&self, fault: Fault, aimed: u8, random: &mut fastrand::Rng) -> Hit {
        let targets = if fault == Fault::PowerCutAll { self.all() } else { vec![aimed] };
        let tail = TAILS[random.usize(..TAILS.len())];
        // Those that see their disk fail may end before they are killed.
        targets.iter().for_each(|id| self.cluster.node(*id).excuse(fault.name()));
        cut_all(&self.powers(&targets), Cut::new(tail, random.u64(..)));
        targets.iter().for_each(|id| self.cluster.node(*id).strike());
        targets.iter().for_each(|id| self.cluster.node(*id).kill());
        Hit::told(&targets, tail.to_string())
    }

    pub(super) fn power_on(&self, hit: &Hit) -> Result<(), ChaosError> {
        self.powers(&hit.targets).iter().for_each(Power::on);
        hit.targets.iter().for_each(|id| self.cluster.node(*id).excuse_until(Instant::now().into_std()));
        self.start(&hit.targets)
    }

    pub(super) fn worsen_disk(&self, fault: Fault, aimed: u8, random: &mut fastrand::Rng) -> Hit {
        let slow = Duration::from_millis(random.u64(SLOW_MS));
        let errors = if random.u32(..FOREVER_ONE_IN) == 0 { SyncErrors::Forever } else { SyncErrors::Once };
        self.cluster.node(aimed).excuse(fault.name());
        for power in self.powers(&[aimed]) {
            power.set_faults(|faults| match fault {
                Fault::FsyncError => faults.sync_errors = errors,
                Fault::FsyncSlow => faults.sync_delay = slow,
                _ => faults.is_hung = true,
            });
        }
        let detail = match fault {
            Fault::FsyncError if errors == SyncErrors::Once => "once".to_string(),
            Fault::FsyncError => "for a while".to_string(),
            Fault::FsyncSlow => format!("{} ms", slow.as_millis()),
            _ => String::new(),
        };
        Hit::told(&[aimed], detail)
    }

    pub(super) async fn fill_disk(&self, aimed: u8, random: &mut fastrand::Rng) -> Result<Hit, ChaosError> {
        let used = self.used_bytes(aimed).await?;
        let left = random.u64(LEFT_BYTES);
        self.cluster.node(aimed).excuse(Fault::DiskFull.name());
        self.powers(&[aimed])
            .iter()
            .for_each(|power| power.set_faults(|faults| faults.full_at_bytes = Some(used + left)));
        Ok(Hit::told(&[aimed], format!("{} KiB left", left >> 10)))
    }

    /// What lies on a node's disk.
    async fn used_bytes(&self, id: u8) -> Result<u64, ChaosError> {
        let mut command = Command::new("stat");
        command.args(["-f", "-c", "%b %f %S"]).arg(self.cluster.node(id).data_dir());
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.map_err(|error| ChaosError::Broken(error.to_string()))?;
        let output = output.map_err(|error| ChaosError::Program { program: "stat".into(), error })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [blocks, free, size] => Ok(blocks.saturating_sub(free) * size),
            _ => Err(ChaosError::Broken(format!("stat -f, which said {text:?}"))),
        }
    }

    pub(super) fn mend_disk(&self, fault: Fault, hit: &Hit) {
        for power in self.powers(&hit.targets) {
            power.set_faults(|faults| match fault {
                Fault::FsyncError => faults.sync_errors = SyncErrors::Never,
                Fault::FsyncSlow => faults.sync_delay = Duration::ZERO,
                Fault::DiskFull => faults.full_at_bytes = None,
                _ => faults.is_hung = false,
            });
        }
        let until = (Instant::now() + EXCUSED_FOR).into_std();
        hit.targets.iter().for_each(|id| self.cluster.node(*id).excuse_until(until));
    }
}
