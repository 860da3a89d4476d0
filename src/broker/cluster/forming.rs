//! How a broker becomes part of a cluster (SAFETY B5, B6).
//!
//! - A directory with data asks its peers first whether it was set back (`setback`).
//! - A directory with a replica of the metadata group goes on with it. Without a cluster id it is a founder's that
//!   ended in the middle of founding: the lowest one begins again where it stood.
//! - Without a replica, the broker asks the brokers of its list. If any of them is in a cluster, it registers
//!   there *before* it runs any replica: a directory that was emptied is refused by its storage id, so it can
//!   neither vote nor found.
//! - If none is, the lowest id of the list founds, once every listed peer answered that it is empty and
//!   has the same list; the other founders open their replica once the lowest is not empty any more.
//!
//! What this leaves open: a founder whose directory is emptied in the moments between its first vote
//! and its registration.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{introduction::Introduction, neighbours, past::Memory, setback, waiting::Waiting};
use crate::{
    broker::{
        BrokerFailed, limits,
        metadata_group::{MetadataGroup, change::ChangeFailed},
        node::{Node, Stage, storage_failed},
        peers::calls::{Answer, Call, Hello},
    },
    config,
    formats::FEATURE_LEVEL_MIN,
    metadata::{Change, Found, Metadata, Outcome, Refusal},
    raft::{Replica, ReplicaSpec},
    seam::plant::{self, Plant},
    types::{BrokerId, ClusterId, METADATA_GROUP, ReplicaId},
};

/// What a warning advises while the cluster is not formed.
const FORM_TO_DO: &str = "start the brokers named, give all the same `peers` list, and check that each address in it can \
                          be reached from here";
/// How this broker becomes part of a cluster.
pub struct Forming {
    node: Arc<Node>,
    metadata: Arc<MetadataGroup>,
    memory: Arc<Memory>,
    /// The directory held no Raft state and no cluster id when this process started, and still does.
    is_empty: AtomicBool,
}

impl Forming {
    pub fn new(metadata: Arc<MetadataGroup>, memory: Arc<Memory>, is_empty: bool) -> Forming {
        Forming { node: Arc::clone(&metadata.node), metadata, memory, is_empty: AtomicBool::new(is_empty) }
    }

    /// What another broker is told that asks whether it may found, or follow.
    pub fn hello(&self) -> Hello {
        let node = &self.node;
        let cluster_id = node.cluster_id();
        let is_empty = self.is_empty.load(SeqCst) && cluster_id.is_none();
        Hello { broker: node.me(), peers_hash: node.peers_hash(), is_empty, cluster_id, peers: node.peers_text() }
    }
}

/// Ends when this broker is registered and running.
pub async fn join_cluster(forming: &Forming, here: Option<ReplicaId>) -> Result<(), BrokerFailed> {
    let node = &forming.node;
    if !forming.is_empty.load(SeqCst) {
        setback::ask_peers(&forming.memory).await?;
    }
    let metadata = match here {
        Some(replica) => open(forming, replica).await?,
        None => enter(forming).await?,
    };
    forming.is_empty.store(false, SeqCst);
    node.metadata.send_replace(Some(metadata.clone()));
    node.stage.send_replace(Stage::Joining("this broker is not registered yet".into()));
    let cluster_id = learn_cluster(forming, &metadata).await?;
    remember_cluster(node, cluster_id).await?;
    // As the cluster knows it already: it can go on before it has told its version and rack.
    if metadata.read(|state| Introduction::of(node).is_reachable(state)) {
        begin_to_run(node);
    }
    register(forming).await?;
    begin_to_run(node);
    tracing::info!(broker = %node.me(), cluster = %cluster_id, "part of the cluster");
    Ok(())
}

/// Clients are sent to where this broker is: from now on it may lead.
fn begin_to_run(node: &Node) {
    let is_begun = node.stage.send_if_modified(|stage| {
        let joining = matches!(stage, Stage::Joining(_));
        if joining {
            *stage = Stage::Running;
        }
        joining
    });
    if is_begun {
        node.raft.set_campaign(true);
    }
}

