//! Stories in `src/metadata/scripts`. Record with `UPDATE_GOLDENFILES=1`, then review.

use std::{collections::BTreeMap, error::Error, fmt::Write as _};

use goldenscript::Context;

use super::*;
use crate::types::{ClusterId, RaftGroupId, StorageId};

struct Runner(Cluster);

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &goldenscript::Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "found" => {
                let level: Option<u32> = args.take_key("level").map(str::parse).transpose()?;
                let cluster_id = ClusterId(args.take_key("id").unwrap_or("1").parse()?);
                let founders = std::iter::from_fn(|| args.next_pos()).map(str::parse).collect::<Result<Vec<_>, _>>()?;
                let founders = founders.into_iter().map(BrokerId).collect();
                let wish = Found { cluster_id, founders };
                self.answer(match level {
                    Some(feature_level) => Change::FoundAt { wish, feature_level },
                    None => Change::Found(wish),
                })
            }
            "register" => self.register(&mut args)?,
            "raise" => {
                let to = args.next_pos().ok_or("to which level")?.parse()?;
                self.answer(Change::RaiseFeatureLevel(RaiseFeatureLevel { to, heard: Vec::new() }))
            }
            "kafka" => self.kafka(),
            "create" | "check_create" => {
                let name = args.next_pos().ok_or("which topic")?;
                let number = |text: Option<&str>| text.map_or(Ok(0), str::parse);
                let mut wish = creation(name, number(args.take_key("partitions"))?, number(args.take_key("factor"))?);
                if let Some(id) = args.take_key("id") {
                    wish.topic_id = TopicId(id.parse()?);
                }
                wish.configs = pairs(&mut args);
                match command.name.as_str() {
                    "create" => self.answer(Change::CreateTopic(wish)),
                    _ => self.0.state.check_create(&wish, &[]).map_or_else(|e| e.to_string(), |t| describe(&t)),
                }
            }
            "add" => {
                let name = args.next_pos().ok_or("which topic")?.to_string();
                let partitions = args.next_pos().ok_or("how many")?.parse()?;
                let topic_id = self.id(&name, args.take_key("id"))?;
                self.answer(Change::AddPartitions(AddPartitions { name, topic_id, partitions }))
            }
            "alter" => {
                let name = args.next_pos().ok_or("which topic")?.to_string();
                let topic_id = self.id(&name, None)?;
                let unset = std::iter::from_fn(|| args.next_pos()).map(str::to_string).collect();
                self.answer(Change::AlterTopic(AlterTopic { name, topic_id, set: pairs(&mut args), unset }))
            }
            "delete" => {
                let name = args.next_pos().ok_or("which topic")?.to_string();
                let topic_id = self.id(&name, args.take_key("id"))?;
                self.answer(Change::DeleteTopic(DeleteTopic { name, topic_id }))
            }
            "producer_ids" => {
                let broker = BrokerId(args.next_pos().ok_or("which broker")?.parse()?);
                self.answer(Change::AllocateProducerIds(AllocateProducerIds { broker }))
            }
            "forget" => {
                let broker = BrokerId(args.next_pos().ok_or("which broker")?.parse()?);
                let groups = std::iter::from_fn(|| args.next_pos()).map(str::parse).collect::<Result<Vec<_>, _>>()?;
                let groups = groups.into_iter().map(RaftGroupId).collect();
                self.answer(Change::ForgetDeleted(ForgetDeleted { broker, groups }))
            }
            "topics" => self.0.state.topics().map(describe).collect(),
            "brokers" => self.brokers(),
            "on" => self.on(BrokerId(args.next_pos().ok_or("which broker")?.parse()?)),
            name => return Err(format!("no command {name}").into()),
        };
        args.reject_next()?;
        Ok(if output.ends_with('\n') || output.is_empty() { output } else { output + "\n" })
    }
}

impl Runner {
    fn register(&mut self, args: &mut goldenscript::ArgumentConsumer) -> Result<String, Box<dyn Error>> {
        let mut broker = registration(args.next_pos().ok_or("which broker")?.parse()?);
        broker.rack = args.take_key("rack").map(str::to_string);
        if let Some(id) = args.take_key("storage") {
            broker.storage_id = StorageId(id.parse()?);
        }
        if let Some(address) = args.take_key("client") {
            broker.client_address = address.to_string();
        }
        let level = args.take_key("level").map(str::parse).transpose()?;
        let kafka = args.take_key("kafka").map(str::to_string);
        Ok(self.answer(match (level, kafka) {
            (None, _) => Change::RegisterBroker(broker),
            (Some(feature_level), None) => Change::RegisterBrokerAt { wish: broker, feature_level },
            (Some(feature_level), Some(kafka_address)) => {
                Change::RegisterBrokerWithKafka { wish: broker, feature_level, kafka_address }
            }
        }))
    }

    fn answer(&mut self, change: Change) -> String {
        match self.0.apply(change) {
            Ok(outcome) => format!("{outcome:?}"),
            Err(refusal) => format!("refused: {refusal}"),
        }
    }

    fn id(&self, name: &str, given: Option<&str>) -> Result<TopicId, Box<dyn Error>> {
        Ok(match given {
            Some(id) => TopicId(id.parse()?),
            None => self.0.state.topic(name).map_or(TopicId(0), |t| t.id),
        })
    }

    fn brokers(&self) -> String {
        let mut text = String::new();
        for b in self.0.state.brokers() {
            let rack = b.rack.as_deref().unwrap_or("-");
            let (id, replica, client) = (b.id, b.metadata_replica, &b.client_address);
            writeln!(text, "{id} {client} rack={rack} metadata_replica={replica}").expect("a String takes it");
        }
        text
    }

    fn kafka(&self) -> String {
        let state = &self.0.state;
        let line = |b: &Broker| format!("{} {}\n", b.id, state.kafka_address(b.id).unwrap_or("-"));
        state.brokers().map(line).collect()
    }

    fn on(&self, broker: BrokerId) -> String {
        let mut text = String::new();
        for p in self.0.state.groups_on(broker) {
            let line = format!("run {}-{} group={} replica={}", p.topic, p.partition, p.group, p.replica);
            writeln!(text, "{line}").expect("a String takes it");
        }
        for p in self.0.state.deleted_on(broker) {
            writeln!(text, "remove group={} replica={}", p.group, p.replica).expect("a String takes it");
        }
        text
    }
}

fn pairs(args: &mut goldenscript::ArgumentConsumer<'_>) -> BTreeMap<String, String> {
    std::iter::from_fn(|| args.next_key()).map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn describe(topic: &Topic) -> String {
    let mut text = format!("{} factor={} {:?}\n", topic.name, topic.replication_factor, topic.configs);
    for (i, p) in topic.partitions.iter().enumerate() {
        let replicas: Vec<String> = p.replicas.iter().map(|(r, b)| format!("{r}@{b}")).collect();
        writeln!(text, "  {i}: group={} {}", p.group, replicas.join(" ")).expect("a String takes it");
    }
    text
}

fn run(name: &str) {
    let path = format!("{}/src/metadata/scripts/{name}", env!("CARGO_MANIFEST_DIR"));
    goldenscript::run(&mut Runner(Cluster::default()), path).expect("the script passes");
}

#[test]
fn forming_a_cluster() {
    run("forming_a_cluster");
}

#[test]
fn where_kafka_clients_go() {
    run("where_kafka_clients_go");
}

#[test]
fn life_of_a_topic() {
    run("life_of_a_topic");
}

#[test]
fn refusals() {
    run("refusals");
}
