//! What a broker says of itself to be registered, and whether the metadata says the same. A feature level that has no
//! room for a part of it does not count that part, and a broker or a leader of an older version neither says nor reads
//! it.

use crate::{
    broker::node::Node,
    formats::FEATURE_LEVEL_MIN,
    metadata::{Broker, Change, KAFKA_ADDRESS_LEVEL, Metadata, RegisterBroker},
};

/// All that a broker says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub card: RegisterBroker,
    /// The feature level that it supports. None: at level 1 brokers do not say.
    pub supports: Option<u32>,
    /// Where Kafka clients reach it; empty: it has no listener for them. None: below level 3 brokers do not say.
    pub kafka_address: Option<String>,
}

impl Introduction {
    /// What this broker says.
    pub fn of(node: &Node) -> Introduction {
        let (level, kafka_address) = (node.settings.feature_level, &node.settings.kafka_address);
        Introduction {
            card: node.card(),
            supports: (level > FEATURE_LEVEL_MIN).then_some(level),
            kafka_address: (level >= KAFKA_ADDRESS_LEVEL).then(|| kafka_address.clone()),
        }
    }

    /// The same in words that a leader of an older version can read. None: there are none fewer.
    pub fn shorter(self) -> Option<Introduction> {
        match self {
            Introduction { kafka_address: Some(_), .. } => Some(Introduction { kafka_address: None, ..self }),
            Introduction { supports: Some(_), .. } => Some(Introduction { supports: None, ..self }),
            Introduction { .. } => None,
        }
    }

    /// As the metadata group's leader is asked for it. It writes what the cluster's feature level allows.
    pub fn into_registration(self) -> Change {
        let Introduction { card: wish, supports, kafka_address } = self;
        match (supports, kafka_address) {
            (None, _) => Change::RegisterBroker(wish),
            (Some(feature_level), None) => Change::RegisterBrokerAt { wish, feature_level },
            (Some(feature_level), Some(kafka_address)) => {
                Change::RegisterBrokerWithKafka { wish, feature_level, kafka_address }
            }
        }
    }

    /// Whether the metadata says of the broker all that it says of itself.
    pub fn is_registered(&self, state: &Metadata) -> bool {
        let id = self.card.id;
        let is_same = |known: &Broker| known.rack == self.card.rack && known.version == self.card.version;
        self.is_reachable(state)
            && state.broker(id).is_some_and(is_same)
            && state.supported_by(id).is_none_or(|known| Some(known) == self.supports)
    }

    /// Whether the metadata sends clients and brokers where the broker is.
    pub fn is_reachable(&self, state: &Metadata) -> bool {
        let card = &self.card;
        let is_there = |known: &Broker| {
            known.storage_id == card.storage_id
                && known.client_address == card.client_address
                && known.peer_address == card.peer_address
                && known.http_address == card.http_address
        };
        let known = state.kafka_address(card.id).unwrap_or_default();
        let is_kafka_there = self.kafka_address.as_deref().is_none_or(|said| said == known);
        state.broker(card.id).is_some_and(is_there) && (is_kafka_there || !state.registers_kafka())
    }

    /// Whether there is a Kafka address to register that no registration has said yet: the cluster's feature level has
    /// risen since.
    pub fn has_more_to_say(&self, state: &Metadata) -> bool {
        let said = self.kafka_address.as_deref().unwrap_or_default();
        let id = self.card.id;
        let is_untold = state.broker(id).is_some() && state.kafka_address(id).is_none();
        state.registers_kafka() && is_untold && !said.is_empty()
    }
}
