//! Precedence, rules and the example files.

use std::{collections::BTreeSet, env, fs, process};

use clap::{Args, Parser};

use super::*;

#[derive(Debug, Parser)]
pub(super) struct Cli {
    #[command(flatten)]
    pub server: ServerArgs,
}

const MINIMAL: [&str; 3] = ["--id=1", "--data-dir=d", "--peers=1@127.0.0.1:7071"];

fn load(flags: &[&str]) -> Result<Loaded, ConfigError> {
    let args = Cli::try_parse_from(std::iter::once(&"server").chain(flags)).expect("flags parse");
    args.server.load()
}

fn load_with(flags: &[&str]) -> Result<Loaded, ConfigError> {
    load(&[&MINIMAL, flags].concat())
}

#[test]
fn defaults_are_what_the_documents_say() {
    let Loaded { config, warnings } = load(&MINIMAL).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.client, ListenerConfig { bind: "127.0.0.1:7070".into(), advertised: None });
    assert_eq!(config.peer.bind, "127.0.0.1:7071");
    assert_eq!(config.http.bind, "127.0.0.1:7080");
    let kafka = KafkaConfig {
        listener: Some(ListenerConfig { bind: "127.0.0.1:9092".into(), advertised: None }),
        connections_max: 10_000,
        auto_create_partitions: Some(1),
    };
    assert_eq!(config.kafka, kafka);
    assert_eq!((config.heartbeat_ms, config.election_ms_min, config.election_ms_max), (200, 600, 1_000));
    assert_eq!((config.tail_bytes_max, config.wal_bytes_max), (256 << 20, None));
    let reserve = |disk: Option<u64>| config.reserve_bytes(disk) >> 20;
    assert_eq!(
        [reserve(None), reserve(Some(1 << 40)), reserve(Some(4 << 30)), reserve(Some(1 << 30))],
        [1_024, 1_024, 1_024, 256]
    );
    let set = load_with(&["--disk-reserve-bytes=5GiB"]).unwrap().config;
    assert_eq!(set.reserve_bytes(Some(1 << 30)), 5 << 30);
    let groups = GroupConfig { offsets_retention_ms: 604_800_000, initial_rebalance_delay_ms: 3_000 };
    assert_eq!(config.groups, groups);
    assert_eq!(config.log_format, LogFormat::Text);
}

/// Every key is a flag, an environment variable named after it, and a key of the file.
#[test]
fn every_key_is_a_flag_a_variable_and_a_line_of_the_example() {
    let command = ServerArgs::augment_args(clap::Command::new("server"));
    let flags: BTreeSet<(String, String)> = command
        .get_arguments()
        .map(|arg| {
            assert!(arg.get_help().is_some(), "{} has no help", arg.get_id());
            let env = arg.get_env().expect("every flag has a variable").to_string_lossy().to_string();
            (arg.get_long().expect("every key is a long flag").replace('-', "_"), env)
        })
        .collect();
    let mut keys: BTreeSet<_> = args::KEYS.iter().map(|(key, env)| (key.to_string(), env.to_string())).collect();
    keys.insert(("config".to_string(), "FLOTILLA_CONFIG".to_string()));
    assert_eq!(flags, keys);
    for (key, env) in &keys {
        assert_eq!(*env, format!("FLOTILLA_{}", key.to_uppercase()));
    }
    let example = fs::read_to_string(scripts().join("n1.toml")).unwrap();
    for (key, _) in args::KEYS {
        let is_named = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
        assert!(example.lines().any(is_named), "scripts/n1.toml does not show {key}");
    }
}

