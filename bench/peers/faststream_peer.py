"""A projector with FastStream and redis-py."""

import asyncio
import json

from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitMessage, RabbitQueue

from event_index import AMQP_URL, IS_TUNED, STREAM, PlainIndex, Progress, TunedIndex, apply_in_batches, say

PREFETCH_PLAIN = 10
PREFETCH_TUNED = 500

queue = RabbitQueue(STREAM, queue_type=QueueType.STREAM, durable=True)


async def plain() -> None:
    index, progress, done = PlainIndex(), Progress(), asyncio.Event()
    await index.redis.ping()
    broker = RabbitBroker(AMQP_URL)

    @broker.subscriber(queue, channel=Channel(prefetch_count=PREFETCH_PLAIN), consume_args={"x-stream-offset": "first"})
    async def handle(body: bytes) -> None:
        await index.apply(json.loads(body))
        progress.add()
        if progress.is_done:
            done.set()

    await broker.connect()
    say("connected")
    async with broker:
        await broker.start()
        await done.wait()
        say("done")


async def as_it_came(message: RabbitMessage) -> RabbitMessage:
    """A decoder that hands the message to the handler: the batch needs its body and its ack."""
    return message


async def tuned() -> None:
    index = TunedIndex()
    offset = await index.load()
    arrived: asyncio.Queue[RabbitMessage] = asyncio.Queue()
    # Without logger, validation and injection a message costs less.
    broker = RabbitBroker(AMQP_URL, logger=None, apply_types=False)

    @broker.subscriber(
        queue,
        channel=Channel(prefetch_count=PREFETCH_TUNED),
        consume_args={"x-stream-offset": offset},
        ack_policy=AckPolicy.MANUAL,
        decoder=as_it_came,
    )
    async def handle(message: RabbitMessage) -> None:
        await arrived.put(message)

    await broker.connect()
    say("connected")
    async with broker:
        await broker.start()
        await apply_in_batches(arrived, index, offset)


asyncio.run(tuned() if IS_TUNED else plain())
