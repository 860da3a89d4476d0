"""Writes the golden bytes of the Kafka listener: src/kafka/tests/golden/*.txt.

An encoder of its own, straight from Apache Kafka's message specifications (the JSON files that kafka-python 3 carries), so
that what the listener is held to was made by neither its codec nor its code. Each message is then read back by
kafka-python. What only a running broker knows (ids that are drawn, a term) stays open, as <name:bytes>.

    ~/.cache/flotilla/clients/python/bin/python jepsen-style-tests/clients/python/golden.py src/kafka/tests/golden
"""

import importlib.util
import json
import re
import struct
import sys
from pathlib import Path

SPECS = Path(importlib.util.find_spec("kafka").origin).parent / "protocol/schemas/resources"
INTEGERS = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "int64": ">q"}
CLIENT = "golden"


class Open:
    """Bytes that a running broker chooses."""

    def __init__(self, name, length):
        self.name, self.length = name, length


TOPIC_ID = Open("topic-id", 16)
CLUSTER_ID = Open("cluster-id", 32)
EPOCH = Open("epoch", 4)
OLD_MEMBER = Open("old-member", len(CLIENT) + 33)
NEW_MEMBER = Open("new-member", len(CLIENT) + 33)


def within(versions, version):
    if versions in (None, "none"):
        return False
    low, _, high = versions.partition("-")
    if versions.endswith("+"):
        return version >= int(versions[:-1])
    return int(low) <= version <= int(high or low)


class Message:
    """One message as lines of hex, each with the name of its field."""

    def __init__(self, name, version, flexible=None):
        text = re.sub(r"^\s*//.*$", "", (SPECS / f"{name}.json").read_text(), flags=re.M)
        self.spec = json.loads(re.sub(r"\s//.*$", "", text, flags=re.M))
        self.common = {struct["name"]: struct["fields"] for struct in self.spec.get("commonStructs", [])}
        self.version = version
        self.flexible = within(self.spec["flexibleVersions"], version) if flexible is None else flexible
        self.lines = []

    def put(self, bytes, note):
        self.lines.append((bytes, note))

    def encode(self, values):
        self.fields(self.spec["fields"], values, "")
        return self.lines

    def fields(self, fields, values, path):
        unknown = set(values) - {field["name"] for field in fields}
        assert not unknown, f"{self.spec['name']} has no {unknown}"
        for field in fields:
            name = field["name"]
            if not within(field["versions"], self.version):
                assert name not in values, f"{path}{name} is not of version {self.version}"
            elif within(field.get("taggedVersions"), self.version):
                assert name not in values, "tagged fields are all left out"
            else:
                value = values[name] if name in values else default(field)
                nullable = within(field.get("nullableVersions"), self.version)
                flexible = self.flexible and field.get("flexibleVersions") != "none"
                self.value(field["type"], field.get("fields"), value, path + name, nullable, flexible)
        if self.flexible:
            self.put(b"\0", f"{path or self.spec['name'] + ' '}tags")

    def value(self, kind, fields, value, path, nullable, flexible):
        if kind == "bool":
            self.put(struct.pack("?", value), f"{path} = {value}")
        elif isinstance(value, Open) and (kind in INTEGERS or kind == "uuid"):
            self.put(value, path)
        elif kind in INTEGERS:
            self.put(struct.pack(INTEGERS[kind], value), f"{path} = {value}")
        elif kind == "uuid":
            self.put(value, path)
        elif kind.startswith("[]"):
            self.array(kind[2:], fields, value, path, nullable, flexible)
        elif kind in ("string", "bytes", "records"):
            self.text(kind, value, path, nullable, flexible)
        else:
            self.fields(fields or self.common[kind], value, path + ".")

    def array(self, kind, fields, values, path, nullable, flexible):
        assert values is not None or nullable, path
        self.length("array", None if values is None else len(values), f"{path}: ", flexible)
        for at, value in enumerate(values or []):
            if kind[0].isupper():
                self.fields(fields or self.common[kind], value, f"{path}[{at}].")
            else:
                self.value(kind, None, value, f"{path}[{at}]", False, flexible)

    def text(self, kind, value, path, nullable, flexible):
        assert value is not None or nullable, path
        bytes = value.encode() if isinstance(value, str) else value
        length = bytes.length if isinstance(bytes, Open) else None if bytes is None else len(bytes)
        self.length(kind, length, f"{path}: ", flexible)
        if length:
            self.put(bytes, f"{path} = {value!r}" if kind == "string" and not isinstance(value, Open) else path)

    def length(self, kind, length, note, flexible):
        note += "null" if length is None else f"{length} {'elements' if kind == 'array' else 'bytes'}"
        if flexible:
            self.put(varint(0 if length is None else length + 1), note + ", plus 1")
        else:
            self.put(struct.pack(">h" if kind == "string" else ">i", -1 if length is None else length), note)


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def default(field):
    said, kind = field.get("default"), field["type"]
    if said == "null":
        return None
    if kind == "bool":
        return said == "true"
    if kind in INTEGERS:
        return int(said or 0)
    if kind.startswith("[]"):
        return []
    return {"string": said or "", "uuid": bytes(16)}[kind]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def batch(value):
    """One record of this value, in format 2."""
    zigzag = lambda number: varint(number << 1)
    body = b"\0" + zigzag(0) + zigzag(0) + b"\x01" + zigzag(len(value)) + value + zigzag(0)
    record = zigzag(len(body)) + body
    checked = struct.pack(">hiqqqhii", 0, 0, 1_000, 1_000, -1, -1, -1, 1) + record
    return struct.pack(">qiibI", 0, len(checked) + 9, -1, 2, crc32c(checked)) + checked


