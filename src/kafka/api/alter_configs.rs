//! IncrementalAlterConfigs, which changes single configs of topics (KIP-339), and AlterConfigs, which replaces all.
//!
//! What a broker is set up with stands in its configuration file, and cannot be changed from here.

use std::collections::BTreeMap;

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER},
        codes::Code,
        wire::{
            AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
            StrBytes, alter_configs_request, alter_configs_response, incremental_alter_configs_request,
            incremental_alter_configs_response, message,
        },
    },
    admin::{self, NotDone, Repeated},
    describe_configs::{BROKER, TOPIC},
};
use crate::broker::AlterTopicRequest;

/// Kafka's words for what happens to a config. To add to a list and to take from one have no use here: the only list,
/// cleanup.policy, has one value.
const SET: i8 = 0;
const DELETE: i8 = 1;

pub struct IncrementalAlterConfigs;

impl KafkaApi for IncrementalAlterConfigs {
    type Request = IncrementalAlterConfigsRequest;
    const VERSIONS: (i16, i16) = (0, 1);

    async fn answer(asked: &Asked, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
        let dry_run = request.validate_only;
        let resources = request.resources.into_iter().map(|resource| {
            let asked_for = incremental(resource.configs);
            Resource { kind: resource.resource_type, name: resource.resource_name, asked_for }
        });
        let altered = alter_all(asked, resources.collect(), dry_run).await;
        let responses = altered.into_iter().map(|(kind, name, altered)| {
            let (error_code, error_message) = admin::said(&altered);
            message!(incremental_alter_configs_response::AlterConfigsResourceResponse {
                error_code: error_code,
                error_message: error_message,
                resource_type: kind,
                resource_name: name,
            })
        });
        message!(IncrementalAlterConfigsResponse { responses: responses.collect() })
    }
}

pub struct AlterConfigs;

impl KafkaApi for AlterConfigs {
    type Request = AlterConfigsRequest;
    const VERSIONS: (i16, i16) = (0, 2);

    async fn answer(asked: &Asked, request: AlterConfigsRequest) -> AlterConfigsResponse {
        let dry_run = request.validate_only;
        let resources = request.resources.into_iter().map(|resource| {
            let asked_for = replacing(resource.configs);
            Resource { kind: resource.resource_type, name: resource.resource_name, asked_for }
        });
        let altered = alter_all(asked, resources.collect(), dry_run).await;
        let responses = altered.into_iter().map(|(kind, name, altered)| {
            let (error_code, error_message) = admin::said(&altered);
            message!(alter_configs_response::AlterConfigsResourceResponse {
                error_code: error_code,
                error_message: error_message,
                resource_type: kind,
                resource_name: name,
            })
        });
        message!(AlterConfigsResponse { responses: responses.collect() })
    }
}

/// What one entry of a request changes.
struct Resource {
    kind: i8,
    name: StrBytes,
    /// Without the name.
    asked_for: Result<AlterTopicRequest, NotDone>,
}

async fn alter_all(asked: &Asked, resources: Vec<Resource>, dry_run: bool) -> Vec<(i8, StrBytes, Result<(), NotDone>)> {
    let topics = resources.iter().filter(|resource| resource.kind == TOPIC);
    let repeated = Repeated::among(topics.map(|topic| &*topic.name));
    let altered = admin::each(resources, async |Resource { kind, name, asked_for }| {
        let altered = alter(asked, (kind, &*name), asked_for, &repeated, dry_run).await;
        (kind, name, altered)
    });
    altered.await
}

async fn alter(
    asked: &Asked,
    (kind, name): (i8, &str),
    asked_for: Result<AlterTopicRequest, NotDone>,
    repeated: &Repeated,
    dry_run: bool,
) -> Result<(), NotDone> {
    match kind {
        TOPIC => {}
        BROKER => {
            let words = "what a broker is set up with stands in its configuration file, and cannot be changed here";
            return Err(NotDone::new(Code::InvalidConfig, words));
        }
        other => return Err(NotDone::unsupported_resource(other)),
    }
    repeated.check(name)?;
    let request = AlterTopicRequest { name: name.to_string(), dry_run, ..asked_for? };
    let texts = request.set.iter().flat_map(|(key, value)| [key, value]).chain(&request.unset);
    admin::check_size(texts.map(String::as_str))?;
    asked.client.shared.broker.alter_topic(&CALLER, request).await?;
    Ok(())
}

fn incremental(configs: Vec<incremental_alter_configs_request::AlterableConfig>) -> Result<AlterTopicRequest, NotDone> {
    let repeated = Repeated::among(configs.iter().map(|config| &*config.name));
    let mut request = AlterTopicRequest::default();
    for config in configs {
        repeated.check(&config.name)?;
        let name = config.name.to_string();
        match (config.config_operation, config.value) {
            (SET, Some(value)) => drop(request.set.insert(name, value.to_string())),
            (SET, None) => return Err(NotDone::new(Code::InvalidRequest, format!("{name} has no value"))),
            (DELETE, _) => request.unset.push(name),
            (other, _) => {
                let words = format!("{name}: operation {other} is not supported: a config is set (0) or deleted (1)");
                return Err(NotDone::new(Code::InvalidConfig, words));
            }
        }
    }
    Ok(request)
}

fn replacing(configs: Vec<alter_configs_request::AlterableConfig>) -> Result<AlterTopicRequest, NotDone> {
    let mut set = BTreeMap::new();
    for config in configs {
        let name = config.name.to_string();
        let Some(value) = config.value else {
            return Err(NotDone::new(Code::InvalidRequest, format!("{name} has no value")));
        };
        if set.insert(name, value.to_string()).is_some() {
            return Err(NotDone::twice(&config.name));
        }
    }
    Ok(AlterTopicRequest { set, replaces: true, ..AlterTopicRequest::default() })
}
