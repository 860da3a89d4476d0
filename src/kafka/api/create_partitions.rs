//! CreatePartitions: more partitions for a topic. Brokers place the replicas; a client cannot.

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER},
        codes::Code,
        wire::{
            CreatePartitionsRequest, CreatePartitionsResponse, create_partitions_request::CreatePartitionsTopic,
            create_partitions_response::CreatePartitionsTopicResult, message,
        },
    },
    admin::{self, NotDone, Repeated, Within},
};
use crate::broker::AddPartitionsRequest;

pub struct CreatePartitions;

impl KafkaApi for CreatePartitions {
    type Request = CreatePartitionsRequest;
    const VERSIONS: (i16, i16) = (0, 3);

    async fn answer(asked: &Asked, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
        let within = Within::of(request.timeout_ms);
        let repeated = Repeated::among(request.topics.iter().map(|topic| &*topic.name));
        let dry_run = request.validate_only;
        let results = admin::each(request.topics, async |topic| {
            let added = add(asked, &topic, &within, &repeated, dry_run).await;
            let (error_code, error_message) = admin::said(&added);
            message!(CreatePartitionsTopicResult {
                name: topic.name,
                error_code: error_code,
                error_message: error_message,
            })
        });
        message!(CreatePartitionsResponse { results: results.await })
    }
}

async fn add(
    asked: &Asked,
    topic: &CreatePartitionsTopic,
    within: &Within,
    repeated: &Repeated,
    dry_run: bool,
) -> Result<(), NotDone> {
    repeated.check(&topic.name)?;
    let request = AddPartitionsRequest { dry_run, ..wish(topic)? };
    within.left()?;
    asked.client.shared.broker.add_partitions(&CALLER, request).await?;
    Ok(())
}

fn wish(topic: &CreatePartitionsTopic) -> Result<AddPartitionsRequest, NotDone> {
    if topic.assignments.as_ref().is_some_and(|assignments| !assignments.is_empty()) {
        let words = "brokers place the replicas themselves: say only how many partitions there shall be";
        return Err(NotDone::new(Code::InvalidReplicaAssignment, words));
    }
    let partitions = u32::try_from(topic.count).ok().filter(|count| *count > 0).ok_or_else(|| {
        let words = format!("{} partitions in all: must be more than the topic has", topic.count);
        NotDone::new(Code::InvalidPartitions, words)
    })?;
    Ok(AddPartitionsRequest { name: topic.name.to_string(), partitions, dry_run: false })
}

#[cfg(test)]
mod tests {
    use super::{super::super::wire::create_partitions_request::CreatePartitionsAssignment, *};

    #[test]
    fn no_partitions_and_places_are_refused() {
        let topic = |count, assignments: Option<usize>| {
            let assignments = assignments.map(|n| vec![CreatePartitionsAssignment::default(); n]);
            message!(CreatePartitionsTopic { name: "t".into(), count: count, assignments: assignments })
        };
        assert_eq!(wish(&topic(3, None)).expect("fine").partitions, 3);
        assert_eq!(wish(&topic(3, Some(0))).expect("no place is named").partitions, 3);
        for count in [0, -1, i32::MIN] {
            assert_eq!(wish(&topic(count, None)).expect_err("refused").code, Code::InvalidPartitions);
        }
        assert_eq!(wish(&topic(3, Some(1))).expect_err("refused").code, Code::InvalidReplicaAssignment);
    }
}
