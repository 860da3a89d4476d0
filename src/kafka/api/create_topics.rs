//! CreateTopics: topics with partitions, replicas and configs. Brokers place the replicas; a client cannot.
//!
//! Answered when every partition has a leader that takes records, so that a client may produce at once.

use std::collections::BTreeMap;

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER},
        codes::Code,
        wire::{
            self, CreateTopicsRequest, CreateTopicsResponse, StrBytes,
            create_topics_request::{CreatableTopic, CreatableTopicConfig},
            create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
            message,
        },
    },
    admin::{self, NotDone, Repeated, Within},
    describe_configs::source,
};
use crate::{
    broker::{AdminError, CreateTopicRequest, TopicDescription},
    metadata,
};

/// Kafka's word for "as the broker has it".
const DEFAULT: i32 = -1;

pub struct CreateTopics;

impl KafkaApi for CreateTopics {
    type Request = CreateTopicsRequest;
    const VERSIONS: (i16, i16) = (2, 7);

    async fn answer(asked: &Asked, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let within = Within::of(request.timeout_ms);
        let repeated = Repeated::among(request.topics.iter().map(|topic| &*topic.name));
        let dry_run = request.validate_only;
        let topics = admin::each(request.topics, async |topic| {
            let name = topic.name.clone();
            let created = create(asked, topic, &within, &repeated, dry_run).await;
            answered(name, &created, dry_run)
        });
        message!(CreateTopicsResponse { topics: topics.await })
    }
}

async fn create(
    asked: &Asked,
    topic: CreatableTopic,
    within: &Within,
    repeated: &Repeated,
    dry_run: bool,
) -> Result<TopicDescription, NotDone> {
    repeated.check(&topic.name)?;
    let wish = wish(topic, asked.client.shared.auto_create)?;
    let request = CreateTopicRequest { dry_run, wait: true, timeout: within.left()?, ..wish };
    Ok(asked.client.shared.broker.create_topic(&CALLER, request).await?)
}

/// `num_partitions`: how many a topic has whose client does not say.
fn wish(topic: CreatableTopic, num_partitions: Option<u32>) -> Result<CreateTopicRequest, NotDone> {
    if !topic.assignments.is_empty() {
        let words = "brokers place the replicas themselves: say how many partitions and replicas there shall be";
        return Err(NotDone::new(Code::InvalidReplicaAssignment, words));
    }
    let partitions = count(topic.num_partitions).ok_or_else(|| {
        let words = format!("{} partitions: must be 1 or more, or -1 for the default", topic.num_partitions);
        NotDone::new(Code::InvalidPartitions, words)
    })?;
    let replication_factor = count(topic.replication_factor.into()).ok_or_else(|| {
        let words = format!("{} replicas: must be 1 or more, or -1 for the default", topic.replication_factor);
        NotDone::new(Code::InvalidReplicationFactor, words)
    })?;
    metadata::check_topic_name(&topic.name).map_err(AdminError::Refused)?;
    Ok(CreateTopicRequest {
        name: topic.name.to_string(),
        partitions: partitions.or(num_partitions),
        replication_factor,
        configs: configs(topic.configs)?,
        ..CreateTopicRequest::default()
    })
}

/// None: it is no number of anything. Some(None): the default.
fn count(asked: i32) -> Option<Option<u32>> {
    match asked {
        DEFAULT => Some(None),
        1.. => Some(u32::try_from(asked).ok()),
        _ => None,
    }
}

fn configs(asked: Vec<CreatableTopicConfig>) -> Result<BTreeMap<String, String>, NotDone> {
    admin::check_size(asked.iter().flat_map(|config| [Some(&*config.name), config.value.as_deref()]).flatten())?;
    let mut configs = BTreeMap::new();
    for CreatableTopicConfig { name, value, .. } in asked {
        let Some(value) = value else {
            return Err(NotDone::new(Code::InvalidConfig, format!("{name} has no value")));
        };
        if configs.insert(name.to_string(), value.to_string()).is_some() {
            return Err(NotDone::new(Code::InvalidConfig, format!("{name} is given more than once")));
        }
    }
    Ok(configs)
}

/// What older versions do not carry the codec leaves out.
fn answered(name: StrBytes, created: &Result<TopicDescription, NotDone>, dry_run: bool) -> CreatableTopicResult {
    let (error_code, error_message) = admin::said(created);
    let mut result =
        message!(CreatableTopicResult { name: name, error_code: error_code, error_message: error_message });
    let Ok(topic) = created else { return result };
    if !dry_run {
        result.topic_id = wire::uuid(topic.id);
    }
    result.num_partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    result.replication_factor = i16::try_from(replicas).unwrap_or(i16::MAX);
    let configs = topic.configs.iter().map(|entry| {
        message!(CreatableTopicConfigs {
            name: entry.key.into(),
            value: Some(entry.value.as_str().into()),
            config_source: source(entry),
        })
    });
    result.configs = Some(configs.collect());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(num_partitions: i32, replication_factor: i16) -> CreatableTopic {
        message!(CreatableTopic {
            name: "t".into(),
            num_partitions: num_partitions,
            replication_factor: replication_factor,
        })
    }

    #[test]
    fn minus_one_is_the_default_and_zero_is_refused() {
        let made = wish(topic(-1, -1), Some(4)).expect("defaults");
        assert_eq!((made.partitions, made.replication_factor), (Some(4), None));
        let made = wish(topic(6, 3), Some(4)).expect("as asked for");
        assert_eq!((made.partitions, made.replication_factor), (Some(6), Some(3)));
        for (partitions, replicas, code) in [
            (0, 1, Code::InvalidPartitions),
            (-2, 1, Code::InvalidPartitions),
            (1, 0, Code::InvalidReplicationFactor),
            (1, -2, Code::InvalidReplicationFactor),
        ] {
            assert_eq!(wish(topic(partitions, replicas), None).expect_err("refused").code, code);
        }
    }

    #[test]
    fn configs_have_one_value_each() {
        let config = |value: Option<&str>| {
            message!(CreatableTopicConfig { name: "retention.ms".into(), value: value.map(Into::into) })
        };
        assert_eq!(configs(vec![config(Some("1"))]).expect("fine")["retention.ms"], "1");
        for bad in [vec![config(None)], vec![config(Some("1")), config(Some("2"))]] {
            assert_eq!(configs(bad).expect_err("refused").code, Code::InvalidConfig);
        }
    }
}
