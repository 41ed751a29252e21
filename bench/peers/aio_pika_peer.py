"""A projector with aio-pika and redis-py."""

import asyncio
import json

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from event_index import AMQP_URL, IS_TUNED, STREAM, PlainIndex, Progress, TunedIndex, apply_in_batches, say

PREFETCH_PLAIN = 10
PREFETCH_TUNED = 500


async def main() -> None:
    connection = await aio_pika.connect_robust(AMQP_URL)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH_TUNED if IS_TUNED else PREFETCH_PLAIN)
        queue = await channel.declare_queue(STREAM, durable=True, arguments={"x-queue-type": "stream"})
        await (tuned(queue) if IS_TUNED else plain(queue))


async def plain(queue: AbstractQueue) -> None:
    index, progress = PlainIndex(), Progress()
    await index.redis.ping()
    say("connected")
    async with queue.iterator(arguments={"x-stream-offset": "first"}) as messages:
        async for message in messages:
            async with message.process():
                await index.apply(json.loads(message.body))
            progress.add()
            # Before the iterator is left: it gives back what it has with a nack, which streams answer with an error.
            if progress.is_done:
                return say("done")


async def tuned(queue: AbstractQueue) -> None:
    index = TunedIndex()
    offset = await index.load()
    arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    say("connected")
    await queue.consume(arrived.put, arguments={"x-stream-offset": offset})
    await apply_in_batches(arrived, index, offset)


asyncio.run(main())
