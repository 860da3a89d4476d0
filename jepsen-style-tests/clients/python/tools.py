"""Kafka's own console tools, and kcat's modes, each run as people run it: what it prints and how it exits.

With --transcripts DIR what each command printed is kept there, so that two brokers can be compared side by side."""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import scenario
from scenario import Report

CLIENT, VERSION = "kafka-tools", os.environ.get("KAFKA_TOOLS_VERSION", "?")
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx256M", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
TOOLS = {
    "topics": "org.apache.kafka.tools.TopicCommand",
    "configs": "kafka.admin.ConfigCommand",
    "groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "producer-perf": "org.apache.kafka.tools.ProducerPerformance",
    "consumer-perf": "org.apache.kafka.tools.ConsumerPerformance",
    "verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
    "verifiable-consumer": "org.apache.kafka.tools.VerifiableConsumer",
}
RECORDS = 3000


class Tools:
    def __init__(self, bootstrap, topic, transcripts):
        self.bootstrap, self.topic, self.group = bootstrap, topic, f"{topic}-group"
        self.transcripts, self.number = transcripts, 0

    def run(self, command, *expected, exit=0, stdin=b"", name):
        """Runs it and looks for each of `expected` (patterns) in what it printed, on both outputs together."""
        done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90)
        printed = done.stdout.decode(errors="replace")
        if self.transcripts:
            self.number += 1
            shown = " ".join([name, *command[command.index(TOOLS[name]) + 1 :]] if name in TOOLS else command)
            path = Path(self.transcripts) / f"{self.number:02} {name}.txt"
            path.write_text(f"$ {shown}\n{printed}[exit {done.returncode}]\n")
        told = f"{name} {' '.join(command[-6:])}: {printed[:800]}"
        assert exit is None or done.returncode == exit, f"exit {done.returncode}, not {exit}: {told}"
        for pattern in expected:
            assert re.search(pattern, printed, re.MULTILINE), f"no {pattern!r} in {told}"
        return printed

    def tool(self, name, asked, *expected, to="--bootstrap-server", exit=0):
        """One of Kafka's tools, with the words of `asked`."""
        asked = asked.format(topic=self.topic, group=self.group).split()
        return self.run(
            [*JAVA, TOOLS[name], *([to, self.bootstrap] if to else []), *asked], *expected, exit=exit, name=name
        )

    def kcat(self, asked, *expected, stdin=b"", exit=0):
        asked = asked.format(topic=self.topic, group=self.group).split()
        return self.run(["kcat", "-b", self.bootstrap, *asked], *expected, stdin=stdin, exit=exit, name="kcat")

    def topics(self):
        self.tool(
            "topics",
            "--create --topic {topic} --partitions 3 --replication-factor 3 --config retention.ms=3600000",
            "^Created topic",
        )
        self.tool("topics", "--create --topic {topic}", "already exists", exit=1)
        self.tool("topics", "--create --topic {topic} --if-not-exists")
        self.tool(
            "topics",
            "--create --topic {topic}-five --replication-factor 5",
            "InvalidReplicationFactorException",
            exit=1,
        )
        self.tool("topics", "--create --topic a+b", "InvalidTopicException", exit=1)
        self.tool("topics", "--create --topic {topic}-odd --config no.such.config=1", "[Cc]onfig", exit=1)
        told = self.tool(
            "topics",
            "--describe --topic {topic}",
            "PartitionCount: 3\tReplicationFactor: 3\tConfigs: .*retention.ms=3600000",
        )
        assert len(re.findall(r"Partition: \d\tLeader: \d+\tReplicas: \d+,\d+,\d+\tIsr: \d+,\d+,\d+", told)) == 3, told
        self.tool("topics", "--list", f"^{self.topic}$")
        self.tool("topics", "--alter --topic {topic} --partitions 4")
        self.tool("topics", "--describe --topic {topic}", "PartitionCount: 4")
        self.tool("topics", "--alter --topic {topic} --partitions 2", "InvalidPartitionsException", exit=1)
        self.tool("topics", "--describe --topic {topic}-none", "does not exist", exit=1)
        self.tool("topics", "--describe --under-replicated-partitions")

    def configs(self):
        self.tool(
            "configs",
            "--describe --entity-type topics --entity-name {topic} --all",
            "retention.ms=3600000",
            "cleanup.policy=delete",
            "max.message.bytes=",
        )
        self.tool(
            "configs",
            "--alter --entity-type topics --entity-name {topic} --add-config max.message.bytes=2000000",
            "Completed updating config",
        )
        self.tool("configs", "--describe --entity-type topics --entity-name {topic}", "max.message.bytes=2000000")
        self.tool(
            "configs",
            "--alter --entity-type topics --entity-name {topic} --delete-config max.message.bytes",
            "Completed updating config",
        )
        self.tool(
            "configs",
            "--alter --entity-type topics --entity-name {topic} --add-config no.such.config=1",
            "InvalidConfigurationException",
            exit=1,
        )
        self.tool(
            "configs",
            "--alter --entity-type topics --entity-name {topic} --add-config retention.ms=abc",
            "InvalidConfigurationException",
            exit=1,
        )
        self.tool("configs", "--describe --entity-type brokers --entity-name 1 --all", "All configs for broker 1 are:")

    def perf(self):
        props = f"bootstrap.servers={self.bootstrap}"
        sends = f"--topic {{topic}} --num-records {RECORDS} --record-size 100 --throughput -1 --producer-props {props}"
        self.tool("producer-perf", f"{sends} acks=all compression.type=lz4", f"^{RECORDS} records sent", to=None)
        self.tool(
            "consumer-perf",
            f"--topic {{topic}} --num-records {RECORDS} --group {{group}}-perf",
            rf"(?m)^\d{{4}}-.*, {RECORDS},",
        )

    def verifiable(self):
        told = self.tool("verifiable-producer", "--topic {topic} --max-messages 100 --acks -1", '"acked":100')
        assert told.count('"name":"producer_send_success"') == 100, told[-500:]
        self.tool(
            "verifiable-consumer",
            "--topic {topic} --group-id {group}-verifiable --max-messages 100",
            '"name":"records_consumed"',
            '"name":"offsets_committed".*"success":true',
        )

    def get_offsets(self):
        total = RECORDS + 100
        for asked, expected in [("", total), ("--time -1", total), ("--time earliest", 0)]:
            told = self.tool("get-offsets", f"--topic {{topic}} {asked}")
            found = [int(offset) for offset in re.findall(rf"^{self.topic}:\d:(\d+)$", told, re.MULTILINE)]
            assert len(found) == 4 and sum(found) == expected, f"{asked}: {found}"
        self.tool("get-offsets", "--topic {topic} --time max-timestamp", rf"^{self.topic}:\d:\d+$")

    def groups(self):
        reads = (
            f"--topic {{topic}} --group {{group}} --from-beginning --timeout-ms 10000 --max-messages {RECORDS + 100}"
        )
        self.tool("console-consumer", reads, f"Processed a total of {RECORDS + 100} messages")
        self.tool("groups", "--list", f"^{self.group}$")
        self.tool(
            "groups",
            "--describe --group {group}",
            "has no active members",
            rf"^{self.group} +{self.topic} +0 +(\d+) +\1 +0 +- ",
        )
        self.tool("groups", "--describe --group {group} --members", "has no active members")
        self.tool("groups", "--describe --group {group} --state", r"Empty +0")
        self.tool("groups", "--describe --group {group}-none", "does not exist|no active members|error", exit=None)

    def reset_offsets(self):
        reset = "--reset-offsets --group {group} --topic {topic}"
        self.tool("groups", f"{reset} --to-earliest --dry-run", rf"{self.topic} +0 +0")
        self.tool("groups", f"{reset} --to-earliest --execute", rf"{self.topic} +0 +0")
        self.tool("groups", f"{reset}:0 --shift-by 5 --execute", rf"{self.topic} +0 +5")
        self.tool("groups", "--describe --group {group}", rf"^{self.group} +{self.topic} +0 +5 ")
        self.tool("groups", f"{reset} --to-datetime 1999-01-01T00:00:00.000 --execute", rf"{self.topic} +3 +0")
        self.tool("groups", f"{reset} --to-latest --execute")
        self.tool("groups", "--delete-offsets --group {group} --topic {topic}", r"Successful")
        self.tool("groups", "--delete --group {group}", "Deletion of requested .*groups .* was successful")
        self.tool("groups", "--delete --group {group}-none", "GroupIdNotFoundException", exit=None)

    def delete_records(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"partitions": [{"topic": self.topic, "partition": 0, "offset": 10}], "version": 1}, file)
            file.flush()
            self.tool(
                "delete-records", f"--offset-json-file {file.name}", rf"partition: {self.topic}-0\tlow_watermark: 10"
            )
        self.tool("get-offsets", "--topic {topic} --time -2", f"^{self.topic}:0:10$")

    def log_dirs(self):
        told = self.tool(
            "log-dirs", "--describe --topic-list {topic}", "Received log directory information from brokers"
        )
        found = json.loads(told.splitlines()[-1])["brokers"]
        sizes = [p["size"] for broker in found for each in broker["logDirs"] for p in each["partitions"]]
        assert len(found) == 3 and len(sizes) == 12 and sum(sizes) > 0, told

    def cluster(self):
        self.tool("api-versions", "", r"Produce\(0\): \d+ to \d+")
        self.tool("leader-election", "--election-type preferred --all-topic-partitions", "")

    def kcat_modes(self):
        self.kcat("-L", r"^ 3 brokers:", rf'topic "{self.topic}" with 4 partitions')
        self.kcat("-L -t {topic}", r"partition 0, leader \d+, replicas: \d+,\d+,\d+, isrs: \d+,\d+,\d+")
        self.kcat("-L -J -t {topic}", f'"topic":"{self.topic}"')
        self.kcat("-P -t {topic}-kcat -K : -H a=1 -H a=2", stdin=b"k1:v1\nk2:v2\nk3:v3\n")
        self.kcat("-C -t {topic}-kcat -e -K :", "^k1:v1$", "^k3:v3$", "Reached end of topic")
        self.kcat("-C -t {topic}-kcat -e -J", '"headers":\\["a","1","a","2"\\]')
        self.kcat("-C -t {topic}-kcat -o -1 -e -q -f %o:%s\\n", "^2:v3$")
        self.kcat("-C -t {topic}-kcat -o 99 -e", exit=None)
        self.kcat("-C -t {topic}-none -e -X allow.auto.create.topics=false", "Unknown topic or partition", exit=None)
        self.kcat("-G {group}-kcat -c 3 -X auto.offset.reset=earliest {topic}-kcat", "rebalanced", "^v2$")
        self.kcat("-Q -t {topic}-kcat:0:-1", r"offset 3$")
        self.kcat("-Q -t {topic}-kcat:0:1", r"offset 0$")

    def delete(self):
        self.tool("topics", "--delete --topic {topic}")
        self.tool("topics", "--list")
        self.tool("topics", "--delete --topic {topic}-none", "does not exist", exit=1)


def main():
    parser = scenario.argument_parser()
    parser.add_argument("--transcripts")
    asked = parser.parse_args()
    tools = Tools(asked.bootstrap, asked.topic, asked.transcripts)
    report = Report(CLIENT, VERSION)
    steps = ["topics", "configs", "perf", "verifiable", "get_offsets", "groups", "reset_offsets", "delete_records"]
    for name in [*steps, "log_dirs", "cluster", "kcat_modes", "delete"]:
        with report.step(name):
            getattr(tools, name)()
    report.print()


if __name__ == "__main__":
    main()