class Story:
    """Requests of one connection, one after the other, and what each is answered."""

    def __init__(self, name):
        self.name, self.next, self.out = name, 1, []

    def ask(self, api, version, what, request, answer):
        header = Message("RequestHeader", 2 if self.is_flexible(api, version) else 1)
        asked = Message(f"{api}Request", version)
        key = asked.spec["apiKey"]
        head = header.encode(
            dict(RequestApiKey=key, RequestApiVersion=version, CorrelationId=self.next, ClientId=CLIENT)
        )
        # Of ApiVersions the header is never flexible: who asks does not know yet what is understood.
        flexible = self.is_flexible(api, version) and api != "ApiVersions"
        answered = Message("ResponseHeader", 1 if flexible else 0).encode(dict(CorrelationId=self.next))
        body = Message(f"{api}Response", version).encode(answer)
        check(api, version, asked.encode(request), body)
        self.out.append(f"\n# {api}, version {version}: {what}.")
        self.frame(">", head + asked.lines)
        self.frame("<", answered + body)
        self.next += 1

    def is_flexible(self, api, version):
        return Message(f"{api}Request", version).flexible

    def frame(self, mark, lines):
        length = sum(bytes.length if isinstance(bytes, Open) else len(bytes) for bytes, _ in lines)
        self.out.append(mark)
        for bytes, note in [(struct.pack(">i", length), f"{length} bytes follow"), *lines]:
            text = f"<{bytes.name}:{bytes.length}>" if isinstance(bytes, Open) else bytes.hex()
            self.out.append(f"{text:<24} # {note}")

    def write(self, below):
        head = [
            "# Made by jepsen-style-tests/clients/python/golden.py from Apache Kafka's message specifications.",
            "# `>` begins a request, `<` its answer; <name:bytes> is what a running broker chose.",
        ]
        (below / f"{self.name}.txt").write_text("\n".join(head + self.out) + "\n")


def check(api, version, request, answer):
    """kafka-python reads the same bytes, to the last."""
    import kafka.protocol.admin, kafka.protocol.consumer, kafka.protocol.metadata, kafka.protocol.producer

    homes = [kafka.protocol.admin, kafka.protocol.consumer, kafka.protocol.metadata, kafka.protocol.producer]
    for suffix, lines in (("Request", request), ("Response", answer)):
        found = [getattr(home, api + suffix) for home in homes if hasattr(home, api + suffix)]
        assert found, f"kafka-python has no {api}{suffix}"
        raw = b"".join(b"0" * bytes.length if isinstance(bytes, Open) else bytes for bytes, _ in lines)
        decoded = found[0].decode(raw, version=version)
        decoded._header = None
        again = decoded.encode(version=version)
        assert again == raw, f"{api}{suffix} {version}: {again.hex()} by kafka-python, {raw.hex()} here"


