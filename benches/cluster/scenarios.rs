//! Everything that is measured, in the order of the table.

use crate::{
    figures::Figure,
    work::{Ending, KafkaProduce, Produce, Work},
};

pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    /// The figure that says best whether it became slower.
    pub judged_by: Figure,
    pub work: Work,
}

/// What the names of those begin with that go through Kafka's listener.
pub const KAFKA_PREFIX: &str = "kafka-";
/// 10 MB/s in records of 1 KiB.
pub const OFFERED_RATE: u64 = 9_766;
/// Records outstanding: enough that a client waits for brokers, with few partitions and with many.
const FEW_IN_FLIGHT: u64 = 8_192;
const MANY_IN_FLIGHT: u64 = 32_768;

/// As fast as it goes.
const fn produce(partitions: u32, size: &'static str, in_flight: u64) -> Work {
    Work::Produce(Produce { partitions, size, in_flight, rate: 0 })
}

/// Records of 1 KiB through Kafka's listener.
const fn kafka_produce(partitions: u32, in_flight: u64) -> Work {
    Work::KafkaProduce(KafkaProduce { partitions, size: 1_024, in_flight })
}

const fn scenario(name: &'static str, judged_by: Figure, work: Work, what: &'static str) -> Scenario {
    Scenario { name, what, judged_by, work }
}

const ONE_AT_A_TIME: Work = produce(1, "1KiB", 1);
const OFFERED: Work =
    Work::Produce(Produce { partitions: 16, size: "1KiB", in_flight: FEW_IN_FLIGHT, rate: OFFERED_RATE });

pub const SCENARIOS: &[Scenario] = &[
    scenario("produce-1", Figure::RecordsPerS, produce(1, "1KiB", FEW_IN_FLIGHT), "1 KiB to 1 partition"),
    scenario("produce-16", Figure::RecordsPerS, produce(16, "1KiB", FEW_IN_FLIGHT), "1 KiB to 16 partitions"),
    scenario("produce-128", Figure::RecordsPerS, produce(128, "1KiB", MANY_IN_FLIGHT), "1 KiB to 128 partitions"),
    scenario("produce-256", Figure::RecordsPerS, produce(256, "1KiB", MANY_IN_FLIGHT), "1 KiB to 256 partitions"),
    scenario("produce-1000", Figure::RecordsPerS, produce(1_000, "1KiB", MANY_IN_FLIGHT), "1 KiB to 1,000 partitions"),
    scenario("produce-100B", Figure::RecordsPerS, produce(16, "100B", FEW_IN_FLIGHT), "100 B to 16 partitions"),
    scenario("produce-16KiB", Figure::RecordsPerS, produce(16, "16KiB", 1_024), "16 KiB to 16 partitions"),
    scenario("one-at-a-time", Figure::P50Ms, ONE_AT_A_TIME, "1 KiB to 1 partition, each after the answer to the last"),
    scenario("offered-10MB", Figure::P99Ms, OFFERED, "1 KiB to 16 partitions, 10 MB/s of it"),
    scenario("consume-memory", Figure::RecordsPerS, Work::ConsumeWarm, "16 partitions that were just written"),
    scenario("consume-disk", Figure::RecordsPerS, Work::ConsumeCold, "16 partitions after a restart, caches dropped"),
    scenario(
        "kafka-produce-16",
        Figure::RecordsPerS,
        kafka_produce(16, FEW_IN_FLIGHT),
        "1 KiB to 16 partitions, Kafka's protocol",
    ),
    scenario(
        "kafka-produce-256",
        Figure::RecordsPerS,
        kafka_produce(256, MANY_IN_FLIGHT),
        "1 KiB to 256 partitions, Kafka's protocol",
    ),
    scenario(
        "kafka-one-at-a-time",
        Figure::P50Ms,
        kafka_produce(1, 1),
        "1 KiB to 1 partition, one after the other, Kafka's protocol",
    ),
    scenario(
        "kafka-consume-disk",
        Figure::RecordsPerS,
        Work::KafkaConsumeCold,
        "16 partitions after a restart, caches dropped, Kafka's protocol",
    ),
    scenario("e2e-10MB", Figure::P99Ms, Work::EndToEnd, "1 KiB through 16 partitions to its consumer, 10 MB/s of it"),
    scenario("commit", Figure::P99Ms, Work::Commit, "groups of one member, 500 commits/s in all"),
    scenario("idle-1000", Figure::Cores, Work::Idle { partitions: 1_000 }, "1,000 partitions that nobody uses"),
    scenario("restart-killed", Figure::Seconds, Work::Restart(Ending::Killed), "a full broker after SIGKILL"),
    scenario(
        "restart-stopped",
        Figure::Seconds,
        Work::Restart(Ending::Stopped),
        "a full broker is stopped and started",
    ),
];
