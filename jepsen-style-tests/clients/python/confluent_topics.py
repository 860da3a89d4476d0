"""Makes topics with confluent-kafka's admin client, also for programs that have none."""

from confluent_kafka.admin import AdminClient, NewTopic

import scenario
from scenario import wait_for


def create(bootstrap, topic, partitions=scenario.PARTITIONS):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, scenario.REPLICATION)])[topic].result()

    def has_leaders():
        found = admin.list_topics(topic, timeout=10).topics[topic].partitions.values()
        return len(found) == partitions and all(p.leader >= 0 and len(p.replicas) == 3 for p in found)

    wait_for(has_leaders, f"{partitions} partitions of 3 replicas have leaders")
