//! DescribeConfigs: what topics are set to, and what of a broker's settings has a name of Kafka's.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER, Lane},
        wire::{
            DescribeConfigsRequest, DescribeConfigsResponse,
            describe_configs_request::DescribeConfigsResource,
            describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym},
            message,
        },
    },
    admin::{self, NotDone},
    broker_configs::{self, BrokerConfig},
};
use crate::metadata::{ConfigEntry, ConfigKind, TopicConfig};

/// Kafka's types of resources.
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;

/// Kafka's words for where a value comes from.
const TOPIC_SOURCE: i8 = 1;
const STATIC_SOURCE: i8 = 4;
const DEFAULT_SOURCE: i8 = 5;

/// From this version on there is documentation, if it is asked for, and the kind of a value.
const DOCUMENTS: i16 = 3;

pub struct DescribeConfigs;

impl KafkaApi for DescribeConfigs {
    type Request = DescribeConfigsRequest;
    const VERSIONS: (i16, i16) = (1, 4);
    const LANE: Lane = Lane::Free;

    async fn answer(asked: &Asked, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
        let broker = &asked.client.shared.broker;
        let topics: BTreeSet<String> = request.resources.iter().filter_map(topic).collect();
        let topics: Vec<String> = topics.into_iter().collect();
        let found = match topics.is_empty() {
            true => Vec::new(),
            false => broker.topic_configs(&CALLER, &topics).await,
        };
        let mut found: BTreeMap<String, _> = topics.into_iter().zip(found).collect();
        let mut own = Some(());
        let tells = Tells {
            synonyms: request.include_synonyms,
            documentation: request.include_documentation && asked.version >= DOCUMENTS,
        };
        // Each is told once: an answer must not grow by how often a short name is repeated.
        let results = request.resources.into_iter().map(|resource| {
            let name = &*resource.resource_name;
            let configs = match resource.resource_type {
                TOPIC => match found.remove(name) {
                    Some(Ok(entries)) => Ok(entries.iter().map(|entry| of_topic(entry, tells)).collect()),
                    Some(Err(error)) => Err(NotDone::from(error)),
                    None => Err(NotDone::twice(name)),
                },
                BROKER => match broker_configs::is_here(asked, name) {
                    Ok(true) if own.take().is_some() => Ok(of_broker(asked, tells)),
                    Ok(true) => Err(NotDone::twice(name)),
                    // What is set for all brokers at once: nothing can be.
                    Ok(false) => Ok(Vec::new()),
                    Err(elsewhere) => Err(elsewhere),
                },
                other => Err(NotDone::unsupported_resource(other)),
            };
            answered(resource, configs)
        });
        message!(DescribeConfigsResponse { results: results.collect() })
    }
}

/// What is told of a config beside its value, because it was asked for.
#[derive(Clone, Copy)]
struct Tells {
    synonyms: bool,
    documentation: bool,
}

fn topic(resource: &DescribeConfigsResource) -> Option<String> {
    (resource.resource_type == TOPIC).then(|| resource.resource_name.to_string())
}

/// Only the keys that were asked for, if some were.
fn answered(
    resource: DescribeConfigsResource,
    configs: Result<Vec<DescribeConfigsResourceResult>, NotDone>,
) -> DescribeConfigsResult {
    let (error_code, error_message) = admin::said(&configs);
    let mut configs = configs.unwrap_or_default();
    if let Some(keys) = &resource.configuration_keys {
        configs.retain(|config| keys.contains(&config.name));
    }
    message!(DescribeConfigsResult {
        error_code: error_code,
        error_message: error_message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs: configs,
    })
}

fn of_topic(entry: &ConfigEntry, tells: Tells) -> DescribeConfigsResourceResult {
    let about = TopicConfig::about(entry.key);
    let synonyms = about.filter(|_| tells.synonyms).map(|about| synonyms(entry, about.default));
    message!(DescribeConfigsResourceResult {
        name: entry.key.into(),
        value: Some(entry.value.as_str().into()),
        config_source: source(entry),
        synonyms: synonyms.unwrap_or_default(),
        config_type: about.map_or(0, |about| kind(about.kind)),
        documentation: about.filter(|_| tells.documentation).map(|about| about.documentation.into()),
    })
}

/// All places that say what a config is, the one that counts first.
fn synonyms(entry: &ConfigEntry, default: &'static str) -> Vec<DescribeConfigsSynonym> {
    let own = message!(DescribeConfigsSynonym {
        name: entry.key.into(),
        value: Some(entry.value.as_str().into()),
        source: TOPIC_SOURCE,
    });
    let default = broker_configs::name_of_default(entry.key).map(|name| {
        message!(DescribeConfigsSynonym { name: name.into(), value: Some(default.into()), source: DEFAULT_SOURCE })
    });
    (!entry.is_default).then_some(own).into_iter().chain(default).collect()
}

/// Where the value of a topic's config comes from.
pub fn source(entry: &ConfigEntry) -> i8 {
    if entry.is_default { DEFAULT_SOURCE } else { TOPIC_SOURCE }
}

/// Kafka's word for a kind of value. BOOLEAN is 1; topics have none.
fn kind(kind: ConfigKind) -> i8 {
    match kind {
        ConfigKind::Text => 2,
        ConfigKind::Int => 3,
        ConfigKind::Long => 5,
        ConfigKind::List => 7,
    }
}

fn of_broker(asked: &Asked, tells: Tells) -> Vec<DescribeConfigsResourceResult> {
    let configs = broker_configs::of(&asked.client.shared).into_iter().map(|config| {
        let BrokerConfig { name, value, kind, is_set, documentation } = config;
        message!(DescribeConfigsResourceResult {
            name: name.into(),
            value: Some(value.into()),
            read_only: true,
            config_source: if is_set { STATIC_SOURCE } else { DEFAULT_SOURCE },
            config_type: kind.value(),
            documentation: tells.documentation.then(|| documentation.into()),
        })
    });
    configs.collect()
}
