//! The one answer that is written by hand, against the codec's.

use bytes::{Buf, Bytes};

use super::super::{
    api::fetch_answer::{FetchAnswer, Leads, PartitionAnswer},
    codes::Code,
    sessions::TopicKey,
    views::Endpoint,
    wire::*,
};
use crate::types::{Offset, TopicId};

const SESSION: i32 = 0x0102_0304;

/// What is said of a partition, and its batches.
type Said = (PartitionAnswer, Vec<Bytes>);

struct Case {
    topics: Vec<(&'static str, Vec<Said>)>,
    endpoints: Vec<Endpoint>,
}

fn good(index: i32, batches: &[usize]) -> Said {
    let said =
        PartitionAnswer { index, code: Code::None, high_watermark: Offset(1 << 40), log_start: Offset(3), leads: None };
    (said, batches.iter().map(|bytes| Bytes::from(vec![index as u8; *bytes])).collect())
}

fn cases() -> Vec<Case> {
    let endpoint = |id, rack: Option<&str>| Endpoint {
        id,
        host: format!("host-{id}").into(),
        port: 9092,
        rack: rack.map(StrBytes::from),
    };
    let mut moved = PartitionAnswer::refused(9, Code::NotLeaderOrFollower);
    moved.leads = Some(Leads { id: 2, epoch: 77 });
    vec![
        Case { topics: vec![], endpoints: vec![] },
        Case { topics: vec![("t", vec![]), ("u", vec![good(0, &[])])], endpoints: vec![] },
        Case { topics: vec![("t", vec![good(0, &[61]), good(1, &[100, 70_000, 61, 600])])], endpoints: vec![] },
        Case {
            topics: vec![
                ("t", vec![good(200, &[5_000]), (moved, vec![]), good(1, &[61])]),
                ("a-longer-name", vec![(PartitionAnswer::refused(0, Code::OffsetOutOfRange), vec![])]),
            ],
            endpoints: vec![endpoint(2, None), endpoint(3, Some("rack"))],
        },
    ]
}

/// What the codec makes of it.
fn expected(case: &Case, version: i16) -> Bytes {
    let topics = case.topics.iter().map(|(name, partitions)| {
        let partitions = partitions.iter().map(|(said, batches)| {
            let mut data = message!(fetch_response::PartitionData {
                partition_index: said.index,
                error_code: said.code.value(),
                high_watermark: said.high_watermark.0,
                last_stable_offset: said.high_watermark.0,
                log_start_offset: said.log_start.0,
                aborted_transactions: None,
                records: Some(batches.concat().into()),
            });
            if let Some(Leads { id, epoch }) = said.leads.filter(|_| version >= 12) {
                data.current_leader = message!(fetch_response::LeaderIdAndEpoch { leader_id: id, leader_epoch: epoch });
            }
            data
        });
        let mut topic = message!(fetch_response::FetchableTopicResponse { partitions: partitions.collect() });
        match version >= 13 {
            true => topic.topic_id = uuid(TopicId(5)),
            false => topic.topic = (*name).into(),
        }
        topic
    });
    let mut response = message!(FetchResponse { responses: topics.collect() });
    if version >= 7 {
        response.session_id = SESSION;
    }
    if version >= 16 {
        response.node_endpoints = case
            .endpoints
            .iter()
            .map(|endpoint| {
                message!(fetch_response::NodeEndpoint {
                    node_id: endpoint.id,
                    host: endpoint.host.clone(),
                    port: endpoint.port,
                    rack: endpoint.rack.clone(),
                })
            })
            .collect();
    }
    encode(11, version, &response).expect("the codec can write it")
}

#[test]
fn a_fetch_answer_is_what_the_codec_writes_in_every_version() {
    for version in super::super::api::fetch::VERSIONS.0..=super::super::api::fetch::VERSIONS.1 {
        for (number, case) in cases().into_iter().enumerate() {
            let mut answer = FetchAnswer::new(version, 11, Code::None, SESSION, case.topics.len()).unwrap();
            for (name, partitions) in &case.topics {
                let topic = if version >= 13 { TopicKey::Id(TopicId(5)) } else { TopicKey::Name((*name).into()) };
                answer.topic(&topic, partitions.len());
                for (said, batches) in partitions {
                    answer.partition(said, batches.clone());
                }
                answer.end_topic();
            }
            let endpoints = if version >= 16 { case.endpoints.clone() } else { Vec::new() };
            let mut written = answer.end(endpoints, None).unwrap();
            let written = written.copy_to_bytes(written.remaining());
            assert_eq!(written, expected(&case, version), "case {number} in version {version}");
        }
    }
}

#[test]
fn every_code_is_kafkas_and_has_one_name() {
    let mut codes: Vec<_> = Code::ALL.iter().map(|code| code.value()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), Code::ALL.len());
    assert!(codes.iter().all(|code| (-1..=133).contains(code)));
}