/// The variable can only be set for another process: this test runs itself.
#[test]
fn flag_goes_before_environment_before_file_before_default() {
    const CHILD: &str = "FLOTILLA_TEST_CHILD";
    const NAME: &str = "config::tests::flag_goes_before_environment_before_file_before_default";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("n.toml");
    fs::write(&file, "heartbeat_ms = 30\nelection_ms_min = 300\nrack = \"file\"").unwrap();
    if env::var_os(CHILD).is_some() {
        let path = format!("--config={}", env::var("CONFIG_FILE").unwrap());
        let config = load_with(&[&path, "--heartbeat-ms=50"]).unwrap().config;
        assert_eq!((config.heartbeat_ms, config.election_ms_min, config.election_ms_max), (50, 400, 1_000));
        assert_eq!(config.rack.as_deref(), Some("file"));
        let ids: Vec<u64> = load(&["--id=1", "--data-dir=d"]).unwrap().config.peers.iter().map(|p| p.id.0).collect();
        assert_eq!(ids, [1, 2]);
        return;
    }
    let child = process::Command::new(env::current_exe().unwrap())
        .args([NAME, "--exact"])
        .env(CHILD, "1")
        .env("CONFIG_FILE", &file)
        .env("FLOTILLA_HEARTBEAT_MS", "40")
        .env("FLOTILLA_ELECTION_MS_MIN", "400")
        .env("FLOTILLA_PEERS", "1@h:1,2@h:2")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn errors_name_key_value_and_rule() {
    for (flags, key, value) in [
        (&["--id=0"][..], "id", "0"),
        (&["--id=65536"], "id", "65536"),
        (&["--peers=1@h"], "peers", "1@h"),
        (&["--peers=h:7071"], "peers", "h:7071"),
        (&["--peers=0@h:1"], "peers", "0@h:1"),
        (&["--peers=1@h:70000"], "peers", "1@h:70000"),
        (&["--peers=1@h:1,1@h:2"], "peers", "1@h:1,1@h:2"),
        (&["--peers=1@h:1,2@h:1"], "peers", "2@h:1"),
        (&["--client-bind=7070"], "client_bind", "7070"),
        (&["--client-bind=::1:7070"], "client_bind", "::1:7070"),
        (&["--client-bind=0.0.0.0:7070"], "client_bind", "0.0.0.0:7070"),
        (&["--http-bind=[::]:7080"], "http_bind", "[::]:7080"),
        (&["--kafka-bind=0.0.0.0:9092"], "kafka_bind", "0.0.0.0:9092"),
        (&["--kafka-bind=9092"], "kafka_bind", "9092"),
        (&["--kafka-advertised=h:0"], "kafka_advertised", "h:0"),
        (&["--client-advertised=h:0"], "client_advertised", "h:0"),
        (&["--client-advertised=0.0.0.0:1"], "client_advertised", "0.0.0.0:1"),
        (&["--heartbeat-ms=9"], "heartbeat_ms", "9"),
        (&["--heartbeat-ms=301"], "election_ms_min", "600"),
        (&["--election-ms-max=600"], "election_ms_max", "600"),
        (&["--election-ms-max=60001"], "election_ms_max", "60001"),
        (&["--tail-bytes-max=1MiB"], "tail_bytes_max", "1.0 MiB"),
        (&["--wal-bytes-max=15MiB"], "wal_bytes_max", "15.0 MiB"),
        (&["--connections-max=0"], "connections_max", "0"),
        (&["--connections-max=100000000"], "connections_max", "100000000"),
        (&["--kafka-connections-max=0"], "kafka_connections_max", "0"),
        (&["--kafka-connections-max=100000000"], "kafka_connections_max", "100000000"),
        (&["--auto-create-partitions=0"], "auto_create_partitions", "0"),
        (&["--auto-create-partitions=10001"], "auto_create_partitions", "10001"),
        (&["--disk-reserve-bytes=0"], "disk_reserve_bytes", "0 B"),
        (&["--log-filter=chatty"], "log_filter", "chatty"),
        (&["--log-filter=off"], "log_filter", "off"),
        (&["--log-filter=info,fl\u{f6}te=debug"], "log_filter", "info,fl\u{f6}te=debug"),
        (&["--log-filter=info,flotilla=off"], "log_filter", "info,flotilla=off"),
        (&["--worker-threads=0"], "worker_threads", "0"),
        (&["--offsets-retention-ms=999"], "offsets_retention_ms", "999"),
        (&["--group-initial-rebalance-delay-ms=60001"], "group_initial_rebalance_delay_ms", "60001"),
        (&["--log-filter=flotilla=loud"], "log_filter", "flotilla=loud"),
        (&["--rack="], "rack", ""),
        (&["--peer-override=2:h:1"], "peer_override", "2:h:1"),
        (&["--peer-override=2=h"], "peer_override", "2=h"),
    ] {
        // A flag given twice is clap's error, so the minimal one of the same name is left out.
        let name = |flag: &str| flag.split('=').next().map(str::to_string);
        let base = MINIMAL.iter().filter(|m| name(m) != name(flags[0]));
        let flags: Vec<&str> = base.chain(flags).copied().collect();
        match load(&flags) {
            Err(ConfigError::Rule { key: k, value: v, rule }) => {
                assert_eq!((k, v.as_str()), (key, value), "{rule}");
                assert!(!rule.is_empty());
            }
            other => panic!("{flags:?}: {other:?}"),
        }
    }
    for missing in 0..MINIMAL.len() {
        let flags: Vec<&str> = MINIMAL.iter().enumerate().filter(|(i, _)| *i != missing).map(|(_, f)| *f).collect();
        assert!(matches!(load(&flags), Err(ConfigError::Missing { .. })), "{flags:?}");
    }
}

#[test]
fn filters_that_say_something_are_taken() {
    for filter in ["error", "info", "flotilla=warn", "info,flotilla::raft=debug", "warn,[node{broker=1}]=trace"] {
        assert!(load_with(&[&format!("--log-filter={filter}")]).is_ok(), "{filter}");
    }
}

/// Seen once: 1 TiB of logs and a reserve of 10 TiB on a disk of 252 GB, a tail of 1 PiB.
#[test]
fn budgets_above_the_machine_are_refused_or_warned_of() {
    let machine = Machine { memory_bytes: Some(4 << 30), disk_bytes: Some(252_000_000_000) };
    let check = |flags: &[&str], machine: &Machine| load_with(flags).unwrap().config.check_machine(machine);
    assert_eq!(check(&[], &machine).unwrap(), Vec::<String>::new());
    for (flag, key, value) in [
        ("--tail-bytes-max=1PiB", "tail_bytes_max", "1.0 PiB"),
        ("--fetch-bytes-max=5GiB", "fetch_bytes_max", "5.0 GiB"),
        ("--wal-bytes-max=1TiB", "wal_bytes_max", "1.0 TiB"),
        ("--disk-reserve-bytes=10TiB", "disk_reserve_bytes", "10.0 TiB"),
    ] {
        match check(&[flag], &machine) {
            Err(ConfigError::Rule { key: k, value: v, .. }) => assert_eq!((k, v.as_str()), (key, value)),
            other => panic!("{flag}: {other:?}"),
        }
        assert_eq!(check(&[flag], &Machine::default()).unwrap(), Vec::<String>::new(), "nothing is known");
    }
    let small = Machine { memory_bytes: Some(128 << 20), disk_bytes: None };
    assert_eq!(check(&[], &small).unwrap().len(), 1, "the defaults are nobody's mistake");
    let warnings = check(&["--tail-bytes-max=3GiB", "--produce-bytes-max=3GiB"], &machine).unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("6.1 GiB together"), "{warnings:?}");
}

