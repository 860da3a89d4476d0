//! The server's listeners: binding them, and what to do where that fails.

use std::{io::ErrorKind, net::SocketAddr};

use crate::{
    cli::exit::Failure,
    config::{ListenerConfig, ServerConfig},
    seam::{Listener, Net},
};

/// Whether all three can be bound now. They are let go again: nobody shall connect to a broker that does not
/// answer yet.
pub(super) async fn probe(net: &dyn Net, config: &ServerConfig) -> Result<(), Failure> {
    let mut bound = Vec::new();
    for (key, listener) in [("client_bind", &config.client), ("peer_bind", &config.peer), ("http_bind", &config.http)] {
        // Held until all are: two of them may name one address.
        bound.push(bind(net, key, listener).await?);
    }
    Ok(())
}

/// A listener and the address that others are told.
pub(super) async fn bind(
    net: &dyn Net,
    key: &str,
    listener: &ListenerConfig,
) -> Result<(Box<dyn Listener>, String), Failure> {
    let address = &listener.bind;
    let failed = |error: std::io::Error| {
        let to_do = to_do(error.kind(), key);
        Failure::usage(format!("cannot listen on {address} ({key}): {error}; {to_do}"))
    };
    let bound = net.bind(address).await.map_err(failed)?;
    let local: SocketAddr = bound.local_addr().map_err(failed)?;
    Ok((bound, listener.advertise(local)))
}

fn to_do(kind: ErrorKind, key: &str) -> String {
    match kind {
        ErrorKind::AddrInUse => format!("stop what listens there, or set {key} to a free address"),
        ErrorKind::PermissionDenied => {
            format!("ports below 1024 are for root and CAP_NET_BIND_SERVICE: set {key} to another port")
        }
        ErrorKind::AddrNotAvailable => format!("set {key} to an address of this machine"),
        _ => format!("set {key} to an address that can be bound"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::TcpNet;

    #[tokio::test]
    async fn taken_address_names_the_key() {
        let taken = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let bind_to = taken.local_addr().unwrap().to_string();
        let listener = ListenerConfig { bind: bind_to.clone(), advertised: None };
        let failure = bind(&TcpNet, "client_bind", &listener).await.err().expect("it is taken");
        for part in [bind_to.as_str(), "client_bind", "free address"] {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_told_as_such() {
        // TEST-NET-1 is nobody's.
        let listener = ListenerConfig { bind: "192.0.2.1:0".into(), advertised: None };
        let failure = bind(&TcpNet, "peer_bind", &listener).await.err().expect("it is not ours");
        assert!(failure.message.contains("an address of this machine"), "{}", failure.message);
    }

    /// Operator's review: a privileged port was to be made "a free address".
    #[test]
    fn each_reason_has_its_own_advice() {
        assert!(to_do(ErrorKind::PermissionDenied, "client_bind").contains("below 1024"));
    }
}
