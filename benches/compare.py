"""The comparison itself; compare.sh installs what it needs. docs/performance.md says how to read its tables."""

import argparse
import json
import os
import pathlib
import re
import sys
import time

from bench import callgrind, cases, memory, proxies, report
from bench.redis import Cluster, Server

DOCUMENT = pathlib.Path(__file__).parent.parent / "docs" / "performance.md"
#: Requests of the one-connection case, where p50 beside direct Redis counts.
LONE_REQUESTS = 20_000
#: At most of the requests of a case for a pass that only counts system calls.
COUNTED_SHARE = 0.2


def arguments():
    parser = argparse.ArgumentParser(prog="compare.sh", description="redplane beside Envoy 1.40, in one interleaved run.")
    parser.add_argument("--redplane", required=True, help="set by compare.sh, or by REDPLANE=path")
    parser.add_argument("--envoy", required=True, help="set by compare.sh, or by REDPLANE_ENVOY=path")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repeats of every case (default 5)")
    parser.add_argument("--minutes", type=float, help="start no further repeat after so many minutes")
    parser.add_argument("--cases", default="", metavar="REGEX", help="only cases whose name matches")
    parser.add_argument("--quick", action="store_true", help="two repeats, a tenth of the requests; writes nothing")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=HOST:PORT,PID",
                        help="one more proxy, running already, in front of the same kind of cluster")
    parser.add_argument("--callgrind", action="store_true", help="count redplane's user instructions with valgrind")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory table out")
    parser.add_argument("--no-write", action="store_true", help="print only, leave docs/performance.md alone")
    return parser.parse_args()


def peer(text):
    match = re.fullmatch(r"([^=]+)=([^:]+):(\d+),(\d+)", text)
    if not match:
        raise SystemExit(f"--peer {text}: is not NAME=HOST:PORT,PID")
    name, host, port, pid = match.groups()
    return proxies.Target(name, host, int(port), int(pid))


def log(text):
    print(text, file=sys.stderr, flush=True)


class Run:
    """Servers, targets and what was measured."""

    def __init__(self, flags):
        self.flags = flags
        self.share = 0.1 if flags.quick else 1
        self.repeats = min(2, flags.repeats) if flags.quick else flags.repeats
        chosen = re.compile(flags.cases)
        self.cases = [case for case in cases.all_cases() if chosen.search(case.name)]
        self.lone = chosen.search("latency added") is not None
        self.results, self.calls, self.memory, self.instructions = {}, {}, {}, {}
        self.began = time.monotonic()
        self.load = os.getloadavg()[0]
        self.backends = self._start_redis()
        self.targets = self._start_proxies()

    def _start_redis(self):
        log("starting Redis")
        self.slots = Cluster()
        backends = {"slots": self.slots.port}
        wheres = {case.where for case in self.cases}
        if "mirror" in wheres:
            backends["single"] = Server().port
        if "replica" in wheres:
            backends["replicated"] = Cluster(replicas=1).port
        if "tls-up" in wheres:
            backends["secure"] = Cluster(tls=True).port
        return backends

    def _start_proxies(self):
        """By the workers that they have; peers are as they are."""
        wheres = sorted({case.where for case in self.cases if case.workers == 1} | {"plain"})
        binaries = (("redplane", self.flags.redplane), ("envoy", self.flags.envoy))
        log("starting redplane and Envoy")
        started = {1: [proxies.start(name, binary, self.backends, wheres) for name, binary in binaries]}
        started[1] += [peer(text) for text in self.flags.peer]
        if any(case.workers == 2 for case in self.cases):
            slots = {"slots": self.backends["slots"]}
            started[2] = [proxies.start(name, binary, slots, ["plain"], 2) for name, binary in binaries]
        return started

    def serving(self, case):
        return [target for target in self.targets[case.workers] if target.serves(case.where)]

    def fill(self):
        done = set()
        for case in self.cases:
            place = {"mirror": "plain", "unix": "plain", "tls-down": "plain"}.get(case.where, case.where)
            if (place, case.size) not in done:
                done.add((place, case.size))
                cases.fill(self.targets[1][0], place, case.size, case.keys)

    def measure(self):
        for repeat in range(self.repeats):
            if self.flags.minutes and time.monotonic() - self.began > self.flags.minutes * 60:
                log(f"{repeat} repeats are enough for the time")
                return
            log(f"repeat {repeat + 1} of {self.repeats}")
            for case in self.cases:
                self._repeat(case, repeat)
            if self.lone:
                self._lone()

    def _repeat(self, case, repeat):
        targets = self.serving(case)
        # Whoever goes first finds colder caches: they take turns.
        turn = repeat % len(targets)
        rows = self.results.setdefault(case.name, {})
        for target in targets[turn:] + targets[:turn]:
            rows.setdefault(target.name, []).append(cases.measure(case, target, self.share))
        said = "  ".join(f"{name} {report.number(values[-1]['cpu'])} µs" for name, values in rows.items())
        log(f"  {case.name}: {said}")

    def _lone(self):
        """One connection asks for one key, without a proxy and with each."""
        key = f"{cases.prefix(64)}:000000000000"
        direct = proxies.Target("redis", "127.0.0.1", self.slots.node_with(key), self.slots.nodes[0].process.pid)
        rows = self.results.setdefault("latency added", {})
        for target in (direct, *self.targets[1]):
            rows.setdefault(target.name, []).append(cases.latency(target, key, int(LONE_REQUESTS * self.share)))

    def count(self):
        log("counting system calls")
        for case in self.cases:
            rows = self.calls.setdefault(case.name, {})
            for target in self.serving(case):
                rows[target.name] = cases.count_calls(case, target, self.share * COUNTED_SHARE)

    def weigh(self):
        count = 500 if self.flags.quick else memory.CONNECTIONS
        for name, binary in (("redplane", self.flags.redplane), ("envoy", self.flags.envoy)):
            log(f"memory of {name}")
            self.memory[name] = memory.measure(name, binary, self.backends, count)

    def count_instructions(self):
        if not callgrind.available():
            return log("no valgrind: no instructions")
        log("counting instructions under valgrind")
        plain = [case for case in self.cases if case.where == "plain" and case.size == 64 and case.idle == 0
                 and case.workers == 1 and case.many == 1 and case.clients <= 50 and case.pipeline <= 16]
        self.instructions = callgrind.measure(self.flags.redplane, self.backends, plain)


