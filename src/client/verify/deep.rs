//! What the disks of a partition's replicas hold: each replica reads its log again, in steps, and what comes of it is
//! held against what it applied and against the other disks.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{
    ask::{ReplicaHash, Reread},
    compare::{Difference, camps, common},
    found::{VerifiedDisks, VerifiedGroup},
};
use crate::{
    client::admin::{Admin, ClusterDescription},
    types::BrokerId,
};

/// A step that a broker does not answer is asked for again so often.
const STEP_TRIES: usize = 3;
const STEP_PAUSE: Duration = Duration::from_millis(500);

/// What one disk holds, piece by piece.
#[derive(Default)]
struct Disk {
    /// By its first index: the sum over a piece. One that was purged while it was read is not there.
    sums: BTreeMap<u64, u128>,
    bytes: u64,
    damage: Vec<String>,
    unknown: Option<String>,
}

/// Steps that were told and not shown yet; who reads waits then.
const STEPS_MAX: usize = 64;

/// Who reads, and where the brokers are.
pub(super) struct Disks<'a> {
    pub admin: &'a Admin,
    pub view: &'a ClusterDescription,
    /// Of each broker, at most.
    pub bytes_per_second: Option<u64>,
}

impl Disks<'_> {
    /// Reads all replicas' disks at once, each in its own time. Returns also what is not known.
    pub(super) async fn read(
        &self,
        group: &VerifiedGroup,
        hashes: &BTreeMap<BrokerId, ReplicaHash>,
        mut progress: impl FnMut(u64),
    ) -> (VerifiedDisks, Vec<String>) {
        let places = pieces(hashes);
        let (told, mut steps) = mpsc::channel(STEPS_MAX);
        let mut reading: FuturesUnordered<_> = hashes
            .keys()
            .map(|broker| {
                let (told, places) = (told.clone(), &places);
                async move { (*broker, self.read_disk(group, *broker, places, told).await) }
            })
            .collect();
        drop(told);
        let mut disks = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                Some(bytes) = steps.recv() => progress(bytes),
                Some((broker, disk)) = reading.next() => drop(disks.insert(broker, disk)),
                else => break,
            }
        }
        judge(&places, hashes, disks)
    }

    async fn read_disk(
        &self,
        group: &VerifiedGroup,
        broker: BrokerId,
        places: &[u64],
        told: mpsc::Sender<u64>,
    ) -> Disk {
        let mut disk = Disk::default();
        for piece in places.windows(2) {
            let (begin, end) = (piece[0], piece[1]);
            let (mut at, mut sum, mut is_whole) = (begin, 0u128, true);
            while at < end {
                let step = match self.step(group, broker, (at, end)).await {
                    Ok(step) => step,
                    Err(why) => {
                        disk.unknown = Some(why);
                        return disk;
                    }
                };
                if !step.damage.is_empty() {
                    disk.damage.push(format!("broker {broker}: entries {at} to {}: {}", end - 1, step.damage));
                    return disk;
                }
                // Purged meanwhile: what is left begins later.
                is_whole &= step.from == at;
                sum = sum.wrapping_add(step.sum);
                disk.bytes += step.bytes;
                let wrong = step.wrong.iter().map(|(index, what)| format!("broker {broker}: entry {index}: {what}"));
                disk.damage.extend(wrong);
                at = step.next;
                let _ = told.send(step.bytes).await;
            }
            if is_whole {
                disk.sums.insert(begin, sum);
            }
        }
        disk
    }

    /// Never says less than one entry: what was purged is passed over.
    async fn step(&self, group: &VerifiedGroup, broker: BrokerId, (at, end): (u64, u64)) -> Result<Reread, String> {
        let mut last = String::new();
        for _ in 0..STEP_TRIES {
            let began = Instant::now();
            let asked = self.admin.replica_hash(self.view, broker, &group.partition, false, Some((at, end))).await;
            match asked.map(|hash| (hash.first, hash.reread)) {
                Ok((_, Some(read))) if !read.damage.is_empty() => return Ok(read),
                Ok((_, Some(read))) if read.next > read.from && read.from >= at && read.next <= end => {
                    if let Some(most) = self.bytes_per_second {
                        sleep_until(began + Duration::from_secs_f64(read.bytes as f64 / most as f64)).await;
                    }
                    return Ok(read);
                }
                Ok((first, Some(_))) if first > at => {
                    let next = first.min(end);
                    return Ok(Reread { from: next, next, ..Reread::default() });
                }
                // It applied the entries before they are on its own disk: the others' disks have them.
                Ok((_, Some(_))) => last = format!("broker {broker} has no entry {at} on disk yet"),
                Ok((_, None)) => return Err(format!("broker {broker} does not read its disk again")),
                Err(why) => {
                    last = format!(
                        "broker {broker} went silent while it read entries {at} to {} again ({why}): its log says why, and \
                     whether its directory is damaged",
                        end - 1
                    );
                }
            }
            sleep(STEP_PAUSE).await;
        }
        Err(last)
    }
}

