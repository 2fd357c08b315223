"""Tables in Markdown, and their place in docs/performance.md."""

import os
import pathlib
import platform
import re
import statistics
import subprocess


def machine():
    """The machine, without its name."""
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii"))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (f"{os.cpu_count()} cores, {model.group(1) if model else platform.machine()}, "
            f"{pages / 2**30:.0f} GiB, Linux {platform.release()}")


def version(*command):
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    text = (run.stdout or run.stderr).strip()
    if envoy := re.search(r"version: [0-9a-f]+/([0-9.]+)", text):
        return f"Envoy {envoy.group(1)}"
    if redplane := re.search(r"version: redplane/([0-9.]+)", text):
        return f"redplane {redplane.group(1)}"
    if redis := re.search(r"Redis server v=(\S+)", text):
        return f"redis-server {redis.group(1)}"
    return text.splitlines()[0] if text else command[0]


def number(value, digits=3):
    """Three meaningful digits, without an exponent."""
    if value is None:
        return "–"
    if value >= 1000:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - int(f"{value:e}".split("e")[1]))
    return f"{value:.{min(places, 3)}f}"


def low_and_middle(values):
    values = [value for value in values if value is not None]
    return (min(values), statistics.median(values)) if values else (None, None)


def pair(values):
    low, middle = low_and_middle(values)
    return "–" if low is None else f"{number(low)} / {number(middle)}"


def ratio(ours, theirs):
    return number(ours / theirs) if ours is not None and theirs else "–"


def table(head, rows):
    rows = [list(map(str, row)) for row in rows]
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(" --- " for _ in head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def put(file, mark, text):
    """Replaces what stands between two marks of a Markdown file; a file without them is left alone."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    path = pathlib.Path(file)
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if begin not in old or end not in old:
        return False
    head, _, rest = old.partition(begin)
    tail = rest.partition(end)[2]
    path.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}", encoding="utf-8")
    return True
