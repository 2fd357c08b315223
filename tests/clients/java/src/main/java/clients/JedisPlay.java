package clients;

import static clients.Stage.want;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.Response;
import redis.clients.jedis.exceptions.JedisDataException;
import redis.clients.jedis.params.ScanParams;
import redis.clients.jedis.resps.ScanResult;

/** Jedis as people use it: one connection for one thread. */
public final class JedisPlay {
    private JedisPlay() {}

    public static void main(String[] args) throws Exception {
        HostAndPort address = new HostAndPort(args[0], Integer.parseInt(args[1]));
        try (Jedis jedis = new Jedis(address, redis.clients.jedis.DefaultJedisClientConfig.builder()
                .clientName("play").socketTimeoutMillis(30_000).build())) {
            jedis.flushAll();
            want("CLIENT GETNAME", jedis.clientGetname(), "play");
            values(jedis);
            pipelines(jedis);
            transactions(jedis, address);
            for (int i = 0; i < 30; i++) {
                want("EVAL", jedis.eval(Stage.SCRIPT, 1, "s:" + i, "" + (i + 1)), List.of("s:" + i, "" + (i + 1)));
            }
            iteration(jedis);
            messages(jedis, address);
            queues(jedis, address);
        }
        System.out.println("ok");
        try (Jedis jedis = new Jedis(address)) {
            jedis.set("kept", "1");
        }
        Stage.change("restart");
        want("GET", Stage.patiently(() -> fresh(address, "kept")), "1");
        Stage.change("failover");
        for (int i = 0; i < 100; i++) {
            String name = "after:" + i;
            Stage.patiently(() -> {
                try (Jedis jedis = new Jedis(address)) {
                    return jedis.set(name, "1");
                }
            });
        }
        System.out.println("done");
    }

    private static String fresh(HostAndPort address, String name) {
        try (Jedis jedis = new Jedis(address)) {
            return jedis.get(name);
        }
    }

    private static void values(Jedis jedis) {
        jedis.setex("a", 100, "text");
        want("GET", jedis.get("a"), "text");
        want("GET", jedis.get("nothere"), null);
        want("MSET", jedis.mset("m1", "1", "m2", "2", "m3", "3"), "OK");
        want("MGET", jedis.mget("m3", "m9", "m1"), "[3, null, 1]");
        want("DEL", jedis.del("m1", "m2", "m3"), 3);
        jedis.hset("h", Map.of("f", "1"));
        want("HGETALL", jedis.hgetAll("h"), "{f=1}");
        jedis.zadd("z", 2.5, "two");
        want("ZSCORE", jedis.zscore("z", "two"), 2.5);
        try {
            jedis.incr("h");
            throw new AssertionError("a hash is no number");
        } catch (JedisDataException error) {
            want("error", error.getMessage().startsWith("WRONGTYPE"), true);
        }
    }

    private static void pipelines(Jedis jedis) {
        List<Response<String>> got = new ArrayList<>();
        try (var pipe = jedis.pipelined()) {
            for (int i = 0; i < 500; i++) {
                pipe.set("p:" + i, "" + i);
                got.add(pipe.get("p:" + i));
            }
            pipe.sync();
        }
        for (int i = 0; i < 500; i++) {
            want("pipelined GET", got.get(i).get(), i);
        }
    }

    private static void transactions(Jedis jedis, HostAndPort address) {
        try (var transaction = jedis.multi()) {
            transaction.set("{t}n", "1");
            transaction.incr("{t}n");
            want("EXEC", transaction.exec(), "[OK, 2]");
        }
        jedis.watch("{t}n");
        try (Jedis other = new Jedis(address)) {
            other.set("{t}n", "10");
        }
        try (var transaction = jedis.multi()) {
            transaction.incr("{t}n");
            want("EXEC behind a changed key", transaction.exec(), null);
        }
    }

    private static void iteration(Jedis jedis) {
        jedis.flushAll();
        try (var pipe = jedis.pipelined()) {
            for (int i = 0; i < 1000; i++) {
                pipe.set("scan:" + i, "1");
            }
            pipe.sync();
        }
        Set<String> seen = new HashSet<>();
        String cursor = "0";
        do {
            ScanResult<String> step = jedis.scan(cursor, new ScanParams().match("scan:*").count(50));
            seen.addAll(step.getResult());
            cursor = step.getCursor();
        } while (!cursor.equals("0"));
        want("SCAN", seen.size(), 1000);
        want("DBSIZE", jedis.dbSize(), 1000);
    }

    private static void messages(Jedis jedis, HostAndPort address) throws Exception {
        LinkedBlockingQueue<String> heard = new LinkedBlockingQueue<>();
        CountDownLatch ready = new CountDownLatch(1);
        JedisPubSub listener = new JedisPubSub() {
            @Override
            public void onSubscribe(String channel, int count) {
                ready.countDown();
            }

            @Override
            public void onMessage(String channel, String message) {
                heard.add(message);
            }
        };
        Thread thread = new Thread(() -> {
            try (Jedis own = new Jedis(address)) {
                own.subscribe(listener, "news");
            }
        });
        thread.start();
        want("subscribed", ready.await(10, TimeUnit.SECONDS), true);
        for (int i = 0; i < 50; i++) {
            jedis.publish("news", "" + i);
        }
        for (int i = 0; i < 50; i++) {
            want("message", heard.poll(10, TimeUnit.SECONDS), i);
        }
        listener.unsubscribe();
        thread.join();
    }

    private static void queues(Jedis jedis, HostAndPort address) throws Exception {
        want("BLPOP that ends", jedis.blpop(1, "q"), null);
        CompletableFuture<List<String>> popped = CompletableFuture.supplyAsync(() -> {
            try (Jedis own = new Jedis(address, redis.clients.jedis.DefaultJedisClientConfig.builder()
                    .socketTimeoutMillis(30_000).build())) {
                return own.blpop(20, "q");
            }
        });
        jedis.rpush("q", "job");
        want("BLPOP", popped.get(20, TimeUnit.SECONDS), "[q, job]");
    }
}
