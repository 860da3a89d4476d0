//! The addresses that a server listens on: bound together, or none of them.

use std::{io, net::SocketAddr, time::Duration};

use super::{descriptors::Descriptors, error::ServerFailed};
use crate::{
    config::{ListenerConfig, ServerConfig},
    metrics::{ConnectionRefusal, Metrics},
    seam::{ConnectionLimits, GuardedListener, Listener, Net, Silence},
};

/// A connection to the peers' listener that says nothing for this long is none of a peer's.
const PEER_OPENING_WITHIN: Duration = Duration::from_secs(10);

/// Where a server is found, as others are told.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub client: String,
    pub peer: String,
    pub http: String,
    /// None: there is no listener for Kafka clients.
    pub kafka: Option<String>,
}

/// The listeners, bound and not yet served.
pub struct Listeners {
    pub client: Box<dyn Listener>,
    pub peer: Box<dyn Listener>,
    pub http: Box<dyn Listener>,
    pub kafka: Option<Box<dyn Listener>>,
}

/// Binds all that are configured, and says where they are.
pub async fn bind_all(net: &dyn Net, config: &ServerConfig) -> Result<(Listeners, Addresses), ServerFailed> {
    let (client, client_address) = bind(net, "client_bind", &config.client).await?;
    let (peer, peer_address) = bind(net, "peer_bind", &config.peer).await?;
    let (http, http_address) = bind(net, "http_bind", &config.http).await?;
    let kafka = match &config.kafka.listener {
        Some(listener) => Some(bind(net, "kafka_bind", listener).await?),
        None => None,
    };
    let (kafka, kafka_address) = kafka.unzip();
    let addresses = Addresses { client: client_address, peer: peer_address, http: http_address, kafka: kafka_address };
    Ok((Listeners { client, peer, http, kafka }, addresses))
}

/// Whether all of them can be bound now. They are let go again: nobody shall connect to a broker that does not
/// answer yet.
pub async fn probe(net: &dyn Net, config: &ServerConfig) -> Result<(), ServerFailed> {
    // All are held until the last is bound: two of them may name one address.
    bind_all(net, config).await.map(drop)
}

/// A listener and the address that others are told.
async fn bind(
    net: &dyn Net,
    key: &'static str,
    listener: &ListenerConfig,
) -> Result<(Box<dyn Listener>, String), ServerFailed> {
    let address = &listener.bind;
    let failed = |cause: io::Error| ServerFailed::Bind { key, address: address.clone(), cause };
    let bound = net.bind(address).await.map_err(failed)?;
    let local: SocketAddr = bound.local_addr().map_err(failed)?;
    Ok((bound, listener.advertise(local)))
}

/// The peers' listener, within its share of the descriptors. It watches its connections itself once they speak.
pub fn for_peers(descriptors: Descriptors, listener: Box<dyn Listener>, metrics: &Metrics) -> Box<dyn Listener> {
    let connections_max = usize::try_from(descriptors.peers).unwrap_or(usize::MAX);
    let silence = Silence::Opening { bytes: 1, within: PEER_OPENING_WITHIN };
    let listener = GuardedListener::new(listener, "peer", ConnectionLimits { connections_max, silence });
    Box::new(listener.reporting(metrics.intake(), ConnectionRefusal::Descriptors))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::seam::TcpNet;

    async fn refused(bind_to: &str) -> (ErrorKind, String) {
        let listener = ListenerConfig { bind: bind_to.into(), advertised: None };
        let failed = bind(&TcpNet, "client_bind", &listener).await.err().expect("it cannot be bound");
        let ServerFailed::Bind { cause, .. } = &failed else { panic!("{failed:?}") };
        (cause.kind(), failed.to_string())
    }

    #[tokio::test]
    async fn taken_address_names_the_key() {
        let taken = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let bind_to = taken.local_addr().unwrap().to_string();
        let (kind, message) = refused(&bind_to).await;
        assert_eq!(kind, ErrorKind::AddrInUse);
        assert!(message.contains(&bind_to) && message.contains("client_bind"), "{message}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_told_as_such() {
        // TEST-NET-1 is nobody's.
        let (kind, message) = refused("192.0.2.1:0").await;
        assert_eq!(kind, ErrorKind::AddrNotAvailable, "{message}");
    }
}
