"""What the Python peers have in common: their settings, the index in Redis, and saying how far they are."""

import asyncio
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis

AMQP_URL = os.environ["PEER_AMQP_URL"]
REDIS_URL = os.environ["PEER_REDIS_URL"]
PREFIX = os.environ["PEER_PREFIX"]
STREAM = os.environ["PEER_STREAM"]
EVENTS = int(os.environ["PEER_EVENTS"])
IS_TUNED = os.environ["PEER_MODE"] == "tuned"

Event = dict[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SAID_EVERY = 500
BATCH = 250
LINGER_SECONDS = 0.01
Message = TypeVar("Message")


def say(line: str) -> None:
    """Tells the rig, which takes the time when it reads the line."""
    print(line, flush=True)


class Progress:
    """Counts the events of the stream that are applied."""

    def __init__(self, applied: int = 0) -> None:
        self.applied = applied
        self.said = applied

    def add(self, events: int = 1) -> None:
        self.applied += events
        if self.applied - self.said >= SAID_EVERY:
            self.said = self.applied
            say(f"applied {self.applied}")

    @property
    def is_done(self) -> bool:
        return self.applied >= EVENTS


async def next_batch(arrived: asyncio.Queue[Message]) -> list[Message]:
    """As many as fit into a batch, or what has come a moment after the first."""
    batch = [await arrived.get()]
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while len(batch) < BATCH:
                batch.append(await arrived.get())
    return batch


class PlainIndex:
    """Overwrites what is stored with what arrives: HSET and ZADD in one round trip."""

    def __init__(self) -> None:
        self.redis = Redis.from_url(REDIS_URL, decode_responses=True)

    async def apply(self, event: Event) -> None:
        key, data = event["subject"], event["data"]
        kind = event["type"].split(".")[1]
        if kind == "removed":
            return await self.remove(key)
        async with self.redis.pipeline() as pipe:
            account = f"{PREFIX}account:{key}"
            if kind == "acquisition-failed":
                pipe.hset(account, mapping={"failure": json.dumps(data), "failure_at": event["time"]})
            elif kind == "hydrated":
                pipe.hset(account, mapping={"details": json.dumps(data), "last_hydration": event["time"]})
            else:
                pipe.hset(account, mapping={"details": json.dumps(data), "last_activity": event["time"]})
                score = datetime.fromisoformat(event["time"]).timestamp()
                for name in lists(data):
                    pipe.zadd(name, {key: score})
            await pipe.execute()

    async def remove(self, key: str) -> None:
        account = f"{PREFIX}account:{key}"
        details = await self.redis.hget(account, "details")
        async with self.redis.pipeline() as pipe:
            pipe.delete(account)
            for name in lists(json.loads(details)) if details else []:
                pipe.zrem(name, key)
            await pipe.execute()


def lists(details: dict[str, Any]) -> list[str]:
    """The sorted sets an account with these details is in."""
    return [f"{PREFIX}active", f"{PREFIX}tenant:{details['tenant_id']}", f"{PREFIX}user:{details['username']}"]


class TunedIndex:
    """Applies batches by one script, which compares times, and keeps the offset to go on from."""

    def __init__(self) -> None:
        self.redis = Redis.from_url(REDIS_URL, decode_responses=True)
        self.script = (Path(__file__).parent / "apply.lua").read_text()
        self.sha = ""

    async def load(self) -> int:
        """Gives the offset to begin at."""
        self.sha = await self.redis.script_load(self.script)
        return int(await self.redis.get(f"{PREFIX}offset") or 0)

    async def apply(self, bodies: Iterable[bytes], next_offset: int) -> None:
        arguments: list[str | int] = [PREFIX]
        for body in bodies:
            arguments += as_arguments(json.loads(body))
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.evalsha(self.sha, 0, *arguments)
            pipe.set(f"{PREFIX}offset", next_offset)
            await pipe.execute()


def as_arguments(event: Event) -> tuple[str | int, ...]:
    """As apply.lua takes an event."""
    data = event["data"]
    micros = (datetime.fromisoformat(event["time"]) - EPOCH) // MICROSECOND
    kind = event["type"].split(".")[1]
    tenant, username = data.get("tenant_id", ""), data.get("username", "")
    return kind, event["subject"], micros, event["id"], tenant, username, json.dumps(data)


async def apply_in_batches(arrived: asyncio.Queue[Message], index: TunedIndex, offset: int) -> None:
    """Applies what arrives from this offset on, each batch with one ack for all of it, until all is applied."""
    progress = Progress(offset)
    while not progress.is_done:
        batch = await next_batch(arrived)
        offset += len(batch)
        await index.apply((message.body for message in batch), offset)
        await batch[-1].ack(multiple=True)
        progress.add(len(batch))
    say("done")
