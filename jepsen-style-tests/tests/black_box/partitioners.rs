//! Which partition a record goes to, and what each `--acks` promises, through the command line.

use std::{collections::BTreeMap, time::Duration};

use jepsen_style_tests::{
    cluster::{Cli, Cluster, QUICK, SLOW},
    command::{Finished, run},
    partitioner::partition_of,
    random::Random,
    readback::read_topic,
    workload::Receipt,
};

const PARTITIONS: u32 = 6;
const RECORDS: usize = 60_000;
const KEYS: usize = 500;

/// Chi-square with five degrees of freedom exceeds this once in a million runs of a fair draw.
const CHI_SQUARE_MAX: f64 = 35.9;

/// `key:value` lines; each value once.
fn input() -> String {
    (0..RECORDS).map(|n| format!("key-{}:{n:06}\n", n % KEYS)).collect()
}

struct Spread {
    /// Records of each partition.
    counts: Vec<usize>,
    receipts: Vec<Receipt>,
}

/// Sends all records to a topic of their own, and checks that each came once.
#[track_caller]
fn spread(cli: &Cli, topic: &str, args: &[&str]) -> Spread {
    cli.create_topic(topic, PARTITIONS);
    let mut command = cli.brokered(&["produce", topic, "-K", ":", "--receipts", "json"]);
    let finished = run(command.args(args), input().as_bytes(), SLOW);
    let at = std::time::Instant::now();
    let receipts: Vec<Receipt> = finished.ok().lines().map(|line| Receipt::parse(line, at)).collect();
    let logs = read_topic(cli, topic, PARTITIONS);
    let mut values: Vec<&str> = logs.iter().flatten().map(|read| read.value.as_str()).collect();
    values.sort_unstable();
    values.dedup();
    let counts: Vec<usize> = logs.iter().map(Vec::len).collect();
    assert_eq!((values.len(), counts.iter().sum::<usize>()), (RECORDS, RECORDS), "{topic}: each record once");
    println!("  {topic}: {counts:?} in {} batches", receipts.len());
    Spread { counts, receipts }
}

fn chi_square(counts: &[usize]) -> f64 {
    let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum()
}

#[test]
fn each_partitioner_spreads_60_000_records_as_it_says() {
    let cluster = Cluster::start("partitioners", 3);
    let cli = &cluster.cli;

    let round_robin = spread(cli, "round-robin", &["--partitioner", "round-robin"]);
    let (least, most) = extremes(&round_robin.counts);
    let batch = round_robin.receipts.iter().map(|receipt| receipt.count).max().expect("receipts");
    assert!(most - least <= batch, "round-robin: {:?}, batches of {batch}", round_robin.counts);

    // Any seed; printed, so that a failure can be repeated.
    let seed = Random::printed("random partitioner").u64().to_string();
    let random = spread(cli, "random", &["--partitioner", "random", "--seed", &seed]);
    let chi = chi_square(&random.counts);
    println!("  random: --seed {seed}, chi-square {chi:.2}, limit {CHI_SQUARE_MAX}");
    assert!(chi <= CHI_SQUARE_MAX, "chi-square {chi} of {:?}, --seed {seed}", random.counts);
    // Even to the record would be no chance.
    assert!(random.counts != round_robin.counts, "{:?}", random.counts);

    let key = spread(cli, "key", &["--partitioner", "key"]);
    let mut places: BTreeMap<String, u32> = BTreeMap::new();
    for (partition, log) in (0..).zip(read_topic(cli, "key", PARTITIONS)) {
        for read in log {
            let place = *places.entry(read.key.clone()).or_insert(partition);
            assert_eq!(place, partition, "{} is in two partitions", read.key);
            assert_eq!(place, partition_of(read.key.as_bytes(), PARTITIONS), "{}: Java has it elsewhere", read.key);
        }
    }
    assert_eq!(places.len(), KEYS);
    assert!(key.counts.iter().all(|count| *count > 0), "{:?}", key.counts);

    let sticky = spread(cli, "sticky", &["--partitioner", "sticky"]);
    assert!(sticky.counts.iter().filter(|count| **count > 0).count() > 1, "it never moves on: {:?}", sticky.counts);
    let switches = switches(cli, "sticky");
    println!("  sticky: {} changes of partition, {} batches", switches, sticky.receipts.len());
    assert!(switches <= sticky.receipts.len(), "it changes the partition within a batch");

    let explicit = spread(cli, "explicit", &["-p", "3"]);
    assert_eq!(explicit.counts, [0, 0, 0, RECORDS, 0, 0]);
    let finished = run(&mut cli.brokered(&["produce", "random", "--partitioner", "random"]), b"x\n", QUICK);
    assert!(finished.stderr.contains("--seed"), "the seed is not printed: {}", finished.stderr);
    cluster.finish();
}

