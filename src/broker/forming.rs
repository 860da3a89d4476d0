//! How a broker becomes part of a cluster (SAFETY B5, B6).
//!
//! - A directory with a replica of the metadata group goes on with it; nobody is asked.
//! - Without one, the broker asks the brokers of its seed list. If any of them is in a cluster, it
//!   registers there *before* it runs any replica: a directory that was emptied is refused by its
//!   storage id, so it can neither vote nor found.
//! - If none is, the lowest id of the list founds, once every listed peer answered that it is empty and
//!   has the same list; the other founders open their replica once the lowest is not empty any more.
//!
//! What this leaves open: a founder whose directory is emptied in the moments between its first vote
//! and its registration.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{
    BrokerFailed,
    calls::{Answer, Call, Hello},
    change::ChangeFailed,
    inner::{Inner, Stage, storage_failed},
    limits,
};
use crate::{
    metadata::{Change, Found, Metadata, Outcome, Refusal, RegisterBroker},
    raft::{Group, GroupSpec},
    types::{BrokerId, METADATA_GROUP, ReplicaId},
};

/// Ends when this broker is registered and running.
pub async fn join_cluster(inner: &Arc<Inner>, here: Option<ReplicaId>) -> Result<(), BrokerFailed> {
    let metadata = match here {
        Some(replica) => open(inner, replica).await?,
        None => enter(inner).await?,
    };
    inner.is_empty.send_replace(false);
    inner.metadata.send_replace(Some(metadata.clone()));
    inner.stage.send_replace(Stage::Joining);
    let cluster_id = learn_cluster(inner, &metadata).await;
    remember_cluster(inner, cluster_id).await?;
    register(inner).await?;
    inner.stage.send_if_modified(|stage| {
        let joining = *stage == Stage::Joining;
        if joining {
            *stage = Stage::Running;
        }
        joining
    });
    tracing::info!(broker = %inner.me(), cluster = %format_args!("{cluster_id:032x}"), "part of the cluster");
    Ok(())
}

/// What a broker without a metadata replica does, given what its peers said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// There is a cluster: register, then run the replica it gives us.
    Register {
        cluster_id: u128,
    },
    /// We are the one who founds, and everything is as it must be.
    Found,
    /// A founder, and the lowest one has begun.
    Follow,
    Wait(String),
}

/// Pure: the whole rule of SAFETY B6's bootstrap. `hellos` holds the peers that answered.
fn decide(me: BrokerId, peers_hash: u64, others: &[BrokerId], founders: &[BrokerId], hellos: &[Hello]) -> Step {
    if let Some(cluster_id) = hellos.iter().find_map(|hello| hello.cluster_id) {
        return Step::Register { cluster_id };
    }
    if let Some(other) = hellos.iter().find(|hello| hello.peers_hash != peers_hash) {
        let why = "until the cluster is formed the list must be the same everywhere";
        return Step::Wait(format!("broker {} has another `peers` list than this one; {why}", other.broker));
    }
    let lowest = founders.first().copied();
    if lowest == Some(me) {
        let missing = others.iter().find(|other| !hellos.iter().any(|hello| hello.broker == **other));
        if let Some(missing) = missing {
            return Step::Wait(format!("waiting for broker {missing} before founding the cluster"));
        }
        return match hellos.iter().find(|hello| !hello.is_empty) {
            Some(other) => {
                Step::Wait(format!("broker {} holds data of a cluster that is not reachable yet", other.broker))
            }
            None => Step::Found,
        };
    }
    let begun = hellos.iter().any(|hello| Some(hello.broker) == lowest && !hello.is_empty);
    match (founders.contains(&me), begun) {
        (true, true) => Step::Follow,
        (true, false) | (false, _) => Step::Wait("waiting for the cluster to be founded".into()),
    }
}

async fn enter(inner: &Arc<Inner>) -> Result<Group<Metadata>, BrokerFailed> {
    let founders = inner.founders();
    let others: Vec<BrokerId> = inner.other_peers().map(|peer| peer.id).collect();
    loop {
        let hellos = ask_all(inner, &others).await;
        match decide(inner.me(), inner.peers_hash(), &others, &founders, &hellos) {
            Step::Register { cluster_id } => {
                let known = inner.identity.lock().expect("no holder panics").cluster_id;
                if let Some(found) = known.filter(|known| *known != cluster_id) {
                    return Err(BrokerFailed::WrongCluster { found, expected: cluster_id });
                }
                inner.raft.set_cluster(cluster_id);
                let replica = register(inner).await?;
                remember_cluster(inner, cluster_id).await?;
                return open(inner, replica).await;
            }
            Step::Found => {
                tracing::info!(broker = %inner.me(), ?founders, "founding the cluster");
                let metadata = open(inner, ReplicaId(inner.me().0)).await?;
                metadata.initialize().await.map_err(raft_failed)?;
                return Ok(metadata);
            }
            Step::Follow => return open(inner, ReplicaId(inner.me().0)).await,
            Step::Wait(why) => {
                inner.stage.send_if_modified(|stage| {
                    let news = Stage::Forming(why.clone());
                    let changed = *stage != news;
                    if changed {
                        tracing::info!(%why, "not in a cluster yet");
                        *stage = news;
                    }
                    changed
                });
                sleep(limits::FORMING_EVERY).await;
            }
        }
    }
}

async fn ask_all(inner: &Arc<Inner>, others: &[BrokerId]) -> Vec<Hello> {
    let hello = Call::Hello { peers_hash: inner.peers_hash() };
    let asked = others.iter().map(|other| inner.call(*other, &hello, limits::CALL_WITHIN));
    let answers = join_all(asked).await;
    let hellos = answers.into_iter().filter_map(|answer| match answer {
        Ok(Answer::Hello(hello)) => Some(hello),
        Ok(_) | Err(_) => None,
    });
    hellos.collect()
}

