//! Admin requests beside others of the same topic, and beside a copy of the metadata that is late.

use std::sync::Arc;

use futures_util::{future::BoxFuture, poll};

use super::rig::{Cluster, until};
use crate::{
    broker::{
        AddPartitionsRequest, AdminError, AlterTopicRequest, Broker, Caller, CreateTopicRequest, DeleteTopicRequest,
        Effect, node::Node,
    },
    metadata::Refusal,
    storage::SimFault,
    types::{BrokerId, LogIndex, METADATA_GROUP},
};

const NAME: &str = "contested";

fn node(cluster: &Cluster, id: u64) -> Arc<Node> {
    Arc::clone(&cluster.nodes[&id].broker.parts.node)
}

/// Who leads the metadata, and two others.
async fn leader_and_others(cluster: &Cluster) -> (u64, u64, u64) {
    let leads = |id: &u64| node(cluster, *id).metadata().is_some_and(|metadata| metadata.status().borrow().ready);
    until("somebody leads the metadata", || async { (1..=3).any(|id| leads(&id)) }).await;
    let leader = (1..=3).find(leads).expect("it does");
    (leader, leader % 3 + 1, (leader + 1) % 3 + 1)
}

fn applied(cluster: &Cluster, id: u64) -> LogIndex {
    node(cluster, id).metadata().and_then(|metadata| *metadata.applied().borrow()).unwrap_or_default()
}

/// How many entries of the metadata's log beyond this one name the topic, on this disk.
fn proposed(cluster: &Cluster, id: u64, beyond: LogIndex) -> usize {
    let entries = (beyond.0 + 1..beyond.0 + 50)
        .filter_map(|index| cluster.disks[&id].durable_entry(METADATA_GROUP, LogIndex(index)));
    entries.filter(|entry| entry.payload.windows(NAME.len()).any(|part| part == NAME.as_bytes())).count()
}

type Asking<T> = BoxFuture<'static, Result<T, AdminError>>;

/// Two ask for the same thing at once, the one that comes second at another broker, which is then not told the answer and
/// asks again. What each was told.
async fn both_told<T: Send + 'static>(seed: u64, ask: fn(Broker) -> Asking<T>) -> [Result<T, AdminError>; 2] {
    let cluster = Box::pin(Cluster::start(3, seed)).await;
    Box::pin(cluster.create(NAME, 1)).await;
    let (leader, second, third) = leader_and_others(&cluster).await;
    let before = applied(&cluster, leader);
    until("all know the topic", || async { [second, third].iter().all(|id| applied(&cluster, *id) >= before) }).await;
    // Nothing is committed meanwhile.
    [second, third].iter().for_each(|id| cluster.disks[id].plant(SimFault::StallsCommits));
    let first_told = tokio::spawn(ask(cluster.broker(leader)));
    until("the first is proposed", || async { proposed(&cluster, leader, before) == 1 }).await;
    let second_told = tokio::spawn(ask(cluster.broker(second)));
    until("the second is proposed", || async { proposed(&cluster, leader, before) == 2 }).await;
    cluster.cuts.cut(second, leader);
    let at_second = node(&cluster, second);
    until("the answer is lost", || async { !at_second.is_alive(BrokerId(leader)) }).await;
    [second, third].iter().for_each(|id| cluster.disks[id].heal());
    cluster.cuts.mend();
    [first_told.await.unwrap(), second_told.await.unwrap()]
}

/// Why the second may not say that it did it: it does not know.
async fn told_second<T: std::fmt::Debug + Send + 'static>(seed: u64, ask: fn(Broker) -> Asking<T>) -> AdminError {
    let [first, second] = both_told(seed, ask).await;
    assert!(first.is_ok(), "{first:?}");
    let Err(error) = second else { panic!("both did it: {first:?}, {second:?}") };
    assert_eq!(error.effect(), Effect::Unknown, "{error:?}");
    error
}

