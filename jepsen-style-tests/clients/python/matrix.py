"""The scenario and the long run of ../README.md, once for all clients of Python: each of them says how it does a thing."""

import threading

import scenario
from scenario import PARTITIONS, Report, Stream


class Client:
    """A client of the matrix; what a subclass must have is listed where it is missing here.

    A *reader* below is whatever the client calls a consumer in a group."""

    name, version = None, None
    # Whether it sends a record that has neither key nor value.
    both_null = True

    def __init__(self, bootstrap, topic):
        self.bootstrap, self.topic, self.group = bootstrap, topic, f"{topic}-group"

    # create(): makes the topic and waits until its partitions have leaders.
    # produce(codec, records): sends them, and returns when all are acknowledged.
    # reader(group), rest(reader, seconds): records in a group; `rest` is what comes within so long. `take` and `close` may be others.
    # commit(reader): commits what it took; what is committed of each partition, in their order, as it is read back.
    # share(group): two members, until they share the partitions.
    # offsets(): of each partition the first offset, the last, and the first since 1970.
    # send(run): sends the numbers of the long run, and tells `run` of each what came of it.

    def take(self, reader, count):
        got = []

        def all_came():
            got.extend(self.rest(reader, 0.2))
            return len(got) >= count

        scenario.wait_for(all_came, f"{count} records were read", pause=0)
        return got

    def close(self, reader):
        reader.close()

    def records(self, codec, count=scenario.RECORDS_PER_CODEC):
        return scenario.records(codec, count, self.both_null)

    def more_steps(self, report):
        """Steps that not every client has. They go on beside the others, since all wait for groups most of the time."""

    def run(self):
        report, sent = Report(self.name, self.version), []
        with report.step("create"):
            self.create()
        beside = threading.Thread(target=self.more_steps, args=[report])
        beside.start()
        for codec in scenario.CODECS:
            with report.step(codec):
                self.produce(codec, self.records(codec))
                sent += self.records(codec)
        with report.step("consume"):
            reader = self.reader(self.group)
            scenario.compare(sent, self.take(reader, len(sent)))
        with report.step("commit"):
            committed, ends = self.commit(reader), [len(each) for each in scenario.by_partition(sent).values()]
            assert committed == ends, f"committed {committed}, read to {ends}"
            self.close(reader)
        with report.step("resume"):
            more = self.records("none", scenario.RESUMED_RECORDS)
            self.produce("none", more)
            self.read_all(more, self.group)
            sent += more
        with report.step("rebalance"):
            self.share(f"{self.group}-two")
        with report.step("offsets"):
            expected = [(0, len(each), 0) for each in scenario.by_partition(sent).values()]
            assert self.offsets() == expected, f"begins, ends, begins after 1970 at {self.offsets()}, not {expected}"
        beside.join()
        report.print()

    def read_all(self, sent, group):
        reader = self.reader(group)
        scenario.compare(sent, self.take(reader, len(sent)))
        self.close(reader)

    def read(self):
        """Reads what `flotilla produce` wrote with each codec."""
        report = Report(self.name, self.version)
        with report.step("read"):
            self.read_all([r for codec in scenario.CODECS for r in scenario.records(codec)], f"{self.topic}-readers")
        report.print()

    def stream(self, count):
        self.create()
        run = Stream(self.name, self.version, count)
        self.send(run)
        reader = self.reader(self.group)
        got = self.take(reader, len(run.acked))
        # Duplicates would come after what is awaited.
        while more := self.rest(reader, 1.0):
            got += more
        self.close(reader)
        run.print([int(record.value) for record in got])


def are_shared(assignments):
    """Whether two members have some partitions each, none both, and together all."""
    a, b = ({p.partition for p in each} for each in assignments)
    return a and b and not a & b and len(a | b) == PARTITIONS


def main(client):
    """Does what the command line asks of this kind of client."""
    asked = scenario.arguments()
    client = client(asked.bootstrap, asked.topic)
    if asked.read:
        client.read()
    elif asked.stream:
        client.stream(asked.stream)
    else:
        client.run()
