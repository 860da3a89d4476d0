//! What an operator writes: the file, flags and variables.

use std::ffi::OsString;

use super::{
    args::{KEYS, parse_file},
    peers::Peer,
    tests::{Cli, scripts},
    *,
};
use crate::formats::fuzz::{bounded, fuzz, linear};
use clap::Parser;

/// TOML's own tables of a file that gives each byte a key of its own.
const PER_BYTE: usize = 2_048;

fn examples() -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(scripts().join("n1.toml")).expect("the example");
    // With what it shows in comments, and as short as can be.
    let shown: String = text.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let settings = shown.lines().filter(|line| KEYS.iter().any(|(key, _)| line.starts_with(&format!("{key} = "))));
    let settings = settings.collect::<Vec<_>>().join("\n");
    let minimal = "id = 1\ndata_dir = \"d\"\npeers = [\"1@h:7071\", \"2@[::1]:7071\"]\n";
    let sizes = format!("{minimal}tail_bytes_max = \"1.5GiB\"\nwal_bytes_max = 20000000\nsingle = true\n");
    vec![text.into(), settings.into(), minimal.into(), sizes.into()]
}

/// What was taken keeps the rules that later code relies on.
fn check(config: &ServerConfig) {
    assert!((1..65_536).contains(&config.id.0));
    assert!(config.heartbeat_ms >= 10 && config.election_ms_min / 2 >= config.heartbeat_ms);
    assert!(config.election_ms_min < config.election_ms_max && config.election_ms_max <= 60_000);
    let budgets = [config.tail_bytes_max, config.produce_bytes_max, config.fetch_bytes_max];
    assert!(budgets.iter().chain(&config.wal_bytes_max).all(|bytes| *bytes >= 16 << 20), "{budgets:?}");
    assert!(config.connections_max > 0 && config.kafka.connections_max > 0 && config.worker_threads != Some(0));
    assert!(config.peers.windows(2).all(|pair| pair[0].id < pair[1].id), "{:?}", config.peers);
    for peer in &config.peers {
        assert_eq!(peer.to_string().parse().as_ref(), Ok(peer));
    }
    let listeners = [&config.client, &config.peer, &config.http].into_iter().chain(&config.kafka.listener);
    for address in listeners.flat_map(|listener| [Some(&listener.bind), listener.advertised.as_ref()]).flatten() {
        assert!(address::host_port(address).is_ok(), "{address:?}");
    }
    for machine in [Machine::default(), Machine { memory_bytes: Some(1), disk_bytes: Some(1) }] {
        let _ = config.check_machine(&machine);
    }
    config.reserve_bytes(Some(u64::MAX));
    config.founds_nothing();
    founders(&config.peers);
    peers_hash(&config.peers);
}

/// An error says which key, and what is wrong with it.
fn check_loaded(loaded: Result<Loaded, ConfigError>) {
    match loaded {
        Ok(loaded) => check(&loaded.config),
        Err(ConfigError::Rule { key, rule, .. }) => {
            assert!(KEYS.iter().any(|(known, _)| *known == key) && !rule.is_empty(), "{key}: {rule}");
        }
        Err(ConfigError::Missing { key, .. }) => assert!(["id", "data_dir", "peers"].contains(&key), "{key}"),
        Err(error @ (ConfigError::Read { .. } | ConfigError::Parse { .. })) => panic!("{error}"),
    }
}

#[test]
fn fuzz_configuration_files() {
    for example in examples() {
        let text = String::from_utf8(example).expect("text");
        let file = parse_file(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        ServerArgs::default().over(file).validate().unwrap_or_else(|error| panic!("{error}:\n{text}"));
    }
    fuzz!(examples(), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match bounded(text.len(), PER_BYTE, || parse_file(&text)) {
            Ok(file) => check_loaded(ServerArgs::default().over(file).validate()),
            Err(why) => assert!(!why.is_empty()),
        }
    });
    let lines = |bytes: usize| "# a comment\n".repeat(bytes / 12).into_bytes();
    linear(lines, |text| assert!(parse_file(std::str::from_utf8(&text).expect("text")).is_ok()));
    let list = |bytes: usize| format!("peers = [{}]", "\"1@h:1\",".repeat(bytes / 8)).into_bytes();
    linear(list, |text| assert!(parse_file(std::str::from_utf8(&text).expect("text")).is_ok()));
    let nested = |bytes: usize| format!("id = {}", "[".repeat(bytes)).into_bytes();
    linear(nested, |text| assert!(parse_file(std::str::from_utf8(&text).expect("text")).is_err()));
}

/// A variable is read as its flag is: clap takes either.
#[test]
fn fuzz_flags_and_variables() {
    let minimal = ["--id=1", "--data-dir=d", "--peers=1@127.0.0.1:7071"];
    let values = [
        "1",
        "off",
        "true",
        "d",
        "1@h:1,2@h:2",
        "1@[::1]:7071",
        "127.0.0.1:0",
        "0.0.0.0:1",
        "[::]:1",
        "",
        "256MiB",
        "1.5GB",
        "18446744073709551615",
        "99999999999EiB",
        "-1",
        "json",
        "info,flotilla::raft=debug",
        "[x{y=1}]=trace",
        "2=h:1",
    ];
    let seeds = KEYS
        .iter()
        .zip(0u8..)
        .flat_map(|(_, number)| values.into_iter().map(move |value| [&[number], value.as_bytes()].concat()));
    fuzz!(seeds, |bytes| {
        let Some((number, value)) = bytes.split_first() else { return };
        let (key, _) = KEYS[usize::from(*number) % KEYS.len()];
        let name = format!("--{}", key.replace('_', "-"));
        let flag = format!("{name}={}", String::from_utf8_lossy(value));
        let others =
            minimal.iter().filter(|other| !other.starts_with(&format!("{name}="))).map(|other| other.to_string());
        let line = ["server".to_string()].into_iter().chain(others).chain([flag]);
        // Not by name: `clap` says what it does not take, and every rule of ours is an error of ours.
        if let Ok(args) = Cli::try_parse_from(line) {
            args.server.log_format();
            check_loaded(args.server.load());
        }
        if let Ok(peer) = String::from_utf8_lossy(value).parse::<Peer>() {
            assert_eq!(peer.to_string().parse(), Ok(peer));
        }
    });
}

#[test]
fn fuzz_names_of_variables() {
    fuzz!([&b"FLOTILLA_ID\0FLOTILLA_IDS"[..], b"FLOTILLA_TEST_X\0PATH", b"FLOTILLA_\xff\xfe"], |bytes| {
        use std::os::unix::ffi::OsStringExt;
        let names: Vec<OsString> =
            bytes.split(|byte| *byte == 0).map(|name| OsString::from_vec(name.to_vec())).collect();
        let unknown = unknown_variables(names.iter().cloned());
        let ours = names.iter().filter(|name| name.to_string_lossy().starts_with("FLOTILLA_"));
        assert!(unknown.len() <= ours.count());
    });
}