/// Chaos runs saw both told that they had deleted it.
#[tokio::test(flavor = "multi_thread")]
async fn two_who_delete_one_topic_are_not_both_told_that_they_did() {
    let error = told_second(9_100, |broker| {
        let request = DeleteTopicRequest { name: NAME.into(), ..DeleteTopicRequest::default() };
        Box::pin(async move { broker.delete_topic(&Caller::ANONYMOUS, request).await })
    });
    let error = error.await;
    let expected = matches!(error, AdminError::RefusedAfterUnknown { refusal: Refusal::UnknownTopic { .. }, .. });
    assert!(expected, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_add_partitions_are_not_both_told_that_they_did() {
    let error = told_second(9_200, |broker| {
        let request = AddPartitionsRequest { name: NAME.into(), partitions: 3, dry_run: false };
        Box::pin(async move { broker.add_partitions(&Caller::ANONYMOUS, request).await })
    });
    let error = error.await;
    let expected = matches!(error, AdminError::RefusedAfterUnknown { refusal: Refusal::PartitionsNotMore { .. }, .. });
    assert!(expected, "{error:?}");
}

/// A broker describes a topic and waits for its sizes. Meanwhile the topic is deleted, which it hears of, and made anew,
/// which it does not: it cannot say that there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_copy_of_the_metadata_does_not_deny_a_topic_while_its_leaders_are_waited_for() {
    let cluster = Cluster::start(3, 9_300).await;
    cluster.create(NAME, 1).await;
    let late = {
        let (metadata, led_by) = (leader_and_others(&cluster).await.0, cluster.led_by(NAME).await);
        (1..=3).find(|id| ![metadata, led_by].contains(id)).expect("two of three lead")
    };
    let (asked, other) = (cluster.broker(late), cluster.broker(late % 3 + 1));
    asked.describe_topic(&Caller::ANONYMOUS, NAME).await.expect("it knows the topic and who leads");
    let mut describing = Box::pin(asked.describe_topic(&Caller::ANONYMOUS, NAME));
    assert!(poll!(&mut describing).is_pending(), "the sizes are asked for at another broker");
    let delete = DeleteTopicRequest { name: NAME.into(), ..DeleteTopicRequest::default() };
    other.delete_topic(&Caller::ANONYMOUS, delete).await.unwrap();
    let at_late = node(&cluster, late).metadata().expect("it is a member");
    until("the late one hears of the end", || async { at_late.read(|state| state.topic(NAME).is_none()) }).await;
    cluster.cuts.isolate(late, 1..=3);
    until("nobody reaches it", || async {
        (1..=3).all(|id| id == late || !node(&cluster, late).is_alive(BrokerId(id)))
    })
    .await;
    let anew = CreateTopicRequest { name: NAME.into(), ..CreateTopicRequest::default() };
    other.create_topic(&Caller::ANONYMOUS, anew).await.unwrap();
    let described = describing.await;
    assert!(matches!(described, Err(AdminError::Unavailable { .. })), "a new one was acknowledged: {described:?}");
    cluster.cuts.mend();
    until("it is found", || async { asked.describe_topic(&Caller::ANONYMOUS, NAME).await.is_ok() }).await;
}

/// Somebody asks a broker that is cut off and knows an earlier topic of the name; the one that there is now came after it. What
/// it was told, and who can be asked about it.
async fn told_late<T: Send + 'static>(seed: u64, ask: fn(Broker) -> Asking<T>) -> (Cluster, Result<T, AdminError>) {
    let cluster = Box::pin(Cluster::start(3, seed)).await;
    Box::pin(cluster.create(NAME, 1)).await;
    let (leader, late, _) = leader_and_others(&cluster).await;
    let before = applied(&cluster, leader);
    until("it knows the topic", || async { applied(&cluster, late) >= before }).await;
    cluster.cuts.isolate(late, 1..=3);
    let is_cut_off = || async { (1..=3).all(|id| id == late || !node(&cluster, late).is_alive(BrokerId(id))) };
    until("it reaches nobody", is_cut_off).await;
    let other = cluster.broker(leader);
    let delete = DeleteTopicRequest { name: NAME.into(), ..DeleteTopicRequest::default() };
    other.delete_topic(&Caller::ANONYMOUS, delete).await.unwrap();
    let anew = CreateTopicRequest { name: NAME.into(), partitions: Some(1), ..CreateTopicRequest::default() };
    other.create_topic(&Caller::ANONYMOUS, anew).await.unwrap();
    let mut asking = ask(cluster.broker(late));
    assert!(poll!(&mut asking).is_pending(), "it has looked the topic up, and finds no leader");
    cluster.cuts.mend();
    let told = asking.await;
    (cluster, told)
}

/// A run of chaos on five nodes saw that there was no such topic, long after it had been created.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_knows_an_earlier_topic_deletes_the_one_there_is() {
    let (cluster, told) = told_late(9_400, |broker| {
        let request = DeleteTopicRequest { name: NAME.into(), ..DeleteTopicRequest::default() };
        Box::pin(async move { broker.delete_topic(&Caller::ANONYMOUS, request).await })
    })
    .await;
    told.expect("there is one");
    let (leader, ..) = leader_and_others(&cluster).await;
    let described = cluster.broker(leader).describe_topic(&Caller::ANONYMOUS, NAME).await;
    assert!(matches!(described, Err(AdminError::UnknownTopic { .. })), "{described:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_knows_an_earlier_topic_adds_partitions_to_the_one_there_is() {
    let (_cluster, told) = told_late(9_500, |broker| {
        let request = AddPartitionsRequest { name: NAME.into(), partitions: 3, dry_run: false };
        Box::pin(async move { broker.add_partitions(&Caller::ANONYMOUS, request).await })
    })
    .await;
    assert_eq!(told.expect("there is one").partitions.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_knows_an_earlier_topic_alters_the_one_there_is() {
    let (_cluster, told) = told_late(9_600, |broker| {
        let set = [("retention.ms".to_string(), "3600000".to_string())].into();
        let request = AlterTopicRequest { name: NAME.into(), set, ..AlterTopicRequest::default() };
        Box::pin(async move { broker.alter_topic(&Caller::ANONYMOUS, request).await })
    })
    .await;
    let configs = told.expect("there is one").configs;
    assert!(configs.iter().any(|entry| entry.value == "3600000"), "{configs:?}");
}

/// Who names an id means that topic and no other, whatever else has its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_named_by_an_id_that_is_gone_is_unknown() {
    let cluster = Cluster::start(3, 9_700).await;
    cluster.create(NAME, 1).await;
    let (leader, ..) = leader_and_others(&cluster).await;
    let broker = cluster.broker(leader);
    let gone = broker.describe_topic(&Caller::ANONYMOUS, NAME).await.unwrap().id;
    let delete = |topic_id| DeleteTopicRequest { name: NAME.into(), topic_id, dry_run: false };
    broker.delete_topic(&Caller::ANONYMOUS, delete(Some(gone))).await.unwrap();
    cluster.create(NAME, 1).await;
    let told = broker.delete_topic(&Caller::ANONYMOUS, delete(Some(gone))).await;
    assert!(matches!(told, Err(AdminError::UnknownTopic { .. })), "{told:?}");
    broker.describe_topic(&Caller::ANONYMOUS, NAME).await.expect("the new one stays");
}
