"""Runs the clients' programs, and kills brokers while they run."""

import json
import os
import subprocess
import threading
import time

import cluster

STREAM_RECORDS = 6000
# Of one program's scenario. Most take 15 s; one whose every step fails waits in each.
PROGRAM_SECONDS = 300
# Between a kill and the restart.
DEAD_SECONDS = 3
# What the programs' logs have where a broker refused a sequence number that was the next one.
OUT_OF_ORDER = ("OUT_OF_ORDER", "OutOfOrder", "out of order")


def run_program(command, on_line=lambda line: None, seconds=PROGRAM_SECONDS, **environment):
    """Its last line as JSON, and what it said on standard error; `on_line` sees each line when it comes. What goes wrong is a
    text instead of the JSON."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, errors="replace", env=environment, **pipes)
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    told = []
    reader = threading.Thread(target=lambda: told.extend(process.stderr))
    reader.start()
    last = ""
    for line in process.stdout:
        last = line
        on_line(line.strip())
    process.wait()
    reader.join()
    if not timer.is_alive():
        return f"killed after {seconds} s: {''.join(told)[-1500:]}", told
    timer.cancel()
    if process.returncode != 0 or not last.startswith("{"):
        return f"exit {process.returncode}: {''.join(told)[-1500:]}", told
    return json.loads(last), told


def run_scenario(command, brokers, topic):
    """The version that the program told, and what each step came to."""
    came, _ = run_program([*command, brokers.bootstrap, topic])
    if isinstance(came, str):
        return "?", {"create": came}
    return came["version"], came["steps"]


def run_stream(command, brokers, topic):
    """What the long run came to, with the broker that leads most killed in the middle."""
    killed = []

    def on_line(line):
        if line == "a third is acknowledged" and brokers.kills:
            killed.append(brokers.kill(topic))

    came, _ = run_program([*command, brokers.bootstrap, topic, "--stream", str(STREAM_RECORDS)], on_line)
    for address in killed:
        brokers.revive(address)
        cluster.wait_whole(brokers.bootstrap, topic)
    if isinstance(came, str):
        return came
    if brokers.kills and not killed:
        return f"no broker was killed: {came}"
    return "ok" if is_whole(came) else json.dumps(came)


def is_whole(came):
    """Whether a long run has all that was sent, once each where the producer is idempotent, and was refused nothing."""
    twice = came["duplicates"] if came["idempotent"] else 0
    return not (came["missing"] or twice or came["refused"]) and came["acked"] == came["sent"]


class Kills(threading.Thread):
    """Kills the broker that leads most of a topic, starts it again and, when all follow again, goes on; `count` times in all,
    one each `seconds`, until `ended` is set."""

    def __init__(self, brokers, topic, count, seconds):
        super().__init__()
        self.brokers, self.topic, self.count, self.seconds = brokers, topic, count, seconds
        self.killed, self.ended = 0, threading.Event()

    def run(self):
        # To ask for the topic by name would make it.
        while self.topic not in cluster.topics(self.brokers.bootstrap):
            if self.ended.wait(0.2):
                return
        cluster.wait_whole(self.brokers.bootstrap, self.topic)
        began = time.monotonic()
        for at in range(self.count):
            if self.ended.wait(max(0, began + at * self.seconds - time.monotonic())):
                return
            address = self.brokers.kill(self.topic)
            self.killed += 1
            self.ended.wait(DEAD_SECONDS)
            self.brokers.revive(address)
            cluster.wait_whole(self.brokers.bootstrap, self.topic)


def run_kills(command, brokers, topic, count, seconds):
    """A long run with `count` kills, one each `seconds`: whether it is whole, and its figures."""
    # The last broker that was killed is back before the last record is sent.
    length, kills = (count + 1) * seconds, Kills(brokers, topic, count, seconds)
    records = STREAM_RECORDS * length // 15
    kills.start()
    asked = [*command, brokers.bootstrap, topic, "--stream", str(records)]
    came, told = run_program(asked, seconds=PROGRAM_SECONDS + length, STREAM_SECONDS=str(length))
    kills.ended.set()
    kills.join()
    if isinstance(came, str):
        return False, came
    refusals = sum(any(word in line for word in OUT_OF_ORDER) for line in told)
    figures = {name: came[name] for name in ("sent", "acked", "missing", "duplicates", "refused")}
    figures |= {"kills": kills.killed, "out of order": refusals}
    figures |= {"refusal": came["refusal"]} if came.get("refusal") else {}
    return is_whole(came) and kills.killed == count and not refusals, figures
