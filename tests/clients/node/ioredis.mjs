// ioredis as people use it, and its cluster client. usage: ioredis.mjs HOST PORT [plain]
import assert from "node:assert/strict";
import { Cluster, Redis } from "ioredis";
import { SCRIPT, patiently, range, stage } from "./stage.mjs";

const [host, port] = [process.argv[2], Number(process.argv[3])];
const client = new Redis(port, host, { connectionName: "play", retryStrategy: () => 100 });
client.on("error", (error) => console.log(`  ${error}`));
await client.flushall();
assert.equal(await client.client("GETNAME"), "play");
await client.set("a", "text", "EX", 100);
assert.equal(await client.get("a"), "text");
await client.mset(Object.fromEntries(range(20).map((i) => [`m${i}`, i])));
assert.deepEqual(await client.mget(range(21).map((i) => `m${i}`)), [...range(20).map(String), null]);
await assert.rejects(client.hget("a", "f"), /WRONGTYPE/);

const pipe = client.pipeline();
for (const i of range(500)) pipe.set(`p:${i}`, i).get(`p:${i}`);
const got = await pipe.exec();
assert.deepEqual(got.filter((_, at) => at % 2 === 1), range(500).map((i) => [null, String(i)]));

assert.deepEqual(await client.multi().set("{t}n", 1).incr("{t}n").exec(), [[null, "OK"], [null, 2]]);
await client.multi({ pipeline: false });
assert.equal(await client.set("{t}n", 5), "QUEUED");
assert.deepEqual(await client.exec(), [[null, "OK"]]);

client.defineCommand("add", { numberOfKeys: 1, lua: SCRIPT });
for (const i of range(30)) assert.deepEqual(await client.add(`s:${i}`, i + 1), [`s:${i}`, String(i + 1)]);

await client.flushall();
await Promise.all(range(1000).map((i) => client.set(`scan:${i}`, 1)));
const seen = new Set();
for await (const names of client.scanStream({ match: "scan:*", count: 50 })) names.forEach((name) => seen.add(name));
assert.equal(seen.size, 1000);

const listener = client.duplicate();
const heard = [];
listener.on("message", (_, message) => heard.push(message));
await listener.subscribe("news");
for (const i of range(50)) await client.publish("news", i);
await patiently(() => assert.deepEqual(heard, range(50).map(String)));

const worker = client.duplicate();
assert.equal(await worker.blpop("q", 1), null);
const popped = worker.blpop("q", 20);
await client.rpush("q", "job");
assert.deepEqual(await popped, ["q", "job"]);
const read = worker.xread("BLOCK", 20_000, "STREAMS", "stream", "$");
await patiently(async () => {
  await client.xadd("stream", "*", "job", "1");
  assert.match(JSON.stringify(await Promise.race([read, new Promise((done) => setTimeout(done, 200))])), /job/);
});
console.log("ok plain");

// A plain Redis is no cluster.
if (process.argv[4] !== "plain") {
  const cluster = new Cluster([{ host, port }], { slotsRefreshTimeout: 5000 });
  await Promise.all(range(100).map((i) => cluster.set(`c:${i}`, i)));
  assert.deepEqual(await Promise.all(range(100).map((i) => cluster.get(`c:${i}`))), range(100).map(String));
  assert.deepEqual(cluster.nodes("master").map((node) => node.options.port), [port]);
  cluster.disconnect();
  console.log("ok cluster");
}

await client.set("kept", 1);
await stage("restart");
assert.equal(await patiently(() => client.get("kept")), "1");
await stage("failover");
for (const i of range(100)) await patiently(() => client.set(`after:${i}`, i));
// The listener has subscribed again by itself.
heard.length = 0;
await patiently(async () => {
  await client.publish("news", "again");
  await new Promise((done) => setTimeout(done, 50));
  assert.ok(heard.includes("again"));
});
console.log("done");
process.exit(0);
