// node-redis as people use it, in RESP2 and RESP3. usage: node_redis.mjs HOST PORT
import assert from "node:assert/strict";
import { createClient, defineScript } from "redis";
import { SCRIPT, patiently, range, stage } from "./stage.mjs";

const [host, port] = process.argv.slice(2);
const url = `redis://${host}:${port}`;

async function play(RESP) {
  const scripts = {
    add: defineScript({
      SCRIPT,
      NUMBER_OF_KEYS: 1,
      parseCommand(parser, name, by) {
        parser.pushKey(name);
        parser.push(String(by));
      },
      transformReply: (reply) => reply,
    }),
  };
  const client = createClient({ url, RESP, name: "play", scripts });
  client.on("error", (error) => console.log(`  ${error}`));
  await client.connect();
  await client.flushAll();
  assert.equal(await client.clientGetName(), "play");
  assert.equal(await client.set("a", "text", { EX: 100 }), "OK");
  assert.equal(await client.get("a"), "text");
  assert.equal(await client.get("nothere"), null);
  await client.mSet(range(20).map((i) => [`m${i}`, String(i)]));
  assert.deepEqual(await client.mGet(range(21).map((i) => `m${i}`)), [...range(20).map(String), null]);
  assert.equal(await client.del(range(20).map((i) => `m${i}`)), 20);
  await client.hSet("h", { f: "1", g: "2" });
  assert.deepEqual({ ...(await client.hGetAll("h")) }, { f: "1", g: "2" });
  await client.zAdd("z", [{ value: "one", score: 1 }, { value: "two", score: 2.5 }]);
  const scores = await client.zRangeWithScores("z", 0, -1);
  assert.deepEqual(scores.map(({ value, score }) => [value, score]), [["one", 1], ["two", 2.5]]);
  await assert.rejects(client.incr("h"), /WRONGTYPE/);

  // Commands of one turn of the event loop are pipelined by themselves.
  const got = await Promise.all(range(500).flatMap((i) => [client.set(`p:${i}`, String(i)), client.get(`p:${i}`)]));
  assert.deepEqual(got.filter((_, at) => at % 2 === 1), range(500).map(String));

  assert.deepEqual(await client.multi().set("{t}n", "1").incr("{t}n").get("{t}n").exec(), ["OK", 2, "2"]);
  const guarded = client.duplicate();
  await guarded.connect();
  await guarded.watch("{t}n");
  await client.set("{t}n", "7");
  await assert.rejects(guarded.multi().incr("{t}n").exec(), /watch/i);
  guarded.destroy();

  for (const i of range(30)) assert.deepEqual(await client.add(`s:${i}`, i + 1), [`s:${i}`, String(i + 1)]);

  await client.flushAll();
  await Promise.all(range(1000).map((i) => client.set(`scan:${i}`, "1")));
  const seen = new Set();
  for await (const names of client.scanIterator({ MATCH: "scan:*", COUNT: 50 })) {
    for (const name of [names].flat()) seen.add(name);
  }
  assert.equal(seen.size, 1000);
  assert.equal(await client.dbSize(), 1000);

  const listener = client.duplicate();
  await listener.connect();
  const heard = [];
  await listener.subscribe("news", (message) => heard.push(message));
  await listener.pSubscribe("new*", (message) => heard.push(message));
  for (const i of range(50)) await client.publish("news", String(i));
  await patiently(() => assert.equal(heard.length, 100));
  assert.deepEqual([...new Set(heard)], range(50).map(String));
  await listener.unsubscribe();
  await listener.pUnsubscribe();
  assert.equal(String(await listener.get("scan:1")), "1");
  listener.destroy();

  const worker = client.duplicate();
  await worker.connect();
  assert.equal(await worker.blPop("q", 1), null);
  const popped = worker.blPop("q", 20);
  await client.rPush("q", "job");
  assert.deepEqual({ ...(await popped) }, { key: "q", element: "job" });
  await client.xGroupCreate("stream", "workers", "0", { MKSTREAM: true });
  const read = worker.xReadGroup("workers", "w1", { key: "stream", id: ">" }, { BLOCK: 20_000 });
  await client.xAdd("stream", "*", { job: "1" });
  assert.match(JSON.stringify(await read), /job/);
  worker.destroy();
  console.log(`ok RESP${RESP}`);
  return client;
}

(await play(3)).destroy();
const client = await play(2);
await client.set("kept", "1");
await stage("restart");
assert.equal(await patiently(() => client.get("kept")), "1");
await stage("failover");
for (const i of range(100)) await patiently(() => client.set(`after:${i}`, String(i)));
client.destroy();
console.log("done");
process.exit(0);
