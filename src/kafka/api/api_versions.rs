//! ApiVersions: what is served, in which versions. Every client asks it first.

use futures_util::FutureExt;

use super::super::{
    call::{self, KafkaApi},
    client::{Asked, Begun, Lane, Served},
    codes::Code,
    wire::{ApiVersionsRequest, ApiVersionsResponse, KafkaRequest, api_versions_response::ApiVersion, message},
};

pub const KEY: i16 = ApiVersionsRequest::API_KEY.value();

/// What a client says of itself is kept up to so many bytes.
const SOFTWARE_BYTES_MAX: usize = 64;

pub struct ApiVersions;

impl KafkaApi for ApiVersions {
    type Request = ApiVersionsRequest;
    const VERSIONS: (i16, i16) = (0, 4);
    const LANE: Lane = Lane::Free;

    async fn answer(asked: &Asked, request: ApiVersionsRequest) -> ApiVersionsResponse {
        let (name, version) = (&request.client_software_name, &request.client_software_version);
        if asked.version >= 3 {
            if !is_software(name) || !is_software(version) {
                return message!(ApiVersionsResponse { error_code: Code::InvalidRequest.value() });
            }
            asked.client.connection.is_of(&format!("{name} {version}"));
        }
        // No tagged fields: librdkafka before 2.2 reads past them.
        message!(ApiVersionsResponse { api_keys: asked.client.shared.served.iter().map(told).collect() })
    }
}

/// Asked in a version that is not served: its body is not looked at, and the answer is in version 0, which every client
/// can read (KIP-511).
pub fn unknown_version(asked: Asked) -> Begun {
    let own = asked.client.shared.served.iter().filter(|served| served.key == KEY).map(told).collect();
    let response = message!(ApiVersionsResponse { error_code: Code::UnsupportedVersion.value(), api_keys: own });
    let asked = Asked { version: 0, ..asked };
    Begun { lane: Lane::Free, answering: std::future::ready(call::encode(&asked, &response).map(Some)).boxed() }
}

fn told(served: &Served) -> ApiVersion {
    message!(ApiVersion { api_key: served.key, min_version: served.min, max_version: served.max })
}

/// KIP-511's rule for names and versions of client software.
fn is_software(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= SOFTWARE_BYTES_MAX
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| is_inner(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_software_follow_the_rule() {
        for good in ["librdkafka", "apache-kafka-java", "2.15.0", "a"] {
            assert!(is_software(good), "{good:?}");
        }
        let long = "a".repeat(SOFTWARE_BYTES_MAX + 1);
        for bad in ["", "-a", "a.", "a b", "a\n", "ä", &long] {
            assert!(!is_software(bad), "{bad:?}");
        }
    }
}
