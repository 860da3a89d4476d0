//! What a node's HTTP listener says: its metrics, as Prometheus would read them, and its console.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::cluster::{Node, QUICK};

/// A path of a node's HTTP listener, asked under a host name: the status and the body.
pub fn get(node: &Node, host: &str, path: &str) -> Result<(u16, String), String> {
    let got = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&node.http)?;
        stream.set_read_timeout(Some(QUICK))?;
        // HTTP/1.0: the body comes in one piece and ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = got().map_err(|error| format!("node {}: {error}", node.id))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("node {}: {text:?}", node.id))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| format!("node {}: {head:?}", node.id))?, body.to_string()))
}

/// Every series of a node at one moment.
pub struct Scrape(String);

impl Scrape {
    pub fn of(node: &Node) -> Result<Scrape, String> {
        match get(node, &node.http, "/metrics")? {
            (200, text) => Ok(Scrape(text)),
            (status, text) => Err(format!("node {}: {status}: {text}", node.id)),
        }
    }

    /// Every series, its labels in its name, with its value.
    pub fn series(&self) -> impl Iterator<Item = (&str, f64)> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ').and_then(|(name, value)| Some((name, value.parse().ok()?))))
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
