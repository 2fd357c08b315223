"""Real Redis: clusters of three masters, with replicas or TLS where a case needs them, and a single server."""

import socket
import ssl
import subprocess

from .process import FOLDER, Process, free_port, wait_for


def certificates():
    """A CA and a certificate for 127.0.0.1, made once."""
    ca, key, cert = (FOLDER / name for name in ("ca.pem", "key.pem", "cert.pem"))
    if not cert.exists():
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        request = FOLDER / "request.pem"
        names = FOLDER / "names.txt"
        names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n", encoding="ascii")
        for step in (
            ["req", "-x509", *new_key, "-days", "30", "-subj", "/CN=bench", "-keyout", FOLDER / "ca.key", "-out", ca],
            ["req", *new_key, "-subj", "/CN=localhost", "-keyout", key, "-out", request],
            ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", FOLDER / "ca.key", "-CAcreateserial",
             "-days", "30", "-extfile", names, "-out", cert],
        ):
            subprocess.run(["openssl", *map(str, step)], check=True, capture_output=True)
    return ca, key, cert


class Client:
    """One connection that speaks RESP2, no more of it than the benchmarks need."""

    def __init__(self, address, tls=False):
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context(cafile=str(certificates()[0]))
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.rest = b""

    def close(self):
        self.socket.close()

    def ask(self, *commands):
        """Sends commands at once and returns their replies: bytes, numbers or lists."""
        self.socket.sendall(b"".join(encode(command) for command in commands))
        return [self._reply() for _ in commands]

    def _fill(self, size=None):
        more = self.socket.recv(1 << 18)
        if not more:
            raise ConnectionError("the peer closed the connection")
        self.rest += more

    def _line(self):
        while (end := self.rest.find(b"\r\n")) < 0:
            self._fill()
        line, self.rest = self.rest[:end], self.rest[end + 2 :]
        return line

    def _reply(self):
        line = self._line()
        kind, text = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(text.decode(errors="replace"))
        if kind == b":":
            return int(text)
        if kind == b"*":
            return [self._reply() for _ in range(int(text))]
        if kind != b"$":
            return text
        size = int(text)
        if size < 0:
            return None
        parts, have = [self.rest], len(self.rest)
        while have < size + 2:
            part = self.socket.recv(1 << 18)
            if not part:
                raise ConnectionError("the peer closed the connection")
            parts.append(part)
            have += len(part)
        whole = b"".join(parts)
        self.rest = whole[size + 2 :]
        return whole[:size]


def encode(command):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Server:
    """One redis-server."""

    def __init__(self, *flags, tls=False):
        self.port, self.tls = free_port(), tls
        folder = FOLDER / f"redis-{self.port}"
        folder.mkdir()
        where = ["--port", self.port]
        if tls:
            ca, key, cert = certificates()
            where = ["--port", 0, "--tls-port", self.port, "--tls-cert-file", cert, "--tls-key-file", key,
                     "--tls-ca-cert-file", ca, "--tls-auth-clients", "no", "--tls-cluster", "yes",
                     "--tls-replication", "yes"]
        command = ["redis-server", *where, "--bind", "127.0.0.1", "--dir", folder, "--save", "",
                   "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning", *flags]
        self.process = Process(f"redis-{self.port}", command)
        wait_for("redis-server", self.answers, process=self.process)

    def answers(self):
        try:
            return self.ask("PING") == b"PONG"
        except (OSError, RuntimeError):
            return False

    def ask(self, *command):
        client = Client(("127.0.0.1", self.port), self.tls)
        try:
            return client.ask(command)[0]
        finally:
            client.close()


class Cluster:
    """Three masters, each with so many replicas."""

    def __init__(self, replicas=0, tls=False):
        flags = ["--cluster-enabled", "yes", "--cluster-node-timeout", "15000"]
        self.nodes = [Server(*flags, tls=tls) for _ in range(3 * (1 + replicas))]
        secure = ["--tls", "--cacert", str(certificates()[0])] if tls else []
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        command = ["redis-cli", *secure, "--cluster", "create", *addresses,
                   "--cluster-replicas", str(replicas), "--cluster-yes"]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise SystemExit(f"redis-cli --cluster create failed:\n{made.stdout}{made.stderr}")
        wait_for("the Redis Cluster", lambda: all(self._settled(node, replicas) for node in self.nodes), 60)

    @property
    def port(self):
        return self.nodes[0].port

    @staticmethod
    def _settled(node, replicas):
        """Whether a node knows the whole cluster, replicas included, and has what it replicates."""
        ranges = node.ask("CLUSTER", "SLOTS")
        whole = b"cluster_state:ok" in node.ask("CLUSTER", "INFO") and len(ranges) == 3
        known = all(len(entry) == 3 + replicas for entry in ranges)
        return whole and known and b"master_link_status:down" not in node.ask("INFO", "replication")

    def node_with(self, key):
        """The port of the master that serves a key."""
        slot = self.nodes[0].ask("CLUSTER", "KEYSLOT", key)
        for first, last, master, *_ in self.nodes[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return master[1]
        raise SystemExit(f"nobody serves slot {slot}")
