"""Processes: starting and stopping them, and what the kernel says that they have used."""

import atexit
import contextlib
import http.client
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="redplane-bench-"))
_children = []


@atexit.register
def _stop_all():
    for child in reversed(_children):
        child.stop()
    subprocess.run(["rm", "-rf", str(FOLDER)], check=False)


class Process:
    """A child that is stopped with the benchmark at the latest."""

    def __init__(self, name, command, **options):
        self.name = name
        self.log = FOLDER / f"{name}-{len(_children)}.log"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [str(word) for word in command], stdout=log, stderr=subprocess.STDOUT, **options
            )
        self.pid = self.child.pid
        _children.append(self)

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def must_live(self):
        if self.child.poll() is not None:
            end = self.log.read_text(errors="replace")[-2000:]
            raise SystemExit(f"{self.name} ended with {self.child.returncode}:\n{end}")


def wait_for(what, condition, seconds=30, process=None, step=0.02):
    """Waits until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        if process is not None:
            process.must_live()
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {seconds} s")
        time.sleep(step)


_next_port = 20_000 + os.getpid() % 1000 * 8


def free_port():
    """A port that nobody listens on, nor on the port 10,000 above, which is a Redis node's bus."""
    global _next_port
    while True:
        _next_port += 1
        try:
            for port in (_next_port, _next_port + 10_000):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            return _next_port
        except OSError:
            continue


def http_get(port, path, timeout=60):
    """Status and body of an admin page; status 0 when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except OSError:
            return 0, b""


def cpu_seconds(pid):
    """CPU time of all threads. The scheduler's own figure where it is shown: it has no steps of 10 ms."""
    total = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as stat:
                total += int(stat.read().split()[0])
        return total / 1e9
    except (OSError, IndexError, ValueError):
        return sum(cpu_split(pid))


def cpu_split(pid):
    """User and system seconds, in steps of a clock tick."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def resident_kib(pid):
    """Resident memory in KiB: all of it, and without what comes from files (the binary itself)."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return tuple(int(values[key].split()[0]) for key in ("VmRSS", "RssAnon"))


def interrupt(child):
    """Ends a watcher such as perf or strace in the way that makes it print."""
    child.send_signal(signal.SIGINT)
    return child.communicate(timeout=30)
