"""The brokers that the clients talk to: three of `flotilla local`, or some that run already."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 90


def metadata(bootstrap, topic=None):
    """What the brokers say, by kcat, whose JSON this is."""
    asked = ["kcat", "-b", bootstrap, "-m", "10", "-L", "-J", *(["-t", topic] if topic else [])]
    done = subprocess.run(asked, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(asked)}: {done.stderr}")
    return json.loads(done.stdout)


def topics(bootstrap):
    return [topic["topic"] for topic in metadata(bootstrap)["topics"]]


def leads_most(bootstrap, topic):
    """The broker that leads most of a topic's partitions, and its host:port."""
    told = metadata(bootstrap, topic)
    leaders = [p["leader"] for p in told["topics"][0]["partitions"]]
    broker = max(set(leaders), key=leaders.count)
    return broker, next(each["name"] for each in told["brokers"] if each["id"] == broker)


def wait_whole(bootstrap, topic):
    """Waits until all brokers are there and follow the topic again, so that the next one may be killed."""
    until, why = time.monotonic() + WAIT_SECONDS, ""
    while time.monotonic() < until:
        try:
            told = metadata(bootstrap, topic)
            partitions = told["topics"][0]["partitions"]
            if all(len(p["isrs"]) == len(p["replicas"]) and p["leader"] >= 0 for p in partitions):
                return
            why = json.dumps(partitions)
        except (RuntimeError, LookupError) as error:
            why = str(error)
        time.sleep(0.5)
    print(f"test-clients: the brokers are not whole again after {WAIT_SECONDS} s: {why}", file=sys.stderr)


class Own:
    """Three brokers of the binary FLOTILLA_BIN, which is built if none is named."""

    kills = True

    def __init__(self, keep):
        self.keep = keep
        self.binary = os.environ.get("FLOTILLA_BIN") or self.build()
        self.dir = tempfile.mkdtemp(prefix="flotilla-clients.")
        self.local("start", "--nodes", "3")
        nodes = json.loads(self.local("status", "--format", "json"))["nodes"]
        self.ids = {node["kafka"]: node["id"] for node in nodes}
        self.own_face = ",".join(node["client"] for node in nodes)
        self.bootstrap = ",".join(self.ids)

    @staticmethod
    def build():
        build = ". scripts/env.sh && cargo build --locked --release --workspace --bins >&2"
        subprocess.run(["bash", "-c", build], cwd=ROOT, check=True)
        return str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/flotilla")

    def local(self, *asked):
        command = [self.binary, "local", *asked, "--dir", self.dir]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"test-clients: {' '.join(command)}: exit {done.returncode}: {done.stderr}")
        return done.stdout

    def kill(self, topic):
        _, address = leads_most(self.bootstrap, topic)
        self.local("kill", str(self.ids[address]))
        return address

    def revive(self, address):
        self.local("restart", str(self.ids[address]))

    def stop(self):
        if self.keep:
            print(f"test-clients: kept: {self.binary} local status --dir {self.dir}", file=sys.stderr)
            return
        self.local("stop")
        shutil.rmtree(self.dir)


class Against:
    """Brokers that run already. Killed only if that was asked for, and then only if they are on this machine: the process
    that listens on the port is killed, and started again by the same command in the same place."""

    binary = None

    def __init__(self, bootstrap, kills):
        self.bootstrap, self.kills = bootstrap, kills
        self.killed = {}

    def kill(self, topic):
        _, address = leads_most(self.bootstrap, topic)
        host, port = address.rsplit(":", 1)
        assert host in ("127.0.0.1", "localhost"), f"{address} is not on this machine"
        told = subprocess.run(["ss", "-ltnpH", f"sport = :{port}"], capture_output=True, text=True).stdout
        pid = int(re.search(r"pid=(\d+)", told)[1])
        process = Path("/proc") / str(pid)
        words = lambda file: [word for word in (process / file).read_bytes().decode().split("\0") if word]
        environment = dict(word.split("=", 1) for word in words("environ") if "=" in word)
        self.killed[address] = (words("cmdline"), os.readlink(process / "cwd"), environment)
        os.kill(pid, signal.SIGKILL)
        return address

    def revive(self, address):
        command, cwd, environment = self.killed.pop(address)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.Popen(command, cwd=cwd, env=environment, start_new_session=True, **quiet)

    def stop(self):
        pass
