"""Installs each client into a cache, by its own package manager, and says how its program is started.

The versions stand in the manifests beside the programs (python/requirements.txt, node/package.json, go/go.mod,
rust/Cargo.toml) and here for Java. What is there already and was made from the same files is left alone."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("FLOTILLA_CACHE", Path.home() / ".cache/flotilla")) / "clients"
JAVA_OLD, JAVA_NEW = "3.9.1", "4.4.0"
# The tools are a few versions behind: of kafka-tools, 4.4.0 is not in the repository.
TOOLS = "4.2.0"
SLF4J = ("org.slf4j", "slf4j-simple", "1.7.36")


# For one command of a package manager: a registry that cannot be reached must end the run, not hold it up.
COMMAND_SECONDS = 240
# librdkafka and what else is compiled, with one job.
RUST_SECONDS = 1200


class NotInstalled(Exception):
    pass


def run(*command, seconds=COMMAND_SECONDS, **options):
    """Quiet unless it fails."""
    shown, quiet = " ".join(map(str, command)), {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        done = subprocess.run(command, text=True, timeout=seconds, **quiet, **options)
    except subprocess.TimeoutExpired as late:
        raise NotInstalled(f"{shown}: not done after {seconds} s") from late
    if done.returncode != 0:
        raise NotInstalled(f"{shown}: exit {done.returncode}\n{done.stdout[-3000:]}")


def need(program, package):
    if not shutil.which(program):
        raise NotInstalled(f"{program} is missing; on Debian: apt-get install {package}")


def debian(is_there, *packages):
    """Installs what the quick clients need beside their own package manager, if it is missing."""
    if is_there:
        return
    print(f"test-clients: installing with apt-get: {' '.join(packages)}", file=sys.stderr)
    root = [] if os.geteuid() == 0 else ["sudo"]
    run(*root, "apt-get", "update", "-q")
    run(*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q", "--no-install-recommends", *packages)


def once(name, files, work):
    """Does `work` unless it was done with the same `files`, and says so since it takes long."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes() if isinstance(file, Path) else str(file).encode())
    stamp = CACHE / f"{name}.stamp"
    if not stamp.exists() or stamp.read_text() != digest.hexdigest():
        print(f"test-clients: installing {name} below {CACHE}", file=sys.stderr)
        CACHE.mkdir(parents=True, exist_ok=True)
        work()
        stamp.write_text(digest.hexdigest())


def kcat():
    """From Debian, whatever its version: that old one is what people have."""
    debian(shutil.which("kcat"), "kcat")


def python(program):
    environment, manifest = CACHE / "python", HERE / "python/requirements.txt"

    def install():
        # Debian's python3 cannot make an environment with pip by itself.
        has_pip = subprocess.run(["python3", "-c", "import ensurepip, venv"], capture_output=True).returncode == 0
        debian(has_pip, "python3-venv")
        run("python3", "-m", "venv", "--clear", environment)
        run(environment / "bin/pip", "install", "-q", "--disable-pip-version-check", "-r", manifest)

    once("python", [manifest], install)
    return [environment / "bin/python", HERE / "python" / program]


def node(program):
    need("npm", "nodejs npm")
    modules, manifest = CACHE / "node", HERE / "node/package.json"

    def install():
        modules.mkdir(exist_ok=True)
        shutil.copy(manifest, modules)
        run("npm", "install", "--silent", "--no-fund", "--no-audit", cwd=modules)

    once("node", [manifest], install)
    # An import is looked for beside the file that has it.
    for file in (HERE / "node").glob("*.mjs"):
        shutil.copy(file, modules)
    return ["node", modules / program]


def go(program):
    need("go", "golang")
    out, sources = CACHE / "go", sorted((HERE / "go").rglob("*.go"))
    build = lambda: run("go", "build", "-p", "1", "-o", f"{out}/", "./...", cwd=HERE / "go")
    out.mkdir(parents=True, exist_ok=True)
    once("go", [HERE / "go/go.mod", *sources], build)
    return [out / program]


def rust(program):
    need("cargo", "cargo")
    target, sources = CACHE / "rust", sorted((HERE / "rust/src").rglob("*.rs"))
    # Not the flags of the broker's own build, and one job: it is not alone on the machine.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RUSTFLAGS", "CARGO"))}
    asked = ["cargo", "build", "--locked", "-q", "-j", "1", "--target-dir", target]
    build = lambda: run(*asked, seconds=RUST_SECONDS, cwd=HERE / "rust", env=environment)
    once("rust", [HERE / "rust/Cargo.lock", *sources], build)
    return [target / "debug" / program]


def jars(name, *artifacts):
    """What these need at run time, from Maven's repository; their class path."""
    debian(shutil.which("mvn"), "maven")
    home = CACHE / name
    entry = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
    entries = "".join(entry.format(*artifact) for artifact in [*artifacts, SLF4J])
    pom = f"""<project><modelVersion>4.0.0</modelVersion>
<groupId>clients</groupId><artifactId>{name}</artifactId><version>1</version><dependencies>{entries}</dependencies></project>"""

    def install():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        (home / "pom.xml").write_text(pom)
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={home}/libs"]
        run("mvn", "-q", "-B", "-f", home / "pom.xml", *goal)

    once(name, [pom], install)
    return f"{home}/libs/*"


def java(version):
    debian(shutil.which("javac"), "default-jdk-headless")
    path = jars(f"java-{version}", ("org.apache.kafka", "kafka-clients", version))
    sources, classes = sorted((HERE / "java").glob("*.java")), CACHE / f"java-{version}-classes"
    once(f"java-{version}-classes", sources, lambda: run("javac", "-cp", path, "-d", classes, *sources))
    options = ["-Xmx256M", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return ["java", *options, "-cp", f"{classes}:{path}", "Client"]


def tools():
    """Kafka's console tools; the program takes them from the class path."""
    group = "org.apache.kafka"
    path = jars(f"tools-{TOOLS}", (group, "kafka-tools", TOOLS), (group, "kafka_2.13", TOOLS))
    kcat()
    return ["env", f"CLASSPATH={path}", f"KAFKA_TOOLS_VERSION={TOOLS}", *python("tools.py")]


def with_kcat():
    kcat()
    return python("kcat_client.py")


# Each client, and what installs it and gives the command that runs its program. The quick ones first.
CLIENTS = {
    "kcat": with_kcat,
    "confluent-kafka": lambda: python("confluent_kafka_client.py"),
    "kafka-python": lambda: python("kafka_python_client.py"),
    "java-new": lambda: java(JAVA_NEW),
    "java-3.9": lambda: java(JAVA_OLD),
    "aiokafka": lambda: python("aiokafka_client.py"),
    "kafkajs": lambda: node("kafkajs.mjs"),
    "platformatic": lambda: node("platformatic.mjs"),
    "franz-go": lambda: go("franzgo"),
    "sarama": lambda: go("sarama"),
    "rdkafka": lambda: rust("rdkafka"),
    "rskafka": lambda: rust("rskafka"),
    "tools": tools,
}
QUICK = ["kcat", "confluent-kafka", "kafka-python", "java-new"]
