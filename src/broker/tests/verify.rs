//! Replicas that hold other things are found, where they do; those that hold the same are not accused, whatever
//! happened to them.

use std::collections::BTreeMap;

use super::rig::{Cluster, until};
use crate::{
    broker::{Caller, HashReplicaRequest, ReplicaHash, RereadHash, TrimRequest},
    raft::Reread,
    storage::{Family, KeyRange, Kv, ScanLimit, SimFault, WriteBatch},
    types::{LogIndex, Offset, PartitionId},
};

async fn ask(cluster: &Cluster, id: u64, topic: Option<&str>, reread: Option<u64>) -> ReplicaHash {
    let partition = topic.map(|topic| (topic.to_string(), PartitionId(0)));
    let reread = reread.map(|to| (LogIndex(0), LogIndex(to)));
    let request = HashReplicaRequest { partition, with_state: true, reread };
    cluster.broker(id).hash_replica(&Caller::ANONYMOUS, request).await.expect("it has a replica")
}

/// What all three say once they are at one entry.
async fn settled(cluster: &Cluster, topic: Option<&str>) -> BTreeMap<u64, ReplicaHash> {
    let look = || async {
        let mut said = BTreeMap::new();
        for id in 1..=3 {
            let partition = topic.map(|topic| (topic.to_string(), PartitionId(0)));
            let request = HashReplicaRequest { partition, with_state: true, reread: None };
            if let Ok(hash) = cluster.broker(id).hash_replica(&Caller::ANONYMOUS, request).await {
                said.insert(id, hash);
            }
        }
        let heads: Vec<u64> = said.values().map(head).collect();
        (heads.len() == 3 && heads.iter().all(|head| *head == heads[0])).then_some(said)
    };
    until("all replicas are at one entry", || async { look().await.is_some() }).await;
    loop {
        if let Some(said) = look().await {
            return said;
        }
    }
}

fn head(hash: &ReplicaHash) -> u64 {
    hash.log.marks.last().expect("there is one at least").next.0
}

/// The ranges between marks that both remember whose hashes differ, and how many there are in all.
fn compared(a: &ReplicaHash, b: &ReplicaHash) -> (Vec<(u64, u64)>, usize) {
    let of_b: BTreeMap<u64, u128> = b.log.marks.iter().map(|mark| (mark.next.0, mark.sum)).collect();
    let both: Vec<(u64, u128, u128)> =
        a.log.marks.iter().filter_map(|mark| Some((mark.next.0, mark.sum, *of_b.get(&mark.next.0)?))).collect();
    let differs = |pair: &&[(u64, u128, u128)]| pair[1].1.wrapping_sub(pair[0].1) != pair[1].2.wrapping_sub(pair[0].2);
    (both.windows(2).filter(differs).map(|pair| (pair[0].0, pair[1].0)).collect(), both.len().saturating_sub(1))
}

fn assert_all_agree(said: &BTreeMap<u64, ReplicaHash>, at_least: usize) {
    for hash in said.values() {
        let (differ, ranges) = compared(&said[&1], hash);
        assert!(differ.is_empty() && ranges >= at_least, "{differ:?} of {ranges}: {said:?}");
        assert_eq!(hash.log.state, said[&1].log.state, "{said:?}");
    }
}

/// One is killed and restarted; another one is away while the log is purged, and gets a snapshot.
#[tokio::test]
async fn replicas_agree_through_kills_and_snapshots() {
    let mut cluster = Cluster::start(3, 71_000).await;
    cluster.create("t", 1).await;
    for sequence in 0..40 {
        cluster.produce("t", sequence).await;
    }
    assert_all_agree(&settled(&cluster, Some("t")).await, 30);
    cluster.kill(1, 5);
    cluster.run(1).await;
    cluster.wait_ready(1).await;
    cluster.produce("t", 40).await;
    assert_all_agree(&settled(&cluster, Some("t")).await, 2);
    cluster.kill(2, 6);
    for sequence in 41..60 {
        cluster.produce("t", sequence).await;
    }
    let trim = TrimRequest { topic: "t".into(), partition: PartitionId(0), before: Some(Offset(60)), dry_run: false };
    cluster.broker(3).trim_partition(&Caller::ANONYMOUS, trim).await.expect("a leader is there");
    let leader = cluster.led_by("t").await;
    until("the log is purged", || async { ask(&cluster, leader, Some("t"), None).await.log.first > LogIndex(41) })
        .await;
    cluster.run(2).await;
    cluster.wait_ready(2).await;
    for sequence in 60..70 {
        cluster.produce("t", sequence).await;
    }
    let said = settled(&cluster, Some("t")).await;
    assert_all_agree(&said, 10);
    let began = said[&2].log.marks[0].next;
    assert!(began > LogIndex(41), "it began with a snapshot: {began}");
    assert_all_agree(&settled(&cluster, None).await, 1);
}

/// A broker that is not there any more has this in place of what it wrote of an entry: `change` is told the value.
async fn plant(cluster: &Cluster, id: u64, group: u64, index: u64, change: impl Fn(&mut Vec<u8>)) {
    let kv = cluster.disks[&id].open();
    let key = [&b"e"[..], &group.to_be_bytes(), &index.to_be_bytes()].concat();
    let mut value = kv.get(Family::Log, &key).await.expect("it reads").expect("it is there").to_vec();
    change(&mut value);
    let mut batch = WriteBatch::default();
    batch.put(Family::Log, key, value);
    kv.commit(batch, true).await.expect("it writes");
}

