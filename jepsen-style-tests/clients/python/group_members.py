"""Members of a large group in one process: librdkafka consumers, each polled by a thread of its own.

GROUP_MEMBERS BOOTSTRAP TOPIC GROUP COUNT; with --create N it only makes the topic, of N partitions. Prints one line of JSON for each assignment, with the time of the monotonic clock that
all processes share: {"at", "member", "partitions", "lost"}. An empty one is a revocation. Ends when its standard input does,
without leaving the group: whoever wants that kills it."""

import argparse
import json
import os
import sys
import threading
import time

from confluent_kafka import Consumer

from confluent_topics import create

POLL_SECONDS = 0.5
telling = threading.Lock()


def tell(member, partitions, **more):
    line = json.dumps({"at": time.monotonic(), "member": member, "partitions": partitions, **more})
    with telling:
        print(line, flush=True)


def go_on(asked, member):
    settings = {
        "bootstrap.servers": asked.bootstrap,
        "group.id": asked.group,
        "session.timeout.ms": asked.session_ms,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer(settings)
    consumer.subscribe(
        [asked.topic],
        on_assign=lambda _, partitions: tell(member, [p.partition for p in partitions]),
        on_revoke=lambda _, partitions: tell(member, []),
        on_lost=lambda _, partitions: tell(member, [], lost=True),
    )
    while True:
        consumer.poll(POLL_SECONDS)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "topic", "group"):
        parser.add_argument(name)
    parser.add_argument("count", type=int)
    parser.add_argument("--session-ms", type=int)
    parser.add_argument("--create", type=int, metavar="N")
    asked = parser.parse_args()
    if asked.create:
        return create(asked.bootstrap, asked.topic, asked.create)
    for i in range(asked.count):
        threading.Thread(target=go_on, args=[asked, f"{os.getpid()}-{i}"], daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