/// The places between which pieces of the log lie: those that all replicas remember, from the first entry on that all
/// have.
fn pieces(hashes: &BTreeMap<BrokerId, ReplicaHash>) -> Vec<u64> {
    let first = hashes.values().map(|hash| hash.first).max().unwrap_or(0);
    let head = hashes.values().map(ReplicaHash::head).min().unwrap_or(0);
    let mut places = common(hashes.values().map(|hash| &hash.sums), head);
    places.extend([first, head]);
    places.retain(|place| (first..=head).contains(place));
    places.sort_unstable();
    places.dedup();
    places
}

fn judge(
    places: &[u64],
    hashes: &BTreeMap<BrokerId, ReplicaHash>,
    disks: BTreeMap<BrokerId, Disk>,
) -> (VerifiedDisks, Vec<String>) {
    let mut verified = VerifiedDisks::default();
    let mut unknown = Vec::new();
    for piece in places.windows(2) {
        let (from, to) = (piece[0], piece[1]);
        let on_disk = |disk: &Disk| disk.sums.get(&from).copied();
        let read: Vec<(BrokerId, u128)> =
            disks.iter().filter_map(|(broker, disk)| Some((*broker, on_disk(disk)?))).collect();
        if read.is_empty() {
            continue;
        }
        verified.entries = verified.entries.map_or(Some((from, to)), |(begin, _)| Some((begin, to)));
        for (broker, sum) in &read {
            let sums = &hashes[broker].sums;
            let applied = sums.get(&to).zip(sums.get(&from)).map(|(to, from)| to.wrapping_sub(*from));
            if applied.is_some_and(|applied| applied != *sum) {
                let range = format!("entries {from} to {}", to - 1);
                verified.damage.push(format!("broker {broker}: {range} on disk are not those that it applied"));
            }
        }
        let camps = camps(read.into_iter());
        if camps.len() > 1 {
            verified.differences.push(Difference { from, to, camps });
        }
    }
    for disk in disks.into_values() {
        verified.bytes += disk.bytes;
        verified.damage.extend(disk.damage);
        unknown.extend(disk.unknown);
    }
    (verified, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(first: u64, sums: &[(u64, u128)]) -> ReplicaHash {
        ReplicaHash { first, sums: sums.iter().copied().collect(), ..ReplicaHash::default() }
    }

    fn disk(sums: &[(u64, u128)]) -> Disk {
        Disk { sums: sums.iter().copied().collect(), ..Disk::default() }
    }

    #[test]
    fn pieces_lie_between_what_all_remember_and_have() {
        let hashes = [
            (BrokerId(1), hash(3, &[(0, 0), (4, 1), (8, 2), (9, 3)])),
            (BrokerId(2), hash(5, &[(0, 0), (4, 1), (8, 2), (12, 3)])),
        ];
        assert_eq!(pieces(&hashes.into()), [5, 8, 9]);
        assert_eq!(pieces(&BTreeMap::new()), [0]);
    }

    #[test]
    fn a_disk_is_held_against_what_was_applied_and_against_the_others() {
        let sums = [(0, 5), (8, 7), (9, 10)];
        let hashes: BTreeMap<_, _> = (1..=3).map(|id| (BrokerId(id), hash(0, &sums))).collect();
        let sound = || disk(&[(0, 2), (8, 3)]);
        let places = [0, 8, 9];
        let all = |third: Disk| [(BrokerId(1), sound()), (BrokerId(2), sound()), (BrokerId(3), third)].into();
        let (verified, unknown) = judge(&places, &hashes, all(sound()));
        assert_eq!((verified, unknown), (VerifiedDisks { entries: Some((0, 9)), ..VerifiedDisks::default() }, vec![]));
        let (verified, _) = judge(&places, &hashes, all(disk(&[(0, 2), (8, 4)])));
        assert_eq!(verified.damage, ["broker 3: entries 8 to 8 on disk are not those that it applied"]);
        let camps = vec![vec![BrokerId(1), BrokerId(2)], vec![BrokerId(3)]];
        assert_eq!(verified.differences, [Difference { from: 8, to: 9, camps }]);
        // What was purged while it was read is no difference.
        let (verified, _) = judge(&places, &hashes, all(disk(&[(8, 3)])));
        assert_eq!((verified.differences, verified.damage), (vec![], vec![]));
    }
}
