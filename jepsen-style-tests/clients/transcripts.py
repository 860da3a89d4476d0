"""Compares what Kafka's tools printed against two brokers, line by line: transcripts.py DIR DIR.

The directories are those of `tools.py --transcripts`, for topics of the same name. What differs between any two runs is made alike
first: addresses, ids, times, which broker leads, how many records a partition was given. Exits 1 if something else differs."""

import difflib
import re
import sys
from pathlib import Path

# In this order: what looks like this, and what stands for it.
ALIKE = [
    (r"127\.0\.0\.1:\d{4,5}(,127\.0\.0\.1:\d{4,5})*", "ADDRESS"),
    (r"/tmp/[\w./-]+", "PATH"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", "UUID"),
    (r"TopicId: \S{22}", "TopicId: ID"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[:,.]\d{3}", "TIME"),
    (r"\b1[67]\d{11}(\.\d+)?\b|\b1[67]\d{8}\.\d{3}\b", "TIME"),
    # Which broker, and in which order.
    (r"(Leader: |leader |broker |broker\":|brokers? |\(id: |controllerid\":|leader\":|\"id\":|/)\d+(,\d+)*", r"\1N"),
    (r"((?:Replicas|Isr|replicas|isrs): )[\d,]+", r"\1N"),
    (r" \(controller\)", ""),
    (r"\((\d)\) ", "(N) "),
    # Rates and times of the perf tools.
    (r"\d+\.\d+", "FIGURE"),
    (r"\b\d+ ms\b", "FIGURE ms"),
    (r"FIGURE, FIGURE, (\d+), FIGURE, -?\d+, \d+,", r"FIGURE, FIGURE, \1, FIGURE, N, N,"),
    (r"\"size\":\d+", '"size":N'),
    # How many records each partition was given, beginnings and totals aside.
    (r"\b[1-9]\d{2,3}\b", "COUNT"),
    (r" +", " "),
]


def lines(file):
    told = file.read_text()
    for pattern, instead in ALIKE:
        told = re.sub(pattern, instead, told)
    # Lines of a stack only say where in the client it was told; the records that the perf tool made are letters by chance.
    left_out = re.compile(r"\tat |[A-Z]{100}$|\d{1,4}$")
    return [line.rstrip() for line in told.splitlines() if not left_out.match(line)]


def by_command(directory):
    """What each command printed; a command that was given again counts anew."""
    found, seen = {}, {}
    for file in sorted(Path(directory).glob("*.txt")):
        command, *told = lines(file)
        seen[command] = seen.get(command, 0) + 1
        found[command, seen[command]] = told
    return found


def main():
    first, second = map(by_command, sys.argv[1:3])
    for command, _ in first.keys() ^ second.keys():
        print(f"== only in one: {command}")
    both = [key for key in first if key in second]
    differ = [key for key in both if first[key] != second[key]]
    for key in differ:
        told = difflib.unified_diff(first[key], second[key], lineterm="", n=0)
        print(f"== {key[0]}", *list(told)[2:], sep="\n")
    print(f"{len(both)} commands, {len(differ)} differ")
    return 1 if differ or len(both) < max(len(first), len(second)) else 0


if __name__ == "__main__":
    sys.exit(main())
