"""What configuration costs; push.sh installs what this needs. docs/performance.md says how to read its tables."""

import argparse
import json
import os
import pathlib
import queue
import re
import resource
import statistics
import subprocess
import sys
import threading
import time

from bench import proxies, report
from bench.process import FOLDER, cpu_seconds, free_port, resident_kib

DOCUMENT = pathlib.Path(__file__).parent.parent / "docs" / "performance.md"
#: Changes of which the median counts.
CHANGES = 50
#: Seconds after a change within which the last of its work is done.
SETTLED = 0.05
#: Nobody is waited for longer.
PATIENCE = 300


def arguments():
    parser = argparse.ArgumentParser(prog="push.sh", description="What N clusters and listeners cost redplane and Envoy.")
    parser.add_argument("--redplane", required=True, help="set by push.sh, or by REDPLANE=path")
    parser.add_argument("--envoy", required=True, help="set by push.sh, or by REDPLANE_ENVOY=path")
    parser.add_argument("--fleet", required=True, help="set by push.sh, or by REDPLANE_FLEET=path")
    parser.add_argument("--sizes", default="10,1000,5000,20000", help="N, several with commas between")
    parser.add_argument("--repeats", type=int, default=3, help="starts of each kind (default 3)")
    parser.add_argument("--envoy-up-to", type=int, default=5000, metavar="N", help="leave Envoy out above this N")
    parser.add_argument("--only", choices=("static", "ads"), help="only one kind of source")
    parser.add_argument("--quick", action="store_true", help="one repeat of 10 and 1,000; writes nothing")
    parser.add_argument("--no-write", action="store_true", help="print only, leave docs/performance.md alone")
    return parser.parse_args()


def log(text):
    print(text, file=sys.stderr, flush=True)


def names(count):
    return [f"redis-{number}.default.svc.cluster.local" for number in range(count)]


def address(number, port):
    """Every listener has an address of its own, as every service has its virtual IP."""
    return proxies.socket_address(port, f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}")


def listeners(count, port, bound):
    rows = []
    for number, name in enumerate(names(count)):
        row = proxies.listener(f"redis-{number}", address(number, port), name)
        rows.append(row if bound else row | {"bind_to_port": False})
    return rows


def assignment(name, backend):
    endpoint = {"endpoint": {"address": proxies.socket_address(backend)}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def fixed(name, backend):
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": assignment(name, backend)}


def discovered(name):
    config = {"eds_config": {"ads": {}, "resource_api_version": "V3"}}
    return {"name": name, "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": config}


def static_bootstrap(count, bound, admin):
    backend = free_port()
    clusters = [fixed(name, backend) for name in names(count)]
    return proxies.bootstrap(admin, listeners(count, free_port(), bound), clusters)


def resources(count, bound):
    backend = free_port()
    return {
        "clusters": [discovered(name) for name in names(count)],
        "endpoints": [assignment(name, backend) for name in names(count)],
        "listeners": listeners(count, free_port(), bound),
    }


def ads_bootstrap(admin, control):
    http2 = {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
             "explicit_http_config": {"http2_protocol_options": {}}}
    server = fixed("control", control) | {
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}
    }
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    service = {"envoy_grpc": {"cluster_name": "control"}}
    return {
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": proxies.socket_address(admin)},
        "static_resources": {"clusters": [server]},
        "dynamic_resources": {
            "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [service]},
            "cds_config": source,
            "lds_config": source,
        },
    }


