"""aiokafka: asyncio, and old versions of most requests, which have no flexible fields."""

import asyncio
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import scenario
from scenario import PARTITIONS, Record, Report, Stream

CLIENT, VERSION = "aiokafka", aiokafka.__version__


async def wait_for(condition, what):
    until = time.monotonic() + scenario.WAIT_SECONDS
    while not await condition():
        assert time.monotonic() < until, f"after {scenario.WAIT_SECONDS} s not yet: {what}"
        await asyncio.sleep(0.05)


async def create(bootstrap, topic):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    answer = await admin.create_topics([NewTopic(topic, PARTITIONS, scenario.REPLICATION)])
    assert all(error[1] == 0 for error in answer.topic_errors), answer.topic_errors

    async def has_leaders():
        (found,) = await admin.describe_topics([topic])
        found = found["partitions"]
        return len(found) == PARTITIONS and all(p["leader"] >= 0 and len(p["replicas"]) == 3 for p in found)

    await wait_for(has_leaders, "3 partitions of 3 replicas have leaders")
    await admin.close()


def producer_of(bootstrap, codec):
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=None if codec == "none" else codec,
        enable_idempotence=True,
        acks="all",
        linger_ms=20,
    )


async def produce(bootstrap, topic, codec, records):
    async with producer_of(bootstrap, codec) as producer:
        sent = [await producer.send(topic, r.value, r.key, r.partition, headers=list(r.headers)) for r in records]
        await asyncio.wait_for(asyncio.gather(*sent), 30)


async def member(bootstrap, topic, group):
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    return consumer


async def poll(consumer, timeout_ms=200):
    batches = await consumer.getmany(timeout_ms=timeout_ms)
    return [Record(r.partition, r.key, r.value, tuple(r.headers)) for batch in batches.values() for r in batch]


async def take(consumer, count):
    got = []

    async def all_came():
        got.extend(await poll(consumer))
        return len(got) >= count

    await wait_for(all_came, f"{count} records were read")
    return got


async def shares(bootstrap, topic, group):
    # Both at once: a member's start waits for its first assignment.
    members = await asyncio.gather(*[member(bootstrap, topic, group) for _ in range(2)])

    async def shared():
        a, b = ({p.partition for p in c.assignment()} for c in members)
        return a and b and not a & b and len(a | b) == PARTITIONS

    await wait_for(shared, "two members share 3 partitions")
    for each in members:
        await each.stop()


async def run(bootstrap, topic):
    report, sent, group = Report(CLIENT, VERSION), [], f"{topic}-group"
    partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    with report.step("create"):
        await create(bootstrap, topic)
    for codec in scenario.CODECS:
        with report.step(codec):
            records = scenario.records(codec, both_null=False)
            await produce(bootstrap, topic, codec, records)
            sent += records
    with report.step("consume"):
        consumer = await member(bootstrap, topic, group)
        scenario.compare(sent, await take(consumer, len(sent)))
    with report.step("commit"):
        await consumer.commit()
        committed = [await consumer.committed(p) for p in partitions]
        ends = [len(records) for records in scenario.by_partition(sent).values()]
        assert committed == ends, f"committed {committed}, read to {ends}"
        await consumer.stop()
    with report.step("resume"):
        more = scenario.records("none", scenario.RESUMED_RECORDS, both_null=False)
        await produce(bootstrap, topic, "none", more)
        consumer = await member(bootstrap, topic, group)
        scenario.compare(more, await take(consumer, len(more)))
        await consumer.stop()
        sent += more
    with report.step("rebalance"):
        await shares(bootstrap, topic, f"{group}-two")
    with report.step("offsets"):
        ends = {TopicPartition(topic, p): len(records) for p, records in scenario.by_partition(sent).items()}
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            assert await consumer.beginning_offsets(partitions) == dict.fromkeys(partitions, 0)
            found = await consumer.end_offsets(partitions)
            assert found == ends, f"{found}, not {ends}"
            first = await consumer.offsets_for_times(dict.fromkeys(partitions, 1))
            assert all(at.offset == 0 for at in first.values()), f"the first records since 1970 are at {first}"
    report.print()


async def stream(bootstrap, topic, count):
    await create(bootstrap, topic)
    run, sent = Stream(CLIENT, VERSION, count), []

    def told(future, i):
        run.refuse(future.exception()) if future.exception() else run.ack(i)

    async with producer_of(bootstrap, "none") as producer:
        for i in range(count):
            future = await producer.send(topic, str(i).encode(), partition=i % PARTITIONS)
            future.add_done_callback(lambda future, i=i: told(future, i))
            sent.append(future)
            await asyncio.sleep(max(0.0, run.due(i) - time.monotonic()))
        await asyncio.wait(sent, timeout=120)
    consumer = await member(bootstrap, topic, f"{topic}-group")
    got = await take(consumer, len(run.acked))
    # Duplicates would come after what is awaited.
    while more := await poll(consumer, 1000):
        got += more
    await consumer.stop()
    run.print([int(record.value) for record in got])


if __name__ == "__main__":
    asked = scenario.arguments()
    asyncio.run(
        stream(asked.bootstrap, asked.topic, asked.stream) if asked.stream else run(asked.bootstrap, asked.topic)
    )
