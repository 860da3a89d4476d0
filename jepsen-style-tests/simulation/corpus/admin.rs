//! What operators do meanwhile: topics are created, filled and deleted under one name again and again, records are
//! trimmed, and leaderships moved.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use flotilla::{
    broker::{
        AdminError, Broker, Caller, CreateTopicRequest, DeleteTopicRequest, Effect, TopicDescription,
        TransferLeaderRequest, TrimRequest,
    },
    types::{BrokerId, Offset, PartitionId, TopicId},
};
use tokio::time::sleep;

use super::{
    appends::{End, Sender},
    known::{Load, Place, TOPIC},
};

/// The topic that comes and goes.
const PASSING: &str = "passing";
const PASSING_PARTITIONS: u32 = 2;

impl Load {
    pub async fn create(
        &self,
        at: u64,
        name: &str,
        partitions: u32,
        waits: bool,
    ) -> Option<Result<TopicDescription, AdminError>> {
        let request = CreateTopicRequest {
            name: name.into(),
            partitions: Some(partitions),
            replication_factor: Some(super::watch::REPLICAS as u32),
            configs: [("segment.ms".to_string(), self.plan.segment_ms.to_string())].into(),
            wait: waits,
            timeout: Duration::from_secs(10),
            ..CreateTopicRequest::default()
        };
        let create = |broker: Broker| async move { broker.create_topic(&Caller::ANONYMOUS, request).await };
        self.ask(at, "creating a topic", create).await
    }

    async fn describe(&self, at: u64, name: &'static str) -> Option<Result<TopicDescription, AdminError>> {
        let describe = move |broker: Broker| async move { broker.describe_topic(&Caller::ANONYMOUS, name).await };
        self.ask(at, "describing a topic", describe).await
    }

    /// Takes note of a topic's partitions; again changes nothing.
    pub fn learn(&self, topic: &TopicDescription) -> Vec<Place> {
        let mut known = self.known.borrow_mut();
        for partition in &topic.partitions {
            let number = partition.partition.0;
            if known.places.values().any(|place| place.id == topic.id && place.partition == number) {
                continue;
            }
            let key = if topic.name == TOPIC { number } else { 1_000 + known.passed };
            let (topic, id, group) = (topic.name.clone(), topic.id, partition.raft_group);
            known.passed += 1;
            known.places.insert(key, Place { key, topic, id, partition: number, group });
        }
        known.places.values().filter(|place| place.id == topic.id).cloned().collect()
    }

    /// One topic's name has many lives: what one held is never seen in another.
    pub async fn churn_topics(self: Rc<Self>) {
        let mut sender = Sender::new(900, 1);
        while self.is_running() {
            let at = self.any_node();
            match self.describe(at, PASSING).await {
                Some(Ok(topic)) => self.use_and_delete(&topic, &mut sender).await,
                Some(Err(AdminError::UnknownTopic { .. })) => {
                    let created = self.create(at, PASSING, PASSING_PARTITIONS, false).await;
                    self.note(format_args!("{PASSING} is created at n{at}: {created:?}"));
                    self.count("topics created");
                }
                Some(Err(_)) | None => {}
            }
            self.pause(600).await;
        }
    }

    async fn use_and_delete(&self, topic: &TopicDescription, sender: &mut Sender) {
        let places = self.learn(topic);
        if self.known.borrow().deleted.contains(&topic.id) {
            // Another broker may not have heard of the deletion yet; at the end that is no excuse any more.
            return;
        }
        for place in places.iter().cycle().take(1 + self.rng.below(8) as usize) {
            sender.renew();
            if self.append(place, sender).await == End::GivenUp {
                break;
            }
        }
        self.known.borrow_mut().unwanted.insert(topic.id);
        let request = DeleteTopicRequest { name: PASSING.into(), topic_id: Some(topic.id), dry_run: false };
        let delete = |broker: Broker| async move { broker.delete_topic(&Caller::ANONYMOUS, request).await };
        let deleted = self.ask(self.any_node(), "deleting a topic", delete).await;
        self.note(format_args!("{PASSING} {} is deleted: {deleted:?}", topic.id));
        if matches!(deleted, Some(Ok(_))) {
            self.count("topics deleted");
            self.forget(topic.id);
        }
    }

    fn forget(&self, id: TopicId) {
        let mut known = self.known.borrow_mut();
        known.deleted.insert(id);
        let gone: BTreeSet<i32> = known.places.values().filter(|place| place.id == id).map(|place| place.key).collect();
        known.places.retain(|key, _| !gone.contains(key));
        known.history.acked.retain(|acked| !gone.contains(&acked.partition));
    }