/// What a broker without a metadata replica does, given what its peers said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// There is a cluster: register, then run the replica it gives us.
    Register {
        cluster_id: ClusterId,
    },
    /// We are the one who founds, and everything is as it must be.
    Found,
    /// A founder, and the lowest one has begun.
    Follow,
    Wait(Wait),
    /// It would found a cluster of itself, and was not told to.
    Alone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wait {
    /// Another list than ours, and whose.
    OtherList { broker: BrokerId, list: String },
    /// These have not answered.
    Missing(Vec<BrokerId>),
    /// This one holds data of a cluster that nobody here is part of.
    HasData(BrokerId),
    /// The lowest of the list must found it, or any broker of a cluster answer.
    Founder(Vec<BrokerId>),
}

/// What this broker knows of itself when it decides.
struct Myself<'a> {
    id: BrokerId,
    peers_hash: u64,
    /// The other brokers of the list.
    others: &'a [BrokerId],
    founders: &'a [BrokerId],
    /// It may found a cluster of one.
    is_single: bool,
    /// It had opened its replica before, and ended before it founded.
    has_begun: bool,
}

/// Pure: the whole rule of SAFETY B6's bootstrap. `hellos` holds the peers that answered.
fn decide(me: &Myself<'_>, hellos: &[Hello]) -> Step {
    if let Some(cluster_id) = hellos.iter().find_map(|hello| hello.cluster_id) {
        return Step::Register { cluster_id };
    }
    let missing = || me.others.iter().copied().filter(|other| !hellos.iter().any(|hello| hello.broker == *other));
    let lowest = me.founders.first().copied();
    let is_listed = me.founders.contains(&me.id) || lowest.is_some_and(|lowest| lowest < me.id);
    let differs = |hello: &&Hello| is_listed && hello.peers_hash != me.peers_hash;
    if let Some(other) = hellos.iter().find(differs).filter(|_| !plant::on(Plant::DifferingListsAccepted)) {
        return Step::Wait(Wait::OtherList { broker: other.broker, list: other.peers.clone() });
    }
    if lowest == Some(me.id) {
        if missing().next().is_some() {
            return Step::Wait(Wait::Missing(missing().collect()));
        }
        if me.others.is_empty() && !me.is_single {
            return Step::Alone;
        }
        // Once we had begun, the other founders may have followed: with nobody's vote, since only we begin.
        return match hellos.iter().find(|hello| !hello.is_empty && !me.has_begun) {
            Some(other) => Step::Wait(Wait::HasData(other.broker)),
            None => Step::Found,
        };
    }
    let begun = hellos.iter().any(|hello| Some(hello.broker) == lowest && !hello.is_empty);
    match (me.founders.contains(&me.id), begun) {
        (true, true) => Step::Follow,
        (true, false) | (false, _) => Step::Wait(Wait::Founder(missing().collect())),
    }
}

impl Node {
    fn decide(&self, has_begun: bool, hellos: &[Hello]) -> Step {
        let others: Vec<BrokerId> = self.other_peers().map(|peer| peer.id).collect();
        let founders = self.founders();
        let me = Myself {
            id: self.me(),
            peers_hash: self.peers_hash(),
            others: &others,
            founders: &founders,
            is_single: self.settings.single,
            has_begun,
        };
        decide(&me, hellos)
    }

    /// Says for people whom this broker waits for, and why.
    fn reason(&self, wait: &Wait) -> String {
        match wait {
            Wait::OtherList { broker, list } => format!(
                "broker {broker} has another `peers` list than this one, and until the cluster is formed it must be the \
                 same everywhere: there it is {list}; here it is {}",
                self.peers_text()
            ),
            Wait::Missing(peers) => {
                format!("waiting for {} before founding the cluster", neighbours::missing(self, peers))
            }
            Wait::HasData(broker) => {
                format!("broker {broker} holds data of a cluster that is not reachable yet")
            }
            Wait::Founder(missing) if missing.is_empty() => "waiting for the cluster to be founded".into(),
            Wait::Founder(missing) => {
                format!("waiting for the cluster to be founded; missing are {}", neighbours::missing(self, missing))
            }
        }
    }
}

