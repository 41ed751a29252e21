// A projector with amqplib and ioredis.

import { PlainIndex, Progress, TunedIndex, load, say, settings } from './event_index.mjs';

const PREFETCH_PLAIN = 100;
const PREFETCH_TUNED = 500;
const BATCH = 250;

const amqp = await load('amqplib');

// Each message is handled by itself; the library does not wait for one before it hands out the next.
async function plain(channel) {
  const index = await PlainIndex.open();
  const progress = new Progress();
  await channel.prefetch(PREFETCH_PLAIN);
  say('connected');
  await new Promise((resolve, reject) => {
    const handle = async (message) => {
      await index.apply(JSON.parse(message.content));
      channel.ack(message);
      progress.add();
      if (progress.isDone) resolve();
    };
    const options = { noAck: false, arguments: { 'x-stream-offset': 'first' } };
    channel.consume(settings.stream, (message) => handle(message).catch(reject), options).catch(reject);
  });
}

// While one batch is applied the next one arrives.
async function tuned(channel) {
  const { index, offset } = await TunedIndex.open();
  const progress = new Progress(offset);
  const arrived = [];
  let isApplying = false;
  await channel.prefetch(PREFETCH_TUNED);
  say('connected');
  await new Promise((resolve, reject) => {
    const applyWhatArrived = async () => {
      while (arrived.length > 0) {
        const batch = arrived.splice(0, BATCH);
        const bodies = batch.map((message) => message.content);
        await index.apply(bodies, progress.applied + batch.length);
        channel.ack(batch.at(-1), true);
        progress.add(batch.length);
      }
      isApplying = false;
      if (progress.isDone) resolve();
    };
    const take = (message) => {
      arrived.push(message);
      if (isApplying) return;
      isApplying = true;
      setImmediate(() => applyWhatArrived().catch(reject));
    };
    const options = { noAck: false, arguments: { 'x-stream-offset': offset } };
    channel.consume(settings.stream, take, options).catch(reject);
  });
}

const connection = await amqp.connect(settings.amqpUrl);
const channel = await connection.createChannel();
await (settings.isTuned ? tuned(channel) : plain(channel));
say('done');
process.exit(0);