/// Seen once as the whole error: "wanted string or table".
#[test]
fn a_switch_is_a_word_or_a_truth_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("n.toml");
    let load = |text: &str| {
        fs::write(&file, text).unwrap();
        load_with(&[&format!("--config={}", file.display())]).map(|loaded| loaded.config.console)
    };
    for (text, switch) in [("true", Switch::On), ("false", Switch::Off), ("\"off\"", Switch::Off)] {
        assert_eq!(load(&format!("console = {text}")).unwrap(), switch);
    }
    for (text, word) in [("\"maybe\"", "maybe"), ("7", "\"on\" or \"off\"")] {
        let error = load(&format!("console = {text}")).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("\"off\""), "{error}");
    }
}

#[test]
fn variables_that_nobody_reads_are_named() {
    let names =
        ["FLOTILLA_NONSENSE", "FLOTILLA_ID", "FLOTILLA_CONFIG", "FLOTILLA_BROKERS", "FLOTILLA_TEST_SEED", "HOME"];
    // Kubernetes sets these in every pod beside a service named flotilla.
    let injected = ["FLOTILLA_SERVICE_HOST", "FLOTILLA_PORT", "FLOTILLA_PORT_7070_TCP_ADDR"];
    let said = unknown_variables(names.into_iter().chain(injected).map(Into::into));
    assert!(said.len() == 1 && said[0].contains("FLOTILLA_NONSENSE"), "{said:?}");
}

