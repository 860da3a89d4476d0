"""What every client is asked to do, and how it is judged (see ../README.md)."""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass

PARTITIONS = 3
REPLICATION = 3
RECORDS_PER_CODEC = 12
RESUMED_RECORDS = 6
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# One key twice: a client or a broker that keeps headers in a map loses one of them.
HEADERS = [("trace", b"a"), ("trace", b"b"), ("empty", b"")]
WAIT_SECONDS = 40
STREAM_SECONDS = float(os.environ.get("STREAM_SECONDS", 8))


@dataclass(frozen=True)
class Record:
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple = tuple(HEADERS)


def records(codec, count=RECORDS_PER_CODEC, both_null=True):
    """The records sent with one codec: with and without key, with and without value, every byte.

    Some clients refuse a record of neither: for them `both_null` is false, and it has a key."""
    every_byte = bytes(range(256))
    return [
        Record(
            partition=i % PARTITIONS,
            key=None if i % 4 == 1 or (i % 4 == 3 and both_null) else f"{codec}-{i}".encode(),
            value=None if i % 4 in (2, 3) else f"{codec} {i} ".encode() + every_byte + b"x" * (100 * i),
        )
        for i in range(count)
    ]


def by_partition(sent):
    """Per partition, what must be read from it, in this order."""
    return {p: [record for record in sent if record.partition == p] for p in range(PARTITIONS)}


def compare(sent, got):
    """Complains about the first difference between what was sent and what was read."""
    for partition, expected in by_partition(sent).items():
        found = [record for record in got if record.partition == partition]
        for at, (a, b) in enumerate(zip(expected, found)):
            assert a == b, f"partition {partition}, record {at}: sent {short(a)}, read {short(b)}"
        assert len(found) == len(expected), f"partition {partition}: sent {len(expected)}, read {len(found)}"


def short(record):
    value = record.value if record.value is None else record.value[:20]
    return f"key {record.key} value {value} headers {list(record.headers)}"


def wait_for(condition, what, seconds=WAIT_SECONDS, pause=0.05):
    """Waits until `condition()` is true and returns what it returned. No pause where the condition itself waits."""
    until = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < until, f"after {seconds} s not yet: {what}"
        time.sleep(pause)
    return result


class Report:
    """Collects what each step came to, and prints it as one line of JSON."""

    def __init__(self, client, version):
        self.line = {"client": client, "version": version, "steps": {}}

    def step(self, name):
        return Step(self.line["steps"], name)

    def print(self):
        print(json.dumps(self.line), flush=True)


class Cannot(Exception):
    """Raised by a step that this client cannot do; its text says why."""


class Step:
    """A part of the scenario: an exception in it is written down, and the next part is tried."""

    def __init__(self, steps, name):
        self.steps, self.name = steps, name

    def __enter__(self):
        print(f"{self.name}", file=sys.stderr, flush=True)

    def __exit__(self, kind, error, trace):
        failed = f"- {error}" if isinstance(error, Cannot) else f"{type(error).__name__}: {error}"
        self.steps[self.name] = "ok" if error is None else failed
        return error is None or isinstance(error, Exception)


class Stream:
    """The long run: what was acknowledged, at which pace, and whether it came back once each."""

    def __init__(self, client, version, count):
        self.line = {"client": client, "version": version, "idempotent": True, "refused": 0}
        self.count = count
        self.acked = set()
        self.began = time.monotonic()
        self.announced = False

    def due(self, i):
        """When to go on after record `i`: the run takes long enough for a broker to die in it."""
        return self.began + STREAM_SECONDS * i / self.count

    def pace(self, i):
        time.sleep(max(0.0, self.due(i) - time.monotonic()))

    def ack(self, i):
        """Record `i` is acknowledged. After a third of them the driver is told to kill."""
        self.acked.add(i)
        if len(self.acked) >= self.count // 3 and not self.announced:
            self.announced = True
            print("a third is acknowledged", flush=True)

    def refuse(self, error):
        """The client gave a record up: not lost, since it said so, but a client should not."""
        self.line["refused"] += 1
        self.line["refusal"] = str(error)

    def print(self, got):
        """`got`: the numbers that were read at the end, in any order, as often as they came."""
        self.line |= {
            "sent": self.count,
            "acked": len(self.acked),
            "missing": len(self.acked - set(got)),
            "duplicates": len(got) - len(set(got)),
        }
        print(json.dumps(self.line), flush=True)


def argument_parser():
    """BOOTSTRAP TOPIC [--stream N], the same for every client, and --read for some."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--stream", type=int)
    parser.add_argument("--read", action="store_true")
    return parser


def arguments():
    return argument_parser().parse_args()