class Fleet:
    """The ADS server; what happens on its streams comes as lines."""

    def __init__(self, binary, content):
        file = FOLDER / "fleet.json"
        file.write_text(json.dumps(content), encoding="ascii")
        self.child = subprocess.Popen([binary, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.port = int(self.until(r"serving .*:(\d+)").group(1))

    def _read(self):
        for line in self.child.stdout:
            self.lines.put(line.rstrip())

    def until(self, pattern):
        """The first line that has the pattern in it."""
        while True:
            line = self.lines.get(timeout=PATIENCE)
            if "NACK" in line:
                raise SystemExit(f"refused: {line[:500]}")
            if found := re.search(pattern, line):
                return found

    def change(self):
        """Changes one cluster and waits until the proxy has taken it."""
        self.child.stdin.write("change\n")
        self.child.stdin.flush()
        version = re.escape(self.until("pushed (.*)").group(1))
        self.until(f"ACK Cluster {version}")

    def stop(self):
        self.child.stdin.close()
        self.child.terminate()
        self.child.wait()


def started(name, binary, config, admin):
    """A proxy, and what it took until it was ready."""
    begin = time.monotonic()
    proxy = proxies.Proxy(name, binary, config, admin)
    proxy.wait_until_ready(PATIENCE, step=0.005)
    took = time.monotonic() - begin
    used = cpu_seconds(proxy.pid)
    time.sleep(0.5)
    return proxy, {"ready": took, "cpu": used, "memory": resident_kib(proxy.pid)[0] / 1024}


def from_static(flags, name, binary, count, bound):
    admin = free_port()
    proxy, figures = started(name, binary, static_bootstrap(count, bound, admin), admin)
    proxy.stop()
    return figures


def over_ads(flags, name, binary, count, bound):
    fleet = Fleet(flags.fleet, resources(count, bound))
    admin = free_port()
    proxy, figures = started(name, binary, ads_bootstrap(admin, fleet.port), admin)
    figures["change"] = changed(fleet, proxy)
    proxy.stop()
    fleet.stop()
    return figures


def changed(fleet, proxy):
    """CPU milliseconds of one changed cluster. The median: every five seconds statistics close an interval, whatever
    changes, and that falls into one or two of these."""
    used = []
    for _ in range(CHANGES + 1):
        before = cpu_seconds(proxy.pid)
        fleet.change()
        time.sleep(SETTLED)
        used.append(cpu_seconds(proxy.pid) - before)
    # The first one may find caches and pages cold.
    return statistics.median(used[1:]) * 1000


def measure(flags, sizes, repeats, limit):
    binaries = (("redplane", flags.redplane), ("envoy", flags.envoy))
    results = {}
    for count in sizes:
        bound = count + 500 < limit
        for repeat in range(repeats):
            for kind, run in (("static", from_static), ("ads", over_ads)):
                if flags.only not in (None, kind):
                    continue
                for name, binary in binaries:
                    if name == "envoy" and (count > flags.envoy_up_to or (repeat > 0 and count >= 5000)):
                        continue
                    figures = run(flags, name, binary, count, bound)
                    results.setdefault((kind, count), {}).setdefault(name, []).append(figures)
                    said = ", ".join(f"{what} {report.number(value)}" for what, value in figures.items())
                    log(f"{kind} {count:,} {name}: {said}")
    return results


def render(flags, results, limit):
    head = ["source", "N", *(f"{what} {name}" for what in ("ready s", "CPU s", "MiB", "change ms")
                            for name in ("redplane", "Envoy")), "ratio: ready", "memory"]
    rows = []
    for (kind, count), both in sorted(results.items(), key=lambda item: (item[0][0] != "static", item[0][1])):
        line, least = [kind, f"{count:,}" + ("" if count + 500 < limit else " (not bound)")], {}
        for what in ("ready", "cpu", "memory", "change"):
            for name in ("redplane", "envoy"):
                got = [entry[what] for entry in both.get(name, ()) if what in entry]
                least[what, name] = min(got, default=None)
                line.append(report.number(least[what, name]))
        line += [report.ratio(least[what, "redplane"], least[what, "envoy"]) for what in ("ready", "memory")]
        rows.append(line)
    asked = " ".join(word for word in sys.argv[1:] if "/" not in word
                     and word not in ("--redplane", "--envoy", "--fleet"))
    versions = f"{report.version(flags.redplane, '--version')}, {report.version(flags.envoy, '--version')}"
    return (f"`benches/push.sh{' ' + asked if asked else ''}`, {time.strftime('%Y-%m-%d')}.  \n"
            f"Machine: {report.machine()}. Load average at the end: {os.getloadavg()[0]:.1f}.  \n"
            f"Versions: {versions}. The least of all starts; `change` is the CPU of one changed cluster among N, the median of {CHANGES}.\n\n"
            + report.table(head, rows))


def main():
    flags = arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sizes = [10, 1000] if flags.quick else [int(size) for size in flags.sizes.split(",")]
    results = measure(flags, sizes, 1 if flags.quick else flags.repeats, hard)
    text = render(flags, results, hard)
    print(text)
    if not (flags.quick or flags.no_write or flags.only) and report.put(DOCUMENT, "push.sh", text):
        log(f"written into {DOCUMENT.name}")


if __name__ == "__main__":
    main()