async fn open(inner: &Arc<Inner>, replica: ReplicaId) -> Result<Group<Metadata>, BrokerFailed> {
    let initial = inner.founders().into_iter().map(|founder| (ReplicaId(founder.0), founder)).collect();
    let spec = GroupSpec { group: METADATA_GROUP, replica, initial };
    // From here on this directory is not empty, whatever a peer asks.
    inner.is_empty.send_replace(false);
    inner.raft.open(spec, Metadata::new()).await.map_err(raft_failed)
}

fn raft_failed(error: crate::raft::OpenError) -> BrokerFailed {
    BrokerFailed::Raft { detail: error.to_string() }
}

/// The founder with the lowest id makes the cluster id up, nobody else; all others wait for it.
async fn learn_cluster(inner: &Arc<Inner>, metadata: &Group<Metadata>) -> u128 {
    let mut applied = metadata.applied();
    loop {
        applied.borrow_and_update();
        if let Some(cluster_id) = metadata.read(|state| state.cluster_id()) {
            return cluster_id;
        }
        let founders = inner.founders();
        let known = inner.identity.lock().expect("no holder panics").cluster_id;
        if founders.first() == Some(&inner.me()) && known.is_none() {
            let found = Change::Found(Found { cluster_id: inner.rng.u128(), founders });
            if let Err(error) = inner.change(found, limits::CALL_WITHIN).await {
                tracing::debug!(?error, "founding goes on");
            }
        } else {
            match tokio::time::timeout(limits::RECONCILE_EVERY, applied.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                // Stopped: nothing changes any more.
                Ok(Err(_)) => std::future::pending().await,
            }
        }
    }
}

async fn remember_cluster(inner: &Arc<Inner>, cluster_id: u128) -> Result<(), BrokerFailed> {
    let mut identity = *inner.identity.lock().expect("no holder panics");
    match identity.cluster_id {
        Some(known) if known != cluster_id => {
            return Err(BrokerFailed::WrongCluster { found: known, expected: cluster_id });
        }
        Some(_) => {}
        None => {
            identity.cluster_id = Some(cluster_id);
            inner.store.save_identity(identity).await.map_err(storage_failed)?;
            *inner.identity.lock().expect("no holder panics") = identity;
        }
    }
    inner.raft.set_cluster(cluster_id);
    Ok(())
}

/// Until accepted or refused for good. Returns this broker's replica of the metadata group.
async fn register(inner: &Arc<Inner>) -> Result<ReplicaId, BrokerFailed> {
    let settings = &inner.settings;
    let change = Change::RegisterBroker(RegisterBroker {
        id: inner.me(),
        storage_id: inner.identity.lock().expect("no holder panics").storage_id,
        client_address: settings.client_address.clone(),
        peer_address: settings.peer_address.clone(),
        http_address: settings.http_address.clone(),
        rack: settings.rack.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
    });
    loop {
        match inner.change(change.clone(), Duration::from_secs(5)).await {
            Ok(changed) => match changed.outcome {
                Outcome::BrokerRegistered { metadata_replica } => return Ok(metadata_replica),
                other => return Err(BrokerFailed::Raft { detail: format!("registration was answered {other:?}") }),
            },
            Err(ChangeFailed::Refused {
                refusal: Refusal::StorageIdMismatch { broker, registered, offered }, ..
            }) => {
                return Err(BrokerFailed::StorageIdMismatch { broker, registered, found: offered });
            }
            Err(ChangeFailed::Refused { refusal, after_unknown: _ }) => {
                return Err(BrokerFailed::InvalidSetting { detail: refusal.to_string() });
            }
            Err(ChangeFailed::NoLeader { .. } | ChangeFailed::Unknown { .. }) => {
                tracing::info!("no metadata leader took the registration yet");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: u64 = 77;

    fn hello(broker: u64, is_empty: bool, cluster_id: Option<u128>) -> Hello {
        Hello { broker: BrokerId(broker), peers_hash: LIST, is_empty, cluster_id }
    }

    fn step(me: u64, hellos: &[Hello]) -> Step {
        let peers = [1, 2, 3, 4].map(BrokerId);
        let others: Vec<BrokerId> = peers.into_iter().filter(|peer| peer.0 != me).collect();
        decide(BrokerId(me), LIST, &others, &peers[..3], hellos)
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
        let cluster_id = 9;
        let formed = [hello(2, false, Some(cluster_id))];
        assert_eq!(step(1, &formed), Step::Register { cluster_id });
        let lowest_and_formed = [hello(1, false, None), hello(3, false, Some(cluster_id))];
        assert_eq!(step(2, &lowest_and_formed), Step::Register { cluster_id });
    }

    #[test]
    fn b6_another_list_founds_nothing() {
        let other = Hello { peers_hash: LIST + 1, ..hello(2, true, None) };
        let hellos = [other, hello(3, true, None), hello(4, true, None)];
        assert!(matches!(step(1, &hellos), Step::Wait(why) if why.contains("broker 2")));
        assert!(matches!(step(3, &[Hello { peers_hash: 0, ..hello(1, false, None) }]), Step::Wait(_)));
    }

    #[test]
    fn b6_other_founders_follow_the_lowest_and_the_rest_waits_for_a_cluster() {
        assert!(matches!(step(2, &[hello(1, true, None)]), Step::Wait(_)));
        assert_eq!(step(2, &[hello(1, false, None)]), Step::Follow);
        assert!(matches!(step(4, &[hello(1, false, None)]), Step::Wait(_)));
        let cluster_id = 5;
        assert_eq!(step(4, &[hello(1, false, Some(cluster_id))]), Step::Register { cluster_id });
    }
}
