"""confluent-kafka in groups: what a third member takes from two, static members that come back, and one of two with one id.

The members' topic has 6 partitions, so that two have 3 each and three have 2."""

import time

from confluent_kafka import Consumer

from confluent_topics import create
from scenario import wait_for

PARTITIONS = 6
HEARTBEAT_MS = 500
# In so many heartbeats a member hears of a rebalance, if there is one.
QUIET_SECONDS = 4 * HEARTBEAT_MS / 1000


class Member:
    """A consumer, what it owns, and each change of that in the order they came."""

    def __init__(self, bootstrap, topic, group, assignor, instance=None):
        settings = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "partition.assignment.strategy": assignor,
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": HEARTBEAT_MS,
            "enable.auto.commit": False,
        }
        self.owned, self.changes, self.errors = set(), [], []
        self.consumer = Consumer(settings | ({"group.instance.id": instance} if instance else {}))
        changed = lambda name: lambda _, partitions: self.changed(name, {p.partition for p in partitions})
        told = {f"on_{name}": changed(name) for name in ("assign", "revoke", "lost")}
        self.consumer.subscribe([topic], **told)

    def changed(self, name, partitions):
        self.changes.append((name, partitions))
        self.owned = self.owned | partitions if name == "assign" else self.owned - partitions

    def poll(self):
        message = self.consumer.poll(0.05)
        if message is not None and message.error():
            self.errors.append(message.error())


def wait_even(members):
    """Waits until all own equally many, and every partition is owned."""

    def even():
        for each in members:
            each.poll()
        owned = [each.owned for each in members]
        return set.union(*owned) == set(range(PARTITIONS)) and {len(o) for o in owned} == {PARTITIONS // len(members)}

    wait_for(even, f"{len(members)} members share {PARTITIONS} partitions evenly", pause=0)


def assert_undisturbed(*members):
    """None of them hears of a rebalance."""
    before, until = [list(each.changes) for each in members], time.monotonic() + QUIET_SECONDS
    while time.monotonic() < until:
        for each in members:
            each.poll()
    assert [each.changes for each in members] == before, f"{[each.changes for each in members]}, before: {before}"


def cooperative(bootstrap, topic, group):
    """Of what two members own, a third takes two partitions, and the other four are never revoked."""
    members = [Member(bootstrap, topic, group, "cooperative-sticky") for _ in range(2)]
    wait_even(members)
    before = [set(each.owned) for each in members]
    seen = [len(each.changes) for each in members]
    members.append(Member(bootstrap, topic, group, "cooperative-sticky"))
    wait_even(members)
    for each, owned, at in zip(members, before, seen):
        taken = [(name, partitions) for name, partitions in each.changes[at:] if partitions]
        assert len(taken) == 1 and taken[0] == ("revoke", owned - each.owned), f"owned {owned}, then {taken}"
        assert len(owned - each.owned) == 1, f"owned {owned}, and then {each.owned}"
    for each in members:
        each.consumer.close()


def static(bootstrap, topic, group):
    """Each of two static members goes and comes back, to what it had; the other hears nothing of it. Returns both."""
    join = lambda instance: Member(bootstrap, topic, group, "range", instance)
    members = [join("first"), join("second")]
    wait_even(members)
    assert_undisturbed(*members)
    for at, instance in enumerate(("first", "second")):
        owned, other = set(members[at].owned), members[1 - at]
        seen = list(other.changes)
        members[at].consumer.close()
        members[at] = join(instance)
        wait_even(members)
        assert_undisturbed(*members)
        assert members[at].owned == owned, f"{instance} owned {owned}, and when it came back {members[at].owned}"
        assert other.changes == seen, f"while {instance} was away, the other saw {other.changes[len(seen) :]}"
    return members


def fenced(bootstrap, topic, group, members):
    """A second `first` takes what the first one had, which is told that it is fenced; `second` hears nothing of it."""
    first, second = members
    owned, seen = set(first.owned), list(second.changes)
    rival = Member(bootstrap, topic, group, "range", "first")

    def all_told():
        for each in (first, second, rival):
            each.poll()
        return first.errors and rival.owned

    wait_for(all_told, "the first is fenced and its rival owns something", pause=0)
    assert "fenced" in str(first.errors[0]).lower(), first.errors
    assert rival.owned == owned, f"the first owned {owned}, its rival {rival.owned}"
    assert_undisturbed(second, rival)
    assert second.changes == seen, f"the other saw {second.changes[len(seen) :]}"
    assert not rival.errors, rival.errors
    for each in (first, second, rival):
        each.consumer.close()


def run(report, bootstrap, topic):
    """The steps, on a topic of their own."""
    topic, members = f"{topic}-six", []
    with report.step("cooperative"):
        create(bootstrap, topic, PARTITIONS)
        cooperative(bootstrap, topic, f"{topic}-cooperative")
    with report.step("static"):
        members = static(bootstrap, topic, f"{topic}-static")
    with report.step("fenced"):
        fenced(bootstrap, topic, f"{topic}-static", members)
