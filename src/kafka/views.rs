//! Brokers and topics as Kafka's messages name them.

use super::wire::StrBytes;
use crate::{
    broker::{Broker, BrokerView, LeaderNow},
    types::BrokerId,
};

/// What stands for no broker.
pub(super) const NOBODY: i32 = -1;

/// A broker's id on the wire. Ids beyond it are refused when a broker is configured.
pub(super) fn node_id(id: BrokerId) -> i32 {
    i32::try_from(id.0).unwrap_or(NOBODY)
}

/// Where Kafka clients reach a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub id: i32,
    pub host: StrBytes,
    pub port: i32,
    pub rack: Option<StrBytes>,
}

impl Endpoint {
    /// None: the broker has no Kafka listener, or did not say where.
    pub fn of(broker: &BrokerView) -> Option<Endpoint> {
        let (host, port) = broker.kafka_address.rsplit_once(':')?;
        // Brackets belong to the address as a whole, not to the host.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let rack = (!broker.rack.is_empty()).then(|| broker.rack.as_str().into());
        Some(Endpoint { id: node_id(broker.id), host: host.into(), port: i32::from(port.parse::<u16>().ok()?), rack })
    }
}

/// Who leads a partition, and where it is reached (KIP-951).
pub(super) fn leader_endpoint(broker: &Broker, leader: Option<&LeaderNow>) -> Option<(LeaderNow, Endpoint)> {
    let leader = leader?;
    let view = broker.broker(leader.broker)?;
    Some((*leader, Endpoint::of(&view)?))
}
