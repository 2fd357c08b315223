"""User instructions per request where the machine has no counters: valgrind counts them on one slow worker.

Under valgrind the proxy is some fifty times slower, so that more requests become ready in one turn than in real
life: with 50 clients the cost of a turn is spread over nearly all of them. One client shows the other end, a turn
for every event.
"""

import re
import shutil
import subprocess

from . import proxies
from .cases import benchmark, fill
from .process import FOLDER


def available():
    return shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None


def _control(flag, pid):
    subprocess.run(["callgrind_control", flag, str(pid)], check=True, capture_output=True)


def _total():
    """Instructions of all dumps since the last zero."""
    total = 0
    for dump in FOLDER.glob("callgrind.out.*"):
        found = re.search(r"^(?:totals|summary): (\d+)", dump.read_text(errors="replace"), re.MULTILINE)
        total += int(found.group(1)) if found else 0
        dump.unlink()
    return total


def measure(binary, backends, cases, requests=10_000):
    """Instructions per request by case name: the difference of a long and a short load, so that no connection's
    beginning is in it."""
    valgrind = FOLDER / "redplane-under-valgrind"
    out = FOLDER / "callgrind.out"
    valgrind.write_text(
        f'#!/bin/sh\nexec valgrind --tool=callgrind --callgrind-out-file={out} "{binary}" "$@"\n', encoding="ascii"
    )
    valgrind.chmod(0o755)
    target = proxies.start("redplane-valgrind", valgrind, {"slots": backends["slots"]}, ["plain"])
    fill(target, "plain", 64, 200)
    counted = {}
    for case in cases:
        few = case.clients * case.pipeline * 2
        many = few + requests
        short, long = (_counted(case, target, count) for count in (few, many))
        counted[case.name] = (long - short) / (many - few)
    target.stop()
    return counted


def _counted(case, target, requests):
    _control("-d", target.pid)
    _total()
    benchmark(case, target.address("plain"), requests)
    _control("-d", target.pid)
    return _total()
