"""redplane and Envoy, started from the same bootstrap: a listener for each thing that a case varies."""

import json

from .process import FOLDER, Process, free_port, http_get, wait_for
from .redis import certificates

REDIS_PROXY = "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


def socket_address(port, host="127.0.0.1"):
    return {"socket_address": {"address": host, "port_value": port}}


def cluster(name, port, kind="slots", tls=False):
    """A cluster in front of one seed; `kind` is `slots` for a Redis Cluster, `plain` for a single server."""
    built = {
        "name": name,
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(port)}}]}],
        },
    }
    if kind == "plain":
        return built | {"type": "STATIC", "lb_policy": "MAGLEV"}
    built |= {
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.redis",
            "typed_config": {
                "@type": "type.googleapis.com/google.protobuf.Struct",
                "value": {"cluster_refresh_rate": "60s", "cluster_refresh_timeout": "3s"},
            },
        },
    }
    if tls:
        trusted = {"trusted_ca": {"filename": str(certificates()[0])}}
        context = {"@type": TLS + "UpstreamTlsContext", "common_tls_context": {"validation_context": trusted}}
        built["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return built


def listener(name, address, to, read_policy="MASTER", mirror=None, tls=False):
    """A listener whose only filter is redis_proxy, with statistics per command and a deadline."""
    route = {"cluster": to}
    if mirror:
        route["request_mirror_policy"] = [{"cluster": mirror}]
    settings = {
        "op_timeout": "5s",
        "enable_redirection": True,
        "enable_hashtagging": True,
        "enable_command_stats": True,
        "read_policy": read_policy,
    }
    proxy = {
        "@type": REDIS_PROXY,
        "stat_prefix": name,
        "settings": settings,
        "prefix_routes": {"catch_all_route": route},
    }
    chain = {"filters": [{"name": "envoy.filters.network.redis_proxy", "typed_config": proxy}]}
    if tls:
        _, key, cert = certificates()
        pair = {"certificate_chain": {"filename": str(cert)}, "private_key": {"filename": str(key)}}
        context = {"@type": TLS + "DownstreamTlsContext", "common_tls_context": {"tls_certificates": [pair]}}
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return {"name": name, "address": address, "filter_chains": [chain]}


def bootstrap(admin, listeners, clusters):
    return {
        "admin": {"address": socket_address(admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


class Target:
    """Something to measure: a process, and where to reach it."""

    def __init__(self, name, host, port, pid):
        self.name, self.host, self.pid = name, host, pid
        self.ports = {"plain": port}

    def serves(self, where):
        return where in self.ports

    def address(self, where):
        """Flags of redis-benchmark."""
        place = self.ports[where]
        if isinstance(place, str):
            return ["-s", place]
        secure = ["--tls", "--sni", "localhost", "--cacert", str(certificates()[0])] if where == "tls-down" else []
        return ["-h", self.host, "-p", str(place), *secure]

    def place(self, where):
        """What a socket connects to."""
        at = self.ports[where]
        return at if isinstance(at, str) else (self.host, at)


class Proxy(Target):
    """A proxy that the benchmark starts itself."""

    def __init__(self, name, binary, config, admin, workers=1):
        file = FOLDER / f"{name}-{admin}.json"
        file.write_text(json.dumps(config, separators=(",", ":")), encoding="ascii")
        flags = ["--concurrency", workers, "-l", "error"]
        if "envoy" in name:
            flags.append("--disable-hot-restart")
        self.process = Process(f"{name}-{admin}", [binary, "-c", file, *flags])
        self.admin = admin
        super().__init__(name, "127.0.0.1", 0, self.process.pid)

    def wait_until_ready(self, seconds=60, step=0.02):
        wait_for(f"{self.name}'s /ready", self.is_ready, seconds, self.process, step)

    def is_ready(self):
        return http_get(self.admin, "/ready")[0] == 200

    def stop(self):
        self.process.stop()


def start(name, binary, backends, wheres, workers=1):
    """A proxy with the listeners that `wheres` names; `backends` are ports by kind of Redis."""
    admin = free_port()
    ports = {where: free_port() for where in wheres}
    if "unix" in ports:
        ports["unix"] = str(FOLDER / f"{name}-{admin}.sock")
    config = bootstrap(admin, _listeners(ports), _clusters(backends))
    proxy = Proxy(name, binary, config, admin, workers)
    proxy.ports = ports
    proxy.wait_until_ready()
    return proxy


def _listeners(ports):
    rows = {
        "plain": {"to": "slots"},
        "unix": {"to": "slots"},
        "mirror": {"to": "slots", "mirror": "single"},
        "replica": {"to": "replicated", "read_policy": "REPLICA"},
        "tls-down": {"to": "slots", "tls": True},
        "tls-up": {"to": "secure"},
    }
    return [
        listener(where, {"pipe": {"path": place}} if where == "unix" else socket_address(place), **rows[where])
        for where, place in ports.items()
    ]


def _clusters(backends):
    kinds = {"single": {"kind": "plain"}, "secure": {"tls": True}}
    return [cluster(name, port, **kinds.get(name, {})) for name, port in backends.items()]
