//! DeleteRecords: moves the beginning of partitions. Asked of the leader, as Kafka's clients do; another broker says
//! that it does not lead, and the client asks anew who does.

use std::collections::BTreeMap;

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER},
        codes::Code,
        wire::{
            DeleteRecordsRequest, DeleteRecordsResponse, StrBytes,
            delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
            message,
        },
    },
    admin::{self, NotDone, Within},
};
use crate::{
    broker::{TopicsWanted, TrimRequest},
    types::{BrokerId, Offset, PartitionId},
};

/// Kafka's word for all that is there.
const HIGH_WATERMARK: i64 = -1;
/// Nothing was moved.
const NO_OFFSET: i64 = -1;

pub struct DeleteRecords;

/// Of each partition that exists, who leads it.
type Leaders = BTreeMap<(String, i32), Option<BrokerId>>;

impl KafkaApi for DeleteRecords {
    type Request = DeleteRecordsRequest;
    const VERSIONS: (i16, i16) = (0, 2);

    async fn answer(asked: &Asked, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
        let within = Within::of(request.timeout_ms);
        let leaders = leaders(asked, request.topics.iter().map(|topic| topic.name.to_string()).collect()).await;
        let mut topics = Vec::new();
        for topic in request.topics {
            let places = topic.partitions.iter().map(|partition| (partition.partition_index, partition.offset));
            let partitions = admin::each(places.collect(), async |(partition, offset)| {
                answered(partition, trim(asked, &topic.name, partition, offset, &leaders, &within).await)
            });
            let partitions = partitions.await;
            topics.push(message!(DeleteRecordsTopicResult { name: topic.name, partitions: partitions }));
        }
        message!(DeleteRecordsResponse { topics: topics })
    }
}

async fn leaders(asked: &Asked, mut names: Vec<String>) -> Leaders {
    names.sort_unstable();
    names.dedup();
    let view = asked.client.shared.broker.cluster_view(&CALLER, TopicsWanted::Named(names)).await;
    let of_topic = view.topics.into_iter().flat_map(|topic| {
        let name = topic.name;
        topic
            .partitions
            .into_iter()
            .map(move |partition| ((name.clone(), partition.partition.0), partition.leader.map(|leader| leader.broker)))
    });
    of_topic.collect()
}

/// The new first offset.
async fn trim(
    asked: &Asked,
    topic: &StrBytes,
    partition: i32,
    offset: i64,
    leaders: &Leaders,
    within: &Within,
) -> Result<Offset, NotDone> {
    let broker = &asked.client.shared.broker;
    match leaders.get(&(topic.to_string(), partition)) {
        Some(Some(leader)) if *leader == broker.id() => {}
        Some(_) => return Err(NotDone::new(Code::NotLeaderOrFollower, "another broker leads it, or none does")),
        None => return Err(NotDone::new(Code::UnknownTopicOrPartition, "there is no such partition")),
    }
    let before = match offset {
        HIGH_WATERMARK => None,
        0.. => Some(Offset(offset)),
        _ => return Err(NotDone::new(Code::OffsetOutOfRange, "an offset is 0 or more")),
    };
    within.left()?;
    let request = TrimRequest { topic: topic.to_string(), partition: PartitionId(partition), before, dry_run: false };
    Ok(broker.trim_partition(&CALLER, request).await?)
}

/// This API has no room for words.
fn answered(partition: i32, trimmed: Result<Offset, NotDone>) -> DeleteRecordsPartitionResult {
    let (low_watermark, code) = match trimmed {
        Ok(log_start) => (log_start.0, Code::None),
        Err(NotDone { code, .. }) => (NO_OFFSET, code),
    };
    message!(DeleteRecordsPartitionResult {
        partition_index: partition,
        low_watermark: low_watermark,
        error_code: code.value(),
    })
}
