"""redis-py as people use it: sync, async, with its cache, and its cluster client, each with its own habits.

usage: play.py sync|async|cache|cluster HOST PORT. Where the stage has to change ("restart", "failover") it prints the
word and waits for a line. Any surprise is an exception and a non-zero end.
"""

import asyncio
import sys
import threading
import time

import redis
import redis.asyncio
from redis.cache import CacheConfig
from redis.backoff import ConstantBackoff
from redis.retry import Retry

SCRIPT = "redis.call('INCRBY', KEYS[1], ARGV[1]); return {KEYS[1], redis.call('GET', KEYS[1])}"


def stage(word):
    print(word, flush=True)
    assert sys.stdin.readline().strip() == "done"


def patiently(call, seconds=30):
    """What a client with retries does: again until it works."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
            if time.monotonic() > end:
                raise
            print(f"  again after {error}", flush=True)
            time.sleep(0.1)


def strings(client):
    assert client.ping() is True
    assert client.set("a", b"\x00\xff\r\n", ex=100) is True
    assert client.get("a") == b"\x00\xff\r\n"
    assert 90 < client.ttl("a") <= 100
    assert client.get("nothere") is None
    assert client.set("a", "x", nx=True) is None
    assert client.mset({f"m{i}": i for i in range(20)}) is True
    assert client.mget([f"m{i}" for i in range(19, -1, -1)] + ["m99"]) == [
        str(i).encode() for i in range(19, -1, -1)
    ] + [None]
    assert client.exists("m1", "m2", "m99") == 2
    assert client.delete(*[f"m{i}" for i in range(20)]) == 20
    client.lpush("list", "x")
    try:
        client.incr("list")
        raise AssertionError("a list is no number")
    except redis.ResponseError as error:
        assert "WRONGTYPE" in str(error)
    client.zadd("z", {"one": 1, "two": 2.5})
    scores = client.zrange("z", 0, -1, withscores=True)
    assert [list(pair) for pair in scores] == [[b"one", 1.0], [b"two", 2.5]], scores
    client.hset("h", mapping={"f": 1, "g": 2})
    assert client.hgetall("h") == {b"f": b"1", b"g": b"2"}


def pipelines(client):
    with client.pipeline(transaction=False) as pipe:
        for i in range(500):
            pipe.set(f"p:{i}", i)
            pipe.get(f"p:{i}")
        got = pipe.execute()
    assert got[1::2] == [str(i).encode() for i in range(500)]


def transactions(client):
    with client.pipeline(transaction=True) as pipe:
        got = pipe.set("{t}n", 1).incr("{t}n").lpush("{t}l", "a").execute()
    assert got == [True, 2, 1], got
    with client.pipeline() as pipe:
        pipe.watch("{t}n")
        value = int(pipe.get("{t}n"))
        client.set("{t}n", 10)
        pipe.multi()
        pipe.set("{t}n", value + 1)
        try:
            pipe.execute()
            raise AssertionError("the watched key had changed")
        except redis.WatchError:
            pass


    def add(pipe):
        value = int(pipe.get("{t}n"))
        pipe.multi()
        pipe.set("{t}n", value + 1)

    assert client.transaction(add, "{t}n") == [True]
    assert client.get("{t}n") == b"11"


def scripts(client):
    script = client.register_script(SCRIPT)
    for i in range(30):
        assert script(keys=[f"s:{i}"], args=[i + 1]) == [f"s:{i}".encode(), str(i + 1).encode()]
    sha = client.script_load("return ARGV[1]")
    assert client.evalsha(sha, 1, "any", "x") == b"x"
    assert client.script_exists(sha, "0" * 40) == [True, False]
    # EVAL alone is enough for EVALSHA with any other key.
    body = "return 'told once'"
    assert client.eval(body, 1, "s:1") == b"told once"
    import hashlib

    for i in range(30):
        assert client.evalsha(hashlib.sha1(body.encode()).hexdigest(), 1, f"s:{i}") == b"told once"


def iteration(client):
    client.flushall()
    names = {f"scan:{i}".encode() for i in range(1000)}
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.set(name, 1)
        pipe.execute()
    assert set(client.scan_iter(match="scan:*", count=50)) == names
    assert len(client.keys("scan:*")) == 1000
    assert client.dbsize() == 1000
    assert client.info("server")["redis_mode"] == "standalone"


def messages(client):
    with client.pubsub() as listener:
        listener.subscribe("news", "other")
        listener.psubscribe("new*")
        kinds = [listener.get_message(timeout=5)["type"] for _ in range(3)]
        assert kinds == ["subscribe", "subscribe", "psubscribe"], kinds
        for i in range(50):
            assert client.publish("news", i) >= 2
        got = [listener.get_message(timeout=5) for _ in range(100)]
        assert [m["data"] for m in got if m["type"] == "message"] == [str(i).encode() for i in range(50)]
        assert [m["data"] for m in got if m["type"] == "pmessage"] == [str(i).encode() for i in range(50)]
        listener.unsubscribe()
        listener.punsubscribe()
        for _ in range(3):
            assert "unsubscribe" in listener.get_message(timeout=5)["type"]


def queues(client):
    begin = time.monotonic()
    assert client.blpop("q", timeout=1) is None
    assert 0.8 < time.monotonic() - begin < 3
    results = []
    waiters = [threading.Thread(target=lambda: results.append(client.blpop("q", timeout=20))) for _ in range(10)]
    for waiter in waiters:
        waiter.start()
    for i in range(10):
        client.rpush("q", i)
    for waiter in waiters:
        waiter.join()
    assert sorted(int(value) for _, value in results) == list(range(10))
    client.xgroup_create("stream", "workers", mkstream=True)
    reader = threading.Thread(
        target=lambda: results.append(client.xreadgroup("workers", "w1", {"stream": ">"}, block=20000, count=1))
    )
    reader.start()
    time.sleep(0.2)
    client.xadd("stream", {"job": "1"})
    reader.join()
    assert b"job" in str(results[-1]).encode(), results[-1]
    assert client.xlen("stream") == 1


def play_sync(host, port):
    retry = Retry(ConstantBackoff(0.05), 3)
    client = redis.Redis(host, port, client_name="play", retry=retry, socket_timeout=30)
    assert client.client_getname() in ("play", b"play")
    for part in (strings, pipelines, transactions, scripts, iteration, messages, queues):
        client.flushall()
        part(client)
        print("ok", part.__name__, flush=True)
    resp3 = redis.Redis(host, port, protocol=3)
    assert resp3.hset("h3", "f", "v") == 1 and resp3.hgetall("h3") == {b"f": b"v"}
    resp2 = redis.Redis(host, port, protocol=2)
    for part in (strings, transactions, messages, queues):
        resp2.flushall()
        part(resp2)
    print("ok resp2", flush=True)
    client.set("kept", 1)
    stage("restart")
    assert patiently(lambda: client.get("kept")) == b"1"
    stage("failover")
    for i in range(100):
        assert patiently(lambda: client.set(f"after:{i}", i)) is True


async def play_async(host, port):
    client = redis.asyncio.Redis(host=host, port=port, max_connections=1000)
    assert await client.ping()
    await asyncio.gather(*(client.set(f"as:{i}", i) for i in range(200)))
    assert await asyncio.gather(*(client.get(f"as:{i}") for i in range(200))) == [str(i).encode() for i in range(200)]
    async with client.pipeline(transaction=True) as pipe:
        assert await pipe.set("at", 1).incr("at").execute() == [True, 2]
    waiting = [asyncio.create_task(client.blpop(f"aq:{i}", timeout=20)) for i in range(20)]
    for i in range(20):
        await client.rpush(f"aq:{i}", i)
    assert [int(value) for _, value in await asyncio.gather(*waiting)] == list(range(20))
    async with client.pubsub() as listener:
        await listener.subscribe("async")
        assert (await listener.get_message(timeout=5))["type"] == "subscribe"
        await client.publish("async", "hello")
        assert (await listener.get_message(timeout=5))["data"] == b"hello"
    script = client.register_script(SCRIPT)
    assert await script(keys=["asx"], args=[3]) == [b"asx", b"3"]
    assert len([name async for name in client.scan_iter(match="as:*")]) == 200
    print("ok async", flush=True)
    stage("restart")
    for _ in range(300):
        try:
            assert await client.get("as:1") == b"1"
            break
        except redis.ConnectionError:
            await asyncio.sleep(0.1)
    else:
        raise AssertionError("never came back")
    await client.aclose()


def play_cache(host, port):
    """Client-side caching: reads are answered from memory until the server says that they have changed."""
    # The library wants 7.4 "to maximize compatibility"; what it uses is in Redis since 6.0.
    redis.connection.CacheProxyConnection.MIN_ALLOWED_VERSION = "7.0.0"
    client = redis.Redis(host=host, port=port, protocol=3, cache_config=CacheConfig(max_size=1000))
    other = redis.Redis(host=host, port=port)
    names = [f"cache:{i}" for i in range(100)]
    for value in (b"one", b"two"):
        for name in names:
            assert other.set(name, value) is True
        for name in names:
            assert patiently_equal(lambda: client.get(name), value), name
        assert client.get_cache().size >= len(names)
    asked = other.info("commandstats")["cmdstat_get"]["calls"]
    for name in names:
        assert client.get(name) == b"two"
    assert other.info("commandstats")["cmdstat_get"]["calls"] == asked, "it did not cache"
    assert client.mget(names[:10]) == [b"two"] * 10
    assert other.set(names[3], b"three") is True
    assert patiently_equal(lambda: client.mget(names[:10])[3], b"three")
    # Its own writes, and what others flush.
    assert client.set(names[0], b"own") is True
    assert client.get(names[0]) == b"own"
    assert other.flushall() is True
    assert patiently_equal(lambda: client.get(names[1]), None)
    assert other.set(names[1], b"again") is True
    assert patiently_equal(lambda: client.get(names[1]), b"again")
    print("ok cache", flush=True)


def patiently_equal(call, value, seconds=10):
    """The library looks for invalidations when it is asked, so that the first look may be too early."""
    end = time.monotonic() + seconds
    while call() != value:
        if time.monotonic() > end:
            return False
    return True


def play_cluster(host, port):
    client = redis.RedisCluster(host=host, port=port)
    assert [node.port for node in client.get_nodes()] == [port], "the client goes around the proxy"
    for i in range(100):
        assert client.set(f"c:{i}", i) is True
    assert client.mget_nonatomic([f"c:{i}" for i in range(100)]) == [str(i).encode() for i in range(100)]
    with client.pipeline() as pipe:
        for i in range(100):
            pipe.get(f"c:{i}")
        assert pipe.execute() == [str(i).encode() for i in range(100)]
    assert len(list(client.scan_iter(match="c:*"))) == 100
    assert client.delete(*[f"c:{i}" for i in range(100)]) == 100
    print("ok cluster", flush=True)


def main():
    kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if kind == "async":
        asyncio.run(play_async(host, port))
    else:
        {"sync": play_sync, "cache": play_cache, "cluster": play_cluster}[kind](host, port)
    print("done", flush=True)


main()
