"""confluent-kafka: the newest librdkafka, bundled with its wheel."""

from confluent_kafka import Consumer, Producer, TopicPartition, libversion
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

import scenario
from scenario import PARTITIONS, Record, Report, Stream, wait_for

CLIENT, VERSION = "confluent-kafka", libversion()[0]


def create(bootstrap, topic):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, scenario.REPLICATION)])[topic].result()

    def has_leaders():
        found = admin.list_topics(topic, timeout=10).topics[topic].partitions.values()
        return len(found) == PARTITIONS and all(p.leader >= 0 and len(p.replicas) == 3 for p in found)

    wait_for(has_leaders, "3 partitions of 3 replicas have leaders")


def produce(bootstrap, topic, codec, records):
    settings = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "compression.type": codec, "linger.ms": 20}
    producer = Producer(settings)
    failed = []
    for r in records:
        producer.produce(
            topic, r.value, r.key, r.partition, headers=list(r.headers), on_delivery=lambda e, m: e and failed.append(e)
        )
    assert producer.flush(30) == 0, "not delivered within 30 s"
    assert not failed, failed


def member(bootstrap, topic, group):
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    return consumer


def take(consumer, count):
    got = []

    def all_came():
        if (message := consumer.poll(0.2)) is not None:
            assert message.error() is None, message.error()
            headers = tuple(message.headers() or ())
            got.append(Record(message.partition(), message.key(), message.value(), headers))
        return len(got) >= count

    wait_for(all_came, f"{count} records were read", pause=0)
    return got


def shares(first, second):
    def shared():
        first.poll(0.1), second.poll(0.1)
        a, b = ({p.partition for p in c.assignment()} for c in (first, second))
        return a and b and not a & b and len(a | b) == PARTITIONS

    wait_for(shared, "two members share 3 partitions")


def run(bootstrap, topic):
    report, sent, group = Report(CLIENT, VERSION), [], f"{topic}-group"
    with report.step("create"):
        create(bootstrap, topic)
    for codec in scenario.CODECS:
        with report.step(codec):
            produce(bootstrap, topic, codec, scenario.records(codec))
            sent += scenario.records(codec)
    with report.step("consume"):
        consumer = member(bootstrap, topic, group)
        scenario.compare(sent, take(consumer, len(sent)))
    with report.step("commit"):
        consumer.commit(asynchronous=False)
        committed = consumer.committed([TopicPartition(topic, p) for p in range(PARTITIONS)], timeout=10)
        ends = [len(records) for records in scenario.by_partition(sent).values()]
        assert [c.offset for c in committed] == ends, f"committed {committed}, read to {ends}"
        consumer.close()
    with report.step("resume"):
        more = scenario.records("none", scenario.RESUMED_RECORDS)
        produce(bootstrap, topic, "none", more)
        consumer = member(bootstrap, topic, group)
        scenario.compare(more, take(consumer, len(more)))
        consumer.close()
        sent += more
    with report.step("rebalance"):
        members = [member(bootstrap, topic, f"{group}-two") for _ in range(2)]
        shares(*members)
        for each in members:
            each.close()
    with report.step("offsets"):
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for p, records in scenario.by_partition(sent).items():
            for spec, expected in [(OffsetSpec.earliest(), 0), (OffsetSpec.latest(), len(records))]:
                (future,) = admin.list_offsets({TopicPartition(topic, p): spec}).values()
                assert future.result().offset == expected, f"{spec} is {future.result().offset}, not {expected}"
            (at,) = consumer_at(bootstrap).offsets_for_times([TopicPartition(topic, p, 1)], timeout=10)
            assert at.offset == 0, f"the first record since 1970 is at {at.offset}"
    report.print()


def consumer_at(bootstrap):
    return Consumer({"bootstrap.servers": bootstrap, "group.id": "none"})


def stream(bootstrap, topic, count):
    create(bootstrap, topic)
    run = Stream(CLIENT, VERSION, count)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 5})
    for i in range(count):
        told = lambda error, message, i=i: run.refuse(error) if error else run.ack(i)
        producer.produce(topic, str(i).encode(), partition=i % PARTITIONS, on_delivery=told)
        producer.poll(0)
        run.pace(i)
    producer.flush(120)
    consumer = member(bootstrap, topic, f"{topic}-group")
    got = take(consumer, len(run.acked))
    # Duplicates would come after what is awaited.
    while (message := consumer.poll(1.0)) is not None:
        got.append(Record(message.partition(), None, message.value()))
    consumer.close()
    run.print([int(record.value) for record in got])


if __name__ == "__main__":
    asked = scenario.arguments()
    if asked.stream:
        stream(asked.bootstrap, asked.topic, asked.stream)
    else:
        run(asked.bootstrap, asked.topic)
