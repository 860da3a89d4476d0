//! What operators ask of topics, at every version that is served, good and refused.

use super::{
    super::{api::describe_configs::TOPIC, codes::Code, wire::*},
    data::{batch, produce, versions},
    harness::{Alone, Wire},
};
use crate::types::TopicId;

/// A topic to make: its partitions, its replicas, its configs.
fn creatable(
    name: &str,
    partitions: i32,
    replicas: i16,
    configs: &[(&str, Option<&str>)],
) -> create_topics_request::CreatableTopic {
    let configs = configs.iter().map(|(name, value)| {
        message!(create_topics_request::CreatableTopicConfig { name: (*name).into(), value: value.map(StrBytes::from) })
    });
    message!(create_topics_request::CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        configs: configs.collect(),
    })
}

fn create(topics: Vec<create_topics_request::CreatableTopic>) -> CreateTopicsRequest {
    message!(CreateTopicsRequest { topics: topics, timeout_ms: 20_000 })
}

/// Deletes by name, as the version has it.
fn delete(version: i16, names: &[&str]) -> DeleteTopicsRequest {
    let mut request = message!(DeleteTopicsRequest { timeout_ms: 20_000 });
    match version >= 6 {
        true => {
            let named = |name: &&str| message!(delete_topics_request::DeleteTopicState { name: Some((*name).into()) });
            request.topics = names.iter().map(named).collect();
        }
        false => request.topic_names = names.iter().map(|name| StrBytes::from(*name)).collect(),
    }
    request
}

fn grow(name: &str, count: i32) -> CreatePartitionsRequest {
    let topic = message!(create_partitions_request::CreatePartitionsTopic { name: name.into(), count: count });
    message!(CreatePartitionsRequest { topics: vec![topic], timeout_ms: 20_000 })
}

#[tokio::test]
async fn topics_come_grow_and_go_in_every_version() {
    let alone = Alone::start(1_301).await;
    let mut wire = alone.face.connect();
    for version in versions(19) {
        let name = format!("t{version}");
        let topic = creatable(&name, 2, 1, &[("retention.ms", Some("5000"))]);
        let mut dry = create(vec![topic.clone()]);
        dry.validate_only = true;
        let said = wire.ask(version, &dry).await.topics.remove(0);
        assert_eq!((said.error_code, said.error_message, said.topic_id.is_zero()), (0, None, true));
        assert_eq!(alone.broker().topic_id(&name), None, "it was only checked");

        let said = wire.ask(version, &create(vec![topic])).await.topics.remove(0);
        assert_eq!((said.error_code, &said.error_message, &*said.name), (0, &None, name.as_str()), "version {version}");
        let id = alone.broker().topic_id(&name).expect("it is there");
        assert_eq!(said.topic_id, if version >= 7 { uuid(id) } else { Uuid::default() });
        if version >= 5 {
            assert_eq!((said.num_partitions, said.replication_factor), (2, 1));
            let configs = said.configs.expect("they are told");
            let of = |name: &str| configs.iter().find(|config| &*config.name == name).expect("a known config");
            assert_eq!((of("retention.ms").value.as_deref(), of("retention.ms").config_source), (Some("5000"), 1));
            assert_eq!(
                (of("cleanup.policy").value.as_deref(), of("cleanup.policy").config_source),
                (Some("delete"), 5)
            );
        }
    }
    for (version, count) in versions(37).zip(3..) {
        let mut dry = grow("t2", count + 10);
        dry.validate_only = true;
        assert_eq!(wire.ask(version, &dry).await.results[0].error_code, 0);
        assert_eq!(wire.ask(version, &grow("t2", count)).await.results[0].error_code, 0, "version {version}");
        let said = wire.ask(version, &grow("t2", count)).await.results.remove(0);
        assert_eq!((said.error_code, said.error_message.is_some()), (Code::InvalidPartitions.value(), true));
        assert_eq!(wire.ask(version, &grow("none", 2)).await.results[0].error_code, 3);
    }
    for version in versions(20) {
        let name = format!("t{}", version + 1);
        let said = wire.ask(version, &delete(version, &[&name])).await.responses.remove(0);
        assert_eq!((said.error_code, said.name.as_deref()), (0, Some(name.as_str())), "version {version}");
        let said = wire.ask(version, &delete(version, &[&name])).await.responses.remove(0);
        assert_eq!((said.error_code, said.error_message.is_some()), (3, version >= 5), "version {version}");
    }
}