async fn enter(forming: &Forming) -> Result<Replica<Metadata>, BrokerFailed> {
    let node = &forming.node;
    let mut waiting = Waiting::new(node, Stage::Forming);
    loop {
        let hellos = ask_all(node).await;
        match node.decide(false, &hellos) {
            Step::Register { cluster_id } => {
                if let Some(found) = node.cluster_id().filter(|known| *known != cluster_id) {
                    return Err(BrokerFailed::WrongCluster { found, expected: cluster_id });
                }
                node.raft.set_cluster(cluster_id);
                let replica = register(forming).await?;
                remember_cluster(node, cluster_id).await?;
                return open(forming, replica).await;
            }
            Step::Found => {
                tracing::info!(broker = %node.me(), founders = ?node.founders(), "founding the cluster");
                let metadata = open(forming, ReplicaId(node.me().0)).await?;
                metadata.initialize().await.map_err(raft_failed)?;
                return Ok(metadata);
            }
            Step::Follow => return open(forming, ReplicaId(node.me().0)).await,
            Step::Alone => return Err(alone(node)),
            Step::Wait(wait) => {
                waiting.goes_on(&node.reason(&wait), FORM_TO_DO);
                sleep(limits::FORMING_EVERY).await;
            }
        }
    }
}

fn alone(node: &Node) -> BrokerFailed {
    BrokerFailed::InvalidSetting { detail: config::alone(&node.settings.peers) }
}

async fn ask_all(node: &Node) -> Vec<Hello> {
    let hello = Call::Hello { peers_hash: node.peers_hash() };
    let asked = node.other_peers().map(|other| node.call(other.id, &hello, limits::CALL_WITHIN));
    let answers = join_all(asked).await;
    let hellos = answers.into_iter().filter_map(|answer| match answer {
        Ok(Answer::Hello(hello)) => Some(hello),
        Ok(_) | Err(_) => None,
    });
    hellos.collect()
}

async fn open(forming: &Forming, replica: ReplicaId) -> Result<Replica<Metadata>, BrokerFailed> {
    let node = &forming.node;
    let initial = node.founders().into_iter().map(|founder| (ReplicaId(founder.0), founder)).collect();
    let spec = ReplicaSpec { group: METADATA_GROUP, replica, initial };
    // From here on this directory is not empty, whatever a peer asks.
    forming.is_empty.store(false, SeqCst);
    node.raft.open(spec, Metadata::new()).await.map_err(raft_failed)
}

fn raft_failed(error: crate::raft::OpenError) -> BrokerFailed {
    BrokerFailed::Raft { detail: error.to_string() }
}

/// The founder with the lowest id makes the cluster id up, nobody else; all others wait for it.
async fn learn_cluster(forming: &Forming, metadata: &Replica<Metadata>) -> Result<ClusterId, BrokerFailed> {
    let node = &forming.node;
    let mut applied = metadata.applied();
    let mut waiting = Waiting::new(node, Stage::Joining);
    let others: Vec<BrokerId> = node.other_peers().map(|peer| peer.id).collect();
    loop {
        applied.borrow_and_update();
        if let Some(cluster_id) = metadata.read(|state| state.cluster_id()) {
            return Ok(cluster_id);
        }
        let founders = node.founders();
        if founders.first() == Some(&node.me()) && node.cluster_id().is_none() {
            found_on(node, metadata, &mut waiting).await?;
            let wish = Found { cluster_id: ClusterId(node.rng.u128()), founders };
            let found = match node.settings.feature_level {
                FEATURE_LEVEL_MIN => Change::Found(wish),
                feature_level => Change::FoundAt { wish, feature_level },
            };
            if let Err(error) = forming.metadata.change(found, limits::FORMING_EVERY).await {
                tracing::debug!(?error, "founding goes on");
                sleep(limits::FORMING_EVERY).await;
            }
            continue;
        }
        match tokio::time::timeout(limits::RECONCILE_EVERY, applied.changed()).await {
            Ok(Ok(())) => {}
            // Stopped: nothing changes any more.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => {
                let who = neighbours::missing(node, &others);
                waiting.goes_on(&format!("the cluster is not founded yet; there are {who}"), FORM_TO_DO);
            }
        }
    }
}