def values(rows, target, what):
    return [row[what] for row in rows.get(target, ())]


def names_of(run):
    return [target.name for target in run.targets[1]]


def cpu_table(run):
    peers = names_of(run)[1:]
    head = ["case", "redplane", *(f"{name.capitalize()}" for name in peers),
            *(f"redplane : {name.capitalize()}, of minima / medians" for name in peers), "goal"]
    lines = []
    for case in run.cases:
        rows = run.results[case.name]
        ours = report.low_and_middle(values(rows, "redplane", "cpu"))
        line = [case.name, report.pair(values(rows, "redplane", "cpu"))]
        line += [report.pair(values(rows, name, "cpu")) for name in peers]
        for name in peers:
            theirs = report.low_and_middle(values(rows, name, "cpu"))
            line.append(" / ".join(report.ratio(a, b) for a, b in zip(ours, theirs)))
        lines.append([*line, f"{case.goal:.2f}" if case.goal else ""])
    return "CPU µs per request of the proxy process, minimum / median.\n\n" + report.table(head, lines)


def speed_table(run):
    names = names_of(run)
    head = ["case"]
    for what in ("requests/s", "p50 µs", "p99 µs"):
        head += [f"{what} {name}" for name in names]
    lines = []
    for case in run.cases:
        rows, line = run.results[case.name], [case.name]
        line += [report.pair(values(rows, name, "rate")) for name in names]
        for what in ("p50", "p99"):
            line += [report.pair([1000 * value for value in values(rows, name, what)]) for name in names]
        lines.append(line)
    return "Requests per second and latency as redis-benchmark sees them, minimum / median.\n\n" + report.table(head, lines)


def calls_table(run):
    names = names_of(run)
    counted = any(pair[1] is not None for rows in run.calls.values() for pair in rows.values())
    head = ["case", *(f"system calls {name}" for name in names)]
    if counted:
        head += [f"user instructions {name}" for name in names]
    elif run.instructions:
        head.append("user instructions redplane (valgrind)")
    lines = []
    for case in run.cases:
        rows = run.calls.get(case.name, {})
        line = [case.name, *(report.number(rows.get(name, (None, None))[0]) for name in names)]
        if counted:
            line += [report.number(rows.get(name, (None, None))[1]) for name in names]
        elif run.instructions:
            line.append(report.number(run.instructions.get(case.name)))
        lines.append(line)
    note = "" if counted else " This machine has no counters for instructions."
    return f"System calls per request, from a pass of their own.{note}\n\n" + report.table(head, lines)


