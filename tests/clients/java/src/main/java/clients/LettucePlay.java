package clients;

import static clients.Stage.want;

import io.lettuce.core.Consumer;
import io.lettuce.core.KeyValue;
import io.lettuce.core.Range;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisCommandExecutionException;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.RedisURI;
import io.lettuce.core.ScanArgs;
import io.lettuce.core.ScanIterator;
import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.XGroupCreateArgs;
import io.lettuce.core.XReadArgs;
import io.lettuce.core.XReadArgs.StreamOffset;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.sync.RedisCommands;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.pubsub.RedisPubSubAdapter;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Lettuce as people use it: one connection for all threads, RESP3 by HELLO, and its cluster client. */
public final class LettucePlay {
    private LettucePlay() {}

    public static void main(String[] args) throws Exception {
        RedisURI uri = RedisURI.builder().withHost(args[0]).withPort(Integer.parseInt(args[1]))
                .withClientName("play").withTimeout(Duration.ofSeconds(30)).build();
        RedisClient client = RedisClient.create(uri);
        StatefulRedisConnection<String, String> connection = client.connect();
        RedisCommands<String, String> redis = connection.sync();
        redis.flushall();
        want("CLIENT GETNAME", redis.clientGetname(), "play");
        values(redis);
        pipelines(connection);
        transactions(client, redis);
        for (int i = 0; i < 30; i++) {
            String[] names = {"s:" + i};
            List<String> got = redis.eval(Stage.SCRIPT, ScriptOutputType.MULTI, names, "" + (i + 1));
            want("EVAL", got, List.of("s:" + i, "" + (i + 1)));
        }
        iteration(redis);
        messages(client, redis);
        queues(client, redis);
        System.out.println("ok");
        if (args.length < 3) {
            cluster(uri);
        }
        redis.set("kept", "1");
        Stage.change("restart");
        want("GET", Stage.patiently(() -> redis.get("kept")), "1");
        Stage.change("failover");
        for (int i = 0; i < 100; i++) {
            String name = "after:" + i;
            Stage.patiently(() -> redis.set(name, "1"));
        }
        System.out.println("done");
        client.shutdown(0, 1, TimeUnit.SECONDS);
    }

    private static void values(RedisCommands<String, String> redis) {
        redis.setex("a", 100, "text");
        want("GET", redis.get("a"), "text");
        want("GET", redis.get("nothere"), null);
        redis.mset(Map.of("m1", "1", "m2", "2"));
        want("MGET", redis.mget("m2", "m1").stream().map(KeyValue::getValue).toList(), "[2, 1]");
        redis.hset("h", Map.of("f", "1"));
        want("HGETALL", redis.hgetall("h"), "{f=1}");
        redis.zadd("z", 2.5, "two");
        want("ZSCORE", redis.zscore("z", "two"), 2.5);
        try {
            redis.incr("h");
            throw new AssertionError("a hash is no number");
        } catch (RedisCommandExecutionException error) {
            want("error", error.getMessage().startsWith("WRONGTYPE"), true);
        }
    }

    private static void pipelines(StatefulRedisConnection<String, String> connection) throws Exception {
        List<RedisFuture<String>> got = new ArrayList<>();
        for (int i = 0; i < 500; i++) {
            connection.async().set("p:" + i, "" + i);
            got.add(connection.async().get("p:" + i));
        }
        for (int i = 0; i < 500; i++) {
            want("pipelined GET", got.get(i).get(20, TimeUnit.SECONDS), i);
        }
    }

    private static void transactions(RedisClient client, RedisCommands<String, String> redis) {
        redis.multi();
        redis.set("{t}n", "1");
        redis.incr("{t}n");
        want("EXEC", redis.exec().stream().toList(), "[OK, 2]");
        try (var other = client.connect()) {
            other.sync().watch("{t}n");
            redis.set("{t}n", "10");
            other.sync().multi();
            other.sync().incr("{t}n");
            want("EXEC behind a changed key", other.sync().exec().wasDiscarded(), true);
        }
    }

    private static void iteration(RedisCommands<String, String> redis) {
        redis.flushall();
        for (int i = 0; i < 1000; i++) {
            redis.set("scan:" + i, "1");
        }
        Set<String> seen = new HashSet<>();
        ScanIterator.scan(redis, ScanArgs.Builder.matches("scan:*").limit(50)).forEachRemaining(seen::add);
        want("SCAN", seen.size(), 1000);
        want("DBSIZE", redis.dbsize(), 1000);
    }

    private static void messages(RedisClient client, RedisCommands<String, String> redis) throws Exception {
        LinkedBlockingQueue<String> heard = new LinkedBlockingQueue<>();
        try (var listener = client.connectPubSub()) {
            listener.addListener(new RedisPubSubAdapter<>() {
                @Override
                public void message(String channel, String message) {
                    heard.add(message);
                }

                @Override
                public void message(String pattern, String channel, String message) {
                    heard.add(message);
                }
            });
            listener.sync().subscribe("news");
            for (int i = 0; i < 50; i++) {
                redis.publish("news", "" + i);
            }
            for (int i = 0; i < 50; i++) {
                want("message", heard.poll(10, TimeUnit.SECONDS), i);
            }
            listener.sync().unsubscribe("news");
            listener.sync().psubscribe("other*");
            redis.publish("otherwise", "x");
            want("pattern's message", heard.poll(10, TimeUnit.SECONDS), "x");
        }
    }

    private static void queues(RedisClient client, RedisCommands<String, String> redis) throws Exception {
        try (var own = client.connect()) {
            want("BLPOP that ends", own.sync().blpop(1, "q"), null);
            RedisFuture<KeyValue<String, String>> popped = own.async().blpop(20, "q");
            redis.rpush("q", "job");
            want("BLPOP", popped.get(20, TimeUnit.SECONDS).getValue(), "job");
            redis.xgroupCreate(StreamOffset.from("stream", "0"), "workers", XGroupCreateArgs.Builder.mkstream());
            var read = own.async().xreadgroup(Consumer.from("workers", "w1"), XReadArgs.Builder.block(20_000),
                    StreamOffset.lastConsumed("stream"));
            redis.xadd("stream", Map.of("job", "1"));
            want("XREADGROUP", read.get(20, TimeUnit.SECONDS).get(0).getBody(), "{job=1}");
            want("XRANGE", redis.xrange("stream", Range.unbounded()).size(), 1);
        }
    }

    private static void cluster(RedisURI uri) {
        RedisClusterClient client = RedisClusterClient.create(uri);
        try (var connection = client.connect()) {
            var redis = connection.sync();
            for (int i = 0; i < 100; i++) {
                redis.set("c:" + i, "" + i);
            }
            for (int i = 0; i < 100; i++) {
                want("GET", redis.get("c:" + i), i);
            }
            want("nodes", client.getPartitions().size(), 1);
            want("the node", client.getPartitions().getPartition(0).getUri().getPort(), uri.getPort());
        }
        client.shutdown(0, 1, TimeUnit.SECONDS);
        System.out.println("ok cluster");
    }
}
