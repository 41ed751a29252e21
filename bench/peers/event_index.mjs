// The Node peer's settings, its index in Redis, and saying how far it is.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

// The packages are not installed beside these scripts.
const require = createRequire(join(process.env.PEER_NODE_MODULES, 'from-here.cjs'));
export const load = async (name) => (await import(pathToFileURL(require.resolve(name)))).default;

const { Redis } = await load('ioredis');

export const settings = {
  amqpUrl: process.env.PEER_AMQP_URL,
  redisUrl: process.env.PEER_REDIS_URL,
  prefix: process.env.PEER_PREFIX,
  stream: process.env.PEER_STREAM,
  events: Number(process.env.PEER_EVENTS),
  isTuned: process.env.PEER_MODE === 'tuned',
};
const { prefix } = settings;
const SAID_EVERY = 500;

// Tells the rig, which takes the time when it reads the line.
export const say = (line) => process.stdout.write(`${line}\n`);

// Counts the events of the stream that are applied.
export class Progress {
  constructor(applied = 0) {
    this.applied = applied;
    this.said = applied;
  }

  add(events = 1) {
    this.applied += events;
    if (this.applied - this.said < SAID_EVERY) return;
    this.said = this.applied;
    say(`applied ${this.applied}`);
  }

  get isDone() {
    return this.applied >= settings.events;
  }
}

const kindOf = (event) => event.type.split('.')[1];

// The sorted sets an account with these details is in.
const lists = (details) => [
  `${prefix}active`, `${prefix}tenant:${details.tenant_id}`, `${prefix}user:${details.username}`,
];

// A pipeline answers with an error per command and throws none of them.
async function run(pipeline) {
  for (const [error] of await pipeline.exec()) if (error) throw error;
}

// Overwrites what is stored with what arrives: HSET and ZADD in one round trip.
export class PlainIndex {
  static async open() {
    const index = new PlainIndex();
    index.redis = new Redis(settings.redisUrl);
    await index.redis.ping();
    return index;
  }

  async apply(event) {
    const { subject: key, data, time } = event;
    const account = `${prefix}account:${key}`;
    const kind = kindOf(event);
    if (kind === 'removed') return this.remove(key);
    const pipeline = this.redis.multi();
    if (kind === 'acquisition-failed') {
      pipeline.hset(account, { failure: JSON.stringify(data), failure_at: time });
    } else if (kind === 'hydrated') {
      pipeline.hset(account, { details: JSON.stringify(data), last_hydration: time });
    } else {
      pipeline.hset(account, { details: JSON.stringify(data), last_activity: time });
      for (const list of lists(data)) pipeline.zadd(list, Date.parse(time), key);
    }
    await run(pipeline);
  }

  async remove(key) {
    const account = `${prefix}account:${key}`;
    const details = await this.redis.hget(account, 'details');
    const pipeline = this.redis.multi().del(account);
    if (details) for (const list of lists(JSON.parse(details))) pipeline.zrem(list, key);
    await run(pipeline);
  }
}

// Applies batches by one script, which compares times, and keeps the offset to go on from.
export class TunedIndex {
  static async open() {
    const index = new TunedIndex();
    index.redis = new Redis(settings.redisUrl);
    index.sha = await index.redis.script('LOAD', readFileSync(new URL('apply.lua', import.meta.url), 'utf8'));
    return { index, offset: Number((await index.redis.get(`${prefix}offset`)) ?? 0) };
  }

  async apply(bodies, nextOffset) {
    const events = bodies.flatMap((body) => asArguments(JSON.parse(body)));
    await run(this.redis.pipeline().evalsha(this.sha, 0, prefix, ...events).set(`${prefix}offset`, nextOffset));
  }
}

// As apply.lua takes an event.
function asArguments(event) {
  const { data } = event;
  const names = [data.tenant_id ?? '', data.username ?? ''];
  return [kindOf(event), event.subject, microseconds(event.time), event.id, ...names, JSON.stringify(data)];
}

// A Date knows milliseconds only.
function microseconds(time) {
  const fraction = /\.(\d+)/.exec(time)?.[1] ?? '';
  return Math.floor(Date.parse(time) / 1000) * 1e6 + Number(fraction.padEnd(6, '0').slice(0, 6));
}
