"""Resident memory of a fresh proxy: at rest, and what connections add to it."""

import time

from . import proxies
from .process import resident_kib
from .redis import Client

CONNECTIONS = 5_000
LARGE_CONNECTIONS = 500
LARGE = b"x" * 65_536
SMALL = b"x" * 64


def _settled(target):
    """Memory after whatever the last step left to be done."""
    time.sleep(0.5)
    return resident_kib(target.pid)[0]


def measure(name, binary, backends, count=CONNECTIONS):
    """KiB at rest, and KiB per connection: idle, after traffic, after values of 64 KiB."""
    target = proxies.start(name, binary, {"slots": backends["slots"]}, ["plain"])
    first = Client(target.place("plain"))
    for number in range(30):
        first.ask(("SET", f"rest:{number}", SMALL), ("GET", f"rest:{number}"))
    rest = _settled(target)
    clients = [Client(target.place("plain")) for _ in range(count)]
    idle = _settled(target)
    for number, client in enumerate(clients):
        client.ask(("SET", f"m:{number % 500}", SMALL), ("GET", f"m:{number % 500}"))
    after = _settled(target)
    large = clients[: min(LARGE_CONNECTIONS, count)]
    for number, client in enumerate(large):
        client.ask(("SET", f"l:{number % 100}", LARGE))
        client.ask(("GET", f"l:{number % 100}"))
    heavy = _settled(target)
    for client in (first, *clients):
        client.close()
    target.stop()
    return {
        "rest": rest,
        "idle": (idle - rest) / count,
        "after": (after - rest) / count,
        "large": (heavy - after) / len(large),
        "total": heavy,
    }