/// The entry with the record of this sequence: one entry a record, none of them dead.
async fn entry_of(cluster: &Cluster, id: u64, group: u64, sequence: usize) -> u64 {
    let kv = cluster.disks[&id].open();
    let key = |index: u64| [&b"e"[..], &group.to_be_bytes(), &index.to_be_bytes()].concat();
    let range = KeyRange { from: key(0), to: key(u64::MAX) };
    let all =
        kv.scan(Family::Log, range, ScanLimit { pairs: 1_000, bytes: usize::MAX }, false).await.expect("it reads");
    let appends = all.into_iter().filter(|(_, value)| value.len() > 100 && value[1] == 1);
    let (key, _) = appends.into_iter().nth(sequence).expect("it was acknowledged");
    u64::from_be_bytes(key[9..17].try_into().expect("eight bytes"))
}

/// A replica that does not lead, stopped, and the entry of the twentieth of thirty records.
async fn stopped_follower(seed: u64) -> (Cluster, u64, u64, u64) {
    let mut cluster = Cluster::start(3, seed).await;
    cluster.create("t", 1).await;
    for sequence in 0..30 {
        cluster.produce("t", sequence).await;
    }
    let said = settled(&cluster, Some("t")).await;
    let leader = cluster.led_by("t").await;
    let follower = (1..=3).find(|id| *id != leader).expect("there are three");
    cluster.end(follower).await;
    let group = said[&follower].group.0;
    let index = entry_of(&cluster, follower, group, 20).await;
    (cluster, follower, group, index)
}

/// Its disk has another byte in the records: what it applied is what the others did, and reading again finds it.
#[tokio::test]
async fn another_byte_on_disk_is_found_by_reading_again_and_not_by_what_was_applied() {
    let (mut cluster, follower, group, index) = stopped_follower(71_200).await;
    plant(&cluster, follower, group, index, |value| *value.last_mut().expect("it has bytes") ^= 1).await;
    cluster.run(follower).await;
    cluster.wait_ready(follower).await;
    let said = settled(&cluster, Some("t")).await;
    assert_all_agree(&said, 1);
    let to = head(&said[&1]);
    for id in 1..=3 {
        let Some(RereadHash::Read(read)) = ask(&cluster, id, Some("t"), Some(to)).await.reread else {
            panic!("broker {id} cannot read")
        };
        let Reread { from, next, wrong, bytes, .. } = read;
        assert!((from, next) == (LogIndex(0), LogIndex(to)) && bytes > 30 * 61, "{id}: {from} to {next}, {bytes}");
        let found: Vec<u64> = wrong.iter().map(|(index, _)| index.0).collect();
        assert_eq!(found, if id == follower { vec![index] } else { vec![] }, "{wrong:?}");
    }
}

/// It applied another entry than the others: its own, with another time in a batch's header, and nothing else. Its
/// state is the same; the hash names the entry.
#[tokio::test]
async fn another_entry_is_found_where_it_is() {
    let (mut cluster, follower, group, index) = stopped_follower(71_300).await;
    // Behind the entry's and the command's header: the batch's base timestamp.
    plant(&cluster, follower, group, index, |value| value[10 + 30 + 27] ^= 1).await;
    // It applies its log again.
    let kv = cluster.disks[&follower].open();
    let mut batch = WriteBatch::default();
    for kind in [b"a", b"x"] {
        batch.delete(Family::Applied, [&kind[..], &group.to_be_bytes()].concat());
    }
    kv.commit(batch, true).await.expect("it writes");
    drop(kv);
    cluster.run(follower).await;
    cluster.wait_ready(follower).await;
    let said = settled(&cluster, Some("t")).await;
    for id in (1..=3).filter(|id| *id != follower) {
        let (differ, ranges) = compared(&said[&follower], &said[&id]);
        assert!(ranges > 20, "{ranges}");
        let [(from, to)] = differ[..] else { panic!("{differ:?}") };
        assert!((from..to).contains(&index) && to - from <= 16, "{from} to {to}, not {index}");
    }
}

/// Its state has another byte, as a replica would that had decided otherwise.
#[tokio::test]
async fn another_state_is_found() {
    let (mut cluster, follower, group, _) = stopped_follower(71_400).await;
    let kv = cluster.disks[&follower].open();
    let key = [&b"a"[..], &group.to_be_bytes()].concat();
    let mut value = kv.get(Family::Applied, &key).await.expect("it reads").expect("it is there").to_vec();
    // The last field: how many producers were forgotten.
    *value.last_mut().expect("it has bytes") ^= 1;
    let mut batch = WriteBatch::default();
    batch.put(Family::Applied, key, value);
    kv.commit(batch, true).await.expect("it writes");
    drop(kv);
    cluster.run(follower).await;
    cluster.wait_ready(follower).await;
    let said = settled(&cluster, Some("t")).await;
    let states: Vec<_> = (1..=3).map(|id| (id == follower, said[&id].log.state)).collect();
    let sound = states.iter().find(|(is_other, _)| !is_other).expect("there are two").1;
    assert!(states.iter().all(|(is_other, state)| (*state != sound) == *is_other), "{said:?}");
}

/// Whoever asked hears of it; the directory is marked at once, and the store ends.
#[tokio::test]
async fn a_disk_that_cannot_be_read_is_said_and_condemned() {
    let cluster = Cluster::start(3, 71_500).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let said = settled(&cluster, Some("t")).await;
    let leader = cluster.led_by("t").await;
    let follower = (1..=3).find(|id| *id != leader).expect("there are three");
    cluster.disks[&follower].plant(SimFault::ReadsDamaged);
    let asked = ask(&cluster, follower, Some("t"), Some(head(&said[&1]))).await;
    assert!(matches!(&asked.reread, Some(RereadHash::Damaged(why)) if why.reason().contains("planted")), "{asked:?}");
    let mark = cluster.disks[&follower].condemned();
    assert!(mark.as_ref().is_some_and(|mark| mark.contains("planted")), "{mark:?}");
}
