//! What local clusters leave in files, and what their processes and the kernel say of them.

use super::{
    process::parse_stat,
    restart::parse,
    state::{Node, State, read},
};
use crate::formats::fuzz::{bounded, fuzz};

/// A node without anything is some 80 bytes of JSON; what is not known is skipped.
const PER_BYTE: usize = 64;

fn state() -> State {
    let node = Node {
        id: 1,
        pid: Some(7),
        client: "h:1".into(),
        peer: "h:2".into(),
        http: "h:3".into(),
        kafka: String::new(),
        data_dir: "/d".into(),
        config: "/c".into(),
        log: "/l".into(),
    };
    State { nodes: vec![Node { pid: None, kafka: "h:4".into(), ..node.clone() }, node] }
}

#[test]
fn fuzz_files_of_local_clusters() {
    let written = serde_json::to_vec_pretty(&state()).expect("it is written whole");
    assert_eq!(read(&written).ok(), Some(state()));
    fuzz!([written, b"{\"nodes\":[]}".to_vec()], |bytes| {
        let Ok(state) = bounded(bytes.len(), PER_BYTE, || read(bytes)) else { return };
        let again = serde_json::to_vec_pretty(&state).expect("it is written whole");
        assert_eq!(read(&again).ok(), Some(state));
    });
}

#[test]
fn fuzz_what_processes_and_the_kernel_say() {
    let answer = "HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nthis broker is not registered yet\n";
    fuzz!([answer.as_bytes(), b"HTTP/1.0 200 OK\r\n\r\nready\n", b"7 (a) b) T 1 7", b"7 (flotilla) S 1 7"], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let _ = (parse(&text), parse_stat(&text));
    });
}