#[test]
fn a_mistyped_key_of_the_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("n.toml");
    fs::write(&file, "heartbeat = 30").unwrap();
    let error = load_with(&[&format!("--config={}", file.display())]).unwrap_err().to_string();
    assert!(error.contains("n.toml") && error.contains("heartbeat_ms"), "{error}");
    let error = load_with(&["--config=/does/not/exist"]).unwrap_err().to_string();
    assert!(error.contains("/does/not/exist"), "{error}");
}

#[test]
fn a_wider_bind_warns_once_and_names_it() {
    let warn = |flags: &[&str]| load_with(flags).unwrap().warnings;
    let warnings = warn(&["--client-bind=0.0.0.0:7070", "--client-advertised=a:7070", "--peer-bind=10.0.0.1:7071"]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("0.0.0.0:7070, 10.0.0.1:7071"), "{warnings:?}");
    let warnings = warn(&["--kafka-bind=0.0.0.0:9092", "--kafka-advertised=k:9092"]);
    assert!(warnings.len() == 1 && warnings[0].contains("0.0.0.0:9092"), "{warnings:?}");
    for loopback in ["localhost:1", "127.0.0.2:1", "[::1]:1"] {
        assert_eq!(warn(&[&format!("--client-bind={loopback}")]), Vec::<String>::new());
    }
}

/// Others look for this broker where its own line in the list says.
#[test]
fn an_own_line_in_peers_that_leads_elsewhere_warns() {
    let warn = |flags: &[&str]| load_with(flags).unwrap().warnings;
    let warnings = warn(&["--peer-bind=127.0.0.1:7999"]);
    assert!(warnings.len() == 1 && warnings[0].contains("127.0.0.1:7071"), "{warnings:?}");
    assert_eq!(warn(&["--peer-bind=127.0.0.1:7999", "--peer-advertised=127.0.0.1:7071"]), Vec::<String>::new());
}

/// One sentence, and it may join.
#[test]
fn a_broker_that_its_list_does_not_name_is_warned_once() {
    let loaded = load(&["--id=4", "--data-dir=d", "--peers=1@h:1"]).unwrap();
    assert!(loaded.warnings.len() == 1 && loaded.warnings[0].contains("joins the cluster"), "{:?}", loaded.warnings);
}

#[test]
fn a_cluster_of_one_is_asked_for_by_a_flag_or_a_key() {
    let single = |flags: &[&str]| load_with(flags).unwrap().config.single;
    assert_eq!([single(&[]), single(&["--single"]), single(&["--single=off"])], [Switch::Off, Switch::On, Switch::Off]);
    let of = |peers: &str, more: &[&str]| load(&[&["--id=1", "--data-dir=d", peers], more].concat()).unwrap();
    assert!(of("--peers=1@h:7071", &[]).config.founds_nothing());
    assert!(!of("--peers=1@h:7071", &["--single"]).config.founds_nothing());
    assert!(!of("--peers=2@h:7071", &[]).config.founds_nothing(), "it joins");
    let warnings = of("--peers=1@h:7071,2@i:7071", &["--single"]).warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("no effect"), "{warnings:?}");
}

#[test]
fn the_peer_address_told_to_others_is_the_own_line_in_peers() {
    let peer = |flags: &[&str]| load_with(flags).unwrap().config.peer;
    let bound = "127.0.0.1:9".parse().unwrap();
    assert_eq!(peer(&["--peer-bind=127.0.0.1:0"]).advertise(bound), "127.0.0.1:7071");
    assert_eq!(peer(&["--peer-advertised=a:1"]).advertise(bound), "a:1");
    let client = load_with(&["--client-bind=127.0.0.1:0"]).unwrap().config.client;
    assert_eq!(client.advertise(bound), "127.0.0.1:9");
}

