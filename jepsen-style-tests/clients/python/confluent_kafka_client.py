"""confluent-kafka: the newest librdkafka, bundled with its wheel."""

from confluent_kafka import Consumer, Producer, TopicPartition, libversion
from confluent_kafka.admin import AdminClient, OffsetSpec

import confluent_groups
import matrix
from confluent_topics import create
from scenario import PARTITIONS, Record, wait_for


def received(message):
    assert message.error() is None, message.error()
    return Record(message.partition(), message.key(), message.value(), tuple(message.headers() or ()))


class ConfluentKafka(matrix.Client):
    name, version = "confluent-kafka", libversion()[0]

    def create(self):
        create(self.bootstrap, self.topic)

    def producer(self, **settings):
        return Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "acks": "all", **settings})

    def produce(self, codec, records):
        producer, failed = self.producer(**{"compression.type": codec, "linger.ms": 20}), []
        told = lambda error, message: error and failed.append(error)
        for r in records:
            producer.produce(self.topic, r.value, r.key, r.partition, headers=list(r.headers), on_delivery=told)
        assert producer.flush(30) == 0, "not delivered within 30 s"
        assert not failed, failed

    def consumer(self, group):
        settings = {"auto.offset.reset": "earliest", "enable.auto.commit": False}
        return Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, **settings})

    def reader(self, group):
        consumer = self.consumer(group)
        consumer.subscribe([self.topic])
        return consumer

    def rest(self, reader, seconds):
        message = reader.poll(seconds)
        return [] if message is None else [received(message)]

    def commit(self, reader):
        reader.commit(asynchronous=False)
        return [c.offset for c in reader.committed(self.partitions(), timeout=10)]

    def partitions(self, *at):
        return [TopicPartition(self.topic, p, *at) for p in range(PARTITIONS)]

    def share(self, group):
        members = [self.reader(group) for _ in range(2)]

        def shared():
            for each in members:
                each.poll(0.1)
            return matrix.are_shared([each.assignment() for each in members])

        wait_for(shared, "two members share 3 partitions")
        for each in members:
            each.close()

    def offsets(self):
        admin = AdminClient({"bootstrap.servers": self.bootstrap})

        def listed(spec):
            found = admin.list_offsets({partition: spec for partition in self.partitions()})
            return [found[partition].result().offset for partition in self.partitions()]

        since = [at.offset for at in self.consumer("none").offsets_for_times(self.partitions(1), timeout=10)]
        return list(zip(listed(OffsetSpec.earliest()), listed(OffsetSpec.latest()), since))

    def more_steps(self, report):
        confluent_groups.run(report, self.bootstrap, self.topic)

    def send(self, run):
        producer = self.producer(**{"linger.ms": 5})
        for i in range(run.count):
            told = lambda error, message, i=i: run.refuse(error) if error else run.ack(i)
            producer.produce(self.topic, str(i).encode(), partition=i % PARTITIONS, on_delivery=told)
            producer.poll(0)
            run.pace(i)
        producer.flush(120)


if __name__ == "__main__":
    matrix.main(ConfluentKafka)
