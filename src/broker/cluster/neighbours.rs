//! Finding other brokers, wherever they are now. An address may come from the configuration, from the metadata
//! and from the broker itself when it links here; each of them may be old after a move. So a broker that misses
//! a peer asks those it does reach where that one is, and the metadata leader asks every broker that it reaches
//! for its registration, which a broker that cannot reach the leader could not bring.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::introduction::Introduction;
use super::waiting::{Log, WaitLog};
use crate::{
    broker::{
        BrokerFailed, limits,
        metadata_group::{MetadataGroup, change::ChangeFailed},
        node::{Node, Stage},
        peers::calls::{Answer, Call},
    },
    types::{BrokerId, ClusterId, METADATA_GROUP},
};

/// What a warning advises while nobody takes the registration, or nobody leads.
pub const REGISTER_TO_DO: &str = "a majority of the first brokers must run with the data directories that they last had; \
                              without it nothing is lost, and nothing served. Start the brokers named; if directories \
                              were emptied or replaced, stop those brokers and put their own ones back";

/// Runs until the broker stops.
pub async fn run(metadata: Arc<MetadataGroup>) {
    let node = &*metadata.node;
    // The life of the link in which a broker was last asked for its registration, and when.
    let mut asked: BTreeMap<BrokerId, (u64, Instant)> = BTreeMap::new();
    let mut say_not_before = Instant::now();
    let mut leaderless = None;
    loop {
        sleep(limits::RECONCILE_EVERY).await;
        if node.is_stopping() || node.failed.borrow().is_some() {
            return;
        }
        if let Some(failed) = foreigner(node) {
            return node.fail(failed);
        }
        watch_leader(node, &mut leaderless);
        look_for_missing(node).await;
        say_more(&metadata, &mut say_not_before).await;
        take_registrations(&metadata, &mut asked).await;
    }
}

/// A registered broker has nothing to wait for, and yet nothing can be changed while nobody leads.
fn watch_leader(node: &Node, leaderless: &mut Option<WaitLog>) {
    let leader = node.raft.leader_of(METADATA_GROUP);
    if *node.stage.borrow() != Stage::Running || leader.is_some_and(|leader| node.is_alive(leader.broker)) {
        *leaderless = None;
        return;
    }
    let others: Vec<BrokerId> = node.other_peers().map(|peer| peer.id).collect();
    let why = format!("{}; {}", metadata_leader(node), missing(node, &others));
    let (log, waited) = leaderless
        .get_or_insert_with(|| WaitLog::new(Instant::now(), node.settings.warn_after))
        .goes_on(&why, Instant::now());
    if log == Log::Warning {
        tracing::warn!(why, waited_s = waited.as_secs(), "nobody leads the metadata group: {}", REGISTER_TO_DO);
    }
}

/// The addresses of the peers that this broker is linked to: they work, at least from here.
pub fn addresses_here(node: &Node) -> Vec<(BrokerId, String)> {
    let peers = node.raft.peers().into_iter();
    let known = peers.filter_map(|peer| Some((peer, node.raft.address_of(peer)?)));
    known.take(limits::ADDRESSES_TOLD_MAX).collect()
}

/// Asks the peers that are linked where those are that are not.
async fn look_for_missing(node: &Node) {
    let mut known: BTreeSet<BrokerId> = node.raft.peers().into_iter().collect();
    known.extend(node.other_peers().map(|peer| peer.id));
    let linked: Vec<BrokerId> = known.iter().copied().filter(|peer| node.raft.session_with(*peer).is_some()).collect();
    let is_running = *node.stage.borrow() == Stage::Running;
    if linked.is_empty() || (is_running && linked.len() == known.len()) {
        return;
    }
    let asked = linked.iter().map(|peer| node.call(*peer, &Call::Where, limits::CALL_WITHIN));
    for answer in join_all(asked).await {
        let Ok(Answer::Where(addresses)) = answer else { continue };
        for (broker, address) in addresses.into_iter().take(limits::ADDRESSES_TOLD_MAX) {
            if !linked.contains(&broker) {
                node.raft.set_peer(broker, address);
            }
        }
    }
}

/// Registers this broker again once the cluster's feature level has room for what its last registration did not say.
async fn say_more(group: &MetadataGroup, not_before: &mut Instant) {
    let node = &*group.node;
    let Some(metadata) = node.metadata() else { return };
    let introduction = Introduction::of(node);
    if Instant::now() < *not_before || !metadata.read(|state| introduction.has_more_to_say(state)) {
        return;
    }
    tracing::info!(kafka_address = introduction.kafka_address, "registering again, at the cluster's new feature level");
    match group.change(introduction.into_registration(), limits::CALL_WITHIN).await {
        Ok(_) => {}
        Err(ChangeFailed::Refused { refusal, after_unknown: _ }) => {
            tracing::warn!(%refusal, "this broker could not register again: Kafka clients do not find it");
            *not_before = Instant::now() + limits::REGISTRATION_AGAIN;
        }
        Err(failed @ (ChangeFailed::NoLeader { .. } | ChangeFailed::Unknown { .. })) => {
            tracing::debug!(?failed, "registering again goes on");
        }
    }
}

