//! Ports for brokers to listen on. A broker binds its port a while after it was chosen, and again after each restart, so
//! the port must not be one that the system gives to outgoing connections: clients, proxies and peers make thousands.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::RangeInclusive,
};

use crate::error::ChaosError;

/// Which ports outgoing connections get, on Linux.
const OUTGOING: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Below are those of well-known services, which may be started at any time.
const LEAST: u16 = 10_000;
/// Many more than could be in use by accident.
const TRIES_MAX: usize = 1_000;

/// Gives each port once.
#[derive(Debug)]
pub struct Ports {
    /// None: not known, so that only the system can choose.
    outgoing: Option<RangeInclusive<u16>>,
    given: BTreeSet<u16>,
}

impl Ports {
    pub fn of_this_machine() -> Ports {
        Ports::beside(fs::read_to_string(OUTGOING).ok().and_then(|text| parse(&text)))
    }

    fn beside(outgoing: Option<RangeInclusive<u16>>) -> Ports {
        Ports { outgoing, given: BTreeSet::new() }
    }

    /// An address on which nobody listens, and which no outgoing connection is given.
    pub fn free(&mut self) -> Result<SocketAddr, ChaosError> {
        let mut last = None;
        for _ in 0..TRIES_MAX {
            // Drawn, not counted up: other harnesses look for ports at the same time. Where connections may get all of them,
            // one that was free a moment ago has to do.
            let port = self.outgoing.as_ref().and_then(drawn).unwrap_or(0);
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr()) {
                Ok(address) if self.given.insert(address.port()) => return Ok(address),
                Ok(_) => {}
                Err(error) => last = Some(error),
            }
        }
        let error = last.unwrap_or_else(|| std::io::Error::other("no port is free"));
        Err(ChaosError::Program { program: "a listener on 127.0.0.1".into(), error })
    }
}

/// Any port beside these. None: there is none.
fn drawn(outgoing: &RangeInclusive<u16>) -> Option<u16> {
    let last = (*outgoing.end()).max(LEAST - 1);
    let (below, above) = (outgoing.start().saturating_sub(LEAST), u16::MAX - last);
    let all = below + above;
    let at = (all > 0).then(|| fastrand::u16(..all))?;
    Some(if at < below { LEAST + at } else { last + 1 + (at - below) })
}

fn parse(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_whitespace().map(|word| word.parse().ok());
    Some(words.next()??..=words.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_get_no_port_that_an_outgoing_connection_may_take() {
        let outgoing = parse("12000\t65000\n").expect("two numbers");
        assert_eq!(outgoing, 12_000..=65_000);
        let drawn: BTreeSet<u16> = (0..10_000).filter_map(|_| drawn(&outgoing)).collect();
        assert!(drawn.iter().all(|port| *port >= LEAST && !outgoing.contains(port)), "{drawn:?}");
        assert!(drawn.iter().any(|port| *port < 12_000) && drawn.iter().any(|port| *port > 65_000));
    }

    #[test]
    fn each_is_given_once_and_none_that_is_listened_on() {
        // Nobody else here draws from these four.
        let beside = || Ports::beside(Some(10_004..=u16::MAX));
        let mut ports = beside();
        let mut given: Vec<SocketAddr> = std::iter::from_fn(|| ports.free().ok()).collect();
        let taken = TcpListener::bind(given.pop().expect("one is free")).expect("it was free");
        let taken = taken.local_addr().expect("bound");
        let mut ports = beside();
        let again: BTreeSet<SocketAddr> = std::iter::from_fn(|| ports.free().ok()).collect();
        assert_eq!(again, given.iter().copied().collect(), "all but {taken}");
        assert_eq!(again.len(), given.len(), "each once");
    }

    #[test]
    fn where_connections_may_take_all_the_system_chooses() {
        for outgoing in [None, Some(1_024..=u16::MAX)] {
            assert_ne!(Ports::beside(outgoing).free().expect("one is free").port(), 0);
        }
        assert_eq!(parse("many"), None);
        assert_eq!(parse("1 99999"), None);
    }
}