fn extremes(counts: &[usize]) -> (usize, usize) {
    (*counts.iter().min().expect("partitions"), *counts.iter().max().expect("partitions"))
}

/// How often the next record, in the order sent, went to another partition.
fn switches(cli: &Cli, topic: &str) -> usize {
    let mut places: Vec<(String, u32)> = vec![];
    for (partition, log) in (0..).zip(read_topic(cli, topic, PARTITIONS)) {
        places.extend(log.into_iter().map(|read| (read.value, partition)));
    }
    // Values are numbers of equal length, in the order sent.
    places.sort();
    places.windows(2).filter(|pair| pair[0].1 != pair[1].1).count()
}

/// acks=1 is answered at commit like all, and says so: an earlier answer could be of a record that is then lost.
#[test]
fn receipts_come_with_acks_1_and_all_and_0_returns_at_once() {
    // What starting a process and finding the leader may take on a busy machine, and no more.
    const AT_ONCE: Duration = Duration::from_secs(3);
    let cluster = Cluster::start("acks", 3);
    let cli = &cluster.cli;
    cli.create_topic("orders", 1);
    let produce = |acks: &str, timeout: &str| -> Finished {
        let args = ["produce", "orders", "--acks", acks, "--receipts", "json", "--timeout", timeout];
        run(&mut cli.brokered(&args), format!("with acks={acks}\n").as_bytes(), QUICK)
    };
    for acks in ["1", "all"] {
        let receipt = produce(acks, "30s").ok();
        let receipt = Receipt::parse(receipt.trim(), std::time::Instant::now());
        println!("  acks={acks}: offset {} is on the disks of {:?}", receipt.base_offset, receipt.durable_on);
        assert!(receipt.durable_on.len() >= 2, "acks={acks} is answered once a majority has it: {receipt:?}");
    }
    let none = produce("0", "30s");
    println!("  acks=0: {} ms, printed {:?}", none.took.as_millis(), none.stdout);
    assert_eq!(none.ok(), "", "acks=0 has no receipt");

    // Without a majority nothing can be committed: 1 and all wait, 0 does not.
    cli.transfer_leader("orders", 0, 1);
    cluster.signal("STOP", &[2, 3]);
    let none = produce("0", "30s");
    println!("  acks=0 without a majority: exit code {}, {} ms", none.code, none.took.as_millis());
    assert!(none.code == 0 && none.took <= AT_ONCE, "{none:?}");
    for acks in ["1", "all"] {
        let waits = produce(acks, "2s");
        println!("  acks={acks} without a majority: exit code {}, {} ms", waits.code, waits.took.as_millis());
        assert!(waits.code == 1 || waits.code == 3, "acks={acks} was answered before it was committed: {waits:?}");
        assert_eq!(waits.stdout, "", "acks={acks}: a receipt for what is not committed");
    }
    cluster.signal("CONT", &[2, 3]);
    cli.wait_healthy();
    cluster.finish();
}

#[test]
fn chi_square_tells_even_from_uneven() {
    assert!(chi_square(&[10_000; 6]) < 0.001);
    assert!(chi_square(&[10_100, 9_900, 10_050, 9_950, 10_020, 9_980]) < CHI_SQUARE_MAX);
    assert!(chi_square(&[10_600, 9_400, 10_000, 10_000, 10_000, 10_000]) > CHI_SQUARE_MAX);
}
