//! Hostile bytes on every listener.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use jepsen_style_tests::{
    cluster::{Cluster, SLOW},
    random::Random,
    workload::{Plan, numbered},
};

use crate::check_topic;

/// What begins an HTTP/2 connection, so that what follows reaches the frame decoder.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a listener gets to answer or close before we go on.
const ANSWER: Duration = Duration::from_millis(50);

/// Far more than a few hundred open connections may cost.
const GROWTH_BYTES_MAX: u64 = 256 << 20;

/// Sends bytes and reads a little; gives the connection back, so that it can be left open.
fn send(address: &str, bytes: &[u8], half_close: bool) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(ANSWER)).expect("a socket has timeouts");
    stream.set_write_timeout(Some(ANSWER)).expect("a socket has timeouts");
    // Either may fail: the server is free to hang up on us.
    let _ = stream.write_all(bytes);
    if half_close {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let _ = stream.read(&mut [0; 1024]);
    Some(stream)
}

fn payloads(random: &mut Random) -> Vec<Vec<u8>> {
    let mut payloads: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        PREFACE[..10].to_vec(),
        PREFACE.to_vec(),
        b"GET /metrics HTTP/1.1\r\nHost: ".to_vec(),
        [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'a'; 200_000]].concat(),
        // A TLS hello, and a length prefix of 4 GiB.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        // Half a SETTINGS frame; a HEADERS frame that claims 16 MiB; a frame of an unknown type.
        [PREFACE, b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03"].concat(),
        [PREFACE, b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\xff\xff\xff\x01\x04\x00\x00\x00\x01"].concat(),
        [PREFACE, b"\x00\x00\x04\xfe\x00\x00\x00\x00\x01abcd"].concat(),
    ];
    for size in [1, 7, 64, 1_000, 20_000] {
        payloads.push(random.bytes(size));
        payloads.push([PREFACE, &random.bytes(size)].concat());
        // SETTINGS as they should be, then noise.
        payloads.push([PREFACE, b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", &random.bytes(size)].concat());
    }
    payloads
}

fn resident_bytes(pid: u32) -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_BYTES
}

#[test]
fn garbage_on_every_listener_harms_nobody() {
    let mut random = Random::printed("garbage");
    let cluster = Cluster::start("garbage", 3);
    let cli = &cluster.cli;
    cli.create_topic("orders", 3);
    let before = cli.produce(&Plan::new("orders", 3), numbered("before", 10).take(500)).finish_all(SLOW);
    before.assert_all_acked();
    let nodes = cluster.status();
    let resident: Vec<u64> = nodes.iter().map(|node| resident_bytes(node.pid)).collect();
    let mut open = vec![];
    let mut sent = 0;
    for node in &nodes {
        for address in [&node.client, &node.peer, &node.http] {
            assert!(!address.is_empty(), "{node:?}");
            for payload in payloads(&mut random) {
                open.extend(send(address, &payload, sent % 2 == 0));
                sent += 1;
            }
        }
    }
    println!("  {sent} hostile connections, {} of them left open", open.len());
    let now = cluster.status();
    for ((node, before), now) in nodes.iter().zip(resident).zip(&now) {
        assert_eq!((now.pid, now.state.as_str()), (node.pid, "running"), "node {}", node.id);
        let grown = resident_bytes(now.pid).saturating_sub(before);
        println!("  node {}: grew by {} KiB", node.id, grown >> 10);
        assert!(grown < GROWTH_BYTES_MAX, "node {} grew by {grown} bytes", node.id);
    }
    let after = cli.produce(&Plan::new("orders", 3), numbered("after", 10).take(500)).finish_all(SLOW);
    after.assert_all_acked();
    drop(open);
    cli.wait_healthy();
    check_topic(cli, "orders", 3, &[&before, &after], Some(sent));
    cluster.finish();
}
