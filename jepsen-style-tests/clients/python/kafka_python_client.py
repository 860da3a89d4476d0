"""kafka-python: written in Python alone, and it guesses the broker's version from what is advertised."""

import threading

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

import matrix
import scenario
from scenario import PARTITIONS, Record, wait_for


class KafkaPython(matrix.Client):
    name, version, both_null = "kafka-python", kafka.__version__, False

    def __init__(self, bootstrap, topic):
        super().__init__(bootstrap.split(","), topic)
        self.partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]

    def create(self):
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        admin.create_topics([NewTopic(self.topic, PARTITIONS, scenario.REPLICATION)])

        def has_leaders():
            (found,) = admin.describe_topics([self.topic])
            found = found["partitions"]
            return len(found) == PARTITIONS and all(p["leader_id"] >= 0 and len(p["replica_nodes"]) == 3 for p in found)

        wait_for(has_leaders, "3 partitions of 3 replicas have leaders")
        admin.close()

    def producer(self, codec):
        settings = {"enable_idempotence": True, "acks": "all", "linger_ms": 20}
        codec = None if codec == "none" else codec
        return KafkaProducer(bootstrap_servers=self.bootstrap, compression_type=codec, **settings)

    def produce(self, codec, records):
        producer = self.producer(codec)
        sent = [producer.send(self.topic, r.value, r.key, list(r.headers), r.partition) for r in records]
        for future in sent:
            future.get(timeout=30)
        producer.close()

    def reader(self, group):
        settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
        return KafkaConsumer(self.topic, bootstrap_servers=self.bootstrap, group_id=group, **settings)

    def rest(self, reader, seconds):
        came = [r for records in reader.poll(1000 * seconds).values() for r in records]
        return [Record(r.partition, r.key, r.value, tuple(r.headers)) for r in came]

    def commit(self, reader):
        reader.commit()
        return [reader.committed(p) for p in self.partitions]

    def share(self, group):
        """Each of the two is polled by a thread of its own: while one waits in a poll for the other to join, that one must go on."""
        members, ended = [self.reader(group) for _ in range(2)], threading.Event()

        def go_on(consumer):
            while not ended.is_set():
                consumer.poll(100)
            consumer.close()

        threads = [threading.Thread(target=go_on, args=[each]) for each in members]
        for thread in threads:
            thread.start()
        try:
            shared = lambda: matrix.are_shared([each.assignment() for each in members])
            wait_for(shared, "two members share 3 partitions")
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def offsets(self):
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        begins, ends = consumer.beginning_offsets(self.partitions), consumer.end_offsets(self.partitions)
        since = consumer.offsets_for_times(dict.fromkeys(self.partitions, 1))
        consumer.close()
        return [(begins[p], ends[p], since[p].offset) for p in self.partitions]

    def send(self, run):
        producer = self.producer("none")
        for i in range(run.count):
            future = producer.send(self.topic, str(i).encode(), partition=i % PARTITIONS)
            future.add_callback(lambda _, i=i: run.ack(i))
            future.add_errback(run.refuse)
            run.pace(i)
        producer.flush(120)
        producer.close()


if __name__ == "__main__":
    matrix.main(KafkaPython)
