"""kafka-python: written in Python alone, and it guesses the broker's version from what is advertised."""

import threading

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

import scenario
from scenario import PARTITIONS, Record, Report, Stream, wait_for

CLIENT, VERSION = "kafka-python", kafka.__version__


def create(bootstrap, topic):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(topic, PARTITIONS, scenario.REPLICATION)])

    def has_leaders():
        (found,) = admin.describe_topics([topic])
        found = found["partitions"]
        return len(found) == PARTITIONS and all(p["leader_id"] >= 0 and len(p["replica_nodes"]) == 3 for p in found)

    wait_for(has_leaders, "3 partitions of 3 replicas have leaders")
    admin.close()


def producer_of(bootstrap, codec):
    return KafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=None if codec == "none" else codec,
        enable_idempotence=True,
        acks="all",
        linger_ms=20,
    )


def produce(bootstrap, topic, codec, records):
    producer = producer_of(bootstrap, codec)
    sent = [producer.send(topic, r.value, r.key, list(r.headers), r.partition) for r in records]
    for future in sent:
        future.get(timeout=30)
    producer.close()


def member(bootstrap, topic, group):
    return KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )


def poll(consumer, timeout_ms=200):
    return [
        Record(r.partition, r.key, r.value, tuple(r.headers))
        for records in consumer.poll(timeout_ms).values()
        for r in records
    ]


def take(consumer, count):
    got = []

    def all_came():
        got.extend(poll(consumer))
        return len(got) >= count

    wait_for(all_came, f"{count} records were read", pause=0)
    return got


def shares(bootstrap, topic, group):
    """Two members, each polled by a thread of its own: while one waits in a poll for the other to join, that one must go on."""
    members, ended = [member(bootstrap, topic, group) for _ in range(2)], threading.Event()

    def go_on(consumer):
        while not ended.is_set():
            consumer.poll(100)
        consumer.close()

    def shared():
        a, b = ({p.partition for p in c.assignment()} for c in members)
        return a and b and not a & b and len(a | b) == PARTITIONS

    threads = [threading.Thread(target=go_on, args=[each]) for each in members]
    for thread in threads:
        thread.start()
    try:
        wait_for(shared, "two members share 3 partitions")
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def run(bootstrap, topic):
    report, sent, group = Report(CLIENT, VERSION), [], f"{topic}-group"
    partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    with report.step("create"):
        create(bootstrap, topic)
    for codec in scenario.CODECS:
        with report.step(codec):
            records = scenario.records(codec, both_null=False)
            produce(bootstrap, topic, codec, records)
            sent += records
    with report.step("consume"):
        consumer = member(bootstrap, topic, group)
        scenario.compare(sent, take(consumer, len(sent)))
    with report.step("commit"):
        consumer.commit()
        committed = [consumer.committed(p) for p in partitions]
        ends = [len(records) for records in scenario.by_partition(sent).values()]
        assert committed == ends, f"committed {committed}, read to {ends}"
        consumer.close()
    with report.step("resume"):
        more = scenario.records("none", scenario.RESUMED_RECORDS, both_null=False)
        produce(bootstrap, topic, "none", more)
        consumer = member(bootstrap, topic, group)
        scenario.compare(more, take(consumer, len(more)))
        consumer.close()
        sent += more
    with report.step("rebalance"):
        shares(bootstrap, topic, f"{group}-two")
    with report.step("offsets"):
        consumer = KafkaConsumer(bootstrap_servers=bootstrap)
        ends = {TopicPartition(topic, p): len(records) for p, records in scenario.by_partition(sent).items()}
        assert consumer.beginning_offsets(partitions) == dict.fromkeys(partitions, 0)
        assert consumer.end_offsets(partitions) == ends, f"{consumer.end_offsets(partitions)}, not {ends}"
        first = consumer.offsets_for_times(dict.fromkeys(partitions, 1))
        assert all(at.offset == 0 for at in first.values()), f"the first records since 1970 are at {first}"
        consumer.close()
    report.print()


def stream(bootstrap, topic, count):
    create(bootstrap, topic)
    run = Stream(CLIENT, VERSION, count)
    producer = producer_of(bootstrap, "none")
    for i in range(count):
        future = producer.send(topic, str(i).encode(), partition=i % PARTITIONS)
        future.add_callback(lambda _, i=i: run.ack(i))
        future.add_errback(run.refuse)
        run.pace(i)
    producer.flush(120)
    producer.close()
    consumer = member(bootstrap, topic, f"{topic}-group")
    got = take(consumer, len(run.acked))
    # Duplicates would come after what is awaited.
    while more := poll(consumer, 1000):
        got += more
    consumer.close()
    run.print([int(record.value) for record in got])


if __name__ == "__main__":
    asked = scenario.arguments()
    asked.bootstrap = asked.bootstrap.split(",")
    if asked.stream:
        stream(asked.bootstrap, asked.topic, asked.stream)
    else:
        run(asked.bootstrap, asked.topic)
