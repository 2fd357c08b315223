// What both plays need: asking for a change of the stage, and waiting for things to work again.
import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export async function stage(word) {
  console.log(word);
  const { value } = await lines.next();
  if (value !== "done") throw new Error(`the stage said ${value}`);
}

export async function patiently(call) {
  const end = Date.now() + 30_000;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (Date.now() > end) throw error;
      console.log(`  again after ${error}`);
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

export const SCRIPT =
  "redis.call('INCRBY', KEYS[1], ARGV[1]); return {KEYS[1], redis.call('GET', KEYS[1])}";
export const range = (count) => Array.from({ length: count }, (_, i) => i);
