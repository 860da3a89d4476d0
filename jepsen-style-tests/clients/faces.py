"""Across the faces: what a Kafka client produced with each codec is read by `flotilla consume`, and the other way round.

Both sides speak of the records of python/scenario.py, which each language's scenario makes alike."""

import base64
import json
import subprocess

import programs
import scenario


def flotilla(brokers, *asked, stdin=b""):
    command = [brokers.binary, *asked, "--brokers", brokers.own_face]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr.decode(errors='replace')}"
    return done.stdout


def content(fields, name="value"):
    """Bytes or None: what is no text is told in base64."""
    if f"{name}_base64" in fields:
        return base64.b64decode(fields[f"{name}_base64"])
    return None if fields[name] is None else fields[name].encode()


def header(told):
    if isinstance(told, dict):
        return told["key"], content(told)
    return told[0], content({"value": told[1]})


def read_line(line):
    told = json.loads(line)
    headers = tuple(map(header, told.get("headers", [])))
    return scenario.Record(told["partition"], content(told, "key"), content(told), headers)


def written_line(record):
    """Text where it is text, base64 elsewhere, so that both are read."""
    line = {"partition": record.partition, "headers": [[name, value.decode()] for name, value in record.headers]}
    for name, data in (("key", record.key), ("value", record.value)):
        try:
            line[name] = None if data is None else data.decode()
        except UnicodeDecodeError:
            line[f"{name}_base64"] = base64.b64encode(data).decode()
    return json.dumps(line).encode() + b"\n"


def read_here(brokers, topic):
    """Reads with `flotilla consume` what the client's scenario sent to `topic`, with every codec and once more without."""
    sent = [record for codec in scenario.CODECS for record in scenario.records(codec)]
    sent += scenario.records("none", scenario.RESUMED_RECORDS)
    printed = flotilla(brokers, "consume", topic, "-e", "-f", "json")
    scenario.compare(sent, [read_line(line) for line in printed.splitlines()])


def write_here(brokers, topic):
    """Makes `topic` and sends to it with `flotilla produce` and every codec, for the client to read."""
    flotilla(brokers, "topic", "create", topic, "--partitions", str(scenario.PARTITIONS), "--wait")
    for codec in scenario.CODECS:
        lines = b"".join(map(written_line, scenario.records(codec)))
        # All in one batch of each partition, so that there is something to compress.
        flotilla(brokers, "produce", topic, "-f", "json", "-z", codec, "--linger", "200ms", stdin=lines)


def write_for(command, brokers, topic):
    write_here(brokers, topic)
    came, _ = programs.run_program([*command, brokers.bootstrap, topic, "--read"])
    assert not isinstance(came, str), came
    assert came["steps"]["read"] == "ok", came["steps"]["read"]


def steps(command, brokers, topic):
    """What both came to, for the client that `command` runs and the topic of its scenario."""
    steps = {}
    with scenario.Step(steps, "read here"):
        read_here(brokers, topic)
    with scenario.Step(steps, "written here"):
        write_for(command, brokers, f"{topic}-ours")
    return steps