/// The lowest founder may have ended between opening its replica and giving it its first members: nobody else
/// does that, so it does it now. Where it had done so, nothing happens.
async fn found_on(node: &Node, metadata: &Replica<Metadata>, waiting: &mut Waiting) -> Result<(), BrokerFailed> {
    if metadata.status().borrow().leader.is_some() {
        return Ok(());
    }
    match node.decide(true, &ask_all(node).await) {
        Step::Found => metadata.initialize().await.map_err(raft_failed),
        Step::Alone => Err(alone(node)),
        // The others are further than this replica: their leader brings what it missed.
        Step::Register { .. } | Step::Follow => Ok(()),
        Step::Wait(wait) => {
            waiting.goes_on(&node.reason(&wait), FORM_TO_DO);
            sleep(limits::FORMING_EVERY).await;
            Ok(())
        }
    }
}

async fn remember_cluster(node: &Node, cluster_id: ClusterId) -> Result<(), BrokerFailed> {
    let mut identity = *node.identity.lock().expect("no holder panics");
    match identity.cluster_id {
        Some(known) if known != cluster_id => {
            return Err(BrokerFailed::WrongCluster { found: known, expected: cluster_id });
        }
        Some(_) => {}
        None => {
            identity.cluster_id = Some(cluster_id);
            node.store.save_identity(identity).await.map_err(storage_failed)?;
            *node.identity.lock().expect("no holder panics") = identity;
        }
    }
    node.raft.set_cluster(cluster_id);
    Ok(())
}

