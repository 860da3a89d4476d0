"""aiokafka: asyncio, and old versions of most requests, which have no flexible fields."""

import asyncio
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import matrix
import scenario
from scenario import PARTITIONS, Record


async def wait_for(condition, what):
    until = time.monotonic() + scenario.WAIT_SECONDS
    while not await condition():
        assert time.monotonic() < until, f"after {scenario.WAIT_SECONDS} s not yet: {what}"
        await asyncio.sleep(0.05)


def waits(work):
    """Makes a method that others call out of one that awaits."""
    return lambda self, *arguments: self.loop.run_until_complete(work(self, *arguments))


class AioKafka(matrix.Client):
    """Between two calls its loop stands still, heartbeats too; no call is far from the next one."""

    name, version, both_null = "aiokafka", aiokafka.__version__, False

    def __init__(self, bootstrap, topic):
        super().__init__(bootstrap, topic)
        self.loop = asyncio.new_event_loop()
        self.partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]

    @waits
    async def create(self):
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        answer = await admin.create_topics([NewTopic(self.topic, PARTITIONS, scenario.REPLICATION)])
        assert all(error[1] == 0 for error in answer.topic_errors), answer.topic_errors

        async def has_leaders():
            (found,) = await admin.describe_topics([self.topic])
            found = found["partitions"]
            return len(found) == PARTITIONS and all(p["leader"] >= 0 and len(p["replicas"]) == 3 for p in found)

        await wait_for(has_leaders, "3 partitions of 3 replicas have leaders")
        await admin.close()

    def producer(self, codec):
        settings = {"enable_idempotence": True, "acks": "all", "linger_ms": 20}
        codec = None if codec == "none" else codec
        return AIOKafkaProducer(bootstrap_servers=self.bootstrap, compression_type=codec, **settings)

    @waits
    async def produce(self, codec, records):
        async with self.producer(codec) as producer:
            send = lambda r: producer.send(self.topic, r.value, r.key, r.partition, headers=list(r.headers))
            await asyncio.wait_for(asyncio.gather(*[await send(r) for r in records]), 30)

    async def member(self, group):
        settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
        consumer = AIOKafkaConsumer(self.topic, bootstrap_servers=self.bootstrap, group_id=group, **settings)
        await consumer.start()
        return consumer

    reader = waits(member)

    async def poll(self, reader, seconds):
        came = [r for batch in (await reader.getmany(timeout_ms=int(1000 * seconds))).values() for r in batch]
        return [Record(r.partition, r.key, r.value, tuple(r.headers)) for r in came]

    rest = waits(poll)

    @waits
    async def take(self, reader, count):
        got = []

        async def all_came():
            got.extend(await self.poll(reader, 0.2))
            return len(got) >= count

        await wait_for(all_came, f"{count} records were read")
        return got

    @waits
    async def close(self, reader):
        await reader.stop()

    @waits
    async def commit(self, reader):
        await reader.commit()
        return [await reader.committed(p) for p in self.partitions]

    @waits
    async def share(self, group):
        # Both at once: a member's start waits for its first assignment.
        members = await asyncio.gather(*[self.member(group) for _ in range(2)])

        async def shared():
            return matrix.are_shared([each.assignment() for each in members])

        await wait_for(shared, "two members share 3 partitions")
        for each in members:
            await each.stop()

    @waits
    async def offsets(self):
        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap) as consumer:
            begins, ends = await consumer.beginning_offsets(self.partitions), await consumer.end_offsets(self.partitions)
            since = await consumer.offsets_for_times(dict.fromkeys(self.partitions, 1))
        return [(begins[p], ends[p], since[p].offset) for p in self.partitions]

    @waits
    async def send(self, run):
        def told(future, i):
            run.refuse(future.exception()) if future.exception() else run.ack(i)

        sent = []
        async with self.producer("none") as producer:
            for i in range(run.count):
                future = await producer.send(self.topic, str(i).encode(), partition=i % PARTITIONS)
                future.add_done_callback(lambda future, i=i: told(future, i))
                sent.append(future)
                await asyncio.sleep(max(0.0, run.due(i) - time.monotonic()))
            await asyncio.wait(sent, timeout=120)


if __name__ == "__main__":
    matrix.main(AioKafka)
