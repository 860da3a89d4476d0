"""Runs the clients' programs, and kills a broker while they run."""

import json
import os
import subprocess
import threading

import cluster

STREAM_RECORDS = 6000
# Of one program's scenario. Most take 15 s; one whose every step fails waits in each.
PROGRAM_SECONDS = 300


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
