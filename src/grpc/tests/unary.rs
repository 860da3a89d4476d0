use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::{fake::TOPIC, *};
use crate::proto::v1::{ErrorCode, cluster_client::ClusterClient, topics_client::TopicsClient};

#[tokio::test]
async fn topics_answer_in_the_wires_words() {
    let server = Server::start(Fake::new()).await;
    let mut topics = TopicsClient::new(server.channel().await);
    let request = v1::DescribeTopicRequest { name: TOPIC.into() };
    let described = topics.describe_topic(request).await.unwrap().into_inner().topic.unwrap();
    let partition = |partition, leader, epoch| v1::PartitionDescription {
        partition,
        leader,
        epoch,
        replicas: vec![1, 2, 3],
        log_start: -1,
        high_watermark: -1,
        bytes: -1,
        raft_group: 7,
    };
    assert_eq!(described.id, "00000000000000000000000000000abc");
    assert_eq!(described.configs, [("retention.ms".to_string(), "1000".to_string())].into());
    assert_eq!(described.partitions, [partition(0, 1, 3), partition(1, 0, 0)]);

    let listed = topics.list_topics(v1::ListTopicsRequest {}).await.unwrap().into_inner().topics;
    assert_eq!(listed, [v1::TopicSummary { name: TOPIC.into(), partitions: 2, replication_factor: 3 }]);
    let trim = |before_offset| v1::TrimPartitionRequest { topic: TOPIC.into(), before_offset, ..Default::default() };
    assert_eq!(topics.trim_partition(trim(5)).await.unwrap().into_inner().log_start, 5);
    assert_eq!(topics.trim_partition(trim(-1)).await.unwrap().into_inner().log_start, 0, "the high watermark");
    let at = Some(v1::list_offset_request::At::Latest(true));
    let request = v1::ListOffsetRequest { topic: TOPIC.into(), partition: 0, at, ..Default::default() };
    let found = topics.list_offset(request).await.unwrap().into_inner();
    assert_eq!((found.offset, found.epoch), (0, 3));
    server.stop().await;
}