def memory_table(run):
    head = ["resident memory", *run.memory, "redplane : Envoy", "goal"]
    rows = (("at rest, MiB", "rest", 1024, "≤ 15 MiB"), ("per idle connection, KiB", "idle", 1, ""),
            ("per connection after traffic, KiB", "after", 1, "≤ 2 KiB"),
            ("per connection after 64 KiB values, KiB more", "large", 1, ""))
    lines = []
    for what, key, unit, goal in rows:
        both = [max(entry[key], 0) / unit for entry in run.memory.values()]
        lines.append([what, *map(report.number, both), report.ratio(*both), goal])
    return report.table(head, lines)


def derived_table(run):
    """What follows from several cases: two workers, the Unix socket, the latency that is added."""
    lines = []
    cpu = lambda case, name: report.low_and_middle(values(run.results.get(case, {}), name, "cpu"))
    for command in ("SET", "GET"):
        for pipeline in (1, 16):
            one, two = f"{command} 64 B, 50 clients, pipeline {pipeline}", f"{command} two workers, pipeline {pipeline}"
            lines.append((f"two workers : one, {command}, pipeline {pipeline}, CPU per request",
                          *(report.ratio(cpu(two, name)[0], cpu(one, name)[0]) for name in ("redplane", "envoy")), "≤ 1.3"))
    for pipeline in (1, 16):
        one, unix = f"GET 64 B, 50 clients, pipeline {pipeline}", f"GET Unix socket, pipeline {pipeline}"
        lines.append((f"Unix socket : TCP, GET, pipeline {pipeline}, CPU per request",
                      *(report.ratio(cpu(unix, name)[0], cpu(one, name)[0]) for name in ("redplane", "envoy")), "≈ 0.67"))
    if rows := run.results.get("latency added"):
        direct = min(values(rows, "redis", "p50"))
        added = [1000 * (min(values(rows, name, "p50")) - direct) for name in ("redplane", "envoy")]
        lines.append((f"p50 added to direct Redis ({1000 * direct:.1f} µs), one connection, µs",
                      *map(report.number, added), f"≤ 0.75 of Envoy's; is {report.ratio(*added)}"))
    lines = [line for line in lines if line[1] != "–"]
    return report.table(["", "redplane", "Envoy", "goal"], lines) if lines else ""


def render(run):
    flags = run.flags
    repeats = max((len(entry) for rows in run.results.values() for entry in rows.values()), default=0)
    asked = " ".join(word for word in sys.argv[1:] if "/" not in word and word not in ("--redplane", "--envoy"))
    versions = [report.version(flags.redplane, "--version"), report.version(flags.envoy, "--version"),
                report.version("redis-server", "--version")]
    head = [
        f"`benches/compare.sh{' ' + asked if asked else ''}`, {time.strftime('%Y-%m-%d')}.",
        f"Machine: {report.machine()}; it also ran the servers and the load. Load average when it began: {run.load:.1f}.",
        f"Versions: {', '.join(versions)}. {repeats} interleaved repeats.",
    ]
    parts = ["  \n".join(head), cpu_table(run), derived_table(run)]
    if run.memory:
        parts.append(memory_table(run))
    return "\n\n".join(part for part in [*parts, calls_table(run), speed_table(run)] if part)


def main():
    flags = arguments()
    run = Run(flags)
    run.fill()
    run.measure()
    run.count()
    if not flags.no_memory:
        run.weigh()
    if flags.callgrind:
        run.count_instructions()
    text = render(run)
    print(text)
    kept = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "compare.json"
    kept.write_text(json.dumps({"results": run.results, "calls": run.calls, "memory": run.memory}), encoding="ascii")
    if not (flags.quick or flags.no_write or flags.cases) and report.put(DOCUMENT, "compare.sh", text):
        log(f"written into {DOCUMENT.name}")


if __name__ == "__main__":
    main()
