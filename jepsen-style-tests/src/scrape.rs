//! A node's metrics, as Prometheus would read them.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::cluster::{Node, QUICK};

/// Every series of a node at one moment.
pub struct Scrape(String);

impl Scrape {
    pub fn of(node: &Node) -> Result<Scrape, String> {
        let got = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(&node.http)?;
            stream.set_read_timeout(Some(QUICK))?;
            write!(stream, "GET /metrics HTTP/1.0\r\nHost: {}\r\n\r\n", node.http)?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = got().map_err(|error| format!("node {}: {error}", node.id))?;
        let is_ok = text.lines().next().is_some_and(|line| line.contains(" 200 "));
        if is_ok { Ok(Scrape(text)) } else { Err(format!("node {}: {text}", node.id)) }
    }

    /// The value of a series without labels.
    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        let found = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or_else(|| panic!("no metric {name} in:\n{}", self.0))
    }
}

#[test]
fn a_value_is_found_by_its_whole_name() {
    let scrape = Scrape("# HELP a_b x\na_b_total 5\na_b 2.5\n".into());
    assert_eq!((scrape.value("a_b"), scrape.value("a_b_total")), (2.5, 5.0));
}