#[tokio::test]
async fn topics_are_deleted_by_id() {
    let alone = Alone::start(1_302).await;
    let mut wire = alone.face.connect();
    wire.ask(7, &create(vec![creatable("t", 1, 1, &[])])).await;
    let id = uuid(alone.broker().topic_id("t").expect("it is there"));
    let by = |name: Option<&str>, id| {
        let state = message!(delete_topics_request::DeleteTopicState { name: name.map(StrBytes::from), topic_id: id });
        message!(DeleteTopicsRequest { topics: vec![state], timeout_ms: 20_000 })
    };
    for (request, code) in [
        (by(None, Uuid::default()), Code::InvalidRequest),
        (by(Some("t"), id), Code::InvalidRequest),
        (by(None, uuid(TopicId(9))), Code::UnknownTopicId),
        (by(None, id), Code::None),
        (by(None, id), Code::UnknownTopicId),
    ] {
        let said = wire.ask(6, &request).await.responses.remove(0);
        assert_eq!((said.error_code, said.topic_id), (code.value(), request.topics[0].topic_id), "{code:?}");
    }
    let said = wire.ask(6, &delete(6, &["a", "b", "a"])).await;
    let codes: Vec<i16> = said.responses.iter().map(|said| said.error_code).collect();
    assert_eq!(codes, [42, 3, 42], "what is named twice is done by nobody");
}

#[tokio::test]
async fn topics_that_cannot_be_are_refused_in_every_version() {
    let alone = Alone::start(1_303).await;
    let mut wire = alone.face.connect();
    wire.ask(7, &create(vec![creatable("t", 1, 1, &[])])).await;
    let large = "1".repeat(20_000);
    for version in versions(19) {
        let mut placed = creatable("placed", -1, -1, &[]);
        let place = message!(create_topics_request::CreatableReplicaAssignment { broker_ids: vec![1] });
        placed.assignments = vec![place];
        for (topic, code) in [
            (creatable("t", 1, 1, &[]), Code::TopicAlreadyExists),
            (creatable("a/b", 1, 1, &[]), Code::InvalidTopicException),
            (creatable(&"n".repeat(250), 1, 1, &[]), Code::InvalidTopicException),
            (creatable("u", 0, 1, &[]), Code::InvalidPartitions),
            (creatable("u", i32::MAX, 1, &[]), Code::InvalidPartitions),
            (creatable("u", 1, 0, &[]), Code::InvalidReplicationFactor),
            (creatable("u", 1, 2, &[]), Code::InvalidReplicationFactor),
            (creatable("u", 1, 1, &[("none", Some("1"))]), Code::InvalidConfig),
            (creatable("u", 1, 1, &[("retention.ms", None)]), Code::InvalidConfig),
            (creatable("u", 1, 1, &[("cleanup.policy", Some("compact"))]), Code::InvalidConfig),
            (creatable("u", 1, 1, &[("retention.ms", Some(&large))]), Code::InvalidConfig),
            (placed, Code::InvalidReplicaAssignment),
        ] {
            let name = topic.name.clone();
            let said = wire.ask(version, &create(vec![topic])).await.topics.remove(0);
            let words = said.error_message.expect("it says why");
            assert_eq!((said.error_code, &said.name), (code.value(), &name), "version {version}: {words}");
        }
        let both = vec![creatable("u", 1, 1, &[]), creatable("u", 2, 1, &[])];
        assert!(wire.ask(version, &create(both)).await.topics.iter().all(|said| said.error_code == 42));
        assert_eq!(alone.broker().topic_id("u"), None);
    }
}

/// What a resource's configs are described with.
type Described = Vec<describe_configs_response::DescribeConfigsResourceResult>;

async fn describe(
    wire: &mut Wire,
    version: i16,
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> Result<Described, i16> {
    let keys = keys.map(|keys| keys.iter().map(|key| StrBytes::from(*key)).collect());
    let resource = message!(describe_configs_request::DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: keys,
    });
    let mut request = message!(DescribeConfigsRequest { resources: vec![resource], include_synonyms: true });
    request.include_documentation = version >= 3;
    let said = wire.ask(version, &request).await.results.remove(0);
    assert_eq!((said.resource_type, &*said.resource_name), (kind, name));
    assert_eq!(said.error_code == 0, said.error_message.is_none());
    if said.error_code == 0 { Ok(said.configs) } else { Err(said.error_code) }
}

fn value<'a>(described: &'a Described, name: &str) -> (&'a str, i8) {
    let config = described.iter().find(|config| &*config.name == name).unwrap_or_else(|| panic!("{name} is missing"));
    (config.value.as_deref().expect("a value"), config.config_source)
}