    /// At the end: whether the passing topic is there, and that it is none that was deleted.
    pub async fn settle_topics(&self) {
        for at in 1..=self.plan.nodes {
            let mut found = None;
            for _ in 0..20 {
                found = self.describe(at, PASSING).await;
                if matches!(found, Some(Ok(_) | Err(AdminError::UnknownTopic { .. }))) {
                    break;
                }
                sleep(Duration::from_millis(100)).await; // An operator's patience.
            }
            match found {
                Some(Ok(topic)) if self.known.borrow().deleted.contains(&topic.id) => {
                    self.wrong(format!("topic {} was deleted, and n{at} has it", topic.id));
                }
                Some(Ok(topic)) => {
                    self.learn(&topic);
                    self.forget_all_but(Some(topic.id));
                }
                Some(Err(AdminError::UnknownTopic { .. })) => self.forget_all_but(None),
                other => self.wrong(format!("n{at} cannot say whether topic {PASSING} exists: {other:?}")),
            }
        }
    }

    /// Earlier lives of the passing topic are over: a deletion of unknown outcome happened, if there was one.
    fn forget_all_but(&self, there: Option<TopicId>) {
        let passing = self.places().into_iter().filter(|place| place.topic == PASSING).map(|place| place.id);
        let gone: BTreeSet<TopicId> = passing.filter(|id| Some(*id) != there).collect();
        for id in gone {
            if !self.known.borrow().unwanted.contains(&id) {
                self.wrong(format!("topic {id} is gone, and nobody deleted it"));
            }
            self.forget(id);
        }
    }

    /// DeleteRecords, up to somewhere among what was acknowledged.
    pub async fn trim_all(self: Rc<Self>) {
        while self.is_running() {
            self.pause(2_000).await;
            let partition = self.rng.below(self.plan.partitions as u64) as i32;
            let Some(last) = self.last_acked(partition) else { continue };
            let before = self.rng.below(last as u64 + 1) as i64;
            let request = TrimRequest {
                topic: TOPIC.into(),
                partition: PartitionId(partition),
                before: Some(Offset(before)),
                dry_run: false,
            };
            let tried = {
                let mut known = self.known.borrow_mut();
                let tried = known.trims.entry(partition).or_default();
                tried.0 = tried.0.max(before);
                tried.0
            };
            let trim = |broker: Broker| async move { broker.trim_partition(&Caller::ANONYMOUS, request).await };
            let trimmed = self.ask(self.any_node(), "a trim", trim).await;
            self.note(format_args!("{partition} is trimmed before {before}: {trimmed:?}"));
            match trimmed {
                Some(Ok(start)) if !(before..=tried).contains(&start.0) => {
                    self.wrong(format!(
                        "a trim of {partition} before {before} answers {start}, the farthest was {tried}"
                    ));
                }
                Some(Ok(_)) => {
                    self.count("trims");
                    let mut known = self.known.borrow_mut();
                    let acked = &mut known.trims.entry(partition).or_default().1;
                    *acked = (*acked).max(before);
                }
                Some(Err(error)) if error.effect() == Effect::None => {}
                Some(Err(_)) | None => {}
            }
        }
    }

    fn last_acked(&self, partition: i32) -> Option<i64> {
        let known = self.known.borrow();
        known.history.acked.iter().filter(|acked| acked.partition == partition).map(|acked| acked.offset).max()
    }

    /// Producer ids are given out once each, whoever is asked.
    pub async fn draw_producer_ids(self: Rc<Self>) {
        while self.is_running() {
            self.pause(1_200).await;
            let draw = |broker: Broker| async move { broker.init_producer_id(&Caller::ANONYMOUS).await };
            let at = self.any_node();
            let Some(Ok(drawn)) = self.ask(at, "a producer id", draw).await else { continue };
            self.note(format_args!("n{at} gives out producer id {}", drawn.id));
            self.count("producer ids");
            if !self.known.borrow_mut().producer_ids.insert(drawn.id) {
                self.wrong(format!("producer id {} was given out twice, now by n{at}", drawn.id));
            }
        }
    }

    /// Leaderships move to where nobody asked for them.
    pub async fn transfer_leaders(self: Rc<Self>) {
        while self.is_running() {
            self.pause(self.plan.transfer_ms).await;
            let partition = match self.rng.below(3) {
                0 => None,
                _ => Some((TOPIC.to_string(), PartitionId(self.rng.below(self.plan.partitions as u64) as i32))),
            };
            let to = (self.rng.below(2) == 0).then(|| BrokerId(self.any_node()));
            let request = TransferLeaderRequest { partition, to, timeout: Duration::from_secs(2) };
            let text = format!("{request:?}");
            let transfer = |broker: Broker| async move { broker.transfer_leader(&Caller::ANONYMOUS, request).await };
            let moved = self.ask(self.any_node(), "a transfer", transfer).await;
            self.note(format_args!("{text}: {moved:?}"));
            if matches!(moved, Some(Ok(_))) {
                self.count("transfers");
            }
        }
    }
}