#[test]
fn kafka_clients_have_a_listener_unless_its_address_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("n.toml");
    let load = |text: &str, flags: &[&str]| {
        fs::write(&file, text).unwrap();
        load_with(&[&[format!("--config={}", file.display()).as_str()], flags].concat()).unwrap()
    };
    let there = load("kafka_bind = \"0.0.0.0:9\"\nkafka_advertised = \"k:9092\"", &[]).config.kafka.listener;
    assert_eq!(there, Some(ListenerConfig { bind: "0.0.0.0:9".into(), advertised: Some("k:9092".into()) }));
    assert_eq!(load("kafka_bind = \"\"", &[]).config.kafka.listener, None);
    let off = load("kafka_bind = \"h:9\"\nkafka_advertised = \"k:9\"", &["--kafka-bind="]);
    assert_eq!(off.config.kafka.listener, None);
    assert!(off.warnings.len() == 1 && off.warnings[0].contains("kafka_advertised"), "{:?}", off.warnings);
}

#[test]
fn topics_are_made_for_kafka_clients_unless_that_is_switched_off() {
    let of = |flags: &[&str]| load_with(flags).unwrap().config.kafka.auto_create_partitions;
    assert_eq!(of(&["--auto-create-topics=off"]), None);
    assert_eq!(of(&["--auto-create-topics=off", "--auto-create-partitions=5"]), None);
    assert_eq!(of(&["--auto-create-topics=true", "--auto-create-partitions=5"]), Some(5));
}

fn peers_of(text: &str) -> Vec<Peer> {
    text.split(',').map(|p| p.parse().unwrap()).collect()
}

#[test]
fn founders_are_the_lowest_three_and_five_from_five_on() {
    let founders_of = |ids: &[u64]| -> Vec<u64> {
        let peers: Vec<Peer> = ids.iter().map(|id| format!("{id}@h:{id}").parse().unwrap()).collect();
        founders(&peers).iter().map(|b| b.0).collect()
    };
    assert_eq!(founders_of(&[7]), [7]);
    assert_eq!(founders_of(&[2, 1]), [1, 2]);
    assert_eq!(founders_of(&[9, 3, 5]), [3, 5, 9]);
    assert_eq!(founders_of(&[4, 3, 2, 1]), [1, 2, 3]);
    assert_eq!(founders_of(&[6, 5, 4, 3, 2, 1]), [1, 2, 3, 4, 5]);
}

/// SAFETY B6: lists that differ in anything but order have different hashes.
#[test]
fn the_peers_hash_sees_every_difference_but_order_and_is_frozen() {
    let hash = |text| peers_hash(&peers_of(text));
    let base = hash("1@a:7071,2@b:7071,3@c:7071");
    assert_eq!(base, hash("3@c:7071,1@a:7071,2@b:7071"));
    for other in
        ["1@a:7071,2@b:7071", "1@a:7071,2@b:7071,4@c:7071", "1@a:7071,2@b:7071,3@c:7072", "1@b:7071,2@a:7071,3@c:7071"]
    {
        assert_ne!(base, hash(other), "{other}");
    }
    assert_eq!(format!("{base:016x}"), "0da2dfce987957f8");
}

pub(super) fn scripts() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

#[test]
fn the_example_files_form_one_cluster() {
    let loaded: Vec<Loaded> = (1..=3)
        .map(|n| load(&[&format!("--config={}", scripts().join(format!("n{n}.toml")).display())]).unwrap())
        .collect();
    assert!(loaded.iter().all(|l| l.warnings.is_empty()), "{loaded:?}");
    let configs: Vec<&ServerConfig> = loaded.iter().map(|l| &l.config).collect();
    assert_eq!(configs.iter().map(|c| c.id.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(configs.iter().all(|c| peers_hash(&c.peers) == peers_hash(&configs[0].peers)));
    let binds: BTreeSet<&str> =
        configs.iter().flat_map(|c| [&c.client, &c.peer, &c.http]).map(|l| l.bind.as_str()).collect();
    let kafka: BTreeSet<&str> =
        configs.iter().filter_map(|c| c.kafka.listener.as_ref()).map(|l| l.bind.as_str()).collect();
    assert_eq!((binds.len(), kafka.len(), binds.intersection(&kafka).count()), (9, 3, 0), "{binds:?} {kafka:?}");
    for config in configs {
        let own = config.peers.iter().find(|p| p.id == config.id).unwrap();
        assert_eq!(own.address, config.peer.bind);
    }
}