#[tokio::test]
async fn configs_are_described_in_every_version() {
    let alone = Alone::start(1_304).await;
    let mut wire = alone.face.connect();
    wire.ask(7, &create(vec![creatable("t", 1, 1, &[("segment.ms", Some("60000"))])])).await;
    for version in versions(32) {
        let all = describe(&mut wire, version, TOPIC, "t", None).await.expect("it is there");
        assert_eq!((value(&all, "segment.ms"), value(&all, "retention.bytes")), (("60000", 1), ("-1", 5)));
        assert!(all.iter().all(|config| !config.read_only && !config.is_sensitive));
        let synonyms = |name: &str| -> Vec<(String, String, i8)> {
            let config = all.iter().find(|config| &*config.name == name).expect("a known config");
            let told = config
                .synonyms
                .iter()
                .map(|told| (told.name.to_string(), told.value.as_ref().expect("a value").to_string(), told.source));
            told.collect()
        };
        let default = |name: &str, value: &str| (name.to_string(), value.to_string(), 5);
        let own = ("segment.ms".to_string(), "60000".to_string(), 1);
        assert_eq!(synonyms("segment.ms"), [own, default("log.roll.ms", "604800000")]);
        assert_eq!(synonyms("retention.bytes"), [default("log.retention.bytes", "-1")]);
        let told = |config: &describe_configs_response::DescribeConfigsResourceResult| {
            config.documentation.is_some() && config.config_type > 0
        };
        assert!(all.iter().all(|config| told(config) == (version >= 3)), "version {version}");
        let some = describe(&mut wire, version, TOPIC, "t", Some(&["segment.ms", "none"])).await.expect("as above");
        assert_eq!(some.len(), 1);
        assert_eq!(describe(&mut wire, version, TOPIC, "none", None).await, Err(3));

        let all = describe(&mut wire, version, 4, "1", None).await.expect("it is this broker");
        assert_eq!(value(&all, "broker.id").0, "1");
        assert_eq!(value(&all, "log.retention.ms"), ("604800000", 5));
        assert!(all.iter().all(|config| config.read_only));
        assert_eq!(describe(&mut wire, version, 4, "", None).await, Ok(Vec::new()));
        assert_eq!(describe(&mut wire, version, 4, "2", None).await, Err(42));
        assert_eq!(describe(&mut wire, version, 8, "1", None).await, Err(42));
        let resource = |kind, name: &str| {
            message!(describe_configs_request::DescribeConfigsResource {
                resource_type: kind,
                resource_name: name.into()
            })
        };
        let often = vec![resource(TOPIC, "t"), resource(TOPIC, "t"), resource(4, "1"), resource(4, "1")];
        let said = wire.ask(version, &message!(DescribeConfigsRequest { resources: often })).await;
        let codes: Vec<i16> = said.results.iter().map(|said| said.error_code).collect();
        assert_eq!(codes, [0, 42, 0, 42], "each is told once");
    }
}

async fn change(wire: &mut Wire, version: i16, kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> i16 {
    let configs = changes.iter().map(|(name, operation, value)| {
        message!(incremental_alter_configs_request::AlterableConfig {
            name: (*name).into(),
            config_operation: *operation,
            value: value.map(StrBytes::from),
        })
    });
    let resource = message!(incremental_alter_configs_request::AlterConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configs: configs.collect(),
    });
    let said = wire.ask(version, &message!(IncrementalAlterConfigsRequest { resources: vec![resource] })).await;
    assert_eq!((said.responses[0].resource_type, &*said.responses[0].resource_name), (kind, name));
    assert_eq!(said.responses[0].error_code == 0, said.responses[0].error_message.is_none());
    said.responses[0].error_code
}

#[tokio::test]
async fn single_configs_are_changed_in_every_version() {
    let alone = Alone::start(1_305).await;
    let mut wire = alone.face.connect();
    wire.ask(7, &create(vec![creatable("t", 1, 1, &[("segment.ms", Some("60000"))])])).await;
    for version in versions(44) {
        let set = [("retention.ms", 0, Some("7000")), ("segment.ms", 1, None)];
        assert_eq!(change(&mut wire, version, TOPIC, "t", &set).await, 0);
        let all = describe(&mut wire, 4, TOPIC, "t", None).await.expect("it is there");
        assert_eq!((value(&all, "retention.ms"), value(&all, "segment.ms")), (("7000", 1), ("604800000", 5)));
        let one = |change| vec![change];
        for (kind, name, changes, code) in [
            (TOPIC, "none", one(("retention.ms", 0, Some("1"))), 3),
            (TOPIC, "t", one(("none", 0, Some("1"))), 40),
            (TOPIC, "t", one(("none", 1, None)), 40),
            (TOPIC, "t", one(("retention.ms", 0, Some("soon"))), 40),
            (TOPIC, "t", one(("retention.ms", 0, None)), 42),
            (TOPIC, "t", one(("cleanup.policy", 2, Some("compact"))), 40),
            (TOPIC, "t", one(("retention.ms", 9, Some("1"))), 40),
            (TOPIC, "t", vec![("retention.ms", 0, Some("1")), ("retention.ms", 1, None)], 42),
            (4, "1", one(("log.retention.ms", 0, Some("1"))), 40),
            (32, "g", one(("x", 0, Some("1"))), 42),
        ] {
            assert_eq!(change(&mut wire, version, kind, name, &changes).await, code, "{changes:?}");
        }
        let all = describe(&mut wire, 4, TOPIC, "t", None).await.expect("it is there");
        assert_eq!(value(&all, "retention.ms"), ("7000", 1), "what was refused changed nothing");
        assert_eq!(change(&mut wire, version, TOPIC, "t", &[("retention.ms", 1, None)]).await, 0);
    }
}

