"""kcat of Debian 12: librdkafka 2.0.2, the oldest client here, and one that silently does with less than it was asked for."""

import re
import subprocess
import threading
from collections import deque

import matrix
import scenario

# kcat has no admin API.
from confluent_topics import create
from scenario import PARTITIONS, Record, Stream, wait_for

KCAT = ["kcat", "-q", "-m", "30"]
# Between records and after keys: nothing that the records contain.
END, KEY = "<=end=>", "<=key=>"
# Told with -f: partition, the lengths (-1 for null), the headers; then the bytes.
FORMAT = r"%p %K %S %h\n%k%s\n"


def version():
    told = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
    return re.search(r"Version (\S+) .*librdkafka (\S+)", told).expand(r"\1/\2")


def kcat(*arguments, stdin=b"", timeout=60):
    """Its standard output. What it says on standard error is a failure: it exits 0 after sending uncompressed."""
    done = subprocess.run([*KCAT, *arguments], input=stdin, capture_output=True, timeout=timeout)
    told = done.stderr.decode(errors="replace").splitlines()
    # What it tries again until it gets it: a producer id, and a broker that was killed.
    told = [line for line in told if "GETPID" not in line and "Connect to" not in line]
    assert done.returncode == 0 and not told, f"kcat {' '.join(arguments)}: exit {done.returncode}: {told}"
    return done.stdout


def produce(bootstrap, topic, codec, records):
    headers = [part for name, value in scenario.HEADERS for part in ("-H", f"{name}={value.decode()}")]
    asked = ["-b", bootstrap, "-t", topic, "-Z", "-D", END, "-K", KEY, "-X", "enable.idempotence=true", *headers]
    for partition, mine in scenario.by_partition(records).items():
        lines = [(r.key or b"") + KEY.encode() + (r.value or b"") for r in mine]
        kcat("-P", "-z", codec, "-p", str(partition), *asked, stdin=END.encode().join(lines))


def parse(printed):
    """The records in what FORMAT printed."""
    got = []
    while printed:
        line, _, printed = printed.partition(b"\n")
        partition, key, value, headers = line.split(b" ", 3)
        key, value = int(key), int(value)
        both, rest = max(key, 0), max(key, 0) + max(value, 0)
        pairs = [pair.split(b"=", 1) for pair in headers.split(b",") if pair]
        got.append(
            Record(
                int(partition),
                None if key < 0 else printed[:both],
                None if value < 0 else printed[both:rest],
                tuple((name.decode(), text) for name, text in pairs),
            )
        )
        printed = printed[rest + 1 :]
    return got


def read_in_group(bootstrap, topic, group, count):
    """Reads and, as it leaves, commits."""
    asked = ["-b", bootstrap, "-X", "auto.offset.reset=earliest", "-f", FORMAT, "-c", str(count), "-G", group, topic]
    return parse(kcat(*asked))


def offset(bootstrap, topic, partition, at):
    """What `-Q` tells: -1 asks for the end, -2 for the beginning."""
    told = kcat("-Q", "-b", bootstrap, "-t", f"{topic}:{partition}:{at}").decode()
    return int(re.search(r"offset (-?\d+)", told)[1])


def assigned(lines):
    """The partitions that the last of these lines assigned."""
    told = [line for line in lines if "assigned: " in line] or [""]
    return {int(p) for p in re.findall(r"\[(\d+)\]", told[-1].split("assigned: ")[-1])}


def shares(bootstrap, topic, group):
    """Two members say on standard error what they are assigned; the last that each said must share the topic."""
    asked = ["kcat", "-b", bootstrap, "-X", "auto.offset.reset=earliest", "-G", group, topic]
    members = [subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [deque(), deque()]
    for lines, each in zip(said, members):
        threading.Thread(target=lines.extend, args=[each.stderr], daemon=True).start()

    def shared():
        a, b = (assigned(lines) for lines in said)
        return a and b and not a & b and len(a | b) == PARTITIONS

    try:
        wait_for(shared, "two members share 3 partitions")
    finally:
        for each in members:
            each.terminate()
            each.wait()


class Kcat(matrix.Client):
    """What it calls a reader is the name of the group: each reading is a process of its own."""

    name, version = "kcat", version()

    def create(self):
        create(self.bootstrap, self.topic)

    def produce(self, codec, records):
        produce(self.bootstrap, self.topic, codec, records)

    def reader(self, group):
        return group

    def take(self, group, count):
        return read_in_group(self.bootstrap, self.topic, group, count)

    def close(self, group):
        pass

    def commit(self, group):
        raise scenario.Cannot("kcat commits when it leaves; resume shows it")

    def share(self, group):
        shares(self.bootstrap, self.topic, group)

    def offsets(self):
        ask = lambda p: tuple(offset(self.bootstrap, self.topic, p, at) for at in (-2, -1, 1))
        return [ask(p) for p in range(PARTITIONS)]

    def more_steps(self, report):
        """A topic that is made by producing to it, and described."""
        topic = f"{self.topic}-auto"
        with report.step("made by producing"):
            kcat("-P", "-b", self.bootstrap, "-t", topic, stdin=b"first")
            told = kcat("-L", "-b", self.bootstrap, "-t", topic).decode()
            assert f'topic "{topic}" with 1 partitions' in told, told

    def stream(self, count):
        """kcat acknowledges by exiting with 0, so a third is taken to be acknowledged when it was written."""
        self.create()
        run = Stream(self.name, self.version, count)
        asked = ["-P", "-b", self.bootstrap, "-t", self.topic, "-p", "0", "-X", "enable.idempotence=true"]
        producer = subprocess.Popen([*KCAT, *asked, "-X", "linger.ms=5"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for i in range(count):
            producer.stdin.write(b"%d\n" % i)
            producer.stdin.flush()
            run.ack(i)
            run.pace(i)
        _, told = producer.communicate(timeout=120)
        if producer.returncode != 0:
            run.acked.clear()
            run.refuse(f"exit {producer.returncode}: {told.decode()}")
        printed = kcat("-C", "-b", self.bootstrap, "-t", self.topic, "-o", "beginning", "-e", timeout=120)
        run.print([int(line) for line in printed.split()])


if __name__ == "__main__":
    matrix.main(Kcat)