def cluster():
    served = [
        (0, 0, 13), (1, 4, 17), (2, 1, 8), (3, 0, 13), (8, 2, 10), (9, 1, 10), (10, 0, 6), (11, 0, 9), (12, 0, 4),
        (13, 0, 5), (14, 0, 5), (15, 0, 6), (16, 0, 5), (18, 0, 4), (19, 2, 7), (20, 1, 6), (21, 0, 2), (22, 0, 5),
        (23, 2, 4), (32, 1, 4), (33, 0, 2), (35, 1, 4), (37, 0, 3), (42, 0, 2), (43, 0, 2), (44, 0, 1), (45, 0, 0),
        (46, 0, 0), (47, 0, 0), (60, 0, 2), (61, 0, 0), (75, 0, 0),
    ]
    keys = [dict(ApiKey=key, MinVersion=low, MaxVersion=high) for key, low, high in served]
    story = Story("cluster")
    story.ask("ApiVersions", 0, "all that is served", {}, dict(ApiKeys=keys))
    software = dict(ClientSoftwareName="golden", ClientSoftwareVersion="1")
    story.ask("ApiVersions", 4, "the same, without tagged fields", software, dict(ApiKeys=keys))
    partition = dict(PartitionIndex=0, LeaderId=1, ReplicaNodes=[1], IsrNodes=[1])
    broker = dict(NodeId=1, Host="kafka-1", Port=9092)
    story.ask(
        "Metadata", 0, "one topic, by its name", dict(Topics=[dict(Name="t")]),
        dict(Brokers=[broker], Topics=[dict(Name="t", Partitions=[partition])]),
    )
    story.ask(
        "Metadata", 13, "the same, by its id",
        dict(Topics=[dict(TopicId=TOPIC_ID, Name=None)], AllowAutoTopicCreation=False),
        dict(
            Brokers=[broker], ClusterId=CLUSTER_ID, ControllerId=1,
            Topics=[dict(Name="t", TopicId=TOPIC_ID, Partitions=[dict(partition, LeaderEpoch=EPOCH)])],
        ),
    )
    story.ask("FindCoordinator", 0, "one group", dict(Key="g"), broker)
    story.ask(
        "FindCoordinator", 6, "two groups", dict(KeyType=0, CoordinatorKeys=["g", "h"]),
        dict(Coordinators=[dict(broker, Key="g"), dict(broker, Key="h")]),
    )
    return story


def records():
    story = Story("records")
    data = lambda value: [dict(Index=0, Records=batch(value))]
    story.ask(
        "Produce", 3, "one batch of one record",
        dict(Acks=-1, TimeoutMs=20_000, TopicData=[dict(Name="t", PartitionData=data(b"a"))]),
        dict(Responses=[dict(Name="t", PartitionResponses=[dict(Index=0)])]),
    )
    story.ask(
        "Produce", 13, "the next one, by the topic's id",
        dict(Acks=-1, TimeoutMs=20_000, TopicData=[dict(TopicId=TOPIC_ID, PartitionData=data(b"b"))]),
        dict(Responses=[dict(TopicId=TOPIC_ID, PartitionResponses=[dict(Index=0, BaseOffset=1, LogStartOffset=0)])]),
    )
    latest = dict(PartitionIndex=0, Timestamp=-1)
    story.ask(
        "ListOffsets", 1, "the end", dict(ReplicaId=-1, Topics=[dict(Name="t", Partitions=[latest])]),
        dict(Topics=[dict(Name="t", Partitions=[dict(PartitionIndex=0, Offset=2)])]),
    )
    story.ask(
        "ListOffsets", 8, "the end, as its leader's readers ask",
        dict(ReplicaId=-1, Topics=[dict(Name="t", Partitions=[dict(latest, CurrentLeaderEpoch=EPOCH)])]),
        dict(Topics=[dict(Name="t", Partitions=[dict(PartitionIndex=0, Offset=2, LeaderEpoch=EPOCH)])]),
    )
    nobody = dict(TransactionalId=None, TransactionTimeoutMs=60_000)
    drawn = lambda name: dict(ProducerId=Open(name, 8), ProducerEpoch=0)
    story.ask("InitProducerId", 0, "a producer without transactions", nobody, drawn("first-producer"))
    story.ask("InitProducerId", 5, "another one", nobody, drawn("second-producer"))
    return story


