"""How long a large group takes until it is stable: 50 members on 200 partitions, 10 more, 10 killed.

Stable is: every partition is owned by exactly one living member, and nobody was assigned or revoked anything for QUIET_SECONDS
after that. What counts is the time from the first member's start, or the kill, to the last assignment. The killed do not leave
the group: they are missed once their session has timed out, so that SESSION_MS is part of that figure. Part of the first is what
the broker waits for further members (group.initial.rebalance.delay.ms, 3 s by itself; Kafka's begins once more if one came)."""

import json
import statistics
import subprocess
import sys
import threading
import time

import install

MEMBERS, MORE, PARTITIONS = 50, 10, 200
MEMBERS_PER_PROCESS = 10
SESSION_MS = 10_000
# Longer than the members' time between two heartbeats (3 s), after which they hear of a rebalance.
QUIET_SECONDS = 7
STABLE_WITHIN_SECONDS = 120
PHASES = [f"start of {MEMBERS}", f"{MORE} more", f"{MORE} killed"]


class Members:
    """The processes of one group, and what each member owns by its own word."""

    def __init__(self, bootstrap, topic, group):
        self.command = [*install.python("group_members.py"), bootstrap, topic, group]
        self.processes, self.readers = [], []
        self.lock = threading.Lock()
        self.owned, self.changes, self.last = {}, 0, 0.0

    def start(self, count):
        asked = [str(MEMBERS_PER_PROCESS), "--session-ms", str(SESSION_MS)]
        for _ in range(count // MEMBERS_PER_PROCESS):
            process = subprocess.Popen([*self.command, *asked], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.processes.append(process)
            reader = threading.Thread(target=self.read, args=[process], daemon=True)
            reader.start()
            self.readers.append(reader)

    def read(self, process):
        for line in process.stdout:
            told = json.loads(line)
            with self.lock:
                self.owned[told["member"]] = told["partitions"]
                self.changes, self.last = self.changes + 1, told["at"]

    def kill_one(self):
        process, reader = self.processes.pop(), self.readers.pop()
        process.kill()
        process.wait()
        reader.join()
        with self.lock:
            for member in [each for each in self.owned if each.startswith(f"{process.pid}-")]:
                del self.owned[member]

    def stop(self):
        while self.processes:
            self.kill_one()

    def is_shared(self, count):
        """Whether `count` members own every partition, each once."""
        with self.lock:
            owned = [p for partitions in self.owned.values() for p in partitions]
            living = len(self.owned)
        return living == count and sorted(owned) == list(range(PARTITIONS))

    def wait_stable(self, count, since):
        """Seconds from `since` to the last assignment, and how many assignments and revocations there were."""
        until, changes_before = since + STABLE_WITHIN_SECONDS, self.changes
        while not (self.is_shared(count) and time.monotonic() - max(self.last, since) > QUIET_SECONDS):
            if time.monotonic() > until:
                raise TimeoutError(f"{count} members do not share {PARTITIONS} partitions after {STABLE_WITHIN_SECONDS} s")
            time.sleep(0.05)
        return self.last - since, self.changes - changes_before


def one_round(bootstrap, topic, group):
    """Of each phase the seconds and the changes."""
    members, came = Members(bootstrap, topic, group), []

    def measure(change, count):
        since = time.monotonic()
        change()
        came.append(members.wait_stable(count, since))

    try:
        measure(lambda: members.start(MEMBERS), MEMBERS)
        measure(lambda: members.start(MORE), MEMBERS + MORE)
        measure(members.kill_one, MEMBERS)
    finally:
        members.stop()
    return came


def measure(systems, rounds, stamp):
    """Runs the rounds against each system in turn and prints a table. `systems`: name and bootstrap."""
    program, topic = install.python("group_members.py"), f"group-{stamp}"
    for bootstrap in systems.values():
        subprocess.run([*program, bootstrap, topic, "-", "0", "--create", str(PARTITIONS)], check=True)
    figures = {name: [] for name in systems}
    for at in range(rounds):
        for name, bootstrap in systems.items():
            came = one_round(bootstrap, topic, f"{topic}-{at}")
            figures[name].append(came)
            told = ", ".join(f"{phase} {seconds:.1f} s" for phase, (seconds, _) in zip(PHASES, came))
            print(f"test-clients: group, round {at + 1}, {name}: {told}", file=sys.stderr)
    table(figures)


def table(figures):
    print(f"{PARTITIONS} partitions, session timeout {SESSION_MS / 1000:.0f} s; seconds until stable: median (lowest to highest),")
    print("and assignments and revocations in all (median)")
    print(f"{'':16}" + "".join(f"{phase:>30}" for phase in PHASES))
    for name, rounds in figures.items():
        cells = []
        for phase in zip(*rounds):
            seconds = [each for each, _ in phase]
            changes = statistics.median(each for _, each in phase)
            cells.append(f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f}), {changes:.0f}")
        print(f"{name:16}" + "".join(f"{cell:>30}" for cell in cells))