#[tokio::test]
async fn unary_failures_carry_the_error_in_the_trailer() {
    let server = Server::start(Fake::new()).await;
    let mut topics = TopicsClient::new(server.channel().await);
    let create = |name: &str| v1::CreateTopicRequest { name: name.into(), ..Default::default() };
    let status = topics.create_topic(create(TOPIC)).await.unwrap_err();
    assert_eq!((status.code(), error_of(&status).code()), (Code::AlreadyExists, ErrorCode::TopicExists));
    assert!(server.metrics.encode().contains(r#"api="create_topic",result="TOPIC_EXISTS"} 1"#));
    let negative = v1::CreateTopicRequest { partitions: Some(-3), ..create("new") };
    let late = v1::CreateTopicRequest { timeout_ms: Some(u32::MAX), ..create("new") };
    let configs = (0..1_000).map(|i| (i.to_string(), String::new())).collect();
    let many = v1::CreateTopicRequest { configs, ..create("new") };
    // Seen once: 0 was taken for "the default".
    let none = v1::CreateTopicRequest { partitions: Some(0), ..create("new") };
    let nowhere = v1::CreateTopicRequest { replication_factor: Some(0), ..create("new") };
    let never = v1::CreateTopicRequest { timeout_ms: Some(0), ..create("new") };
    for (request, text) in [
        (negative, "partitions is -3"),
        (none, "partitions is 0"),
        (nowhere, "replication_factor is 0"),
        (never, "timeout_ms is 0"),
        (late, "4294967295"),
        (many, "1000 configs"),
        (create(""), "empty"),
    ] {
        let status = topics.create_topic(request).await.unwrap_err();
        assert_eq!(error_of(&status).code(), ErrorCode::InvalidRequest);
        assert!(status.message().contains(text), "{:?} lacks {text:?}", status.message());
    }
    let add = v1::AddPartitionsRequest { name: TOPIC.into(), ..Default::default() };
    assert_eq!(topics.add_partitions(add).await.unwrap_err().code(), Code::InvalidArgument);
    let trim = v1::TrimPartitionRequest { topic: TOPIC.into(), before_offset: -2, ..Default::default() };
    assert_eq!(topics.trim_partition(trim).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn cluster_answers_and_refuses() {
    let server = Server::start(Fake::new()).await;
    let mut cluster = ClusterClient::new(server.channel().await);
    let view = cluster.get_metadata(v1::GetMetadataRequest::default()).await.unwrap().into_inner();
    assert_eq!((view.cluster_id.len(), view.metadata_index, view.metadata_leader), (32, 5, 0));
    let names = vec!["a".into(); limits::TOPICS_NAMED_MAX + 1];
    let status = cluster.get_metadata(v1::GetMetadataRequest { topics: names, all_topics: false }).await.unwrap_err();
    assert_eq!(error_of(&status).code(), ErrorCode::InvalidRequest);
    let health = cluster.health(v1::HealthRequest { details: false }).await.unwrap().into_inner();
    assert_eq!((health.healthy, health.problems.as_slice()), (false, ["broker 3 is down".to_string()].as_slice()));
    assert_eq!((health.notes, health.details), (vec!["a note".to_string()], vec![]));
    let health = cluster.health(v1::HealthRequest { details: true }).await.unwrap().into_inner();
    assert_eq!(health.details, ["a detail"]);
    assert_eq!(health.feature_level, 1);
    let raised = cluster.raise_feature_level(v1::RaiseFeatureLevelRequest::default()).await.unwrap().into_inner();
    assert_eq!((raised.from, raised.to), (1, 2));
    let asked = v1::HashReplicaRequest { with_state: true, reread_to: Some(2), ..Default::default() };
    let hash = cluster.hash_replica(asked).await.unwrap().into_inner();
    let sum = |value: u128| Bytes::copy_from_slice(&value.to_be_bytes());
    assert_eq!((hash.broker, hash.group, hash.first_index, hash.state), (1, 3, 1, sum(7)));
    assert_eq!(hash.marks[1], v1::HashMark { next_index: 2, sum: sum(0x0102) });
    let reread = hash.reread.unwrap();
    assert_eq!((reread.from, reread.next, reread.sum, reread.bytes, &*reread.damage), (0, 2, sum(9), 5, ""));
    assert_eq!((reread.wrong[0].index, &*reread.wrong[0].problem), (1, "its CRC differs"));
    let asked = v1::HashReplicaRequest { reread_from: Some(99), reread_to: Some(100), ..Default::default() };
    let hash = cluster.hash_replica(asked).await.unwrap().into_inner();
    assert!(hash.state.is_empty() && hash.reread.unwrap().damage.contains("blob file 17"));
    let too_far = v1::RaiseFeatureLevelRequest { to: Some(9), ..Default::default() };
    let status = cluster.raise_feature_level(too_far).await.unwrap_err();
    assert!(status.message().contains("broker 3 does not support level 9"), "{status}");
    let transfer = v1::TransferLeaderRequest { topic: TOPIC.into(), to_broker: Some(2), ..Default::default() };
    assert_eq!(cluster.transfer_leader(transfer).await.unwrap().into_inner().leader, 2);
    let to_nobody = v1::TransferLeaderRequest { topic: TOPIC.into(), to_broker: Some(0), ..Default::default() };
    let status = cluster.transfer_leader(to_nobody).await.unwrap_err();
    assert!(status.message().contains("to_broker is 0"), "{status}");
    let status = cluster.transfer_leader(v1::TransferLeaderRequest::default()).await.unwrap_err();
    assert_eq!(error_of(&status).code(), ErrorCode::Unavailable);
    let identity = cluster.init_producer_id(v1::InitProducerIdRequest {}).await.unwrap().into_inner();
    assert_eq!((identity.producer_id, identity.producer_epoch), (9, 0));
    server.stop().await;
}

#[tokio::test]
async fn health_follows_readiness() {
    let fake = Fake::new();
    fake.set_ready(Err("starting"));
    let server = Server::start(fake).await;
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: "flotilla.v1.Produce".into() };
    let mut watch = health.watch(request.clone()).await.unwrap().into_inner();
    let mut next = async || soon("a change", watch.message()).await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::NotServing);
    server.fake.set_ready(Ok(()));
    assert_eq!(next().await, ServingStatus::Serving);
    assert_eq!(health.check(request).await.unwrap().into_inner().status(), ServingStatus::Serving);
    server.fake.set_ready(Err("stopping"));
    assert_eq!(next().await, ServingStatus::NotServing);
    let unknown = health.check(HealthCheckRequest { service: "x".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_what_is_served() {
    let server = Server::start(Fake::new()).await;
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let questions = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("flotilla.v1.Produce".into())),
    ]);
    let mut answers = reflection.server_reflection_info(questions).await.unwrap().into_inner();
    let listed = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    let mut names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    names.retain(|name| !name.starts_with("grpc.reflection"));
    names.sort();
    let served = ["Cluster", "Consume", "Groups", "Produce", "Topics"].map(|name| format!("flotilla.v1.{name}"));
    assert_eq!(names, [&served[..], &["grpc.health.v1.Health".to_string()]].concat());
    let file = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(file, MessageResponse::FileDescriptorResponse(_)), "{file:?}");
}