def groups():
    story = Story("groups")
    reads, assigned = bytes.fromhex("0000000000010001740000000000"), bytes.fromhex("00000000000100017400000001000000")
    protocols = [dict(Name="range", Metadata=reads)]
    join = dict(SessionTimeoutMs=30_000, ProtocolType="consumer", Protocols=protocols)
    leads = lambda member: dict(
        GenerationId=1, ProtocolName="range", Leader=member, MemberId=member,
        Members=[dict(MemberId=member, Metadata=reads)],
    )
    of = lambda group, member: dict(GroupId=group, GenerationId=1, MemberId=member)
    assigns = lambda member: dict(Assignments=[dict(MemberId=member, Assignment=assigned)])
    story.ask("JoinGroup", 0, "the first member", dict(join, GroupId="old"), leads(OLD_MEMBER))
    story.ask(
        "SyncGroup", 0, "it assigns", dict(of("old", OLD_MEMBER), **assigns(OLD_MEMBER)), dict(Assignment=assigned)
    )
    story.ask("Heartbeat", 0, "it lives", of("old", OLD_MEMBER), {})
    committed = dict(PartitionIndex=0, CommittedOffset=5, CommittedMetadata="m")
    story.ask(
        "OffsetCommit", 2, "it has read five records",
        dict(
            GroupId="old", GenerationIdOrMemberEpoch=1, MemberId=OLD_MEMBER,
            Topics=[dict(Name="t", Partitions=[committed])],
        ),
        dict(Topics=[dict(Name="t", Partitions=[dict(PartitionIndex=0)])]),
    )
    found = dict(PartitionIndex=0, CommittedOffset=5, Metadata="m")
    story.ask(
        "OffsetFetch", 1, "where it was", dict(GroupId="old", Topics=[dict(Name="t", PartitionIndexes=[0])]),
        dict(Topics=[dict(Name="t", Partitions=[found])]),
    )
    modern = dict(join, GroupId="new", RebalanceTimeoutMs=60_000, GroupInstanceId=None, Reason=None)
    story.ask(
        "JoinGroup", 9, "a member is told its id first", modern,
        dict(ErrorCode=79, ProtocolType=None, ProtocolName=None, MemberId=NEW_MEMBER),
    )
    story.ask(
        "JoinGroup", 9, "and comes again with it", dict(modern, MemberId=NEW_MEMBER),
        dict(
            leads(NEW_MEMBER), ProtocolType="consumer",
            Members=[dict(MemberId=NEW_MEMBER, GroupInstanceId=None, Metadata=reads)],
        ),
    )
    names = dict(ProtocolType="consumer", ProtocolName="range")
    static = dict(of("new", NEW_MEMBER), GroupInstanceId=None)
    story.ask(
        "SyncGroup", 5, "it assigns", dict(static, **names, **assigns(NEW_MEMBER)), dict(names, Assignment=assigned)
    )
    story.ask("Heartbeat", 4, "it lives", static, {})
    story.ask(
        "OffsetCommit", 10, "it has read five records, of a topic by its id",
        dict(
            GroupId="new", GenerationIdOrMemberEpoch=1, MemberId=NEW_MEMBER, GroupInstanceId=None,
            Topics=[dict(TopicId=TOPIC_ID, Partitions=[committed])],
        ),
        dict(Topics=[dict(TopicId=TOPIC_ID, Partitions=[dict(PartitionIndex=0)])]),
    )
    story.ask(
        "OffsetFetch", 10, "where it was",
        dict(Groups=[dict(GroupId="new", MemberId=None, Topics=[dict(TopicId=TOPIC_ID, PartitionIndexes=[0])])]),
        dict(Groups=[dict(GroupId="new", Topics=[dict(TopicId=TOPIC_ID, Partitions=[found])])]),
    )
    return story


def topics():
    story = Story("topics")
    plain = dict(NumPartitions=1, ReplicationFactor=1)
    story.ask(
        "CreateTopics", 2, "two topics, one of which cannot be",
        dict(Topics=[dict(plain, Name="old"), dict(plain, Name="none", NumPartitions=0)], timeoutMs=30_000),
        dict(Topics=[
            dict(Name="old", ErrorMessage=None),
            dict(Name="none", ErrorCode=37, ErrorMessage="0 partitions: must be 1 or more, or -1 for the default"),
        ]),
    )
    # Kafka's numbers for where a value is from: 1, the topic; 5, nobody set it.
    defaults = [
        ("cleanup.policy", "delete"), ("compression.type", "producer"), ("max.message.bytes", "1048588"),
        ("message.timestamp.after.max.ms", "3600000"), ("message.timestamp.before.max.ms", "9223372036854775807"),
        ("message.timestamp.type", "CreateTime"), ("min.insync.replicas", "1"), ("retention.bytes", "-1"),
        ("retention.ms", None), ("segment.bytes", "67108864"), ("segment.ms", "604800000"),
    ]
    configs = [dict(Name=name, Value=value or "60000", ConfigSource=5 if value else 1) for name, value in defaults]
    asked = dict(plain, Name="new", Configs=[dict(Name="retention.ms", Value="60000")])
    made = dict(plain, Name="new", TopicId=Open("new-id", 16), ErrorMessage=None, Configs=configs)
    there = dict(Name="old", ErrorCode=36, ErrorMessage='topic "old" already exists', NumPartitions=-1, ReplicationFactor=-1)
    story.ask(
        "CreateTopics", 7, "one with a config, and one that is there",
        dict(Topics=[asked, dict(plain, Name="old")], timeoutMs=30_000), dict(Topics=[made, there]),
    )
    return story


def main():
    below = Path(sys.argv[1])
    for story in (cluster(), records(), groups(), topics()):
        story.write(below)


if __name__ == "__main__":
    main()