/// Until the cluster's metadata says of this broker what it says of itself, by its own request or because the
/// leader asked for it; or until refused for good. Returns this broker's replica of the metadata group.
async fn register(forming: &Forming) -> Result<ReplicaId, BrokerFailed> {
    let node = &forming.node;
    let all = Introduction::of(node);
    let mut waiting = Waiting::new(node, Stage::Joining);
    // At first all, and then less and less in turns, for a leader of an older version cannot read that.
    let mut said = all.clone();
    loop {
        let known = |state: &Metadata| {
            state.broker(node.me()).filter(|_| all.is_registered(state)).map(|known| known.metadata_replica)
        };
        if let Some(replica) = node.metadata().and_then(|metadata| metadata.read(known)) {
            return Ok(replica);
        }
        match forming.metadata.change(said.clone().into_registration(), limits::REGISTER_WITHIN).await {
            Ok(changed) => match changed.outcome {
                Outcome::BrokerRegistered { metadata_replica } => return Ok(metadata_replica),
                other => return Err(BrokerFailed::Raft { detail: format!("registration was answered {other:?}") }),
            },
            Err(ChangeFailed::Refused {
                refusal: Refusal::StorageIdMismatch { broker, registered, offered }, ..
            }) => {
                return Err(BrokerFailed::StorageIdMismatch { broker, registered, found: offered });
            }
            // It said less than it could.
            Err(ChangeFailed::Refused { .. }) if said != all => said = all.clone(),
            Err(ChangeFailed::Refused { refusal, after_unknown: _ }) => {
                return Err(BrokerFailed::RegistrationRefused(refusal));
            }
            Err(ChangeFailed::NoLeader { .. } | ChangeFailed::Unknown { .. }) => {
                let others: Vec<BrokerId> = node.other_peers().map(|peer| peer.id).collect();
                let leader = neighbours::metadata_leader(node);
                let who = neighbours::missing(node, &others);
                let why = format!("the metadata group has not taken this broker's registration: {leader}; {who}");
                waiting.goes_on(&why, neighbours::REGISTER_TO_DO);
                said = said.shorter().unwrap_or_else(|| all.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: u64 = 77;

    fn hello(broker: u64, is_empty: bool, cluster_id: Option<ClusterId>) -> Hello {
        Hello { broker: BrokerId(broker), peers_hash: LIST, is_empty, cluster_id, peers: "1@there".into() }
    }

    fn step(me: u64, hellos: &[Hello]) -> Step {
        step_of(me, false, hellos)
    }

    fn step_of(me: u64, has_begun: bool, hellos: &[Hello]) -> Step {
        let peers = [1, 2, 3, 4].map(BrokerId);
        let others: Vec<BrokerId> = peers.into_iter().filter(|peer| peer.0 != me).collect();
        let founders = &peers[..3];
        let id = BrokerId(me);
        let me = Myself { id, peers_hash: LIST, others: &others, founders, is_single: false, has_begun };
        decide(&me, hellos)
    }

    #[test]
    fn b6_the_lowest_founds_only_when_every_peer_is_empty() {
        let all = [hello(2, true, None), hello(3, true, None), hello(4, true, None)];
        assert_eq!(step(1, &all), Step::Found);
        assert!(matches!(step(1, &all[..2]), Step::Wait(_)), "broker 4 has not answered");
        let one_has_data = [hello(2, true, None), hello(3, false, None), hello(4, true, None)];
        assert!(matches!(step(1, &one_has_data), Step::Wait(_)));
    }

    #[test]
    fn b5_an_emptied_founder_asks_the_cluster_instead_of_founding_or_voting() {
        let cluster_id = ClusterId(9);
        let formed = [hello(2, false, Some(cluster_id))];
        assert_eq!(step(1, &formed), Step::Register { cluster_id });
        let lowest_and_formed = [hello(1, false, None), hello(3, false, Some(cluster_id))];
        assert_eq!(step(2, &lowest_and_formed), Step::Register { cluster_id });
    }

    #[test]
    fn b6_another_list_founds_nothing() {
        let other = Hello { peers_hash: LIST + 1, ..hello(2, true, None) };
        let hellos = [other, hello(3, true, None), hello(4, true, None)];
        let of_2 = Wait::OtherList { broker: BrokerId(2), list: "1@there".into() };
        assert_eq!(step(1, &hellos), Step::Wait(of_2), "and shows both lists");
        assert!(matches!(step(3, &[Hello { peers_hash: 0, ..hello(1, false, None) }]), Step::Wait(_)));
    }

    #[test]
    fn b6_other_founders_follow_the_lowest_and_the_rest_waits_for_a_cluster() {
        assert!(matches!(step(2, &[hello(1, true, None)]), Step::Wait(_)));
        assert_eq!(step(2, &[hello(1, false, None)]), Step::Follow);
        assert!(matches!(step(4, &[hello(1, false, None)]), Step::Wait(_)));
        let cluster_id = ClusterId(5);
        assert_eq!(step(4, &[hello(1, false, Some(cluster_id))]), Step::Register { cluster_id });
    }

    /// The founder ended after it had opened its replica; the others may have followed or not.
    #[test]
    fn b6_a_founder_that_had_begun_founds_whether_or_not_others_followed() {
        let followed = [hello(2, false, None), hello(3, true, None), hello(4, true, None)];
        assert_eq!(step_of(1, true, &followed), Step::Found);
        assert!(matches!(step_of(1, true, &followed[..2]), Step::Wait(_)), "all must have the same list");
        let formed = [hello(2, false, Some(ClusterId(9))), hello(3, true, None), hello(4, true, None)];
        assert_eq!(step_of(1, true, &formed), Step::Register { cluster_id: ClusterId(9) });
    }

    #[test]
    fn s3_a_wait_names_all_whom_it_waits_for() {
        let missing = |ids: &[u64]| Step::Wait(Wait::Missing(ids.iter().copied().map(BrokerId).collect()));
        assert_eq!(step(1, &[]), missing(&[2, 3, 4]));
        assert_eq!(step(1, &[hello(3, true, None)]), missing(&[2, 4]));
    }

    #[test]
    fn s3_one_broker_founds_alone_only_if_it_says_so() {
        let me = |is_single| Myself {
            id: BrokerId(1),
            peers_hash: LIST,
            others: &[],
            founders: &[BrokerId(1)],
            is_single,
            has_begun: false,
        };
        assert_eq!(decide(&me(false), &[]), Step::Alone);
        assert_eq!(decide(&me(true), &[]), Step::Found);
    }

    /// A broker that its own list does not name joins, whatever list the others have.
    #[test]
    fn a_broker_that_is_not_in_its_own_list_only_joins() {
        let others = [1, 2].map(BrokerId);
        let me = Myself {
            id: BrokerId(4),
            peers_hash: 5,
            others: &others,
            founders: &others,
            is_single: false,
            has_begun: false,
        };
        assert!(matches!(decide(&me, &[]), Step::Wait(Wait::Founder(missing)) if missing == others));
        assert_eq!(decide(&me, &[hello(2, false, Some(ClusterId(9)))]), Step::Register { cluster_id: ClusterId(9) });
    }
}
