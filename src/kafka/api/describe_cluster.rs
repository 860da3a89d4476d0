//! DescribeCluster: the brokers that Kafka clients can reach, and one of them to ask for changes (KIP-700).

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER, Lane},
        codes::Code,
        views::Endpoint,
        wire::{
            DescribeClusterRequest, DescribeClusterResponse, StrBytes,
            describe_cluster_response::DescribeClusterBroker, message,
        },
    },
    metadata,
};
use crate::broker::TopicsWanted;

/// Kafka's types of endpoints. Controllers of their own there are none: any broker takes what they take.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub struct DescribeCluster;

impl KafkaApi for DescribeCluster {
    type Request = DescribeClusterRequest;
    const VERSIONS: (i16, i16) = (0, 2);
    const LANE: Lane = Lane::Free;

    async fn answer(asked: &Asked, request: DescribeClusterRequest) -> DescribeClusterResponse {
        match request.endpoint_type {
            BROKERS => {}
            CONTROLLERS => return refused(Code::MismatchedEndpointType, "this is a broker, and no controller listens"),
            _ => return refused(Code::UnsupportedEndpointType, "endpoints are those of brokers (1)"),
        }
        let broker = &asked.client.shared.broker;
        let view = broker.cluster_view(&CALLER, TopicsWanted::None).await;
        let listed = view.brokers.iter().filter_map(|known| {
            let is_fenced = !metadata::is_listed(&view, known);
            if is_fenced && !request.include_fenced_brokers {
                return None;
            }
            let Endpoint { id, host, port, rack } = Endpoint::of(known)?;
            Some(message!(DescribeClusterBroker {
                broker_id: id,
                host: host,
                port: port,
                rack: rack,
                is_fenced: is_fenced,
            }))
        });
        let brokers: Vec<_> = listed.collect();
        message!(DescribeClusterResponse {
            cluster_id: view.cluster_id.map_or_else(StrBytes::default, |id| StrBytes::from(id.to_string())),
            controller_id: metadata::controller(&view, broker.id()),
            brokers: brokers,
        })
    }
}

fn refused(code: Code, words: &'static str) -> DescribeClusterResponse {
    message!(DescribeClusterResponse { error_code: code.value(), error_message: Some(words.into()) })
}
