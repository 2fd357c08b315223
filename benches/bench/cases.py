"""The cases, and what one run of redis-benchmark says."""

import contextlib
import csv
import dataclasses
import io
import itertools
import shutil
import statistics
import subprocess
import time

from .process import cpu_seconds, cpu_split, interrupt
from .redis import Client


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    command: str
    requests: int
    clients: int = 50
    pipeline: int = 1
    size: int = 64
    keys: int = 10_000
    many: int = 1
    where: str = "plain"
    idle: int = 0
    workers: int = 1
    #: What redplane must reach against Envoy, CPU per request.
    goal: float | None = None

    def words(self):
        """The command as redis-benchmark takes it; every key is another one."""
        key, value = f"{prefix(self.size)}:__rand_int__", "x" * self.size
        one = [key, value] if self.command in ("SET", "MSET") else [key]
        return [self.command, *one * self.many]


def prefix(size):
    return f"v{size}"


def all_cases():
    rows = []

    def add(name, requests, goal=None, commands=("SET", "GET"), **more):
        rows.extend(Case(f"{command} {name}", command, requests, goal=goal, **more) for command in commands)

    for pipeline, requests, goal in ((1, 60_000, 0.50), (4, 100_000, 0.35), (16, 200_000, 0.20), (64, 320_000, 0.12)):
        add(f"64 B, 50 clients, pipeline {pipeline}", requests, goal, pipeline=pipeline)
    add("64 B, one client", 20_000, 0.70, clients=1)
    add("64 B, 500 clients", 60_000, clients=500)
    add("64 B, 5,000 idle + 50 clients", 60_000, commands=("GET",), idle=5_000)
    add("1 KiB, 50 clients", 60_000, size=1024)
    add("16 KiB, 50 clients", 20_000, size=16 * 1024, keys=1_000)
    add("64 KiB, 50 clients", 8_000, 0.75, size=64 * 1024, keys=300)
    add("10 keys, 50 clients", 20_000, commands=("MSET", "MGET"), many=10)
    add("100 keys, 50 clients", 4_000, 0.15, commands=("MSET", "MGET"), many=100)
    for pipeline, requests, mirror, tls in ((1, 60_000, 0.50, 0.60), (16, 200_000, 0.20, 0.30)):
        more = {"pipeline": pipeline}
        add(f"mirrored, pipeline {pipeline}", requests, mirror, commands=("SET",), where="mirror", **more)
        add(f"read policy REPLICA, pipeline {pipeline}", requests, commands=("GET",), where="replica", **more)
        add(f"TLS downstream, pipeline {pipeline}", requests, tls, where="tls-down", commands=("GET",), **more)
        add(f"TLS upstream, pipeline {pipeline}", requests, tls, where="tls-up", commands=("GET",), **more)
        add(f"Unix socket, pipeline {pipeline}", requests, where="unix", commands=("GET",), **more)
        add(f"two workers, pipeline {pipeline}", requests, workers=2, **more)
    return rows


@contextlib.contextmanager
def idle_connections(target, where, count):
    """Connections that stay open and say nothing more after one PING."""
    clients = []
    try:
        for _ in range(count):
            clients.append(Client(target.place(where)))
            clients[-1].ask(("PING",))
        yield
    finally:
        for client in clients:
            client.close()


def benchmark(case, flags, requests):
    """Runs redis-benchmark: requests per second, p50 and p99 in milliseconds."""
    command = ["redis-benchmark", *flags, "-c", case.clients, "-P", case.pipeline, "-n", requests,
               "-r", case.keys, "--csv", *case.words()]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    rows = list(csv.reader(io.StringIO(run.stdout)))
    if run.returncode or not rows or len(rows[-1]) < 8:
        raise SystemExit(f"{case.name}: redis-benchmark failed\n{run.stdout[-1000:]}\n{run.stderr[-1000:]}")
    rate, _, _, p50, _, p99, _ = map(float, rows[-1][-7:])
    return {"rate": rate, "p50": p50, "p99": p99}


def measure(case, target, share):
    """One repeat of one case; `share` of its requests."""
    requests = max(int(case.requests * share), case.clients * case.pipeline * 4)
    flags = target.address(case.where)
    with idle_connections(target, case.where, case.idle):
        before, split = cpu_seconds(target.pid), cpu_split(target.pid)
        result = benchmark(case, flags, requests)
        used, after = cpu_seconds(target.pid) - before, cpu_split(target.pid)
    user, system = (b - a for a, b in zip(split, after))
    result["cpu"] = used * 1e6 / requests
    result["user_share"] = user / (user + system) if user + system else None
    return result


def latency(target, key, requests):
    """p50 in milliseconds of one connection that asks for one key again and again. By the clock of Python: its own
    time is the same for all who are asked, and redis-benchmark's histogram has steps of 8 µs, which is too coarse here.
    """
    client, took = Client(target.place("plain")), []
    for _ in range(requests):
        begin = time.perf_counter_ns()
        client.ask(("GET", key))
        took.append(time.perf_counter_ns() - begin)
    client.close()
    return {"p50": statistics.median(took) / 1e6}


def watcher(pid):
    """A command that counts system calls, and instructions where the machine counts them, until it is interrupted."""
    if shutil.which("perf"):
        probe = subprocess.run(["perf", "stat", "-e", "raw_syscalls:sys_enter", "true"], capture_output=True, check=False)
        if probe.returncode == 0:
            return ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter,instructions:u", "-p", str(pid)]
    if shutil.which("strace"):
        return ["strace", "-c", "-f", "-qq", "-p", str(pid)]
    return None


def count_calls(case, target, share):
    """System calls and user instructions per request, in a pass of its own; `None` where nobody counts.

    A short load and a long one: their difference holds no connection's beginning and end.
    """
    command = watcher(target.pid)
    if command is None:
        return None, None
    few = case.clients * case.pipeline * 2
    many = few + max(int(case.requests * share), few)
    with idle_connections(target, case.where, case.idle):
        short, long = (_counted(case, target, command, requests) for requests in (few, many))
    return tuple(None if a is None or b is None else max(b - a, 0) / (many - few) for a, b in zip(short, long))


def _counted(case, target, command, requests):
    """System calls and user instructions of one load."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        # It has attached within this time; nothing that it writes says so.
        time.sleep(0.3)
        benchmark(case, target.address(case.where), requests)
        text = interrupt(child)[1]
    if command[0] == "strace":
        totals = [line.split() for line in text.splitlines() if line.endswith("total")]
        return (int(totals[0][3]) if totals else None), None
    counts = dict(_perf_counts(text))
    return counts.get("raw_syscalls:sys_enter"), counts.get("instructions:u")


def _perf_counts(text):
    for row in csv.reader(text.splitlines()):
        if len(row) > 2 and row[0].isdigit():
            yield row[2], int(row[0])


def fill(target, where, size, keys):
    """Gives every key of a case a value of its size, so that reads do not find leftovers."""
    client = Client(target.place(where), tls=where == "tls-down")
    value = b"x" * size
    names = (f"{prefix(size)}:{number:012d}" for number in range(keys))
    while batch := list(itertools.islice(names, max(1, min(500, (1 << 20) // size)))):
        client.ask(*(("SET", name, value) for name in batch))
    client.close()