async fn replace(
    wire: &mut Wire,
    version: i16,
    kind: i8,
    name: &str,
    configs: &[(&str, Option<&str>)],
    dry: bool,
) -> i16 {
    let configs = configs.iter().map(|(name, value)| {
        message!(alter_configs_request::AlterableConfig { name: (*name).into(), value: value.map(StrBytes::from) })
    });
    let resource = message!(alter_configs_request::AlterConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configs: configs.collect(),
    });
    let request = message!(AlterConfigsRequest { resources: vec![resource], validate_only: dry });
    let said = wire.ask(version, &request).await;
    assert_eq!(said.responses[0].error_code == 0, said.responses[0].error_message.is_none());
    said.responses[0].error_code
}

#[tokio::test]
async fn all_configs_are_replaced_in_every_version() {
    let alone = Alone::start(1_306).await;
    let mut wire = alone.face.connect();
    let first =
        [("segment.ms", Some("60000")), ("retention.ms", Some("1000")), ("message.timestamp.before.max.ms", Some("5"))];
    wire.ask(7, &create(vec![creatable("t", 1, 1, &[])])).await;
    for version in versions(33) {
        assert_eq!(replace(&mut wire, version, TOPIC, "t", &first, false).await, 0);
        assert_eq!(replace(&mut wire, version, TOPIC, "t", &[("retention.ms", Some("9000"))], true).await, 0);
        for (kind, name, configs, code) in [
            (TOPIC, "none", ("retention.ms", Some("1")), 3),
            (TOPIC, "t", ("none", Some("1")), 40),
            (TOPIC, "t", ("retention.ms", None), 42),
            (4, "1", ("log.retention.ms", Some("1")), 40),
        ] {
            assert_eq!(replace(&mut wire, version, kind, name, &[configs], false).await, code);
        }
        let all = describe(&mut wire, 4, TOPIC, "t", None).await.expect("it is there");
        assert_eq!((value(&all, "segment.ms"), value(&all, "retention.ms")), (("60000", 1), ("1000", 1)));
        assert_eq!(replace(&mut wire, version, TOPIC, "t", &[("retention.ms", Some("9000"))], false).await, 0);
        let all = describe(&mut wire, 4, TOPIC, "t", None).await.expect("it is there");
        let set: Vec<&str> =
            all.iter().filter(|config| config.config_source == 1).map(|config| &*config.name).collect();
        assert_eq!((set, value(&all, "retention.ms")), (vec!["retention.ms"], ("9000", 1)));
    }
}

/// Batches of 1970, and one of now.
#[tokio::test]
async fn records_that_are_older_than_a_topic_takes_are_refused() {
    let alone = Alone::start(1_307).await;
    let mut wire = alone.face.connect();
    let day = ("message.timestamp.before.max.ms", Some("86400000"));
    wire.ask(7, &create(vec![creatable("t", 1, 1, &[day]), creatable("any", 1, 1, &[])])).await;
    for (topic, code) in [("t", Code::InvalidTimestamp), ("any", Code::None)] {
        let id = alone.broker().topic_id(topic).expect("it was just made");
        let said = wire.ask(9, &produce(9, topic, id, -1, batch(&["old"]))).await;
        assert_eq!(said.responses[0].partition_responses[0].error_code, code.value(), "{topic}");
    }
    assert_eq!(change(&mut wire, 1, TOPIC, "t", &[("message.timestamp.type", 0, Some("LogAppendTime"))]).await, 0);
    let id = alone.broker().topic_id("t").expect("it was made");
    let said = wire.ask(9, &produce(9, "t", id, -1, batch(&["old"]))).await;
    assert_eq!(said.responses[0].partition_responses[0].error_code, 0, "whose time is not kept, it does not matter");
}