/// Registers, as the metadata leader, what brokers say of themselves: once in each life of the link to them, and again
/// from time to time.
async fn take_registrations(group: &MetadataGroup, asked: &mut BTreeMap<BrokerId, (u64, Instant)>) {
    let node = &*group.node;
    let Some(metadata) = node.metadata() else { return };
    let status = metadata.status().borrow().clone();
    if !status.leads || !status.ready {
        asked.clear();
        return;
    }
    let due = |peer: &BrokerId, session: u64| {
        asked.get(peer).is_none_or(|(then, at)| *then != session || at.elapsed() >= limits::REGISTRATION_AGAIN)
    };
    let peers = node.raft.peers().into_iter();
    let peers = peers.filter_map(|peer| Some((peer, node.raft.session_with(peer)?)));
    let peers: Vec<(BrokerId, u64)> = peers.filter(|(peer, session)| due(peer, *session)).collect();
    // Below that level there may be brokers that cannot read the question.
    let question = metadata.read(|state| match (state.registers_kafka(), state.registers_levels()) {
        (true, _) => Call::DescribeWithKafka,
        (false, true) => Call::Describe,
        (false, false) => Call::Introduce,
    });
    let answers = peers.iter().map(|(peer, _)| node.call(*peer, &question, limits::CALL_WITHIN));
    let answers = join_all(answers).await;
    for ((peer, session), answer) in peers.into_iter().zip(answers) {
        let (card, supports, kafka_address) = match answer {
            Ok(Answer::Introduced(card)) => (card, None, None),
            Ok(Answer::Described { card, feature_level }) => (card, Some(feature_level), None),
            Ok(Answer::DescribedWithKafka { card, feature_level, kafka_address }) => {
                (card, Some(feature_level), Some(kafka_address))
            }
            Ok(_) | Err(_) => continue,
        };
        asked.insert(peer, (session, Instant::now()));
        let Some(card) = card.filter(|card| card.id == peer) else { continue };
        let introduction = Introduction { card, supports, kafka_address };
        if !metadata.read(|state| introduction.is_registered(state)) {
            tracing::info!(broker = %peer, peer_address = introduction.card.peer_address, "registering a broker");
            // A refusal, of a wrong directory say, reaches the broker by its own request.
            let _ = group.change(introduction.into_registration(), limits::CALL_WITHIN).await;
        }
    }
}

/// This broker is the stranger among the brokers of its own list: a majority of the others answered, and all
/// of them belong to other clusters. It can do nothing here, and must not look as if it did.
fn foreigner(node: &Node) -> Option<BrokerFailed> {
    let found = node.cluster_id()?;
    let others: Vec<BrokerId> = node.other_peers().map(|peer| peer.id).collect();
    let foreign = node.raft.foreign_peers();
    let expected = outnumbered(&others, &foreign, |peer| node.raft.session_with(peer).is_some())?;
    Some(BrokerFailed::WrongCluster { found, expected })
}

/// Pure: the cluster of the majority of `others`, if it is none of ours.
fn outnumbered(
    others: &[BrokerId],
    foreign: &BTreeMap<BrokerId, ClusterId>,
    is_linked: impl Fn(BrokerId) -> bool,
) -> Option<ClusterId> {
    let strange: Vec<ClusterId> = others.iter().filter_map(|peer| foreign.get(peer).copied()).collect();
    let is_alone = !others.iter().any(|peer| is_linked(*peer));
    (is_alone && strange.len() * 2 > others.len()).then(|| strange.first().copied()).flatten()
}

/// Why peers are missed, each with its reason, for a message: "broker 2 (10.0.0.2:7071: Connection refused)".
pub fn missing(node: &Node, peers: &[BrokerId]) -> String {
    let named = peers.iter().map(|peer| match node.raft.trouble_with(*peer) {
        Some(trouble) if node.raft.hears(*peer) => {
            format!("broker {peer} ({}, though it reaches this broker)", trouble.reason)
        }
        Some(trouble) => format!("broker {peer} ({})", trouble.reason),
        None if node.raft.session_with(*peer).is_some() => format!("broker {peer} (linked)"),
        None => format!("broker {peer} (not answering yet)"),
    });
    named.collect::<Vec<_>>().join(" and ")
}

/// Links that work one way only, one sentence each.
pub fn one_way(node: &Node) -> Vec<String> {
    let peers = node.raft.peers().into_iter();
    let found = peers.filter(|peer| node.raft.hears(*peer)).filter_map(|peer| {
        let trouble = node.raft.trouble_with(peer).filter(|trouble| trouble.tries >= limits::ONE_WAY_AFTER_TRIES)?;
        Some(format!("broker {} cannot link to broker {peer} ({}), which links to it", node.me(), trouble.reason))
    });
    found.take(limits::PROBLEMS_MAX).collect()
}

/// Who leads the metadata group, as a reason to wait.
pub fn metadata_leader(node: &Node) -> String {
    match node.raft.leader_of(METADATA_GROUP) {
        Some(leader) if node.is_alive(leader.broker) => format!("its leader is broker {}", leader.broker),
        Some(leader) => format!("its last known leader is {}", missing(node, &[leader.broker])),
        None => "no leader of it is known".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s13_only_the_one_among_strangers_leaves() {
        let others = [2, 3].map(BrokerId);
        let strangers = |ids: &[u64]| ids.iter().map(|id| (BrokerId(*id), ClusterId(9))).collect::<BTreeMap<_, _>>();
        let nobody = |_| false;
        assert_eq!(outnumbered(&others, &strangers(&[2, 3]), nobody), Some(ClusterId(9)));
        assert_eq!(outnumbered(&others, &strangers(&[3]), nobody), None, "broker 2 may be one of ours");
        assert_eq!(outnumbered(&others, &strangers(&[3]), |peer| peer == BrokerId(2)), None);
        assert_eq!(outnumbered(&others, &strangers(&[7, 8]), nobody), None, "they are not in the list");
        assert_eq!(outnumbered(&others[..1], &strangers(&[2]), nobody), Some(ClusterId(9)));
        assert_eq!(outnumbered(&[], &strangers(&[]), nobody), None);
    }
}
